"""State space parameters of a student from a Mamba checkpoint.

Mamba language models write ``backbone.layers.i.mixer.*``, both Hugging Face's
and mamba_ssm's; the students of this package of the ViM family do so too.
"""
import re
from typing import Dict, List, Mapping, Optional, Tuple

import torch
from torch import Tensor

from .depth_map import proportional_map
from .importance import best_units, unit_scores
from .plan import nearest
from .report import Row, SubcloneReport
from .teacher_state import block_numbers, num_layers

State = Dict[str, Tensor]

#: Tensors of a Mamba mixer that are taken, and their axis of inner channels.
PARTS = {
    'conv1d.weight': 0,
    'conv1d.bias': 0,
    'x_proj.weight': 1,
    'dt_proj.weight': 0,
    'dt_proj.bias': 0,
    'A_log': 0,
    'D': 0,
}

_MIXER = re.compile(r'(?:module\.)?(?:backbone\.|model\.)?layers\.(\d+)\.'
                    r'mixer\.(.+)')
#: Student's name of a part, by what comes after the mixer's path.
_STUDENT = re.compile(r'(layers\.\d+(?:\.blocks\.\d+)?\.(?:mixer|mamba|op)\.)'
                      r'(.+)')
_STACKED = {
    'x_proj_weight': 'x_proj.weight',
    'dt_projs_weight': 'dt_proj.weight',
    'dt_projs_bias': 'dt_proj.bias',
    'A_logs': 'A_log',
    'Ds': 'D',
}
DIRECTIONS = ('all', 'first')


def read_mamba(state: Mapping[str, Tensor]) -> State:
    """Translate the weights of a Mamba.

    Args:
        state (Mapping[str, Tensor]): Weights under the names of Hugging
            Face's ``MambaForCausalLM`` or of mamba_ssm.

    Returns:
        Dict[str, Tensor]: 'layers.i.x_proj.weight' and so on, see ``PARTS``;
        a second set of parameters has the suffix '_b', as in 'A_log_b'.

    Raises:
        ValueError: If it is no Mamba, a Mamba-2, or not whole.
    """
    out = {}
    for name in state:
        match = _MIXER.fullmatch(name)
        part = match and _canonical(match[2])
        if part in PARTS or part in {_backward(p) for p in PARTS}:
            out[f'layers.{match[1]}.{part}'] = state[name]
    _check_mamba(state, out)
    return out


def _canonical(part: str) -> str:
    """Spell 'A_b_log' as 'A_log_b', and 'x_proj_b.weight' as it is."""
    return {'A_b_log': 'A_log_b'}.get(part, part)


def _backward(part: str) -> str:
    """Name the second set's tensor."""
    head, dot, end = part.partition('.')
    return f'{head}_b{dot}{end}'


def _check_mamba(state: Mapping[str, Tensor], found: State) -> None:
    if not found:
        raise ValueError(
            "There is no Mamba in it: its tensors are named like 'backbone."
            f"layers.0.mixer.A_log'. "
            f"{nearest('backbone.layers.0.mixer.A_log', state)}")
    if not any(name.endswith('x_proj.weight') for name in found):
        raise ValueError(
            'It has no x_proj, as is so with a Mamba-2, whose state matrix '
            'is one number a head; only a Mamba(-1) can give its state space '
            'parameters.')
    missing = [
        f'layers.{i}.{part}' for i in range(num_layers(found))
        for part in PARTS if f'layers.{i}.{part}' not in found
    ]
    if missing:
        raise ValueError(f'The Mamba is not whole: {len(missing)} tensors '
                         f'missing {missing[:4]}.')


