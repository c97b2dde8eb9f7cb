"""A Transformer's weights under one set of names, whoever wrote the file.

Of an image tower::

    patch_embed.{weight,bias}          (D, C, h, w), (D,)
    cls_token, dist_token              (1, 1, D)
    pos_embed                          (1, L, D): class, distillation, patches
    head_dist.{weight,bias}            (classes, D)

of a text tower::

    token_embed.weight                 (words, D)
    token_type_embed.weight            (types, D)
    text_pos_embed                     (1, L, D)
    pooler.{weight,bias}               (D, D), BERT's

of both::

    pre_norm.{weight,bias}             norm of the embeddings
    layers.i.{norm1,norm2}.{weight,bias}   (D,); RMS norms have no bias
    layers.i.{q,k,v}.{weight,bias}     (H, D), (H,); rows grouped by head. k
                                       and v have fewer rows than q if heads
                                       share them
    layers.i.o.{weight,bias}           (D, H), (D,)
    layers.i.{scale1,scale2}           (D,): factors on the output of the
                                       attention and of the MLP
    layers.i.{fc1,fc2}.{weight,bias}   (M, D), (D, M)
    layers.i.{gate,up,down}.{weight,bias}  instead, if the MLP is gated:
                                       down(act(gate(x)) * up(x))
    final_norm.{weight,bias}
    head.{weight,bias}                 (classes, D); of a language model the
                                       output words
    projection.weight                  (P, D): into the space that CLIP's
                                       towers share
    logit_scale, logit_bias            ()
    projector.{fc1,fc2}.{weight,bias}  from the image tower's width to the
                                       language model's

What the blocks do beside, :class:`TeacherInfo` tells.
"""
import re
from typing import (Callable, Dict, Iterable, Iterator, Mapping, NamedTuple,
                    Optional, Tuple)

import torch
from torch import Tensor

from .teacher_info import TeacherInfo

_RESIDUAL = ('residual', )
_TOKENS = ('keep', 'keep', 'residual')
_ROWS = ('keep', 'residual')

#: Axes of what has a weight and a bias; the bias has the first of them.
_LAYERS: Dict[str, Tuple[str, ...]] = {
    'patch_embed': ('residual', 'keep', 'keep', 'keep'),
    'pre_norm': _RESIDUAL,
    'final_norm': _RESIDUAL,
    'head': _ROWS,
    'head_dist': _ROWS,
    'pooler': _ROWS,
    'projector.fc1': ('keep', 'keep'),
    'projector.fc2': ('keep', 'keep'),
    'layers.{i}.norm1': _RESIDUAL,
    'layers.{i}.norm2': _RESIDUAL,
    'layers.{i}.q': ('inner', 'residual'),
    'layers.{i}.k': ('inner', 'residual'),
    'layers.{i}.v': ('inner', 'residual'),
    'layers.{i}.o': ('residual', 'inner'),
    'layers.{i}.fc1': ('mlp', 'residual'),
    'layers.{i}.fc2': ('residual', 'mlp'),
    'layers.{i}.gate': ('mlp', 'residual'),
    'layers.{i}.up': ('mlp', 'residual'),
    'layers.{i}.down': ('residual', 'mlp'),
}
#: Axes of all others.
_TENSORS: Dict[str, Tuple[str, ...]] = {
    'cls_token': _TOKENS,
    'dist_token': _TOKENS,
    'pos_embed': _TOKENS,
    'text_pos_embed': _TOKENS,
    'token_embed.weight': _ROWS,
    'token_type_embed.weight': _ROWS,
    'projection.weight': _ROWS,
    'logit_scale': (),
    'logit_bias': (),
    'layers.{i}.scale1': _RESIDUAL,
    'layers.{i}.scale2': _RESIDUAL,
}

#: Meaning of each axis of each tensor ('{i}' for the block's number), in the
#: words of :data:`~transmamba_mm.subclone.plan.AXES`.
CANONICAL_AXES: Dict[str, Tuple[str, ...]] = {
    **_TENSORS,
    **{
        f'{name}.weight': axes
        for name, axes in _LAYERS.items()
    },
    **{
        f'{name}.bias': axes[:1]
        for name, axes in _LAYERS.items()
    },
}

