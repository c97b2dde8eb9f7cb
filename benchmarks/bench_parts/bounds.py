"""What a card cannot beat: bytes moved and exponentials computed.

The copy bound moves every tensor of a well-fused pipeline once, activations
in two bytes; the exponential-unit bound counts exponentials, and logarithms
and reciprocals as one each. A share is bound / measured time. They are
calculated, not measured, and floors: neither counts the products.
"""
import math
import statistics
from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Sequence, Tuple

import torch
from torch import Tensor

from transmamba_mm.utils.benchmark import time_calls

#: Exponentials of one SM a clock, by the data sheet of recent cards.
_EXPONENTIALS_A_CLOCK = 16
#: Clock in Hz, where PyTorch does not tell it.
_CLOCKS = dict(H100=1.98e9, H200=1.98e9)
#: A training step over a forward pass (our choice, for whole models): the
#: backward pass reads what the forward read and wrote, and writes as much.
_TRAIN_BYTES = 3
_TRAIN_EXPONENTIALS = 2


@dataclass(frozen=True)
class Family:
    """What a block of a family moves and computes.

    Args:
        residual (int): Elements a channel that residual + norm moves: 4, or
            6 if the residual stream is kept in float32.
        streams (int): Convolved inner streams.
        params (int): Sets of step sizes, B and C.
        decays (int): Scans whose exponentials differ.
        gate (bool): Whether there is a gate.
        expand (int): Inner width over the width.
        out_norm (bool): Whether the merged scan is normed.
        mlp (bool): Whether an MLP of four times the width follows.
        extra_tokens (int): Tokens beside the patches.
    """
    residual: int = 4
    streams: int = 1
    params: int = 1
    decays: int = 1
    gate: bool = True
    expand: int = 2
    out_norm: bool = False
    mlp: bool = False
    extra_tokens: int = 0


FAMILIES = dict(
    vim=Family(residual=6, streams=2, params=2, decays=2, extra_tokens=1),
    videomamba=Family(
        residual=6, streams=2, params=2, decays=2, extra_tokens=1),
    # its four scans share the step sizes and so the exponentials
    plainmamba=Family(),
    vmamba=Family(
        params=4, decays=4, gate=False, expand=1, out_norm=True, mlp=True))


def io_bytes(inputs: Iterable[Tensor], out: Tensor, train: bool) -> int:
    """Count the bytes of an operator that touches each tensor once.

    Args:
        inputs (Iterable[Tensor]): Its large inputs.
        out (Tensor): Its output.
        train (bool): Whether the backward pass counts too: inputs and the
            output's gradient are read, the inputs' gradients written.

    Returns:
        int: Bytes.
    """
    read = sum(t.numel() * t.element_size() for t in inputs)
    written = out.numel() * out.element_size()
    return 3 * read + 2 * written if train else read + written


def mamba_work(family: str, stages: Sequence[Tuple[int, int, int]],
               states: int, side: int) -> Tuple[float, float]:
    """Count the forward pass of a Mamba backbone for one image.

    Args:
        family (str): A key of ``FAMILIES``.
        stages (Sequence[Tuple[int, int, int]]): Width, layers and pixels a
            token of each stage.
        states (int): State size N.
        side (int): Side of the image in pixels.

    Returns:
        Tuple[float, float]: Bytes and exponentials.
    """
    f = FAMILIES[family]
    elements = exponentials = 0
    for width, layers, patch in stages:
        e, hidden = f.expand * width, 4 * width * f.mlp
        tokens = (side // patch)**2 + f.extra_tokens
        params = f.params * (math.ceil(width / 16) + 2 * states)
        inner = f.streams * e
        moved = (
            f.residual * width + width + (1 + f.gate) * e  # in_proj
            + e + inner  # convolution
            + inner + params  # x_proj
            + inner + params + (f.gate + 1) * e  # scan, gate and merge
            + 2 * e * f.out_norm + e + width)  # out_proj
        if f.mlp:
            moved += f.residual * width + 2 * (width + hidden)
        units = e * (
            f.decays * states + 2 * f.params + 2 * f.streams + 2 * f.gate)
        elements += layers * tokens * moved
        exponentials += layers * tokens * (units + hidden)
    return 2 * elements + _image_bytes(side), exponentials


def vit_work(width: int, layers: int, patch: int,
             side: int) -> Tuple[float, float]:
    """Count the forward pass of a ViT with heads of 64 for one image.

    Args:
        width (int): Width of a token.
        layers (int): Number of layers.
        patch (int): Pixels a token.
        side (int): Side of the image in pixels.

    Returns:
        Tuple[float, float]: Bytes and exponentials.
    """
    tokens = (side // patch)**2 + 1
    moved = width * (2 * 4 + 4 + 4 + 2 + 5 + 5)
    units = 4 * width + width // 64 * tokens
    return (2 * layers * tokens * moved + _image_bytes(side),
            layers * tokens * units)


def _image_bytes(side: int) -> int:
    return 4 * 3 * side**2


def card_rates(device: str) -> Dict[str, Optional[float]]:
    """Measure how fast a card copies, and look up its exponentials.

    Args:
        device (str): The device.

    Returns:
        Dict[str, Optional[float]]: ``copy`` in bytes a second, read and
        written (1 GiB is copied), and ``exp`` a second; None where unknown,
        as on a CPU.
    """
    if torch.device(device).type != 'cuda':
        return dict(copy=None, exp=None)
    props = torch.cuda.get_device_properties(device)
    clock = 1e3 * getattr(props, 'clock_rate', 0) or next(
        (hz for name, hz in _CLOCKS.items() if name in props.name), None)
    exp = clock and clock * props.multi_processor_count * _EXPONENTIALS_A_CLOCK
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = time_calls(lambda: target.copy_(source), 3, 10, True)
    return dict(copy=2 * 2**30 / statistics.median(seconds), exp=exp)


def shares(seconds: float, bytes_moved: float, exponentials: float,
           rates: Dict[str, Optional[float]]) -> Dict[str, Optional[float]]:
    """Tell how near a time is to the bounds.

    Args:
        seconds (float): Measured time.
        bytes_moved (float): Bytes that must be moved.
        exponentials (float): Exponentials that must be computed.
        rates (Dict[str, Optional[float]]): Of :func:`card_rates`.

    Returns:
        Dict[str, Optional[float]]: ``copy_share`` and ``exp_share``, 1 at the
        bound; None where the rate is unknown.
    """
    work = dict(copy=bytes_moved, exp=exponentials)
    return {
        f'{kind}_share': work[kind] / rate / seconds if rate else None
        for kind, rate in rates.items()
    }


def step_work(work: Tuple[float, float], train: bool) -> Tuple[float, float]:
    """Turn a model's forward work into that of a training step.

    Args:
        work (Tuple[float, float]): Bytes and exponentials of a forward pass.
        train (bool): Whether it is a training step; otherwise unchanged.

    Returns:
        Tuple[float, float]: Bytes and exponentials.
    """
    if not train:
        return work
    return work[0] * _TRAIN_BYTES, work[1] * _TRAIN_EXPONENTIALS
