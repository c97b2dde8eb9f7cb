"""Clone the parts of a Transformer that a Mamba student has too."""
import difflib
import math
import re
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from ..models.layers.token_layout import TokenLayout, resize_tokens
from .importance import (best_head_units, best_units, residual_scores,
                         unit_scores)
from .plan import Rule, SubclonePlan
from .report import Row, SubcloneReport
from .teacher_state import num_layers

State = Dict[str, Tensor]


def subclone_state_dict(source: State,
                        target: State,
                        plan: SubclonePlan,
                        layout: TokenLayout,
                        pretrained: Optional[State] = None
                        ) -> Tuple[State, SubcloneReport]:
    """Fill a student's tensors from a teacher's, as a plan says.

    A wide teacher is cut to the student's width by keeping important units:
    one set of channels for the whole residual stream, one set of attention
    channels (whole heads) and of hidden units a layer. A wider student gets
    the teacher in its leading block and keeps its own values elsewhere.

    Args:
        source (Dict[str, Tensor]): Teacher weights under canonical names, see
            :func:`~transmamba_mm.subclone.read_teacher`.
        target (Dict[str, Tensor]): Student weights; the backbone's without
            prefix, the head's as 'head.*'. Not changed.
        plan (SubclonePlan): What is cloned, and how.
        layout (TokenLayout): Layout of the student's position embedding.
        pretrained (Dict[str, Tensor], optional): The teacher before fine-
            tuning, for the importance of units. Defaults to None.

    Returns:
        Tuple[Dict[str, Tensor], SubcloneReport]: New tensors for the cloned
        names, and what happened to each name.

    Raises:
        ValueError: If the plan does not fit.
    """
    _check_excludes(plan, target)
    depth = num_layers(target)
    cloner = _Cloner(source, plan, layout, pretrained)
    blocks = plan.block_map(depth, num_layers(source))
    limit = plan.cloned_layers(depth)
    new, report = {}, SubcloneReport()
    for name, tensor in target.items():
        if not tensor.dtype.is_floating_point:
            continue
        row = Row(name, '', 'skipped', 0, tensor.numel())
        rule, block = _find_rule(plan.all_rules, name)
        if rule is not None and block is not None:
            row.source = rule.source.format(i=blocks[block])
        elif rule is not None:
            row.source = rule.source
        row.reason = _reason_to_skip(plan, name, rule, block, limit, source,
                                     row.source)
        if not row.reason:
            value = cloner.fit(rule, row, tensor)
            if value is not None:
                new[name] = value
        report.rows.append(row)
    return new, report


def _find_rule(rules: List[Rule],
               name: str) -> Tuple[Optional[Rule], Optional[int]]:
    """Return the first rule for a student tensor, and its block number."""
    for rule in rules:
        for target in rule.targets:
            pattern = re.escape(target).replace(r'\{i\}', r'(\d+)')
            match = re.fullmatch(pattern, name)
            if match:
                block = int(match.group(1)) if match.groups() else None
                return rule, block
    return None, None


def _reason_to_skip(plan, name, rule, block, limit, source,
                    source_name) -> str:
    if rule is None:
        return 'no counterpart in the plan'
    if any(part in name for part in plan.exclude):
        return 'excluded by the plan'
    if block is not None and block >= limit:
        return f'beyond the first {limit} blocks'
    if source_name not in source:
        return 'the teacher has no such tensor'
    return ''


def _check_excludes(plan: SubclonePlan, target: State) -> None:
    for part in plan.exclude:
        if not any(part in name for name in target):
            near = difflib.get_close_matches(part, target, n=4, cutoff=0.3)
            raise ValueError(
                f"WeightSubcloneHook.plan.exclude: '{part}' is part of no "
                f'student tensor; the nearest names are {near}.')


