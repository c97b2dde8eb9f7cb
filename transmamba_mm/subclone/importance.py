"""Which units of a wide teacher a narrow student keeps.

A unit is one channel of the residual stream (the same set everywhere), one
attention channel of a layer, or one hidden unit of a layer.
"""
from typing import Dict, Optional

import torch
from torch import Tensor

State = Dict[str, Tensor]

#: Axis of the residual stream in each canonical tensor.
_RESIDUAL_AXIS = {
    'patch_embed.weight': 0,
    'patch_embed.bias': 0,
    'cls_token': 2,
    'pos_embed': 2,
    'norm1.weight': 0,
    'norm1.bias': 0,
    'norm2.weight': 0,
    'norm2.bias': 0,
    'q.weight': 1,
    'k.weight': 1,
    'v.weight': 1,
    'o.weight': 0,
    'o.bias': 0,
    'fc1.weight': 1,
    'fc2.weight': 0,
    'fc2.bias': 0,
    'final_norm.weight': 0,
    'final_norm.bias': 0,
    'head.weight': 1,
}


def unit_scores(tensor: Tensor,
                axis: int,
                pretrained: Optional[Tensor] = None) -> Tensor:
    """Score the units along one axis of a tensor; high is important.

    Args:
        tensor (Tensor): Weights of the teacher.
        axis (int): Axis whose units are scored.
        pretrained (Tensor, optional): The same weights before fine-tuning.
            With them, the score is minus the relative change
            mean |W - W_pre| / mean |W_pre| (TransMamba: units that change
            little are important; the formula is our choice). Without, it is
            mean |W| over its mean (our choice). Defaults to None.

    Returns:
        Tensor: Scores (n,), float64.
    """
    other = [a for a in range(tensor.dim()) if a != axis]

    def mean(x):
        return x.double().abs().mean(other) if other else x.double().abs()

    if pretrained is None:
        score = mean(tensor)
        return score / score.mean().clamp(min=1e-12)
    change = mean(tensor.double() - pretrained.double())
    return -change / mean(pretrained).clamp(min=1e-12)


def residual_scores(teacher: State,
                    pretrained: Optional[State] = None) -> Tensor:
    """Score the channels of the residual stream over all tensors.

    Args:
        teacher (Dict[str, Tensor]): Canonical weights.
        pretrained (Dict[str, Tensor], optional): Before fine-tuning. Defaults
            to None.

    Returns:
        Tensor: Scores (d_t,), the mean over the tensors.
    """
    scores = []
    for key, tensor in teacher.items():
        kind = key.split('.', 2)[2] if key.startswith('layers.') else key
        axis = _RESIDUAL_AXIS.get(kind)
        before = None if pretrained is None else pretrained.get(key)
        if axis is None or (pretrained is not None and
                            (before is None or before.shape != tensor.shape)):
            continue
        scores.append(unit_scores(tensor, axis, before))
    return torch.stack(scores).mean(0)


def best_units(scores: Tensor, count: int) -> Tensor:
    """Pick units, in their old order.

    Args:
        scores (Tensor): Shape (n,).
        count (int): How many; all if there are no more.

    Returns:
        Tensor: Sorted indices (min(n, count),).
    """
    if count >= len(scores):
        return torch.arange(len(scores))
    order = torch.argsort(scores, descending=True, stable=True)
    return order[:count].sort().values


def best_head_units(scores: Tensor, count: int, num_heads: int) -> Tensor:
    """Pick attention channels by whole heads.

    Args:
        scores (Tensor): Shape (d_t,), heads one after the other.
        count (int): How many channels.
        num_heads (int): Number of heads.

    Returns:
        Tensor: Indices (min(d_t, count),), sorted; the last head is cut if
        ``count`` is no multiple of a head.
    """
    head_dim = len(scores) // num_heads
    by_head = scores.reshape(num_heads, head_dim)
    order = torch.argsort(by_head.mean(1), descending=True, stable=True)
    whole, rest = divmod(min(count, len(scores)), head_dim)
    channels = torch.arange(len(scores)).reshape(num_heads, head_dim)
    picked = [channels[order[:whole]].flatten()]
    if rest:
        head = order[whole]
        picked.append(channels[head][best_units(by_head[head], rest)])
    return torch.cat(picked).sort().values
