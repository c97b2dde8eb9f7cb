"""Parts of ``tools/poc.py``: runs, measurements, statistics and report."""
