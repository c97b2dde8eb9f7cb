# make quickstart   from nothing to a table: teacher, Mamba, TransMamba
# make test         all tests, on a CPU
# make docs         the site, in docs/_build; a warning is an error
# make release      sdist and wheel in dist, tried in an empty environment
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
SEEDS ?= 1
STAMP = $(VENV)/installed
RUN = OMP_NUM_THREADS=1 $(VENV)/bin/python

.PHONY: install quickstart test docs release

install: $(STAMP)

# the setuptools that comes with pip may be too new for mmengine
$(STAMP): requirements/cpu.txt requirements/tests.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -r requirements/cpu.txt
	$(VENV)/bin/pip install --no-deps --no-build-isolation -e .
	touch $(STAMP)

quickstart: $(STAMP)
	$(RUN) tools/quickstart.py --seeds $(SEEDS) $(if $(DATA),--data "$(DATA)")

test: $(STAMP)
	$(RUN) -m pytest -q tests

docs: $(STAMP)
	$(VENV)/bin/pip install -q -r requirements/docs.txt
	$(RUN) -m sphinx -q -W --keep-going docs docs/_build

release: $(STAMP)
	bash .ci/release "$(VENV)/bin/python" dist
