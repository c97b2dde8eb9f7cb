"""A batch in a file that holds tensors and plain values only."""
import io
from typing import Any, Dict, Optional

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .atomic_io import atomic_write

#: What makes a dict stand for something else.
KIND = '__kind__'
_PLAIN = (str, bool, int, float, type(None))


def save_batch(path: str, batch: Any, max_bytes: float,
               **more: Any) -> Dict[str, int]:
    """Save a batch, so that :func:`load_batch` can read it.

    A batch that is too large is cut to its first samples. What is no tensor,
    array, plain value or data sample is left out.

    Args:
        path (str): File to write.
        batch (Any): A batch as the data loader gives it.
        max_bytes (float): Most bytes of all tensors in the file.
        **more (Any): Further entries; ``state_dict`` is left out if it does
            not fit.

    Returns:
        Dict[str, int]: ``kept`` and ``total`` samples, and whether there are
        ``weights``.

    Raises:
        ValueError: If not even one sample fits.
        OSError: If the file cannot be written.
    """
    total = num_samples(batch)
    packed, kept = pack(batch), total
    size = num_bytes(packed)
    if size > max_bytes and total:
        kept = int(total * max_bytes / size)
        packed = cut(packed, total, kept)
    if not kept or num_bytes(packed) > max_bytes:
        raise ValueError(f'a sample has more than {max_bytes:g} bytes')
    weights = pack(more.pop('state_dict', {}))
    if num_bytes(weights) > max_bytes - num_bytes(packed):
        weights = {}
    content = dict(
        batch=packed,
        kept=kept,
        total=total,
        **{
            k: pack(v)
            for k, v in more.items()
        })
    if weights:
        content['state_dict'] = weights
    file = io.BytesIO()
    torch.save(content, file)
    atomic_write(path, file.getvalue())
    return dict(kept=kept, total=total, weights=bool(weights))


def load_batch(path: str) -> Dict[str, Any]:
    """Read a file of :func:`save_batch`; nothing in it can run code.

    Args:
        path (str): The file.

    Returns:
        Dict[str, Any]: ``batch`` as the data loader gave it, and what else
        was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no saved batch.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"'{path}' cannot be read as tensors and plain values"
                         f' ({type(error).__name__}); give a file that the '
                         'NonFiniteGuardHook wrote.') from error
    if not isinstance(content, dict) or not {'batch', 'kept'} <= set(content):
        raise ValueError(f"'{path}' holds no saved batch; give a file that "
                         'the NonFiniteGuardHook wrote.')
    return {key: unpack(value) for key, value in content.items()}


def pack(value: Any) -> Any:
    """Turn a structure into tensors and plain values.

    Args:
        value (Any): Dicts, lists and tuples of tensors, arrays, plain values
            and data samples.

    Returns:
        Any: The same, on the CPU; what cannot be told is None.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()  # not the storage around a view
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        # torch has few unsigned types
        data = value.astype(np.int64) if value.dtype.kind == 'u' else value
        return {
            KIND: 'array',
            'dtype': str(value.dtype),
            'data': torch.from_numpy(np.ascontiguousarray(data)).clone()
        }
    if isinstance(value, np.generic):
        return pack(value.item())
    if isinstance(value, BaseDataElement):
        return {
            KIND: 'sample',
            'data': pack(dict(value.items())),
            'meta': pack(dict(value.metainfo_items()))
        }
    if isinstance(value, dict):
        return {str(k): pack(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [pack(v) for v in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value if type(value) in _PLAIN else None


def unpack(value: Any) -> Any:
    """Undo :func:`pack`; data samples come back as MMPretrain's.

    Args:
        value (Any): What :func:`pack` returned.

    Returns:
        Any: The structure.
    """
    if isinstance(value, dict):
        kind = value.get(KIND)
        if kind == 'array':
            return value['data'].numpy().astype(value['dtype'])
        if kind == 'sample':
            sample = DataSample(metainfo=unpack(value['meta']))
            for name, field in unpack(value['data']).items():
                sample.set_field(field, name)
            return sample
        return {k: unpack(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unpack(v) for v in value)
    return value


def num_bytes(packed: Any) -> int:
    """Count the bytes of all tensors.

    Args:
        packed (Any): What :func:`pack` returned.

    Returns:
        int: Bytes.
    """
    return sum(t.nbytes for t in tree_leaves(packed) if isinstance(t, Tensor))


def num_samples(batch: Any) -> Optional[int]:
    """Count the samples of a batch.

    Args:
        batch (Any): A batch as the data loader gives it.

    Returns:
        int, optional: Length of its first list or tensor; None if there is
        none.
    """
    for value in batch.values() if isinstance(batch, dict) else [batch]:
        if isinstance(value, dict):
            count = num_samples(value)
        else:
            count = _length(value)
        if count is not None:
            return count
    return None


def _length(value: Any) -> Optional[int]:
    sized = isinstance(
        value, (list, tuple, np.ndarray)) or (isinstance(value, Tensor)
                                              and value.dim() > 0)
    return len(value) if sized else None


def cut(packed: Any, total: int, kept: int) -> Any:
    """Keep the first samples of a batch.

    Args:
        packed (Any): What :func:`pack` returned.
        total (int): Samples in it; what has another length stays whole.
        kept (int): Samples wanted.

    Returns:
        Any: The same structure, of ``kept`` samples.
    """
    if isinstance(packed, dict):
        return {k: cut(v, total, kept) for k, v in packed.items()}
    if _length(packed) == total:
        return packed[:kept]
    if isinstance(packed, (list, tuple)):
        return type(packed)(cut(v, total, kept) for v in packed)
    return packed
