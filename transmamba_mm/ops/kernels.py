"""The optional CUDA extensions: imported once, with one warning if broken."""
import logging
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from importlib import import_module
from types import ModuleType
from typing import Callable, Optional

import torch
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


def first_order_only(backward: Callable) -> Callable:
    """Make a hand-written backward refuse ``create_graph=True``.

    PyTorch's ``once_differentiable`` would let a second derivative through
    the saved tensors vanish without a word.

    Args:
        backward (Callable): Static ``backward`` of an autograd function.

    Returns:
        Callable: The same, raising RuntimeError if a graph is wanted.
    """

    @wraps(backward)
    def checked(ctx, *grads):
        if torch.is_grad_enabled():
            raise RuntimeError(
                'This scan or convolution has no second derivative '
                '(create_graph=True). For the scan, '
                "set_scan_backend('reference') has one.")
        return backward(ctx, *grads)

    return checked


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Make a context in which dtypes are what the code says.

    Args:
        device (torch.device): Where the code runs.

    Returns:
        AbstractContextManager: Autocast switched off for that device.
    """
    if device.type == 'meta':  # knows no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
