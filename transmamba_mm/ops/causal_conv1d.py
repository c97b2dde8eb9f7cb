"""Causal depthwise convolution along the tokens."""
from functools import lru_cache
from types import ModuleType
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .flops import note_operation
from .kernels import first_order_only, load_extension, warn_unusable

#: Kernel sizes and dtypes that the package supports.
PACKAGE_WIDTHS = (2, 3, 4)
PACKAGE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def causal_conv1d(x: Tensor,
                  weight: Tensor,
                  bias: Optional[Tensor] = None,
                  activation: Optional[str] = 'silu',
                  reverse: bool = False) -> Tensor:
    """Convolve each channel with the K tokens up to and including its own.

    Runs on the causal-conv1d package on CUDA, where it works, and elsewhere
    as K shifted multiply-adds, which keep the channels contiguous for the
    scan.

    Args:
        x (Tensor): Input (batch, E, L).
        weight (Tensor): Kernels (E, K).
        bias (Tensor, optional): Shape (E,). Defaults to None.
        activation (str, optional): 'silu' or None. Defaults to 'silu'.
        reverse (bool): Whether tokens see the future instead of the past,
            equal to flip, convolve, flip. Defaults to False.

    Returns:
        Tensor: Output (batch, E, L) in x's dtype.

    Raises:
        ValueError: If the activation is unknown or shapes do not agree.
    """
    if activation not in ('silu', None):
        raise ValueError(
            f"activation='{activation}' is unknown; use 'silu' or None.")
    if x.dim() != 3 or weight.dim() != 2 or weight.shape[0] != x.shape[1]:
        raise ValueError('causal_conv1d: give x (batch, E, L) and weight (E, '
                         f'K), got {tuple(x.shape)}, {tuple(weight.shape)}.')
    note_operation(
        'convolution',
        batch=x.shape[0],
        channels=x.shape[1],
        length=x.shape[2],
        width=weight.shape[1])
    if (_is_cuda(x) and x.dtype in PACKAGE_DTYPES
            and weight.shape[1] in PACKAGE_WIDTHS):
        package = _package(x.device)
        if package is not None:
            return _run_package(package, x, weight, bias, activation, reverse)
    return _ShiftedConv.apply(x, weight, bias, activation, reverse)


def _is_cuda(x: Tensor) -> bool:
    return x.is_cuda


@lru_cache(maxsize=None)
def _package(device: torch.device) -> Optional[ModuleType]:
    """Load the package and try it once on the device."""
    name = 'causal_conv1d'
    package = load_extension(name, 'causal_conv1d_fn')
    if package is None:
        return None
    x, w = (torch.zeros(shape, device=device) for shape in ((1, 8, 8), (8, 4)))
    try:
        _run_package(package, x, w, w[:, 0], 'silu', False)
    except (RuntimeError, TypeError) as error:
        # built for another card, or a release with other arguments
        warn_unusable(name, str(error).splitlines()[0])
        return None
    return package


def _run_package(package, x, weight, bias, activation, reverse):
    x = (x.flip(-1) if reverse else x).contiguous()
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    # by name, since the order of the arguments has changed between releases
    y = package.causal_conv1d_fn(x, weight, bias=bias, activation=activation)
    return y.flip(-1) if reverse else y


def _overlap(shift: int, length: int, reverse: bool) -> Tuple[slice, slice]:
    """Steps that receive a shifted input, and the steps they receive."""
    kept = length - shift
    late, early = slice(length - kept, length), slice(0, kept)
    return (early, late) if reverse else (late, early)


class _ShiftedConv(torch.autograd.Function):
    """Token-major convolution: (batch, L, E) and kernels (K, E).

    Computes in float32 (float64 for float64 inputs). The backward computes
    the pre-activation again rather than keep it.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, activation, reverse):
        ctx.save_for_backward(x, weight, bias)
        ctx.activation, ctx.reverse = activation, reverse
        y = _convolve(*_token_major(x, weight, bias), reverse)
        y = F.silu(y) if activation else y
        return y.to(x.dtype).transpose(1, 2)

    @staticmethod
    @first_order_only
    def backward(ctx, dout):
        x, weight, bias = ctx.saved_tensors
        xt, w, b = _token_major(x, weight, bias)
        dy = dout.transpose(1, 2).to(xt.dtype)
        if ctx.activation:
            y = _convolve(xt, w, b, ctx.reverse)
            dy = torch.ops.aten.silu_backward(dy, y)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = _convolve(dy, w, None, not ctx.reverse)
            dx = dx.to(x.dtype).transpose(1, 2)
        if ctx.needs_input_grad[1]:
            dw = _kernel_grad(xt, dy, len(w), ctx.reverse).t().to(weight.dtype)
        if bias is not None and ctx.needs_input_grad[2]:
            db = dy.sum((0, 1)).to(bias.dtype)
        return dx, dw, db, None, None


def _token_major(x, weight, bias):
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    xt = x.transpose(1, 2).to(dtype)
    if xt.stride(-1) != 1:
        xt = xt.contiguous()
    bias = None if bias is None else bias.to(dtype)
    return xt, weight.t().to(dtype).contiguous(), bias


def _convolve(x, w, bias, reverse):
    y = x * w[-1] if bias is None else torch.addcmul(bias, x, w[-1])
    for shift in range(1, min(len(w), x.shape[1])):
        to, source = _overlap(shift, x.shape[1], reverse)
        y[:, to].addcmul_(x[:, source], w[-1 - shift])
    return y


def _kernel_grad(x, dy, width, reverse):
    """Gradient of the kernels, (K, E)."""
    dw = x.new_zeros(width, x.shape[2])
    for shift in range(min(width, x.shape[1])):
        to, source = _overlap(shift, x.shape[1], reverse)
        dw[-1 - shift] = (dy[:, to] * x[:, source]).sum((0, 1))
    return dw
