"""The optional CUDA extensions: imported once, with one warning if broken."""
import logging
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Optional

from mmengine.logging import print_log

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
        missing = [n for n in needed if not hasattr(module, n)]
        if not missing:
            return module
        reason = f'it lacks {missing}'
    except (ImportError, OSError) as error:
        reason = str(error)
    print_log(
        f"The CUDA extension '{name}' cannot be used ({reason}); a slower "
        f'back end runs instead. To build it for this torch: {INSTALL}',
        logger='current',
        level=logging.WARNING)
    return None
