"""Clone the parts of a Transformer that a Mamba student has too."""
import math
from typing import Dict, Mapping, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.layers.token_layout import TokenLayout, resize_tokens
from .importance import UnitSelector
from .plan import Rule, SubclonePlan
from .report import Row, SubcloneReport
from .score_factors import own_tap_first, score_factors, solve_inner
from .teacher_state import block_numbers, num_layers

State = Dict[str, Tensor]


def subclone_state_dict(
    source: State,
    target: State,
    plan: SubclonePlan,
    layout: TokenLayout,
    pretrained: Optional[State] = None,
    activations: Optional[Mapping[str, Tensor]] = None
) -> Tuple[State, SubcloneReport]:
    """Fill a student's tensors from a teacher's, as a plan says.

    A wide teacher is cut to the student's width by keeping important units:
    one set of channels for the whole residual stream, one set of attention
    channels (whole heads) and of hidden units a layer. A wider student gets
    the teacher in its leading block and keeps its own values elsewhere.

    Args:
        source (Mapping[str, Tensor]): Teacher weights under canonical
            names, see :func:`~transmamba_mm.subclone.read_teacher`.
        target (Dict[str, Tensor]): Student weights; the backbone's without
            prefix, the head's as 'head.*'. Not changed.
        plan (SubclonePlan): What is cloned, and how.
        layout (TokenLayout): Layout of the student's position embedding.
        pretrained (Mapping[str, Tensor], optional): The teacher before
            fine-tuning, for the importance of units. Defaults to None.
        activations (Mapping[str, Tensor], optional): Importance of units by
            :func:`~transmamba_mm.subclone.activation_scores`. Defaults to
            None.

    Returns:
        Tuple[Dict[str, Tensor], SubcloneReport]: New tensors for the cloned
        names, and what happened to each name.

    Raises:
        ValueError: If the plan does not fit.
    """
    plan.check_student(target)
    units = UnitSelector(source, pretrained, plan.num_heads, activations)
    subcloner = _Subcloner(source, target, plan, layout, units)
    new, report = {}, SubcloneReport()
    for name, tensor in target.items():
        row = Row(name, '', 'skipped', 0, tensor.numel())
        value = subcloner.clone(row, tensor)
        if value is not None:
            new[name] = value
        report.rows.append(row)
    return new, report


