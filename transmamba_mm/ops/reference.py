"""Sequential selective scan: the oracle of the tests.

    d_t = softplus(delta_t + bias),  a_t = exp(d_t A)
    h_t = a_t h_{t-1} + d_t u_t B_t
    y_t = <C_t, h_t> + D u_t,  out_t = y_t silu(z_t)

Shapes: B batch, G groups, E channels of a group, N state size, L time; what
all groups share has 1 in place of G.
"""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(u: Tensor,
         delta: Tensor,
         A: Tensor,
         B: Tensor,
         C: Tensor,
         D: Optional[Tensor] = None,
         z: Optional[Tensor] = None,
         delta_bias: Optional[Tensor] = None,
         delta_softplus: bool = False) -> Tuple[Tensor, Tensor]:
    """Scan step by step; autograd gives the gradients.

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
        Tuple[Tensor, Tensor]: Output (B, G, E, L) in u's dtype and the last
        state (B, G, E, N) in the dtype computed in: float64 if u is, else
        float32.
    """
    out_dtype = u.dtype
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, delta, A, B, C = (t.to(dtype) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype).unsqueeze(-1)
    if delta_softplus:
        delta = F.softplus(delta)
    h = u.new_zeros(*u.shape[:3], A.shape[-1])  # (B, G, E, N)
    ys = []
    for u_t, d_t, b_t, c_t in zip(*(t.unbind(-1) for t in (u, delta, B, C))):
        decay = (d_t.unsqueeze(-1) * A).exp()
        h = decay * h + (d_t * u_t).unsqueeze(-1) * b_t.unsqueeze(2)
        ys.append((h * c_t.unsqueeze(2)).sum(-1))
    y = torch.stack(ys, dim=-1)
    if D is not None:
        y = y + u * D.to(dtype).unsqueeze(-1)
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(out_dtype), h
