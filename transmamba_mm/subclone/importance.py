"""Which units of a wide teacher a narrow student keeps.

A unit is one channel of the residual stream (the same set everywhere), one
attention channel of a layer, or one hidden unit of a layer.
"""
from typing import Dict, List, Mapping, Optional, Tuple

import torch
from torch import Tensor

from .score_factors import repeat_groups

#: A dict, or something like it that reads its tensors when asked.
State = Mapping[str, Tensor]

#: Axis of the residual stream in each canonical tensor. The head is left out:
#: fine-tuning replaces it, which says nothing about the channels.
_RESIDUAL_AXIS = {
    'patch_embed.weight': 0,
    'patch_embed.bias': 0,
    'token_embed.weight': 1,
    'pre_norm.weight': 0,
    'pre_norm.bias': 0,
    'text_pos_embed': 2,
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
    'gate.weight': 1,
    'up.weight': 1,
    'down.weight': 0,
    'final_norm.weight': 0,
    'final_norm.bias': 0,
}

#: Tensors, and their axes, that score the hidden units of a layer.
_HIDDEN_PARTS: Dict[str, Tuple[Tuple[str, int], ...]] = {
    'inner': (('v', 0), ('o', 1)),
    'mlp': (('fc1', 0), ('fc2', 1), ('gate', 0), ('up', 0), ('down', 1)),
}


def unit_scores(tensor: Tensor,
                axis: int,
                pretrained: Optional[Tensor] = None) -> Tensor:
    """Score the units along one axis of a tensor; high is important.

    Each tensor's scores are divided by their mean size, so that all tensors
    of a model count alike when their scores are averaged (our choice).

    Args:
        tensor (Tensor): Weights of the teacher.
        axis (int): Axis whose units are scored.
        pretrained (Tensor, optional): The same weights before fine-tuning.
            With them, the score is minus the relative change
            ``mean |W - W_pre| / mean |W_pre|`` of the unit (TransMamba: units
            that change little are important; the formula is our choice).
            Without, it is ``mean |W|`` (our choice). Defaults to None.

    Returns:
        Tensor: Scores (n,), float64.
    """
    other = [a for a in range(tensor.dim()) if a != axis]

    def mean(x: Tensor) -> Tensor:
        return x.double().abs().mean(other) if other else x.double().abs()

    if pretrained is None:
        score = mean(tensor)
    else:
        before = mean(pretrained)
        # a unit near zero has no relative change: 1 % of the mean is its floor
        floor = (0.01 * before.mean()).clamp(min=1e-12)
        score = -mean(tensor.double() - pretrained.double()) / before.clamp(
            min=floor)
    return score / score.abs().mean().clamp(min=1e-12)


def residual_scores(teacher: State,
                    pretrained: Optional[State] = None) -> Tensor:
    """Score the channels of the residual stream over all tensors.

    Args:
        teacher (Mapping[str, Tensor]): Canonical weights.
        pretrained (Mapping[str, Tensor], optional): Before fine-tuning.
            Tensors of another shape are passed over. Defaults to None.

    Returns:
        Tensor: Scores (d_t,), the mean over the tensors.
    """
    scores = []
    for key in teacher:
        kind = key.split('.', 2)[2] if key.startswith('layers.') else key
        axis = _RESIDUAL_AXIS.get(kind)
        if axis is None:
            continue
        tensor = teacher[key]
        before = None if pretrained is None else pretrained.get(key)
        if pretrained is not None and (before is None
                                       or before.shape != tensor.shape):
            continue
        scores.append(unit_scores(tensor, axis, before))
    return torch.stack(scores).mean(0)