class _Subcloner:
    """Applies a plan to one student tensor after the other."""

    def __init__(self, source: State, target: State, plan: SubclonePlan,
                 layout: TokenLayout, units: UnitSelector) -> None:
        self.numbers = block_numbers(target)
        depth = len(self.numbers)
        self.source = source
        self.target = target
        self.plan = plan
        self.layout = layout
        self.units = units
        self._known_factors: Dict[tuple, tuple] = {}
        self.blocks = plan.block_map(depth, num_layers(source))
        self.limit = plan.cloned_layers(depth)

    def clone(self, row: Row, tensor: Tensor) -> Optional[Tensor]:
        """Return a tensor's new value, or None with the reason in the row."""
        if tensor.dim() == 5:
            return self._clone_tubelet(row, tensor)
        return self._clone(row, tensor)

    def _clone_tubelet(self, row: Row, tensor: Tensor) -> Optional[Tensor]:
        """Fill one frame (C, C_in, h, w) of kernels for clips.

        The kernels that are filled are zero in the other frames, so that
        they see images as the teacher's do (as VideoMamba starts from its
        image model).
        """
        middle = tensor.shape[2] // 2
        value = self._clone(row, tensor[:, :, middle])
        if value is None:
            return None
        out = tensor.detach().clone()
        out[:len(self.source[row.source])] = 0.
        out[:, :, middle] = value
        row.note(f'in the middle of {tensor.shape[2]} frames')
        return out

    def _clone(self, row: Row, tensor: Tensor) -> Optional[Tensor]:
        rule, row.source, row.reason = self._find_source(row.tensor)
        if row.reason:
            return None
        if rule.kind == 'scores':
            return self._clone_scores(row, tensor)
        value = self.units.tensor(row.source).detach().to(tensor.dtype)
        row.reason = _misfit(rule, value, tensor)
        if rule.kind == 'kernel':
            row.reason = row.reason or self._kernel_misfit(row)
        if row.reason:
            return None
        row.action = 'copied'
        has_cls = True
        if rule.kind == 'tokens':
            value, has_cls = self._fit_tokens(row, value)
            if value is None:
                return None
        out = self._paste(rule, row, value, tensor.detach().clone())
        if not has_cls:
            _restore_cls_slot(row, out, tensor, self.layout)
        if rule.half and self._is_mamba2(row.tensor):
            self._fill_scores(row, out)
        return out

    def _clone_scores(self, row: Row, tensor: Tensor) -> Optional[Tensor]:
        """Fill the rows of B and C in ``x_proj``, of one or more directions.

        Their norm stays, so that the scan starts in its usual range.
        """
        query = row.source.replace('.k.', '.q.')
        prefix = row.tensor[:row.tensor.index('x_proj')]
        states = [
            self.target[prefix + name].shape[1] for name in ('A_log', 'A_logs')
            if prefix + name in self.target
        ]
        if query not in self.source or not states:
            row.reason = 'no queries, or no state matrix, beside it'
            return None
        size, out = states[0], tensor.detach().clone()
        ways = self._score_maps(row, query, size, tensor.shape[-1])
        if not all(way.any() for way in ways):
            row.reason = "the teacher's scores are zero"
            return None
        for rows in out.view(-1, *out.shape[-2:]):
            for first, way in zip((-2 * size, -size), ways):
                # a narrow width gives fewer rows than the state has
                own = rows[len(rows) + first:][:len(way)]
                norm = own.norm()
                way = way * (norm / way.norm()).item() if norm > 0 else way
                own.copy_(way)
                row.taken += own.numel()
        row.action = 'factorised'
        return out

    def _fill_scores(self, row: Row, out: Tensor) -> None:
        """Fill the rows of B and C in a Mamba-2's ``in_proj``, in place.

        They stand behind those of the gate and of the inner stream, before
        those of the step size; each row's block keeps its norm.
        """
        key = row.source.replace('.v.', '.k.')
        query = row.source.replace('.v.', '.q.')
        wanted = any(rule.kind == 'scores' for rule in self.plan.all_rules)
        if not wanted or not {key, query} <= set(self.source):
            return
        inner, groups = self._inner_size(row.tensor), self.plan.num_groups
        heads = len(self._beside(row.tensor, 'A_log'))
        size = (len(out) - 2 * inner - heads) // 2
        if size % groups:
            raise ValueError(
                f'WeightSubcloneHook.plan.num_groups={groups}, but the '
                f'Mamba-2 has {size} rows of B: give its n_groups.')
        *maps, kept = self._factors(query, key, out.shape[1], size // groups)
        for first, way in zip((2 * inner, 2 * inner + size), maps):
            for rows in out[first:first + size].chunk(groups):
                own = rows[:len(way)]
                own.copy_(way * (own.norm() / way.norm().clamp(1e-12)).item())
                row.taken += own.numel()
        row.note(f'B from K, C from Q: rank {size // groups} keeps '
                 f'{100 * kept:.1f} % of the squared scores')

    def _score_maps(self, row: Row, query: str, size: int,
                    width: int) -> Tuple[Tensor, Tensor]:
        """Return the maps of B and C from the convolved inner stream."""
        prefix, _, name = row.tensor.partition('x_proj')
        inner = self._clone_beside(prefix + 'in_proj.weight')[:width]
        room = inner.shape[1]
        *factors, kept = self._factors(query, row.source, room, size)
        suffix = '_b' if name.startswith('_b.') else ''
        kernels = (f'{prefix}conv1d{suffix}.weight', f'{prefix}conv2d.weight')
        kernel = next((own_tap_first(self.target[k]).detach()
                       for k in kernels if k in self.target), None)
        both, seen = solve_inner(torch.cat(factors), inner, kernel)
        row.reason = (
            f'B from K, C from Q: rank {size} keeps {100 * kept:.1f} % of the '
            f'squared scores, of whose factors the convolved stream shows '
            f'{100 * seen:.1f} %; the step size is kept')
        return both.chunk(2)

    def _factors(self, query: str, key: str, room: int,
                 size: int) -> Tuple[Tensor, Tensor, float]:
        """Factorise a layer's scores, once for all directions."""
        call = (key, room, size)
        if call not in self._known_factors:
            maps = []
            for name in (query, key):
                value = self.units.tensor(name).detach()
                if value.shape[1] > room:
                    units = self.units.choose('residual', '', room)
                    value = value.index_select(1, units)
                maps.append(F.pad(value, (0, room - value.shape[1])))
            self._known_factors[call] = score_factors(*maps, size)
        return self._known_factors[call]

    def _clone_beside(self, name: str) -> Tensor:
        """Return what another tensor of the student will be."""
        tensor = self.target[name]
        value = self._clone(Row(name, '', 'skipped', 0, 0), tensor)
        return tensor if value is None else value

    def _kernel_misfit(self, row: Row) -> str:
        """Compare the kernels; a bias goes with its weight."""
        here = self.source.get(row.source.replace('.bias', '.weight'))
        there = self.target.get(row.tensor.replace('.bias', '.weight'))
        if here is None or there is None or \
                _picture_kernel(here) == _picture_kernel(there):
            return ''
        return (f'other patch size: {tuple(here.shape)} against '
                f'{tuple(there.shape)}')

    def _find_source(self, name: str) -> Tuple[Optional[Rule], str, str]:
        """Return rule, teacher tensor, and a reason to skip or ''."""
        matches = ((rule, rule.match(name)) for rule in self.plan.all_rules)
        rule, match = next((pair for pair in matches if pair[1]), (None, None))
        if rule is None:
            return None, '', 'no counterpart in the plan'
        block = self._block_number(name) if '{i}' in rule.source else None
        source = rule.source
        if block is not None:
            source = source.format(i=self.blocks[block])
        if any(part in name for part in self.plan.exclude):
            return rule, source, 'excluded by the plan'
        if block is not None and block >= self.limit:
            return rule, source, f'beyond the first {self.limit} blocks'
        if source not in self.source:
            return rule, source, 'the teacher has no such tensor'
        return rule, source, ''

    def _block_number(self, name: str) -> Optional[int]:
        """Return the number of the block that a student tensor is in."""
        parts = name.split('.')
        paths = ('.'.join(parts[:size]) for size in (4, 2))
        return next((self.numbers[p] for p in paths if p in self.numbers),
                    None)

    def _fit_tokens(self, row: Row,
                    value: Tensor) -> Tuple[Optional[Tensor], bool]:
        """Bring a position embedding into the student's layout.

        Also returns whether its class token slot comes from the teacher.
        """
        layout = self._teacher_layout(value.shape[1])
        if layout is None:
            row.action, row.reason = 'skipped', (
                f'{value.shape[1]} positions are no square grid; set '
                '`teacher_grid` in the plan')
            return None, False
        patches, cls_token = layout.split(value)
        if layout.grid != self.layout.grid:
            row.action = 'resized'
            row.reason = f'grid {layout.grid} to {self.layout.grid}'
        patches = resize_tokens(patches, layout.grid, self.layout.grid)
        if self.layout.cls_index is None:
            return patches, True
        if cls_token is None:
            empty = torch.zeros_like(patches[:, :1])
            return self.layout.join(patches, empty), False
        return self.layout.join(patches, cls_token), True

    def _teacher_layout(self, positions: int) -> Optional[TokenLayout]:
        """Tell class and distillation slots, and the grid's sides."""
        extra = sum(k in self.source for k in ('cls_token', 'dist_token'))
        grid, patches = self.plan.teacher_grid, positions - extra
        if grid is not None and math.prod(grid) != patches:
            raise ValueError(
                f'WeightSubcloneHook.plan.teacher_grid={tuple(grid)}, but the '
                f'teacher has {patches} positions of patches.')
        side = math.isqrt(patches)
        if grid is None and math.prod(self.layout.grid) == patches:
            grid = self.layout.grid
        elif grid is None and side * side == patches:
            grid = (side, side)
        if grid is None:
            return None
        return TokenLayout(tuple(grid), extra, 0 if extra else None)

    def _paste(self, rule: Rule, row: Row, value: Tensor,
               out: Tensor) -> Tensor:
        """Cut a value to the room it has, and put it into ``out``."""
        room, first = list(out.shape), 0
        if rule.half and self._is_mamba2(row.tensor):
            room[0] = first = self._inner_size(row.tensor)
            row.note('inner stream only')
        elif rule.half and self._has_gate(row.tensor):
            room[0] //= 2
            row.note('first half only')
        value = self._cut(rule, row, value, room)
        out[first:][tuple(slice(size) for size in value.shape)] = value
        row.taken = value.numel()
        if row.taken < math.prod(room):
            row.action = 'padded'
            row.note(f'{row.taken} of {math.prod(room)} elements, the rest '
                     'kept')
        return out

    def _has_gate(self, name: str) -> bool:
        """Tell whether ``in_proj`` makes more than ``out_proj`` takes."""
        inner = self._inner_size(name)
        return inner is None or len(self.target[name]) != inner

    def _beside(self, name: str, other: str) -> Optional[Tensor]:
        """Return another tensor of the mixer whose ``in_proj`` this is."""
        mixer, found, _ = name.rpartition('in_proj.')
        return self.target.get(mixer + other) if found else None

    def _inner_size(self, name: str) -> Optional[int]:
        """Return the width of the inner stream that ``in_proj`` makes."""
        out_proj = self._beside(name, 'out_proj.weight')
        return None if out_proj is None else out_proj.shape[1]

    def _is_mamba2(self, name: str) -> bool:
        """Tell whether ``in_proj`` makes gate, inner stream, B, C and step
        size, in this order."""
        rates = self._beside(name, 'A_log')
        return rates is not None and rates.dim() == 1

    def _cut(self, rule: Rule, row: Row, value: Tensor, room: list) -> Tensor:
        """Keep the important units of each axis that is too long."""
        layer, scale = '.'.join(row.source.split('.')[:2]), 1.
        for axis, meaning in enumerate(rule.axes):
            length = value.shape[axis]
            if meaning == 'keep' or length <= room[axis]:
                continue
            if axis == 1 and self.plan.rescale:
                scale = math.sqrt(length / room[axis])
                row.note(f'times {scale:.3f}')
            units = self.units.choose(meaning, layer, room[axis])
            value = value.index_select(axis, units.to(value.device))
            row.action = 'sliced' if row.action == 'copied' else row.action
        return value * scale


def _picture_kernel(weight: Tensor) -> Tuple[int, ...]:
    """Channels and pixels of a kernel (C, C_in, [T,] h, w), not frames."""
    return (weight.shape[1], *weight.shape[-2:])


def _misfit(rule: Rule, value: Tensor, tensor: Tensor) -> str:
    """Say why a teacher tensor cannot fill a student tensor, or ''."""
    shapes = f'{tuple(value.shape)} against {tuple(tensor.shape)}'
    if value.dim() != tensor.dim() or len(rule.axes) != value.dim():
        return f'other number of axes: {shapes}'
    kept = [a for a, meaning in enumerate(rule.axes) if meaning == 'keep']
    if rule.kind != 'plain' or all(value.shape[a] == tensor.shape[a]
                                   for a in kept):
        return ''
    is_head = rule.source.startswith('head.')
    return f'other number of {"classes" if is_head else "units"}: {shapes}'


def _restore_cls_slot(row: Row, out: Tensor, tensor: Tensor,
                      layout: TokenLayout) -> None:
    """Keep the student's own class token position, where there is no other."""
    slot = (slice(None), slice(layout.cls_index, layout.cls_index + 1))
    row.taken -= out[slot].numel()
    row.note("the class token's position is kept")
    out[slot] = tensor[slot]
