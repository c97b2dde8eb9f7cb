"""The short convolution of all directions by Triton kernels."""
from typing import Optional, Tuple

import torch
from torch import Tensor

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
    args = x, weight, bias, order, inverse, activation is not None
    if torch.compiler.is_compiling():
        return torch.ops.transmamba_mm.convolve_directions(*args)
    return _Convolve.apply(*args)


def empty_output(x: Tensor, weight: Tensor) -> Tensor:
    """Allocate the output of the forward kernel.

    Args:
        x (Tensor): Input (batch, E, L).
        weight (Tensor): Kernels (M, E, K).

    Returns:
        Tensor: Shape (batch, M, E, L), in memory (M, batch, L, E).
    """
    batch, e, length = x.shape
    y = x.new_empty((weight.shape[0], batch, length, e))
    return y.permute(1, 0, 3, 2)


def run_forward(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                order: Tensor, inverse: Tensor, silu: bool) -> Tensor:
    """Launch the forward kernel; see :func:`convolve_directions`."""
    batch, e, length = x.shape
    m, _, k = weight.shape
    y = empty_output(x, weight)
    with on_device(x.device):
        _kernels().conv_forward[_grid(e, length, batch * m)](
            x,
            weight.float().contiguous(),
            _rows(bias),
            order,
            y,
            m,
            e,
            length,
            *x.stride(),
            y.stride(0),
            y.stride(1),
            HAS_BIAS=bias is not None,
            SILU=silu,
            K=k,
            BL=STEPS,
            BE=CHANNELS,
            num_warps=2)
    return y


def run_backward(dy: Tensor, x: Tensor, weight: Tensor, bias: Optional[Tensor],
                 order: Tensor, inverse: Tensor,
                 silu: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """Launch the backward kernels.

    Returns:
        Tuple[Tensor, Tensor, Tensor]: Gradients of x, of the kernels, and of
        the bias, which is of no account where there is none.
    """
    batch, e, length = x.shape
    m, _, k = weight.shape
    w = weight.float().contiguous()
    g = x.new_empty((m, batch, length, e))
    dw = w.new_empty((batch, m, k + 1, e))
    dx = x.new_empty((batch, length, e))
    with on_device(x.device):
        _kernels().conv_backward_sum[(-(-e // CHANNELS), batch * m)](
            x,
            w,
            _rows(bias),
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
            SILU=silu,
            K=k,
            KP=1 << k.bit_length(),
            BL=STEPS,
            BE=CHANNELS,
            num_warps=2)
        _kernels().conv_backward_input[_grid(e, length, batch)](
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
    dbias = dw[:, k].to(weight.dtype if bias is None else bias.dtype)
    dweight = dw[:, :k].transpose(1, 2).to(weight.dtype)
    return dx.transpose(1, 2), dweight.contiguous(), dbias.contiguous()


def _kernels():
    # Triton is imported by the first who needs it
    from . import triton_conv_kernels
    return triton_conv_kernels


def _rows(bias: Optional[Tensor]) -> Optional[Tensor]:
    return None if bias is None else bias.float().contiguous()


def _grid(e: int, length: int, last: int) -> tuple:
    return -(-e // CHANNELS), -(-length // STEPS), last


class _Convolve(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *args):
        ctx.save_for_backward(*args[:5])
        ctx.silu = args[5]
        return run_forward(*args)

    @staticmethod
    @first_order_only
    def backward(ctx, dy):
        inputs = ctx.saved_tensors
        grads = run_backward(dy, *inputs, ctx.silu)
        return (*(None if t is None else g
                  for t, g in zip(inputs, grads)), None, None, None)
