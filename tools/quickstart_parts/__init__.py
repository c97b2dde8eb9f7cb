"""Parts of ``tools/quickstart.py``: data, runs and report."""
