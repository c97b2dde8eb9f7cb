"""The recurrence as one operator, so that an export keeps it in one piece."""
import contextlib
import importlib
from typing import Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

_SCAN_MODULES = ('transmamba_mm.ops.multi_direction_scan',
                 'transmamba_mm.ops.selective_scan')


@torch.library.custom_op('transmamba_mm::recurrence', mutates_args=())
def recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor,
               C: Tensor) -> Tensor:
    """Run h = exp(delta A) h + delta B u, y = C h, step by step.

    Args:
        u (Tensor): Input (batch, G, E, L).
        delta (Tensor): Step size (batch, G, E, L), not negative.
        A (Tensor): Decay rates (G, E, N).
        B (Tensor): Input weights (batch, G, N, L).
        C (Tensor): Output weights (batch, G, N, L).

    Returns:
        Tensor: Output (batch, G, E, L).
    """
    state = u.new_zeros(*u.shape[:3], A.shape[-1])
    outs = []
    for t in range(u.shape[-1]):
        step = delta[..., t, None]
        state = (step * A).exp() * state + (
            step * u[..., t, None]) * B[..., None, :, t]
        outs.append((state * C[..., None, :, t]).sum(-1))
    return torch.stack(outs, -1)


@recurrence.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    return torch.empty_like(u, memory_format=torch.contiguous_format)


def scan_groups(u: Tensor,
                delta: Tensor,
                A: Tensor,
                B: Tensor,
                C: Tensor,
                D: Optional[Tensor] = None,
                z: Optional[Tensor] = None,
                delta_bias: Optional[Tensor] = None,
                delta_softplus: bool = False,
                backend: Optional[str] = None) -> Tuple[Tensor, None]:
    """Stand in for the scan of ``transmamba_mm.ops`` during an export.

    Args:
        u (Tensor): Input (batch, G, E, L); the others as in
            :func:`transmamba_mm.ops.selective_scan.scan_groups`.

    Returns:
        Tuple[Tensor, None]: Output (batch, G, E, L); no state.
    """
    groups = u.shape[1]
    if delta_bias is not None:
        delta = delta + delta_bias[..., None]
    if delta_softplus:
        delta = F.softplus(delta)
    out = recurrence(u, delta.expand(-1, groups, -1, -1),
                     A.expand(groups, -1, -1), B, C)
    if D is not None:
        out = out + u * D[..., None]
    return out if z is None else out * F.silu(z), None


@contextlib.contextmanager
def exportable_scan() -> Iterator[None]:
    """Let all mixers call :func:`recurrence` inside the ``with`` block."""
    modules = [importlib.import_module(name) for name in _SCAN_MODULES]
    originals = [module.scan_groups for module in modules]
    for module in modules:
        module.scan_groups = scan_groups
    try:
        yield
    finally:
        for module, original in zip(modules, originals):
            module.scan_groups = original
