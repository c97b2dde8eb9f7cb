"""Sequential selective scan: the oracle of the tests.

    d_t = softplus(delta_t + bias),  a_t = exp(d_t A)
    h_t = a_t h_{t-1} + d_t u_t B_t
    y_t = <C_t, h_t> + D u_t,  out_t = y_t silu(z_t)

Shapes: u, delta, z (B, E, L); A (E, N); B, C (B, G, N, L); D, bias (E,).
"""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
         D: Optional[Tensor], z: Optional[Tensor],
         delta_bias: Optional[Tensor],
         delta_softplus: bool) -> Tuple[Tensor, Tensor]:
    """Scan step by step; autograd gives the gradients.

    Args:
        u (Tensor): Input (B, E, L).
        delta (Tensor): Step size before softplus (B, E, L).
        A (Tensor): Negative decay rates (E, N).
        B (Tensor): Input weights (B, G, N, L).
        C (Tensor): Output weights (B, G, N, L).
        D (Tensor, optional): Skip weights (E,).
        z (Tensor, optional): Gate before SiLU (B, E, L).
        delta_bias (Tensor, optional): Added to ``delta`` (E,).
        delta_softplus (bool): Whether softplus is applied.

    Returns:
        Tuple[Tensor, Tensor]: Output (B, E, L) in u's dtype and the last
        state (B, E, N) in the dtype computed in (float64 for float64 inputs,
        else float32).
    """
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    out_dtype, repeats = u.dtype, u.shape[1] // B.shape[1]
    u, delta, A, B, C = (t.to(dtype) for t in (u, delta, A, B, C))
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    # one row of B and C for each channel: (B, E, N, L)
    B, C = (t.repeat_interleave(repeats, dim=1) for t in (B, C))
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    ys = []
    steps = zip(*(t.unbind(-1) for t in (u, delta, B, C)))
    for u_t, d_t, b_t, c_t in steps:
        decay = (d_t.unsqueeze(-1) * A).exp()  # (B, E, N)
        h = decay * h + (d_t * u_t).unsqueeze(-1) * b_t
        ys.append((h * c_t).sum(-1))
    y = torch.stack(ys, dim=-1)
    if D is not None:
        y = y + u * D.to(dtype)[:, None]
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(out_dtype), h
