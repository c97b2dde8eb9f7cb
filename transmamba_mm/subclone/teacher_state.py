"""Read a Transformer's weights into one canonical set of names.

    patch_embed.{weight,bias}, cls_token, dist_token, pos_embed
    layers.i.norm1.*, layers.i.{q,k,v,o}.*, layers.i.norm2.*
    layers.i.{fc1,fc2}.*, final_norm.*, head.*

Further layouts are further rows of ``READERS``.
"""
import re
from typing import Callable, Dict, List, Tuple

from torch import Tensor

State = Dict[str, Tensor]

_PAIRS = ('patch_embed', 'final_norm', 'head',
          *(f'layers.{{i}}.{part}'
            for part in ('norm1', 'norm2', 'q', 'k', 'v', 'o', 'fc1', 'fc2')))

#: Names that a teacher's tensors may have, '{i}' for the layer's number.
CANONICAL_NAMES: Tuple[str, ...] = ('cls_token', 'dist_token', 'pos_embed',
                                    *(f'{name}.{end}' for name in _PAIRS
                                      for end in ('weight', 'bias')))

#: MMPretrain's name of a tensor, and ours.
_MMPRETRAIN_NAMES = (
    (r'patch_embed\.projection\.(weight|bias)', r'patch_embed.\1'),
    (r'(cls_token|dist_token|pos_embed)', r'\1'),
    (r'layers\.(\d+)\.ln1\.(weight|bias)', r'layers.\1.norm1.\2'),
    (r'layers\.(\d+)\.ln2\.(weight|bias)', r'layers.\1.norm2.\2'),
    (r'layers\.(\d+)\.attn\.qkv\.(weight|bias)', r'layers.\1.qkv.\2'),
    (r'layers\.(\d+)\.attn\.proj\.(weight|bias)', r'layers.\1.o.\2'),
    (r'layers\.(\d+)\.ffn\.layers\.0\.0\.(weight|bias)', r'layers.\1.fc1.\2'),
    (r'layers\.(\d+)\.ffn\.layers\.1\.(weight|bias)', r'layers.\1.fc2.\2'),
    (r'ln1\.(weight|bias)', r'final_norm.\1'),
    (r'head\.(?:fc|layers\.head)\.(weight|bias)', r'head.\1'),
)
_MMPRETRAIN_PREFIX = r'(?:module\.)?(?:backbone\.)?'


def read_teacher(state_dict: State) -> State:
    """Translate a teacher's state dict.

    Args:
        state_dict (Dict[str, Tensor]): Weights of an MMPretrain ViT, DeiT or
            distilled DeiT, as a classifier or the backbone alone.

    Returns:
        Dict[str, Tensor]: The same tensors under canonical names, q, k and v
        apart.

    Raises:
        ValueError: If the layout is not known.
    """
    for recognise, convert in READERS:
        if recognise(state_dict):
            return convert(state_dict)
    raise ValueError(
        'The weights are of no known layout: MMPretrain ViT and DeiT '
        'classifiers can be read, whose tensors are named like '
        f"'backbone.layers.0.attn.qkv.weight'. Found {len(state_dict)} "
        f'tensors {sorted(state_dict)[:6]}.')


def num_layers(state: State) -> int:
    """Count the layers that a state dict names.

    Args:
        state (Dict[str, Tensor]): Names such as 'layers.3.norm.weight'.

    Returns:
        int: Largest number plus one, 0 if there is none.
    """
    matches = (re.match(r'layers\.(\d+)\.', name) for name in state)
    return max((int(m.group(1)) + 1 for m in matches if m), default=0)


def block_numbers(state: State) -> Dict[str, int]:
    """Number the blocks of a student through all of its stages.

    Args:
        state (Dict[str, Tensor]): Names such as 'layers.3.norm.weight' or
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


def _is_mmpretrain(state: State) -> bool:
    pattern = _MMPRETRAIN_PREFIX + r'layers\.0\.attn\.qkv\.weight'
    return any(re.fullmatch(pattern, key) for key in state)


def _from_mmpretrain(state: State) -> State:
    out = {}
    for key, tensor in state.items():
        key = re.sub('^' + _MMPRETRAIN_PREFIX, '', key)
        for pattern, name in _MMPRETRAIN_NAMES:
            match = re.fullmatch(pattern, key)
            if match:
                out[match.expand(name)] = tensor
                break
    return split_qkv(out)


def split_qkv(state: State) -> State:
    """Cut fused projections into q, k and v.

    Args:
        state (Dict[str, Tensor]): May hold 'layers.i.qkv.*', (3d, ...).

    Returns:
        Dict[str, Tensor]: Holds 'layers.i.q.*', 'k', 'v' instead.
    """
    out = {}
    for key, tensor in state.items():
        if '.qkv.' not in key:
            out[key] = tensor
            continue
        for name, part in zip('qkv', tensor.chunk(3, dim=0)):
            out[key.replace('.qkv.', f'.{name}.')] = part
    return out


#: How to recognise a layout, and how to translate it; the first one counts.
READERS: List[Tuple[Callable[[State], bool], Callable[[State], State]]] = [
    (_is_mmpretrain, _from_mmpretrain),
]
