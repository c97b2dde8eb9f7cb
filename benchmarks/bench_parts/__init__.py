"""Parts of the benchmark commands beside this folder.

Importing it finds the package in this checkout, if it is not installed.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import transmamba_mm  # noqa: E402, F401  (before torchvision is imported)