def clone_ssm(source: State,
              target: State,
              directions: str = 'all') -> Tuple[State, List[Row]]:
    """Fill a student's state space parameters from a Mamba's.

    Source: TransMamba starts its language student's from a language Mamba,
    since that was more stable; the rules for other sizes are our choice. The
    Mamba's layers are spread over all blocks in proportion. One set of inner
    channels a layer is kept where the student is narrower, the largest ones;
    of the states the first (the slowest, at initialisation); of the step
    size's rank the best factorisation of that rank. Where the student is
    wider it keeps its own values beside the Mamba's.

    A Mamba is causal: it has one direction. The students' other directions
    get the same values, unless the checkpoint has a second set.

    Args:
        source (Dict[str, Tensor]): From :func:`read_mamba`.
        target (Dict[str, Tensor]): Student weights. Not changed.
        directions (str): 'all' gives every direction the Mamba's values,
            'first' the first alone. Defaults to 'all'.

    Returns:
        Tuple[Dict[str, Tensor], List[Row]]: New tensors, and a row for each
        state space parameter of the student.

    Raises:
        ValueError: On an unknown ``directions``.
    """
    if directions not in DIRECTIONS:
        raise ValueError(
            f"WeightSubcloneHook.ssm_directions='{directions}' is unknown; "
            f'use one of {DIRECTIONS}.')
    numbers = block_numbers(target)
    blocks = proportional_map(len(numbers), num_layers(source))
    layers: Dict[Tuple[int, int, int, int], '_Layer'] = {}
    new, rows = {}, []
    for name, tensor in target.items():
        match = _STUDENT.fullmatch(name)
        if match is None or match[1].rsplit('.', 2)[0] not in numbers:
            continue
        part, is_backward = _student_part(match[2])
        if part is None:
            continue
        number = blocks[numbers[match[1].rsplit('.', 2)[0]]]
        key = (number, *_sizes(target, match[1]))
        if key not in layers:
            layers[key] = _Layer(source, *key)
        row = Row(name, f'mamba layers.{number}.{part}', 'skipped', 0,
                  tensor.numel())
        value = _fill(layers[key], row, part, tensor, is_backward, directions)
        if value is not None:
            new[name] = value
        rows.append(row)
    return new, rows


def _student_part(part: str) -> Tuple[Optional[str], bool]:
    """Return the Mamba's part for a student's, and whether it is backward."""
    part = _canonical(_STACKED.get(part, part))
    if part.startswith('conv2d.'):
        return part.replace('2d', '1d'), False
    for known in PARTS:
        if part in (known, _backward(known)):
            return known, part != known
    return None, False


def _sizes(target: State, mixer: str) -> Tuple[int, int, int]:
    """Return the inner width, state size and rank of a student's mixer."""

    def shape(*names: str) -> Tuple[int, ...]:
        return next(target[mixer + n].shape for n in names
                    if mixer + n in target)

    inner, rank = shape('dt_proj.weight', 'dt_projs_weight')[-2:]
    return inner, shape('A_log', 'A_logs')[-1], rank


class _Layer:
    """One layer of the Mamba, cut to a student's sizes."""

    def __init__(self, source: State, number: int, inner: int, state: int,
                 rank: int) -> None:
        self.path = f'layers.{number}.'
        self.source = source
        self.inner, self.state, self.rank = inner, state, rank
        self.units = self._choose_units()
        self._cut: Dict[str, Tensor] = {}

    def _choose_units(self) -> Tensor:
        """Keep the channels whose parameters are largest."""
        scores = [
            unit_scores(self.source[self.path + part], axis)
            for part, axis in PARTS.items() if part.endswith('weight')
        ]
        return best_units(torch.stack(scores).mean(0), self.inner)

    @property
    def own_sizes(self) -> Tuple[int, int]:
        """Tuple[int, int]: Rank and state size of the Mamba."""
        return (self.source[self.path + 'dt_proj.weight'].shape[1],
                self.source[self.path + 'A_log'].shape[1])

    def is_cut(self, part: str) -> bool:
        """Tell whether the Mamba's part is larger than the student's."""
        rank, state = self.own_sizes
        return (self.source[self.path + 'D'].shape[0] > self.inner
                or state > self.state and part in ('A_log', 'x_proj.weight')
                or rank > self.rank
                and part in ('dt_proj.weight', 'x_proj.weight'))

    def get(self, part: str, is_backward: bool) -> Tensor:
        """Return a part with at most the student's sizes."""
        own = part
        if is_backward and self.path + _backward(part) in self.source:
            own = _backward(part)
        if own not in self._cut:
            self._cut[own] = self._make(part, own != part)
        return self._cut[own]

    def _raw(self, part: str, is_backward: bool) -> Tensor:
        name = self.path + (_backward(part) if is_backward else part)
        value = self.source[name].detach().float()
        return value.index_select(PARTS[part], self.units)

    def _make(self, part: str, is_backward: bool) -> Tensor:
        if part not in ('x_proj.weight', 'dt_proj.weight'):
            value = self._raw(part, is_backward)
            return value[:, :self.state] if part == 'A_log' else value
        x_proj = self._raw('x_proj.weight', is_backward)
        dt_proj = self._raw('dt_proj.weight', is_backward)
        rank = dt_proj.shape[1]
        down, maps = x_proj[:rank], x_proj[rank:].chunk(2)
        if rank > self.rank:
            dt_proj, down = _lower_rank(dt_proj, down, self.rank)
        if part == 'dt_proj.weight':
            return dt_proj
        return torch.cat([down, *(m[:self.state] for m in maps)])


