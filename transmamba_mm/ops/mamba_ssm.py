"""Selective scan by the CUDA extension of mamba-ssm.

The extension is called directly, so that mamba-ssm's Python package, with all
that it imports, is not needed. It wants tensors that are contiguous in time,
one dtype for u, delta, z, B and C, and float32 for the rest. Checked against
the interface of mamba-ssm 2.3.2.
"""
from functools import lru_cache
from types import ModuleType
from typing import Optional, Tuple

import torch
from torch import Tensor

from .kernels import first_order_only, load_extension, warn_unusable

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STATES = 256


def why_not(device: torch.device,
            dtype: torch.dtype = torch.float32,
            d_state: int = 1) -> Optional[str]:
    """Say why the extension cannot run a scan.

    Args:
        device (torch.device): Where the input lives.
        dtype (torch.dtype): Dtype of the input. Defaults to torch.float32.
        d_state (int): State size N. Defaults to 1.

    Returns:
        str, optional: The reason, or None if it can.
    """
    if not _is_cuda(device):
        return f'it needs CUDA tensors, got {device.type}'
    if dtype not in DTYPES:
        return f'it cannot compute in {dtype}'
    if d_state > MAX_STATES:
        return f'it takes at most {MAX_STATES} states, got {d_state}'
    if _extension(device) is None:
        return 'its extension selective_scan_cuda does not work here'
    return None


def scan(u: Tensor,
         delta: Tensor,
         A: Tensor,
         B: Tensor,
         C: Tensor,
         D: Optional[Tensor] = None,
         z: Optional[Tensor] = None,
         delta_bias: Optional[Tensor] = None,
         delta_softplus: bool = False) -> Tuple[Tensor, Tensor]:
    """Scan on the card. See :func:`transmamba_mm.ops.reference.scan`.

    Args:
        u (Tensor): Input (B, G, E, L).
        delta (Tensor): Step size before softplus (B, G or 1, E, L).
        A (Tensor): Negative decay rates (G or 1, E, N).
        B (Tensor): Input weights (B, G, N, L).
        C (Tensor): Output weights (B, G, N, L).
        D (Tensor, optional): Skip weights (G or 1, E). Defaults to None.
        z (Tensor, optional): Gate before SiLU (B, G, E, L). Defaults to
            None.
        delta_bias (Tensor, optional): Added to ``delta`` (G or 1, E).
            Defaults to None.
        delta_softplus (bool): Whether softplus is applied. Defaults to
            False.

    Returns:
        Tuple[Tensor, Tensor]: Output (B, G, E, L) and last state
        (B, G, E, N), the latter without gradient.
    """
    groups = u.shape[1]
    # the widest dtype given, so that no input loses digits
    dtype = u.dtype
    for t in (delta, B, C, *(() if z is None else (z, ))):
        dtype = torch.promote_types(dtype, t.dtype)
    if dtype not in DTYPES:  # float64 beside float32
        dtype = torch.float32
    delta = delta.expand(-1, groups, -1, -1)
    flat = [
        None if t is None else _rows(t.flatten(1, 2), dtype)
        for t in (u, delta, z)
    ]
    A, D, delta_bias = (None if t is None else _channels(t, groups)
                        for t in (A, D, delta_bias))
    out, last = _Scan.apply(flat[0], flat[1], A, _rows(B, dtype),
                            _rows(C, dtype), D, flat[2], delta_bias,
                            delta_softplus)
    return (out.unflatten(1, (groups, -1)).to(u.dtype),
            last.unflatten(1, (groups, -1)))


def _is_cuda(device: torch.device) -> bool:
    return device.type == 'cuda'


@lru_cache(maxsize=None)
def _extension(device: torch.device) -> Optional[ModuleType]:
    """Load the extension and try it once on the device."""
    name = 'selective_scan_cuda'
    module = load_extension(name, 'fwd', 'bwd')
    if module is None:
        return None
    x, a = (torch.zeros(shape, device=device) for shape in ((1, 1, 2), (1, 1)))
    b = x.unsqueeze(1)
    try:
        module.fwd(x, x, a, b, b, None, None, None, True)
    except (RuntimeError, TypeError) as error:
        # built for another card, or with other arguments
        warn_unusable(name, str(error).splitlines()[0])
        return None
    return module


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    return x if x.stride(-1) == 1 else x.contiguous()


def _channels(x: Tensor, groups: int) -> Tensor:
    """(G or 1, E, ...) -> (G * E, ...), float32."""
    x = x.float().expand(groups, *x.shape[1:])
    return x.flatten(0, 1).contiguous()


class _Scan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        out, states, *gated = _extension(u.device).fwd(u, delta, A, B, C, D, z,
                                                       delta_bias,
                                                       delta_softplus)
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, states,
                              None if z is None else out)
        ctx.delta_softplus = delta_softplus
        # pairs (product of decays, state) at the end of each tile
        last = states[:, :, -1, 1::2].clone()
        ctx.mark_non_differentiable(last)
        return (out if z is None else gated[0]), last

    @staticmethod
    @first_order_only
    def backward(ctx, dout, _):
        *inputs, states, out = ctx.saved_tensors
        u, D, z, delta_bias = inputs[0], *inputs[5:]
        dout = _rows(dout, u.dtype)
        du, ddelta, dA, dB, dC, dD, dbias, *dz = _extension(u.device).bwd(
            *inputs, dout, states, out, None, ctx.delta_softplus, False)
        return (du, ddelta, dA, dB, dC, None if D is None else dD,
                None if z is None else dz[0],
                None if delta_bias is None else dbias, None)