class _Cloner:
    """Applies rules with one choice of units."""

    def __init__(self, source, plan, layout, pretrained):
        self.source = source
        self.plan = plan
        self.layout = layout
        self.pretrained = pretrained
        self._units: Dict[tuple, Tensor] = {}
        self._residual_scores: Optional[Tensor] = None

    def fit(self, rule: Rule, row: Row, tensor: Tensor) -> Optional[Tensor]:
        """Return the new value, or None with a reason in the row."""
        value = self.source[row.source].detach().to(tensor.dtype)
        row.reason = self._misfit(rule, value, tensor)
        if row.reason:
            return None
        row.action = 'copied'
        if rule.kind == 'tokens':
            value = self._as_tokens(rule, row, value, tensor)
        block = self._cut(rule, row, value, tensor)
        out = tensor.detach().clone()
        out[tuple(slice(n) for n in block.shape)] = block
        row.taken = block.numel()
        filled = tensor.numel() // (2 if rule.half else 1)
        if row.taken < filled:
            row.action = 'padded'
            row.reason = (row.reason + '; ' if row.reason else '') + \
                f'{row.taken} of {filled} elements, the rest kept'
        return out

    def _misfit(self, rule, value, tensor) -> str:
        shapes = f'{tuple(value.shape)} against {tuple(tensor.shape)}'
        if value.dim() != tensor.dim() or len(rule.axes) != value.dim():
            return f'other number of axes: {shapes}'
        if rule.kind == 'kernel' and value.shape[2:] != tensor.shape[2:]:
            return f'other patch size: {shapes}'
        kept = [a for a, meaning in enumerate(rule.axes) if meaning == 'keep']
        if rule.kind != 'tokens' and any(value.shape[a] != tensor.shape[a]
                                         for a in kept):
            return ('other number of classes: ' if rule.target.startswith(
                'head') else 'other size: ') + shapes
        return ''

    def _as_tokens(self, rule, row, value, tensor) -> Tensor:
        """Bring a position embedding into the student's layout."""
        extra = 1 + ('dist_token' in self.source)
        if 'cls_token' not in self.source:
            extra = 0
        side = math.isqrt(value.shape[1] - extra)
        source = TokenLayout((side, side), extra, 0 if extra else None)
        patches, cls_token = source.split(value)
        if source.grid != self.layout.grid:
            row.action = 'resized'
            row.reason = f'grid {source.grid} to {self.layout.grid}'
        patches = resize_tokens(patches, source.grid, self.layout.grid)
        if self.layout.cls_index is None:
            return patches
        if cls_token is None:
            cls_token = torch.zeros_like(patches[:, :1])
        return self.layout.join(patches, cls_token)

    def _cut(self, rule, row, value, tensor) -> Tensor:
        """Keep the important units of each axis."""
        scale = 1.
        for axis, meaning in enumerate(rule.axes):
            room = tensor.shape[axis] // (2 if rule.half and axis == 0 else 1)
            if meaning == 'keep' or value.shape[axis] <= room:
                continue
            if axis == 1 and self.plan.rescale:
                scale = math.sqrt(value.shape[axis] / room)
            units = self._choose(meaning, row.source, room)
            value = value.index_select(axis, units)
            row.action = 'sliced' if row.action == 'copied' else row.action
        return value * scale

    def _choose(self, meaning: str, name: str, count: int) -> Tensor:
        """Choose units once for each stream, and remember them."""
        layer = '' if meaning == 'residual' else name.rsplit('.', 2)[0]
        key = (meaning, layer, count)
        if key not in self._units:
            self._units[key] = self._rank(meaning, layer, count)
        return self._units[key]

    def _rank(self, meaning: str, layer: str, count: int) -> Tensor:
        if meaning == 'residual':
            if self._residual_scores is None:
                self._residual_scores = residual_scores(
                    self.source, self.pretrained)
            return best_units(self._residual_scores, count)
        pairs = [('v', 0), ('o', 1)] if meaning == 'inner' else \
            [('fc1', 0), ('fc2', 1)]
        scores = torch.stack([
            unit_scores(self.source[f'{layer}.{part}.weight'], axis,
                        (self.pretrained or {}).get(f'{layer}.{part}.weight'))
            for part, axis in pairs
        ]).mean(0)
        if meaning == 'mlp':
            return best_units(scores, count)
        heads = self.plan.num_heads or max(1, len(scores) // 64)
        if len(scores) % heads:
            raise ValueError(
                f'WeightSubcloneHook.plan.num_heads={heads} does not divide '
                f"the teacher's {len(scores)} attention channels.")
        return best_head_units(scores, count, heads)
