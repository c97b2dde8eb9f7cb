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
        'The teacher weights are of no known layout: MMPretrain ViT and DeiT '
        'classifiers can be read, whose tensors are named like '
        "'backbone.layers.0.attn.qkv.weight'. The file has "
        f'{sorted(state_dict)[:6]}. Change `checkpoint` of '
        'WeightSubcloneHook in custom_hooks.')


def num_layers(state: State, pattern: str = r'layers\.(\d+)\.') -> int:
    """Count the layers that a state dict names.

    Args:
        state (Dict[str, Tensor]): Names with layer numbers.
        pattern (str): Regular expression whose group is the number. Defaults
            to 'layers.NUMBER.'.

    Returns:
        int: Largest number plus one, 0 if there is none.
    """
    found = [int(m.group(1)) for k in state for m in [re.match(pattern, k)]
             if m]
    return max(found, default=-1) + 1


def _is_mmpretrain(state: State) -> bool:
    return any(
        re.fullmatch(r'(backbone\.)?layers\.0\.attn\.qkv\.weight', k)
        for k in state)


def _from_mmpretrain(state: State) -> State:
    out = {}
    for key, tensor in state.items():
        key = key[len('backbone.'):] if key.startswith('backbone.') else key
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


READERS: List[Tuple[Callable[[State], bool], Callable[[State], State]]] = [
    (_is_mmpretrain, _from_mmpretrain),
]
