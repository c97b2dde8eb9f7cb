"""The optional CUDA extensions: imported once, with one warning if broken."""
import logging
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Optional

from mmengine.logging import print_log

#: Newer releases of mamba-ssm leave the scan's extension out by default.
INSTALL = ('MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation '
           'mamba-ssm causal-conv1d')


@lru_cache(maxsize=None)
def load_extension(name: str, *needed: str) -> Optional[ModuleType]:
    """Import an extension and check that it holds what is needed.

    A missing package, a library built for another torch (undefined symbol)
    and a missing function all end in one warning that names the fix.

    Args:
        name (str): Module name.
        *needed (str): Attributes that must exist.

    Returns:
        ModuleType, optional: The module, or None if it cannot be used.
    """
    try:
        module = import_module(name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        warn_unusable(name, str(error))
        return None
    missing = [n for n in needed if not hasattr(module, n)]
    if missing:
        warn_unusable(name, f'it lacks {", ".join(missing)}')
        return None
    return module


def warn_unusable(name: str, reason: str) -> None:
    """Warn that an extension cannot be used, and how to build it.

    Args:
        name (str): Module name.
        reason (str): What went wrong.
    """
    print_log(
        f"The CUDA extension '{name}' cannot be used ({reason}); slower "
        f'PyTorch code runs instead. To build it for this torch: {INSTALL}',
        logger='current',
        level=logging.WARNING)
