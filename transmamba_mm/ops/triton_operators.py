"""Scan and convolution as operators that a compiler does not look into.

Outside a compiled graph the kernels are called directly, which costs the host
less.
"""
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from . import triton_conv
from .triton_scan import empty_outputs, run_backward, run_forward


@torch.library.custom_op('transmamba_mm::scan_directions', mutates_args=())
def scan_directions(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                    D: Optional[Tensor], bias: Optional[Tensor],
                    order: Optional[Tensor], params_in_order: bool,
                    softplus: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """See :func:`transmamba_mm.ops.triton_scan.run_forward`."""
    return run_forward(x, delta, A, B, C, D, bias, order, params_in_order,
                       softplus)


@scan_directions.register_fake
def _(x, delta, A, B, C, D, bias, order, params_in_order, softplus):
    return empty_outputs(x, A.shape[-1])


@torch.library.custom_op(
    'transmamba_mm::scan_directions_backward', mutates_args=())
def scan_directions_backward(dy: Tensor, marks: Tensor, x: Tensor,
                             delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                             D: Optional[Tensor], bias: Optional[Tensor],
                             order: Optional[Tensor], params_in_order: bool,
                             softplus: bool) -> List[Tensor]:
    """See :func:`transmamba_mm.ops.triton_scan.run_backward`."""
    return run_backward(dy, marks, x, delta, A, B, C, D, bias, order,
                        params_in_order, softplus)


@scan_directions_backward.register_fake
def _(dy, marks, x, delta, A, B, C, D, bias, order, params_in_order, softplus):

    def by_token(t):
        return torch.empty_like(t.transpose(2, 3).contiguous()).transpose(2, 3)

    batch, m, e, _ = x.shape
    rows = x.new_empty((m, e), dtype=torch.float32)
    return [
        by_token(x),
        by_token(delta),
        x.new_empty(A.shape, dtype=torch.float32),
        by_token(B),
        by_token(C), rows,
        torch.empty_like(rows)
    ]


def _keep(ctx, inputs, output):
    ctx.save_for_backward(output[2], *inputs[:8])
    ctx.settings = inputs[8:]


def _backward(ctx, dy, *_):
    marks, *inputs = ctx.saved_tensors
    grads = scan_directions_backward(dy, marks, *inputs, *ctx.settings)
    return (*(None if t is None else g
              for t, g in zip(inputs, grads)), None, None, None)


scan_directions.register_autograd(_backward, setup_context=_keep)


@torch.library.custom_op('transmamba_mm::convolve_directions', mutates_args=())
def convolve_directions(x: Tensor, weight: Tensor, bias: Optional[Tensor],
                        order: Tensor, inverse: Tensor, silu: bool) -> Tensor:
    """See :func:`transmamba_mm.ops.triton_conv.convolve_directions`."""
    return triton_conv.run_forward(x, weight, bias, order, inverse, silu)


@convolve_directions.register_fake
def _(x, weight, bias, order, inverse, silu):
    return triton_conv.empty_output(x, weight)


@torch.library.custom_op(
    'transmamba_mm::convolve_directions_backward', mutates_args=())
def convolve_directions_backward(dy: Tensor, x: Tensor, weight: Tensor,
                                 bias: Optional[Tensor], order: Tensor,
                                 inverse: Tensor,
                                 silu: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """See :func:`transmamba_mm.ops.triton_conv.run_backward`."""
    return triton_conv.run_backward(dy, x, weight, bias, order, inverse, silu)


@convolve_directions_backward.register_fake
def _(dy, x, weight, bias, order, inverse, silu):
    batch, e, length = x.shape
    rows = weight.new_empty(
        weight.shape[:2], dtype=weight.dtype if bias is None else bias.dtype)
    return (x.new_empty(
        (batch, length, e)).transpose(1,
                                      2), weight.new_empty(weight.shape), rows)


def _keep_convolution(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:5])
    ctx.silu = inputs[5]


def _convolve_backward(ctx, dy):
    inputs = ctx.saved_tensors
    grads = convolve_directions_backward(dy, *inputs, ctx.silu)
    return (*(None if t is None else g
              for t, g in zip(inputs, grads)), None, None, None)


convolve_directions.register_autograd(
    _convolve_backward, setup_context=_keep_convolution)
