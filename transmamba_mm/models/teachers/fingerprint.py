"""Numbers by which a teacher and an image are recognised."""
import hashlib
import os
from functools import lru_cache
from typing import Any, List, Tuple

import torch
from torch import Tensor, nn

from .frozen_teacher import FrozenTeacher


def teacher_fingerprint(teacher: FrozenTeacher, *more: Any) -> str:
    """Tell teachers apart that may give different features.

    Weights, modules and their settings count, what is done to the images
    before, and whether autocast is on.

    Args:
        teacher (FrozenTeacher): The teacher, which knows its student.
        *more: Whatever else must agree.

    Returns:
        str: 20 hexadecimal digits.
    """
    digest = hashlib.sha256()
    model = teacher.model
    for name, x in sorted(model.state_dict().items()):
        x = x.detach().cpu().contiguous()
        digest.update(f'{name} {x.dtype} {tuple(x.shape)}'.encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy())
    for name, module in model.named_modules():
        digest.update(repr((name, *_settings(module))).encode())
    kind = next(model.parameters()).device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(
        kind)
    told = (type(teacher).__name__, *teacher.input_state(), str(autocast),
            *more)
    digest.update(repr(told).encode())
    return digest.hexdigest()[:20]


def _settings(module: nn.Module) -> Tuple:
    """Return the kind of a module and its plain values, such as heads."""
    values = sorted(
        (k, v) for k, v in vars(module).items()
        if not k.startswith('_') and k != 'training' and isinstance(
            v, (bool, int, float, str,
                tuple)) and not (isinstance(v, str) and os.sep in v))
    return (type(module).__name__, values)


def image_marks(images: Tensor) -> List[List[float]]:
    """Return two numbers an image, by which a change of it is noticed.

    Args:
        images (Tensor): Shape (B, ...).

    Returns:
        List[List[float]]: Of each image the root mean square, and a sum with
        fixed weights of about the same size.
    """
    marks: List[List[float]] = []
    for part in images.detach().flatten(1).split(16):  # little memory
        part = part.double()
        rms = part.square().mean(1).sqrt()
        mixed = (part @ _weights(part.shape[1], part.device)) / \
            part.shape[1]**0.5
        marks += torch.stack([rms, mixed], 1).tolist()
    return marks


@lru_cache(maxsize=4)
def _weights(size: int, device: torch.device) -> Tensor:
    """Return weights in (-1, 1) that are equal on all machines."""
    i = torch.arange(size, dtype=torch.float64)
    return torch.frac(torch.sin(i * 12.9898) * 43758.5453).to(device)


def same_marks(a: List[float], b: List[float]) -> bool:
    """Tell whether two marks are of one image, up to rounding.

    Args:
        a (List[float]): One image's of :func:`image_marks`.
        b (List[float]): Another's.

    Returns:
        bool: Whether they agree.
    """
    room = 1e-4 * max(a[0], b[0]) + 1e-6
    return len(a) == len(b) and all(abs(x - y) <= room for x, y in zip(a, b))