def best_units(scores: Tensor, count: int) -> Tensor:
    """Pick units, in their old order.

    Args:
        scores (Tensor): Shape (n,).
        count (int): How many; all if there are no more.

    Returns:
        Tensor: Sorted indices (min(n, count),). Of equal scores the first
        win.
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


class UnitSelector:
    """Choose units of one teacher, once for each stream.

    Args:
        teacher (Mapping[str, Tensor]): Canonical weights.
        pretrained (Mapping[str, Tensor], optional): Before fine-tuning.
            Defaults to None.
        num_heads (int, optional): Attention heads; None means what a
            teacher of text tells, and else one for 64 channels, or one in all
            if that does not fit. (Most files of image teachers do not tell;
            the student is to be the same whichever library wrote the file.)
            Defaults to None.
        activations (Mapping[str, Tensor], optional): Scores of
            :func:`~transmamba_mm.subclone.activation_scores`, which go
            before those of the weights. Defaults to None.

    Raises:
        ValueError: If ``pretrained`` is of another architecture.
    """

    def __init__(self,
                 teacher: State,
                 pretrained: Optional[State] = None,
                 num_heads: Optional[int] = None,
                 activations: Optional[State] = None) -> None:
        if pretrained is not None:
            check_same_blocks(teacher, pretrained)
        self.teacher = teacher
        self.pretrained = pretrained
        self.num_heads = num_heads
        info = getattr(teacher, 'info', None)
        if num_heads is None and info is not None and info.tower == 'text':
            self.num_heads = info.num_heads
        self.activations = activations or {}
        self._chosen: Dict[Tuple[str, str, int], Tensor] = {}

    def choose(self, axis: str, layer: str, count: int) -> Tensor:
        """Choose units.

        Args:
            axis (str): 'residual', 'inner' or 'mlp'.
            layer (str): Teacher layer such as 'layers.3'; of no account for
                'residual'.
            count (int): How many.

        Returns:
            Tensor: Sorted indices (count,), the same at each call.
        """
        key = (axis, '' if axis == 'residual' else layer, count)
        if key not in self._chosen:
            self._chosen[key] = self._rank(*key)
        return self._chosen[key]

    def tensor(self, name: str, state: Optional[State] = None) -> Tensor:
        """Read a teacher tensor; shared keys and values once a query head.

        Args:
            name (str): Canonical name.
            state (Mapping[str, Tensor], optional): Where from; None means
                the teacher. Defaults to None.

        Returns:
            Tensor: The weights.
        """
        state = self.teacher if state is None else state
        value = state[name]
        layer, _, kind = name.rpartition('.')[0].rpartition('.')
        query = f'{layer}.q.weight'
        if kind not in ('k', 'v') or query not in state:
            return value
        rows = tensor_shape(state, query)[0]
        if len(value) == rows:
            return value
        if self.num_heads is None:
            raise ValueError(
                f'The teacher has {rows} channels of queries and {len(value)} '
                'of keys and values; set WeightSubcloneHook.plan.num_heads to '
                'the number of its query heads.')
        return repeat_groups(value, rows, self.num_heads)

    def _rank(self, axis: str, layer: str, count: int) -> Tensor:
        scores = self.activations.get(f'{layer}.{axis}' if layer else axis)
        if scores is None:
            scores = self._weight_scores(axis, layer)
        if axis == 'inner':
            return best_head_units(scores, count, self._heads(len(scores)))
        return best_units(scores, count)

    def _weight_scores(self, axis: str, layer: str) -> Tensor:
        if axis == 'residual':
            scores = residual_scores(self.teacher, self.pretrained)
        else:
            scores = torch.stack(self._hidden_scores(axis, layer)).mean(0)
        if self.pretrained is not None and not scores.any():
            raise ValueError(
                'The two teacher checkpoints hold the same weights in '
                f"{layer or 'the residual stream'}, so no unit can be "
                'preferred: leave `pretrained_checkpoint` of '
                'WeightSubcloneHook in custom_hooks out, or give the file '
                'from before the fine-tuning.')
        return scores

    def _hidden_scores(self, axis: str, layer: str) -> List[Tensor]:
        scores = []
        for part, position in _HIDDEN_PARTS[axis]:
            name = f'{layer}.{part}.weight'
            if name in self.teacher:
                before = None if self.pretrained is None else self.tensor(
                    name, self.pretrained)
                scores.append(unit_scores(self.tensor(name), position, before))
        return scores

    def _heads(self, channels: int) -> int:
        if self.num_heads is None:
            return channels // 64 if channels % 64 == 0 else 1
        if self.num_heads < 1 or channels % self.num_heads:
            raise ValueError(
                f'WeightSubcloneHook.plan.num_heads={self.num_heads} does '
                f"not divide the teacher's {channels} attention channels.")
        return self.num_heads


def check_same_blocks(teacher: State, pretrained: State) -> None:
    """Check that two teacher files are of one architecture.

    Args:
        teacher (Mapping[str, Tensor]): Canonical weights.
        pretrained (Mapping[str, Tensor]): Canonical weights.

    Raises:
        ValueError: If a tensor of a block is missing or of another shape.
    """

    def shapes(state: State) -> Dict[str, tuple]:
        return {
            k: tensor_shape(state, k)
            for k in state if k.startswith('layers.')
        }

    here, there = shapes(teacher), shapes(pretrained)
    for name in {**here, **there}:
        if here.get(name) != there.get(name):
            raise ValueError(
                '`pretrained_checkpoint` of WeightSubcloneHook in '
                'custom_hooks is of another architecture than `checkpoint`: '
                f"'{name}' is {there.get(name, 'missing')} against "
                f"{here.get(name, 'missing')}. Give the file from which "
                '`checkpoint` was fine-tuned, or leave it out.')


def tensor_shape(state: State, name: str) -> Tuple[int, ...]:
    """Tell a tensor's shape, without reading it if the state allows.

    Args:
        state (Mapping[str, Tensor]): A dict, or a ``TeacherState``.
        name (str): Name in it.

    Returns:
        Tuple[int, ...]: The shape.
    """
    if hasattr(state, 'shape'):
        return tuple(state.shape(name))
    return tuple(state[name].shape)
