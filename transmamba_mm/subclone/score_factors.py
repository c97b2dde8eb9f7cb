"""Attention's scores as the B and C projections of a state space model.

A step of the scan writes B_s into the state and reads it with C_t, so that
C_t . B_s stands where attention has its score q_t . k_s. All channels of a
block share one B and one C; all heads together are therefore one score
matrix.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor


def score_factors(query: Tensor, key: Tensor,
                  rank: int) -> Tuple[Tensor, Tensor, float]:
    """Factorise the score matrix W_q^T W_k with as small a rank as the state.

    Keys and queries are factorised together, since B and C must speak of the
    same state: apart, each would be cut in a basis of its own. The truncated
    SVD is the best such factorisation. Our choice; MambaInLlama, whose state
    is as wide as a head, copies K and Q instead.

    Args:
        query (Tensor): W_q, shape (d_k, d).
        key (Tensor): W_k, shape (d_k, d).
        rank (int): State size N.

    Returns:
        Tuple[Tensor, Tensor, float]: The maps of B and of C, each
        (min(N, d), d) in float64, and the share of the squared scores that
        their product keeps.
    """
    left, values, right = torch.linalg.svd(query.double().T @ key.double())
    root = values[:rank].sqrt().unsqueeze(1)
    energy = values.square()
    kept = energy[:rank].sum() / energy.sum().clamp(min=1e-300)
    return root * right[:rank], root * left.T[:rank], kept.item()


def solve_inner(wanted: Tensor,
                inner: Tensor,
                kernel: Optional[Tensor] = None) -> Tuple[Tensor, float]:
    """Express a map of the block's input as one of its convolved stream.

    The state space model reads not the block's input h, but what the inner
    projection and the depthwise convolution make of it, u_t = sum_j g_j *
    (W h_{t-j}). The returned X minimises E |X u_t - T h_t|^2 for white
    tokens h; the other taps of the kernel count as noise. SiLU is taken as
    linear, which it is around zero. Our choice.

    Args:
        wanted (Tensor): T, shape (N, d).
        inner (Tensor): W, shape (E, d).
        kernel (Tensor, optional): Depthwise kernel (E, taps), the tap of the
            own token moved to the front; None if there is none. Defaults to
            None.

    Returns:
        Tuple[Tensor, float]: X, shape (N, E), float64, and the share of the
        variance of T h that it explains: all, without a convolution, if W
        has rank d; the less, the more other tokens the kernel mixes in.
    """
    wanted, inner = wanted.double(), inner.double()
    if kernel is None:
        kernel = inner.new_ones(len(inner), 1)
    kernel = kernel.double()
    gram = (inner @ inner.T) * (kernel @ kernel.T)
    ridge = 1e-6 * gram.diagonal().mean().clamp(min=1e-12)
    gram.diagonal().add_(ridge)
    cross = (wanted @ inner.T) * kernel[:, 0]
    factor = torch.linalg.cholesky(gram)
    out = torch.cholesky_solve(cross.T, factor).T
    share = (out * cross).sum() / wanted.square().sum().clamp(min=1e-300)
    return out, share.item()


def own_tap_first(weight: Tensor) -> Tensor:
    """Bring a depthwise kernel into the form of :func:`solve_inner`.

    Args:
        weight (Tensor): Of a causal convolution (E, 1, K), whose last tap
            sees the own token, or of one of pictures or clips
            (E, 1, ..., K, K), whose middle one does.

    Returns:
        Tensor: Shape (E, taps).
    """
    taps = weight.flatten(1)
    own = taps.shape[1] - 1 if weight.dim() == 3 else taps.shape[1] // 2
    return torch.cat([taps[:, own:own + 1], taps[:, :own], taps[:, own + 1:]],
                     dim=1)


def repeat_groups(weight: Tensor, rows: int, num_heads: int) -> Tensor:
    """Give each query head the keys or values that it shares with others.

    Args:
        weight (Tensor): Of keys or values (d_kv, ...), of fewer heads than
            the queries in grouped-query attention.
        rows (int): Attention channels d_q of the queries.
        num_heads (int): Heads of the queries.

    Returns:
        Tensor: Shape (d_q, ...).

    Raises:
        ValueError: If the heads do not divide.
    """
    if len(weight) == rows:
        return weight
    head_dim = rows // num_heads
    groups = len(weight) // head_dim
    if head_dim * num_heads != rows or groups * head_dim != len(weight) \
            or groups == 0 or num_heads % groups:
        raise ValueError(
            f'WeightSubcloneHook.plan.num_heads={num_heads} does not fit a '
            f'teacher with {rows} channels of queries and {len(weight)} of '
            "keys and values; set it to the teacher's number of query heads.")
    heads = weight.unflatten(0, (groups, head_dim))
    return heads.repeat_interleave(num_heads // groups, dim=0).flatten(0, 1)
