"""Causal depthwise convolution along the tokens."""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from .kernels import load_extension


def causal_conv1d(x: Tensor,
                  weight: Tensor,
                  bias: Optional[Tensor] = None,
                  activation: Optional[str] = 'silu',
                  reverse: bool = False) -> Tensor:
    """Convolve each channel with the K tokens up to and including its own.

    Runs on the causal-conv1d package on CUDA, where it works, and on
    ``torch.nn.functional.conv1d`` elsewhere.

    Args:
        x (Tensor): Input (batch, E, L).
        weight (Tensor): Kernels (E, K).
        bias (Tensor, optional): Shape (E,). Defaults to None.
        activation (str, optional): 'silu' or None. Defaults to 'silu'.
        reverse (bool): Whether tokens see the future instead of the past,
            equal to flip, convolve, flip. Defaults to False.

    Returns:
        Tensor: Output (batch, E, L).

    Raises:
        ValueError: If the activation is unknown.
    """
    if activation not in ('silu', None):
        raise ValueError(
            f"activation='{activation}' is unknown; use 'silu' or None.")
    width = weight.shape[1]
    package = _package() if x.is_cuda and 2 <= width <= 4 else None
    if package is not None:
        x = x.flip(-1) if reverse else x
        y = package.causal_conv1d_fn(
            x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype),
            activation=activation)
        return y.flip(-1) if reverse else y
    if reverse:
        weight = weight.flip(-1)
    pad = (0, width - 1) if reverse else (width - 1, 0)
    y = F.conv1d(
        F.pad(x, pad), weight.unsqueeze(1), bias, groups=x.shape[1])
    return F.silu(y) if activation == 'silu' else y


def _package():
    return load_extension('causal_conv1d', 'causal_conv1d_fn')