#: Names that a teacher's tensors may have, '{i}' for the layer's number.
CANONICAL_NAMES: Tuple[str, ...] = tuple(CANONICAL_AXES)


class Entry(NamedTuple):
    """Where a canonical tensor comes from.

    Args:
        key (str): Its name in the file.
        form (Callable, optional): What is made of the file's tensor. Defaults
            to None, nothing.
    """
    key: str
    form: Optional[Callable[[Tensor], Tensor]] = None


class TeacherState(Mapping):
    """Canonical name to tensor; a tensor is read when it is asked for.

    A tensor with NaN or infinity is refused then.

    Args:
        weights (Mapping[str, Tensor]): The file, under its own names; may
            have a method ``shape(name)`` that spares reading the tensor.
        entries (Dict[str, Entry]): Canonical name to what it is made of.
        info (TeacherInfo, optional): What else is known of the teacher.
            Defaults to None.

    Attributes:
        info (TeacherInfo): See above.
        path (str): The file's name for messages, or ''.
        hint (str): What a user can do about a broken file, for messages.
    """

    def __init__(self,
                 weights: Mapping,
                 entries: Dict[str, Entry],
                 info: Optional[TeacherInfo] = None) -> None:
        self.info = info or TeacherInfo()
        self.path: str = getattr(weights, 'path', '')
        self.hint = ''
        self._weights = weights
        self._entries = entries
        self._finite = set()

    def __getitem__(self, name: str) -> Tensor:
        key, form = self._entries[name]
        tensor = self._weights[key].detach()
        if name not in self._finite:
            self._check(name, key, tensor)
        return tensor if form is None else form(tensor)

    def _check(self, name: str, key: str, tensor: Tensor) -> None:
        if not tensor.isfinite().all():
            source = f"weights '{self.path}'" if self.path else 'weights'
            raise ValueError(
                f"The teacher {source} hold NaN or infinity in '{key}' "
                f'({name}); its training failed. {self.hint}'.rstrip())
        self._finite.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return (f'TeacherState({self.info.dialect} {self.info.tower} tower, '
                f'{num_layers(self)} layers, {len(self)} tensors)')

    def shape(self, name: str) -> Tuple[int, ...]:
        """Tell a tensor's shape, without reading it if the file allows.

        Args:
            name (str): Canonical name.

        Returns:
            Tuple[int, ...]: The shape.
        """
        key, form = self._entries[name]
        if hasattr(self._weights, 'shape'):
            shape = self._weights.shape(key)
        else:
            shape = self._weights[key].shape
        if form is None:
            return tuple(shape)
        return tuple(form(torch.empty(shape, device='meta')).shape)


def num_layers(state: Iterable[str]) -> int:
    """Count the layers that a state dict names.

    Args:
        state (Iterable[str]): Names such as 'layers.3.norm.weight'.

    Returns:
        int: Largest number plus one, 0 if there is none.
    """
    matches = (re.match(r'layers\.(\d+)\.', name) for name in state)
    return max((int(m.group(1)) + 1 for m in matches if m), default=0)


def block_numbers(state: Iterable[str]) -> Dict[str, int]:
    """Number the blocks of a student through all of its stages.

    Args:
        state (Iterable[str]): Names such as 'layers.3.norm.weight' or
            'layers.1.blocks.0.norm.weight'; in the latter kind, what is in a
            stage but in no block is no part of a block.

    Returns:
        Dict[str, int]: Path of each block, such as 'layers.1.blocks.0', to
        its number.
    """
    in_stages = [
        m for m in (re.match(r'layers\.(\d+)\.blocks\.(\d+)(?=\.)', name)
                    for name in state) if m
    ]
    if not in_stages:
        return {f'layers.{i}': i for i in range(num_layers(state))}
    paths = {tuple(map(int, m.groups())): m.group() for m in in_stages}
    return {paths[key]: i for i, key in enumerate(sorted(paths))}
