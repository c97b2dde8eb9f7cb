"""Check the OpenMMLab versions before anything of them is imported.

MMEngine 0.10.4, for example, cannot be imported beside a recent PyTorch, and
says nothing of versions. So this file needs the standard library alone.
"""
import importlib
import re
from importlib import metadata
from typing import Dict, Optional, Tuple

# Import name: (distributions, first version, first one too new); the same
# ranges as in requirements/runtime.txt.
REQUIRED_VERSIONS: Dict[str, Tuple[Tuple[str, ...], str, str]] = {
    'mmengine': (('mmengine', 'mmengine-lite'), '0.10.7', '0.11'),
    'mmcv': (('mmcv-lite', 'mmcv'), '2.2.0', '2.3'),
    'mmpretrain': (('mmpretrain', ), '1.2.0', '1.3'),
}


def check_versions() -> None:
    """Check that MMEngine, MMCV and MMPretrain are in the supported ranges.

    Raises:
        ImportError: A package is missing or outside of its range. The message
            holds the ``pip install`` command that repairs it.
    """
    for module, (names, first, limit) in REQUIRED_VERSIONS.items():
        found = _installed_version(module, names)
        if found is None:
            state = 'is not installed'
        elif _digits(found) < _digits(first):
            state = f'{found} is too old'
        elif _digits(found) >= _digits(limit):
            state = f'{found} is too new'
        else:
            continue
        raise ImportError(
            f'transmamba_mm needs {module}>={first},<{limit}, but {module} '
            f"{state}. Run: pip install '{names[0]}>={first},<{limit}'")


def _digits(version: str) -> Tuple[int, ...]:
    """Return the release part of a version: '2.2.0rc1' is (2, 2, 0)."""
    release = re.match(r'[\d.]*\d', version)
    return tuple(int(part) for part in release.group().split('.'))


def _installed_version(module: str, names: Tuple[str, ...]) -> Optional[str]:
    """Return the version of the first installed distribution, or None."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        return importlib.import_module(module).__version__
    except ImportError:
        return None


check_versions()
