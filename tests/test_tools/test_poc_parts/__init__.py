"""Parts of ``tools/poc.py``."""
import sys

from ...command import ROOT

sys.path.insert(0, str(ROOT / 'tools'))
