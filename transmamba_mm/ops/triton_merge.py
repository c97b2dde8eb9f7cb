"""The sum of the directions and the gate by Triton kernels."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import first_order_only
from .triton_scan import kernels, on_device


def merge_directions(y: Tensor, z: Optional[Tensor], scale: float,
                     dtype: torch.dtype) -> Tensor:
    """Sum directions and gate the sum.

    Args:
        y (Tensor): Outputs (batch, M, E, L) of :func:`scan_directions`.
        z (Tensor, optional): Gate before SiLU (batch, E, L).
        scale (float): Factor of the sum.
        dtype (torch.dtype): Of the result.

    Returns:
        Tensor: Shape (batch, E, L), laid out token by token.
    """
    if torch.compiler.is_compiling():  # the compiler joins these itself
        merged = y.sum(1) * scale
        merged = merged if z is None else merged * F.silu(z.float())
        return merged.to(dtype)
    return _Merge.apply(y, z, scale, dtype)


class _Merge(torch.autograd.Function):

    @staticmethod
    def forward(ctx, y, z, scale, dtype):
        batch, m, e, length = y.shape
        out = y.new_empty((batch, length, e), dtype=dtype)
        merged = None if z is None else torch.empty_like(out)
        with on_device(y.device):
            kernels().merge_forward[(-(-out.numel() // 1024), )](
                y,
                z,
                merged,
                out,
                out.numel(),
                length * e,
                *_gate_strides(z),
                length,
                e,
                scale,
                M=m,
                HAS_Z=z is not None,
                BLOCK=1024)
        ctx.save_for_backward(merged, z)
        ctx.shape, ctx.scale = y.shape, scale
        return out.transpose(1, 2)

    @staticmethod
    @first_order_only
    def backward(ctx, dout):
        merged, z = ctx.saved_tensors
        batch, m, e, length = ctx.shape
        dy = dout.new_empty((batch, length, e))
        dz = None if z is None else torch.empty_like(dy, dtype=z.dtype)
        with on_device(dout.device):
            kernels().merge_backward[(-(-dy.numel() // 1024), )](
                dout,
                merged,
                z,
                dy,
                dz,
                dy.numel(),
                length * e,
                *dout.stride(),
                *_gate_strides(z),
                length,
                e,
                ctx.scale,
                HAS_Z=z is not None,
                BLOCK=1024)
        dy = dy.transpose(1, 2).unsqueeze(1).expand(-1, m, -1, -1)
        dz = None if z is None else dz.transpose(1, 2)
        return dy, dz, None, None


def _gate_strides(z: Optional[Tensor]) -> Tuple[int, int, int]:
    return (0, 0, 0) if z is None else z.stride()