def _lower_rank(up: Tensor, down: Tensor, rank: int) -> Tuple[Tensor, Tensor]:
    """Factorise up @ down anew, (E, R) @ (R, E), with a lower rank."""
    left, tall = torch.linalg.qr(up.double())
    right, wide = torch.linalg.qr(down.double().T)
    u, s, v = torch.linalg.svd(tall @ wide.T)
    root = s[:rank].sqrt()
    new_up = left @ (u[:, :rank] * root)
    new_down = (root.unsqueeze(1) * v[:rank]) @ right.T
    return new_up.float(), new_down.float()


def _fill(layer: _Layer, row: Row, part: str, tensor: Tensor,
          is_backward: bool, directions: str) -> Optional[Tensor]:
    """Return a tensor's new value, or None with the reason in the row."""
    name = row.tensor.rpartition('.')[2]
    if '.conv2d.' in row.tensor:
        row.reason = 'the student convolves in two dimensions'
        return None
    if is_backward and directions == 'first':
        row.reason = 'the first direction alone'
        return None
    value = layer.get(part, is_backward)
    if part == 'dt_proj.bias' and '.mamba.' in row.tensor:
        value = value / 2
        row.note('halved, since PlainMamba adds it twice')
    out = tensor.detach().clone()
    views = [out]
    if name in _STACKED:
        stack = out if name.endswith(
            ('weight', 'bias')) else out.view(-1, layer.inner, *out.shape[1:])
        views = list(stack)[:1 if directions == 'first' else None]
    for view in views:
        row.from_mamba += _paste(view, value, part, layer)
    row.action = 'sliced' if layer.is_cut(part) else 'copied'
    if row.from_mamba < row.total:
        row.action = 'padded'
        row.note(f'{row.from_mamba} of {row.total} elements, the rest kept')
    if is_backward and layer.path + _backward(part) not in layer.source:
        row.note('from the one direction of the Mamba')
    return out


def _paste(out: Tensor, value: Tensor, part: str, layer: _Layer) -> int:
    """Put a value into the leading room, in place; count its elements."""
    if part == 'conv1d.weight':  # the last tap sees the own token
        size = out.shape[-1]
        value = value[..., -size:]
        value = torch.nn.functional.pad(value, (size - value.shape[-1], 0))
    if part != 'x_proj.weight':
        out[tuple(slice(size) for size in value.shape)] = value.to(out)
        return value.numel()
    room = out.split([layer.rank, layer.state, layer.state])
    rank, state = layer.own_sizes
    rank, state = min(rank, layer.rank), min(state, layer.state)
    for rows, own in zip(room, value.split([rank, state, state])):
        rows[:len(own), :own.shape[1]] = own.to(out)
    return value.numel()


def add_ssm_rows(report: SubcloneReport, rows: List[Row], before: State,
                 after: State) -> None:
    """Put what came from a Mamba into the report of a subcloning.

    Args:
        report (SubcloneReport): Of the subcloning that came after. Changed.
        rows (List[Row]): From :func:`clone_ssm`.
        before (Dict[str, Tensor]): The tensors from :func:`clone_ssm`.
        after (Dict[str, Tensor]): The tensors that the teacher filled.
    """
    ours = {row.tensor: row for row in rows}
    for index, row in enumerate(report.rows):
        ssm = ours.get(row.tensor)
        if ssm is None:
            continue
        if row.action == 'skipped':
            report.rows[index] = ssm
        elif ssm.from_mamba:
            # what the teacher did not write over
            same = after[row.tensor] == before[row.tensor]
            row.from_mamba = min(ssm.from_mamba, int(same.sum()))
            row.note(f'the rest from {ssm.source}')
