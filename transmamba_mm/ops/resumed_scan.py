from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .selective_scan import selective_scan


def resumed_scan(u: Tensor,
                 delta: Tensor,
                 A: Tensor,
                 B: Tensor,
                 C: Tensor,
                 D: Optional[Tensor] = None,
                 z: Optional[Tensor] = None,
                 delta_bias: Optional[Tensor] = None,
                 delta_softplus: bool = False,
                 state: Optional[Tensor] = None,
                 backend: Optional[str] = None) -> Tuple[Tensor, Tensor]:
    """Run the selective scan from a given state, for inference.

    The recurrence is linear in its state, so the old state's share is added
    to a scan that starts at zero. One step is computed directly.

    Args:
        u (Tensor): Input (batch, E, L).
        delta (Tensor): Step size (batch, E, L).
        A (Tensor): Decay rates (E, N), negative.
        B (Tensor): Input weights (batch, N, L) or (batch, G, N, L).
        C (Tensor): Output weights, shaped as B.
        D (Tensor, optional): Skip weights (E,). Defaults to None.
        z (Tensor, optional): Gate (batch, E, L). Defaults to None.
        delta_bias (Tensor, optional): Shape (E,). Defaults to None.
        delta_softplus (bool): Whether softplus is applied to the step size.
            Defaults to False.
        state (Tensor, optional): State before the first step (batch, E, N);
            None is zero. Defaults to None.
        backend (str, optional): See :func:`selective_scan`. Defaults to
            None.

    Returns:
        Tuple[Tensor, Tensor]: Output (batch, E, L) in u's dtype, and the
        last state (batch, E, N) in float32, or float64 for such inputs.

    Raises:
        ValueError: If shapes do not agree.
    """
    if state is None:
        return selective_scan(
            u,
            delta,
            A,
            B,
            C,
            D,
            z,
            delta_bias,
            delta_softplus,
            return_last_state=True,
            backend=backend)
    if state.shape != (u.shape[0], *A.shape):
        raise ValueError(
            f'resumed_scan: the state has the shape {tuple(state.shape)}; '
            f'give {(u.shape[0], *A.shape)}.')
    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    steps = delta.to(kind)
    if delta_bias is not None:
        steps = steps + delta_bias.to(kind)[:, None]
    if delta_softplus:
        steps = F.softplus(steps)
    state, rates = state.to(kind), A.to(kind)
    B, C = (_per_channel(t, u.shape[1]) for t in (B, C))
    if u.shape[-1] == 1:
        out, last = _step(
            u.to(kind), steps, rates, B.to(kind), C.to(kind), state)
        if D is not None:
            out = out + u.to(kind) * D.to(kind)[:, None]
    else:
        out, last = selective_scan(
            u,
            delta,
            A,
            B,
            C,
            D,
            None,
            delta_bias,
            delta_softplus,
            return_last_state=True,
            backend=backend)
        old, left = _share_of_state(steps, rates, C.to(kind), state)
        out, last = out.to(kind) + old, last.to(kind) + left
    if z is not None:
        out = out * F.silu(z.to(kind))
    return out.to(u.dtype), last


def _per_channel(x: Tensor, channels: int) -> Tensor:
    """Return weights (batch, G, N, L)."""
    x = x.unsqueeze(1) if x.dim() == 3 else x
    if channels % x.shape[1]:
        raise ValueError(f'resumed_scan: {channels} channels cannot be cut '
                         f'into {x.shape[1]} groups.')
    return x


def _step(u: Tensor, steps: Tensor, rates: Tensor, B: Tensor, C: Tensor,
          state: Tensor) -> Tuple[Tensor, Tensor]:
    """Take one step; see :func:`resumed_scan` for the shapes."""
    groups = B.shape[1]
    decay = torch.exp(steps * rates)  # (batch, E, 1) with (E, N)
    inputs = (steps * u).unflatten(1, (groups, -1)) * B.transpose(2, 3)
    state = decay * state + inputs.flatten(1, 2)
    out = state.unflatten(1, (groups, -1)) @ C  # (batch, G, E / G, 1)
    return out.flatten(1, 2), state


def _share_of_state(steps: Tensor, rates: Tensor, C: Tensor,
                    state: Tensor) -> Tuple[Tensor, Tensor]:
    """Return what the old state adds to the outputs, and what is left of it.

    Goes one state at a time, so that nothing of size L x N is held.
    """
    groups = C.shape[1]
    total = steps.cumsum(dim=-1)  # (batch, E, L)
    old = torch.zeros_like(total)
    for n in range(rates.shape[1]):
        kept = torch.exp(total * rates[:, n, None]) * state[:, :, n, None]
        old += (kept.unflatten(1,
                               (groups, -1)) * C[:, :, None, n]).flatten(1, 2)
    return old, torch.exp(total[..., -1:] * rates) * state
