"""Parts of ``tune_wsab.py``."""
