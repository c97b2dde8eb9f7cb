"""Recognise VMamba's three eras of names, and rename them."""
import re
from typing import Any, Dict

from torch import Tensor

from transmamba_mm.models.backbones import VMamba
from .recognition import (Recognition, State, count_children, find_arch,
                          head_classes, shape_of)

#: Names of the first release -> those of the second.
_V0_NAMES = (
    (r'^patch_embed\.proj\.', 'patch_embed.0.'),
    (r'^patch_embed\.norm\.', 'patch_embed.2.'),
    (r'^(layers\.\d+\.blocks\.\d+)\.ln_1\.', r'\1.norm.'),
    (r'^(layers\.\d+\.blocks\.\d+)\.self_attention\.', r'\1.op.'),
    (r'^(layers\.\d+\.downsample)\.norm\.', r'\1.1.'),
    (r'^(layers\.\d+\.downsample)\.reduction\.', r'\1.2.'),
    (r'^norm\.', 'classifier.norm.'),
    (r'^head\.', 'classifier.head.'),
)
#: Names of the current code, whose weights are flattened over directions.
_CURRENT = re.compile(r'\.op\.(x_proj|dt_projs)\.weight$')
#: Linear layers, which channel-first builds may store as 1 x 1 convolutions.
_LINEAR = re.compile(r'\.(in_proj|out_proj|fc1|fc2)\.weight$|'
                     r'^layers\.\d+\.downsample\.2\.weight$')
_DIRECTIONS = 4
_DEFAULTS = dict(
    d_state=1,
    expand=2,
    with_gate=False,
    conv_bias=False,
    mlp_ratio=4,
    stem='v2',
    downsample='v3',
    patch_size=4,
    img_size=224)


def is_vmamba(state: State) -> bool:
    """Tell whether the names are those of VMamba, of any era."""
    return any(
        re.match(r'layers\.0\.blocks\.0\.(op|self_attention)\.A_logs$', k)
        for k in state)


def era_of(state: State) -> str:
    """Name the era of the names.

    Args:
        state (State): Official names -> tensors.

    Returns:
        str: 'v0' (first release), 'v2' (``x_proj_weight``) or 'current'
        (``x_proj.weight``).
    """
    if any('.self_attention.' in k for k in state):
        return 'v0'
    if any(k.endswith('.x_proj_weight') for k in state):
        return 'v2'
    return 'current'


def to_released(state: State) -> State:
    """Give weights of any era the names and shapes of the second release.

    Args:
        state (State): Official names -> tensors.

    Returns:
        State: Names of the released v2 files -> tensors.

    Raises:
        ValueError: A weight has no shape that can be reordered.
    """
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _V0_NAMES:
            name = re.sub(pattern, replacement, name)
        if _CURRENT.search(name):
            value = _by_direction(name, value)
            name = name[:-len('.weight')] + '_weight'
        elif _LINEAR.search(name) and value.dim() > 2:
            value = _as_linear(name, value)
        renamed[name] = value
    return renamed


def _by_direction(name: str, value: Tensor) -> Tensor:
    """(4 * rows, columns), perhaps with ones behind -> (4, rows, columns)."""
    value = _as_linear(name, value)
    if value.shape[0] % _DIRECTIONS:
        raise ValueError(f'{name} has {value.shape[0]} rows, which are no '
                         f'multiple of the {_DIRECTIONS} directions')
    return value.unflatten(0, (_DIRECTIONS, -1))


def _as_linear(name: str, value: Tensor) -> Tensor:
    """Make a linear weight of a 1 x 1 convolution's."""
    if any(size != 1 for size in value.shape[2:]):
        raise ValueError(f'{name} has the shape {tuple(value.shape)}, but a '
                         'linear layer or a 1 x 1 convolution is expected')
    return value.flatten(1)


def describe_vmamba(state: State) -> Recognition:
    """Recognise the size of a VMamba.

    Args:
        state (State): Official names -> tensors.

    Returns:
        Recognition: What the file is.

    Raises:
        ValueError: The weights do not make a VMamba.
    """
    era, state = era_of(state), to_released(state)
    arch = _settings(state)
    # of two names for one arch, the later one tells more
    zoo = dict(reversed(list(VMamba.arch_zoo.items())))
    name = find_arch(zoo, arch, _DEFAULTS)
    cfg = dict(type='transmamba_mm.VMamba', arch=name or arch)
    stages = len(arch['depths'])
    extra = [i for i in range(stages) if f'outnorm{i}.weight' in state]
    if extra:
        cfg.update(
            out_indices=tuple(sorted({*extra, stages - 1})),
            out_type='featmap')
    features = arch['embed_dims'] * 2**(stages - 1)
    return Recognition('vmamba', name or 'custom', era, cfg, features,
                       head_classes(state, 'classifier.head', features), name
                       and f'vmamba-{name}')


def _settings(state: State) -> Dict[str, Any]:
    """Read an arch off the weights."""
    first = 'layers.0.blocks.0.'
    stages = count_children(state, 'layers.')
    dims = [
        shape_of(state, f'layers.{i}.blocks.0.op.out_proj.weight')[0]
        for i in range(stages)
    ]
    if any(dim != dims[0] * 2**i for i, dim in enumerate(dims)):
        raise ValueError(f'the stages have the widths {dims}, but each must '
                         'be twice the one before')
    inner = shape_of(state, first + 'op.out_proj.weight')[1]
    mlp = state.get(first + 'mlp.fc1.weight')
    return dict(
        embed_dims=dims[0],
        depths=tuple(
            count_children(state, f'layers.{i}.blocks.')
            for i in range(stages)),
        d_state=shape_of(state, first + 'op.A_logs')[1],
        expand=_ratio(inner, dims[0]),
        with_gate=shape_of(state, first + 'op.in_proj.weight')[0] == 2 * inner,
        conv_bias=first + 'op.conv2d.bias' in state,
        mlp_ratio=0 if mlp is None else _ratio(mlp.shape[0], dims[0]),
        **_map_settings(state))


def _map_settings(state: State) -> Dict[str, Any]:
    """Read the stem and the downsampling off the weights."""
    stem = 'v2' if 'patch_embed.5.weight' in state else 'v1'
    kernel = shape_of(state, 'patch_embed.0.weight')[-1]
    downsample = 'v1'
    if 'layers.0.downsample.2.weight' not in state:
        size = shape_of(state, 'layers.0.downsample.1.weight')[-1]
        downsample = 'v3' if size == 3 else 'v2'
    return dict(
        stem=stem,
        downsample=downsample,
        patch_size=kernel if stem == 'v1' else 4)


def _ratio(size: int, base: int) -> float:
    """Give an integer where the ratio is one."""
    return size // base if size % base == 0 else size / base


def rename_vmamba(state: State) -> State:
    """Give VMamba's weights of any era the names of this package.

    Args:
        state (State): Official names -> tensors.

    Returns:
        State: Names inside an ``ImageClassifier`` -> tensors.
    """
    state = to_released(state)
    stages = count_children(state, 'layers.')
    renamed = {}
    for name, value in state.items():
        if name.startswith('classifier.head.'):
            name = name.replace('classifier.head.', 'head.fc.')
        else:
            name = 'backbone.' + name.replace(f'outnorm{stages - 1}.',
                                              'classifier.norm.')
        renamed[name] = value
    return renamed
