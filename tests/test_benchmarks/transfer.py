"""The scripts of benchmarks/transfer as modules."""
import sys

from ..command import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks' / 'transfer'))

import claims  # noqa: E402
import fault_sections  # noqa: E402
import figures  # noqa: E402
import lines  # noqa: E402
import meter  # noqa: E402
import record  # noqa: E402
import render  # noqa: E402
import retrieval_sections  # noqa: E402
import retrieval_tables  # noqa: E402
import row  # noqa: E402
import run  # noqa: E402
import sections  # noqa: E402
import tables  # noqa: E402

__all__ = [
    'claims', 'fault_sections', 'figures', 'lines', 'meter', 'record',
    'render', 'retrieval_sections', 'retrieval_tables', 'row', 'run',
    'sections', 'tables'
]
