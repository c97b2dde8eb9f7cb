"""Selective scan by the CUDA extension of mamba-ssm.

The extension is called directly, so that mamba-ssm's Python package, with all
that it imports, is not needed. It wants tensors that are contiguous in time,
one dtype for u, delta, z, B and C, and float32 for the rest.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels import load_extension

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def is_available(u: Tensor) -> bool:
    """Tell whether the extension can take an input.

    Args:
        u (Tensor): Input of the scan.

    Returns:
        bool: True for CUDA tensors of a supported dtype, if the extension
        works.
    """
    return u.is_cuda and u.dtype in _DTYPES and _extension() is not None


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
         D: Optional[Tensor], z: Optional[Tensor],
         delta_bias: Optional[Tensor],
         delta_softplus: bool) -> Tuple[Tensor, Tensor]:
    """Scan on the card. See :func:`transmamba_mm.ops.reference.scan`.

    Args:
        u (Tensor): Input (B, E, L).
        delta (Tensor): Step size before softplus (B, E, L).
        A (Tensor): Negative decay rates (E, N).
        B (Tensor): Input weights (B, G, N, L).
        C (Tensor): Output weights (B, G, N, L).
        D (Tensor, optional): Skip weights (E,).
        z (Tensor, optional): Gate before SiLU (B, E, L).
        delta_bias (Tensor, optional): Added to ``delta`` (E,).
        delta_softplus (bool): Whether softplus is applied.

    Returns:
        Tuple[Tensor, Tensor]: Output (B, E, L) and last state (B, E, N),
        without gradient.
    """
    delta, B, C = (_prepare(t, u.dtype) for t in (delta, B, C))
    z = None if z is None else _prepare(z, u.dtype)
    A, D, delta_bias = (None if t is None else t.float().contiguous()
                        for t in (A, D, delta_bias))
    return _Scan.apply(
        _prepare(u, u.dtype), delta, A, B, C, D, z, delta_bias,
        delta_softplus)


def _extension():
    return load_extension('selective_scan_cuda', 'fwd', 'bwd')


def _prepare(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    return x if x.stride(-1) == 1 else x.contiguous()


class _Scan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        out, states, *gated = _extension().fwd(u, delta, A, B, C, D, z,
                                               delta_bias, delta_softplus)
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, states,
                              out if z is not None else None)
        ctx.delta_softplus = delta_softplus
        last = states[:, :, -1, 1::2].float()  # (B, E, N)
        ctx.mark_non_differentiable(last)
        return (gated[0] if z is not None else out), last

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, _):
        *inputs, states, out = ctx.saved_tensors
        z, D, delta_bias = inputs[6], inputs[5], inputs[7]
        du, dd, dA, dB, dC, dD, dbias, *dz = _extension().bwd(
            *inputs, _prepare(dout, inputs[0].dtype), states, out, None,
            ctx.delta_softplus, False)
        return (du, dd, dA, dB.to(inputs[3].dtype), dC.to(inputs[4].dtype),
                None if D is None else dD, None if z is None else dz[0],
                None if delta_bias is None else dbias, None)
