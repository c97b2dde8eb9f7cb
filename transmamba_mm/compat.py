"""Adjust the libraries below the plugin; the package imports this file early.

Four small pieces, each a no-op where the installed versions do not need it:

- the two operator schemas without which torchvision's CUDA build cannot be
  imported beside a CPU build of PyTorch;
- the name ``numpy.in1d``, gone from NumPy 2.4, for MMPretrain's retrieval
  metrics;
- the names that newer releases of Transformers have moved, for MMPretrain's
  multimodal models (see ``transformers_names.py``);
- checkpoint loading that restores MMEngine's checkpoints but never runs code
  out of the file.
"""
import errno
import functools
import importlib
import inspect
import os
import os.path as osp
import pickle
import re
import struct
import sys
import zipfile
from typing import Any, Callable, List, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from .transformers_names import alias_moved_names

_NUMPY_DTYPE_CHARS = '?bhilqBHILQefdFDSUO'
# What torch's restricted unpickler says when a pickle asks for more than data.
_REFUSED = re.compile(
    r'nsupported (?:global|GLOBAL|class)|must be imported to load|'
    r'unrecognized function|Can only (?:create|build)|TorchScript|'
    r'checkpoint asks for')
_REFUSED_NAME = re.compile(r'GLOBAL (\S+)|function <[\w ]*?([\w.]+)>|'
                           r'asks for (\S+)')


def ensure_torchvision() -> None:
    """Import torchvision, also where its compiled part cannot be loaded.

    PyPI's torchvision is linked to CUDA. Beside a CPU build of PyTorch it
    only misses its own operators, but two of them are looked up at import.
    Their schemas are declared here, without kernels: transforms and models
    work, and calling ``torchvision.ops.nms`` still fails.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        import torchvision  # noqa: F401
        return
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
    except ImportError as error:
        raise ImportError(
            'MMPretrain needs torchvision, which is not installed. Run: pip '
            'install torchvision (the release that fits '
            f'torch {torch.__version__})') from error
    schema = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    for operator in ('nms', 'qnms'):
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f'torchvision::{operator}', schema)
    for name in list(sys.modules):
        if name == 'torchvision' or name.startswith('torchvision.'):
            del sys.modules[name]
    importlib.import_module('torchvision')


def ensure_in1d() -> None:
    """Give ``numpy.in1d`` back where NumPy no longer has it.

    MMPretrain's ``RetrievalRecall`` and ``RetrievalAveragePrecision`` call it
    with 1-D arrays, for which ``numpy.isin`` is the same function.
    """
    if not hasattr(np, 'in1d'):
        np.in1d = np.isin


def _history_buffer_method(owner: Any, name: str, *default: Any) -> Callable:
    """Stand in for ``getattr`` while a checkpoint is unpickled.

    MMEngine pickles the statistics of its ``HistoryBuffer`` as
    ``getattr(HistoryBuffer, 'mean')``. Only its public methods are given.
    """
    method = vars(HistoryBuffer).get(name) if isinstance(name, str) else None
    if (owner is not HistoryBuffer or default or not inspect.isfunction(method)
            or name.startswith('_')):
        raise pickle.UnpicklingError(
            'the checkpoint asks for getattr:'
            f'{getattr(owner, "__name__", type(owner).__name__)}.{name}')
    return method


@functools.lru_cache(maxsize=1)
def safe_checkpoint_globals() -> List[Any]:
    """List what a checkpoint may contain beside tensors and plain values.

    Returns:
        List[Any]: MMEngine's ``HistoryBuffer``, NumPy's arrays, scalars and
        dtypes (under the module names of NumPy 1 and 2), and the guarded
        ``getattr``; the form ``torch.serialization.safe_globals`` takes.
    """
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed = [HistoryBuffer, np.ndarray, np.dtype]
    allowed += [(_history_buffer_method, 'builtins.getattr')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed += [(reconstruct, f'{module}._reconstruct'),
                    (scalar, f'{module}.scalar')]
    return allowed + list({type(np.dtype(c)) for c in _NUMPY_DTYPE_CHARS})


def _explain(error: Exception, source: str) -> Optional[ValueError]:
    """Turn an error of ``torch.load`` into one that says what to do."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and _REFUSED.search(text):
        match = _REFUSED_NAME.search(text)
        wanted = next(filter(None, match.groups()), '') if match else ''
        return ValueError(
            f'checkpoint {source!r} is refused: it holds more than weights, '
            f'and loading it would run code ({wanted or "unknown object"}). '
            'Give a file that holds tensors and plain values only. If you '
            'trust its author, save such a file from it once with: '
            'torch.save(torch.load(path, weights_only=False)["state_dict"], '
            'new_path)')
    if not isinstance(error, pickle.UnpicklingError) and not (
            osp.isfile(source) and _is_damage(error)):
        return None
    return ValueError(
        f'checkpoint {source!r} is truncated, damaged or not a PyTorch '
        'checkpoint. Copy or download it again, or name another file (in '
        '`load_from`, `checkpoint` or `init_cfg` of the config); to continue '
        'a training run, give an older checkpoint of its work directory')


def _is_damage(error: Exception) -> bool:
    """Tell whether ``torch.load`` met bytes that it could not read."""
    if isinstance(error, RuntimeError):
        return re.search('PytorchStreamReader|EOF', str(error)) is not None
    return not isinstance(error, OSError) or error.errno == errno.EINVAL


def _guarded(loader: Callable) -> Callable:
    """Let a loader read MMEngine's checkpoints, and explain its errors."""

    @functools.wraps(loader)
    def load(filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            with torch.serialization.safe_globals(safe_checkpoint_globals()):
                return loader(filename, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError, RuntimeError, OSError,
                LookupError, UnicodeError, struct.error) as error:
            explained = _explain(error, filename)
            if explained is None:
                raise
            raise explained from error

    return load


@_guarded
def load_from_local(filename: str,
                    map_location: Any = None,
                    mmap: bool = False) -> Any:
    """Load a checkpoint from a local file without running code from it.

    Args:
        filename (str): Path of the checkpoint; ``~`` is expanded.
        map_location (str | torch.device | Callable, optional): As in
            ``torch.load``. Defaults to None.
        mmap (bool): Whether tensors are mapped from the disk instead of
            read, where the file's format allows it. Defaults to False.

    Returns:
        Any: What the file holds, as a rule a dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or would run code when loaded.
    """
    filename = osp.expanduser(os.fspath(filename))
    if not osp.isfile(filename):
        raise FileNotFoundError(
            f'checkpoint {filename!r} does not exist; check `load_from`, '
            '`checkpoint` or `init_cfg` in the config, or the path given to '
            '--resume')
    return torch.load(
        filename,
        map_location=map_location,
        weights_only=True,
        mmap=mmap and zipfile.is_zipfile(filename))


def register_safe_loaders() -> None:
    """Make every checkpoint loader of MMEngine refuse to run code.

    Local files go through :func:`load_from_local`. Downloads use
    ``torch.hub``, whose default is to unpickle anything: it is told not to.
    The other schemes keep PyTorch's own default, which is the safe one. All of
    them accept the ``HistoryBuffer`` that MMEngine stores.
    """
    mmengine_checkpoint.load_url = functools.partial(
        torch.hub.load_state_dict_from_url, weights_only=True)
    loaders = mmengine_checkpoint.CheckpointLoader
    for prefix, loader in list(loaders._schemes.items()):
        loader = load_from_local if prefix == '' else _guarded(loader)
        loaders.register_scheme(prefixes=prefix, loader=loader, force=True)


ensure_torchvision()
ensure_in1d()
alias_moved_names()
register_safe_loaders()
