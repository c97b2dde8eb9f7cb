"""The short convolution of all directions by Triton kernels."""
from typing import Optional

import torch
from torch import Tensor

from . import triton_conv_kernels as kernels
from .kernels import first_order_only
from .triton_scan import on_device

#: Steps and channels of a program.
STEPS, CHANNELS = 16, 64


def convolve_directions(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                        order: Tensor, inverse: Tensor,
                        activation: Optional[str]) -> Tensor:
    """Convolve along each direction's scan; no permuted copy.

    Args:
        x (Tensor): Input (batch, E, L), raster order.
        weight (Tensor): Kernels (M, E, K).
        bias (Tensor, optional): Shape (M, E).
        order (Tensor): Raster position of each step (M, L).
        inverse (Tensor): Step of each raster position (M, L).
        activation (str, optional): 'silu' or None.

    Returns:
        Tensor: Shape (batch, M, E, L), raster order, in x's dtype; in memory
        (M, batch, L, E).
    """
    return _Convolve.apply(x, weight, bias, order, inverse, activation)


def _grid(e: int, length: int, last: int) -> tuple:
    return -(-e // CHANNELS), -(-length // STEPS), last


class _Convolve(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, bias, order, inverse, activation):
        batch, e, length = x.shape
        m, _, k = weight.shape
        w = weight.float().contiguous()
        shift = None if bias is None else bias.float().contiguous()
        y = x.new_empty((m, batch, length, e))
        with on_device(x.device):
            kernels.conv_forward[_grid(e, length, batch * m)](
                x,
                w,
                shift,
                order,
                y,
                m,
                e,
                length,
                *x.stride(),
                y.stride(1),
                y.stride(0),
                HAS_BIAS=bias is not None,
                SILU=activation is not None,
                K=k,
                BL=STEPS,
                BE=CHANNELS,
                num_warps=2)
        ctx.save_for_backward(x, w, shift, order, inverse)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        ctx.silu = activation is not None
        return y.permute(1, 0, 3, 2)

    @staticmethod
    @first_order_only
    def backward(ctx, dy):
        x, w, bias, order, inverse = ctx.saved_tensors
        batch, e, length = x.shape
        m, _, k = w.shape
        g = x.new_empty((m, batch, length, e))
        dw = w.new_empty((batch, m, k + 1, e))
        dx = x.new_empty((batch, length, e))
        with on_device(x.device):
            kernels.conv_backward_sum[(-(-e // CHANNELS), batch * m)](
                x,
                w,
                bias,
                order,
                dy,
                g,
                dw,
                m,
                e,
                length,
                *x.stride(),
                *dy.stride(),
                g.stride(1),
                g.stride(0),
                HAS_BIAS=bias is not None,
                SILU=ctx.silu,
                K=k,
                KP=1 << k.bit_length(),
                BL=STEPS,
                BE=CHANNELS,
                num_warps=2)
            kernels.conv_backward_input[_grid(e, length, batch)](
                g,
                w,
                order,
                inverse,
                dx,
                m,
                e,
                length,
                g.stride(1),
                g.stride(0),
                K=k,
                BL=STEPS,
                BE=CHANNELS,
                num_warps=2)
        dw = dw.sum(0)  # (M, K + 1, E)
        dbias = None if bias is None else dw[:, k].to(ctx.dtypes[1])
        return (dx.transpose(1, 2), dw[:, :k].transpose(1,
                                                        2).to(ctx.dtypes[0]),
                dbias, None, None, None)
