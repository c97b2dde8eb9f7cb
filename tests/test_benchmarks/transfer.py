"""The scripts of benchmarks/transfer as modules."""
import sys

from ..command import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks' / 'transfer'))

import lines  # noqa: E402
import meter  # noqa: E402
import record  # noqa: E402
import row  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402

__all__ = ['lines', 'meter', 'record', 'row', 'run', 'tables']
