"""Scan and convolution as operators that a compiler does not look into.

Outside a compiled graph the kernels are called directly, which costs the host
less.
"""
from typing import List, Optional, Tuple

import torch
from torch import Tensor

from . import triton_conv
from .triton_scan import empty_outputs, given, run_backward, run_forward


@torch.library.custom_op('transmamba_mm::scan_directions', mutates_args=())
def scan_directions(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                    D: Optional[Tensor], bias: Optional[Tensor],
                    order: Optional[Tensor], params_in_order: bool,
                    softplus: bool,
                    keep: bool) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`transmamba_mm.ops.triton_scan.run_forward`."""
    return run_forward(x, delta, A, B, C, D, bias, order, params_in_order,
                       softplus, keep)


@scan_directions.register_fake
def _(x, delta, A, B, C, D, bias, order, params_in_order, softplus, keep):
    return empty_outputs(x, delta, bias, A.shape[-1], keep)


@torch.library.custom_op(
    'transmamba_mm::scan_directions_backward', mutates_args=())
def scan_directions_backward(dy: Tensor, marks: Tensor, steps: Tensor,
                             x: Tensor, A: Tensor, B: Tensor, C: Tensor,
                             D: Optional[Tensor], order: Optional[Tensor],
                             params_in_order: bool, softplus: bool,
                             dtype: torch.dtype) -> List[Tensor]:
    """See :func:`transmamba_mm.ops.triton_scan.run_backward`."""
    return run_backward(dy, marks, steps, x, A, B, C, D, order,
                        params_in_order, softplus, dtype)


@scan_directions_backward.register_fake
def _(dy, marks, steps, x, A, B, C, D, order, params_in_order, softplus,
      dtype):

    def by_token(t, kind):
        b, m, n, length = t.shape
        return t.new_empty((b, m, length, n), dtype=kind).transpose(2, 3)

    batch, m, e, length = x.shape
    n = A.shape[-1]
    v = 1 << (2 * n - 1).bit_length()
    rows = x.new_empty((m, e), dtype=torch.float32)
    both = x.new_empty((batch, m, length, v), dtype=torch.float32)
    dB, dC = both[..., :2 * n].transpose(2, 3).split(n, dim=2)
    return [
        by_token(x, x.dtype),
        by_token(x, dtype),
        x.new_empty((m, n, e), dtype=torch.float32).transpose(1, 2),
        dB.to(B.dtype, copy=True),
        dC.to(C.dtype, copy=True), rows,
        torch.empty_like(rows)
    ]


def _keep(ctx, inputs, output):
    x, delta, A, B, C, D, bias, order = inputs[:8]
    ctx.save_for_backward(output[2], output[3], x, A, B, C, D, order)
    ctx.settings = *inputs[8:10], delta.dtype
    ctx.has_bias = bias is not None


def _backward(ctx, dy, *_):
    grads = scan_directions_backward(dy, *ctx.saved_tensors, *ctx.settings)
    return given(grads, ctx.saved_tensors[6], ctx.has_bias)


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
