"""Recognise and rename Vim, VideoMamba and PlainMamba."""
from typing import Any, Dict, Optional

from transmamba_mm.models.backbones import PlainMamba, VideoMamba, VisionMamba
from .recognition import (Recognition, State, count_children, find_arch,
                          head_classes, shape_of, square_side)

_DEFAULTS = dict(d_state=16, img_size=224, patch_size=16)
_PLAIN_DEFAULTS = dict(
    _DEFAULTS, num_convs_patch_embed=1, layers_with_dwconv=())
#: Parts of VideoMamba's pre-training models that are no backbone.
VIDEO_EXTRAS = ('clip_', 'pool_norm.')
#: Published Vim models fine-tuned at half the stride have these positions.
_VIM_PLUS_POSITIONS = 730


def is_bidirectional(state: State) -> bool:
    """Tell whether the names are those of Vim and VideoMamba."""
    return 'layers.0.mixer.conv1d_b.weight' in state


def is_plain(state: State) -> bool:
    """Tell whether the names are those of PlainMamba."""
    return 'layers.0.mamba.direction_Bs' in state


def is_video_only(state: State) -> bool:
    """Tell whether a bidirectional model can only be a VideoMamba.

    It can be no Vim if it embeds time or tubelets, has the extra parts of
    VideoMamba's pre-training, or has the width and depth that only
    VideoMamba publishes.
    """
    proj = state.get('patch_embed.proj.weight')
    return ('temporal_pos_embedding' in state or 'norm.weight' in state
            or (proj is not None and proj.dim() == 5)
            or (_width(state), count_children(state, 'layers.')) == (576, 32))


def is_vim_only(state: State) -> bool:
    """Tell whether a bidirectional model can only be a Vim."""
    return 'cls_token' not in state


def _width(state: State) -> int:
    return shape_of(state, 'layers.0.mixer.in_proj.weight')[1]


def _arch_settings(state: State, mixer: str) -> Dict[str, Any]:
    """Read what all columnar families have."""
    return dict(
        embed_dims=shape_of(state, f'layers.0.{mixer}.in_proj.weight')[1],
        num_layers=count_children(state, 'layers.'),
        d_state=shape_of(state, f'layers.0.{mixer}.A_log')[1])


def _image_size(positions: int, extra: int, step: int) -> int:
    side = square_side(positions, extra)
    if side is None:
        raise ValueError(
            f'pos_embed has {positions} positions, which are no square grid '
            f'with {extra} extra token(s), as the official models have')
    return side * step


def _backbone(cls: type, arch: Dict[str, Any], defaults: Dict[str, Any],
              img_size: int, patch_size: int) -> Dict[str, Any]:
    """Make a backbone config, by the name of the arch if it has one."""
    size = dict(img_size=img_size, patch_size=patch_size)
    name = find_arch(cls.arch_zoo, {**arch, **size}, defaults)
    if name is None:  # the same model at another image size
        name = find_arch(cls.arch_zoo, {
            **arch, 'patch_size': patch_size
        }, defaults)
    cfg = dict(type=f'transmamba_mm.{cls.__name__}', arch=name or arch)
    known = cls.arch_zoo.get(name, {})
    cfg.update({
        k: v
        for k, v in size.items() if known.get(k, defaults[k]) != v
    })
    return cfg


def _size_name(backbone: Dict[str, Any]) -> str:
    arch = backbone['arch']
    return arch if isinstance(arch, str) else 'custom'


def _config(prefix: str, backbone: Dict[str, Any]) -> Optional[str]:
    size = _size_name(backbone)
    return None if size == 'custom' else f'{prefix}-{size}'


def describe_vim(state: State) -> Recognition:
    """Recognise the size of a Vim.

    Args:
        state (State): Official names -> tensors.

    Returns:
        Recognition: What the file is.

    Raises:
        ValueError: The weights do not make a Vim.
    """
    patch = shape_of(state, 'patch_embed.proj.weight')[-1]
    positions = shape_of(state, 'pos_embed')[1]
    extra = int('cls_token' in state)
    arch = _arch_settings(state, 'mixer')
    plus = positions == _VIM_PLUS_POSITIONS and patch == 16
    img_size = 224 if plus else _image_size(positions, extra, patch)
    cfg = _backbone(VisionMamba, arch, _DEFAULTS, img_size, patch)
    if plus:
        cfg['patch_stride'] = patch // 2
    if not extra:
        cfg.update(with_cls_token=False, out_type='avg_featmap')
    return Recognition('vim',
                       _size_name(cfg) + ('+' if plus else ''), 'current', cfg,
                       arch['embed_dims'],
                       head_classes(state, 'head', arch['embed_dims']),
                       _config('vim', cfg))


def describe_videomamba(state: State) -> Recognition:
    """Recognise the size of a VideoMamba, and whether it takes clips.

    Args:
        state (State): Official names -> tensors.

    Returns:
        Recognition: What the file is.

    Raises:
        ValueError: The weights do not make a VideoMamba.
    """
    proj = shape_of(state, 'patch_embed.proj.weight')
    positions = shape_of(state, 'pos_embed')[1]
    arch = _arch_settings(state, 'mixer')
    cfg = _backbone(VideoMamba, arch, _DEFAULTS,
                    _image_size(positions, 1, proj[-1]), proj[-1])
    steps = state.get('temporal_pos_embedding')
    kernel = proj[2] if len(proj) == 5 else 1
    if steps is not None or len(proj) == 5:
        cfg['num_frames'] = shape_of(state,
                                     'temporal_pos_embedding')[1] * kernel
        if kernel > 1:
            cfg['tubelet_size'] = kernel
    era = 'pre-training' if 'norm.weight' in state else 'current'
    return Recognition('videomamba', _size_name(cfg), era, cfg,
                       arch['embed_dims'],
                       head_classes(state, 'head', arch['embed_dims']),
                       _config('videomamba', cfg))


def describe_plainmamba(state: State) -> Recognition:
    """Recognise the size of a PlainMamba.

    Args:
        state (State): Official names -> tensors.

    Returns:
        Recognition: What the file is.

    Raises:
        ValueError: The weights do not make a PlainMamba.
    """
    arch = _arch_settings(state, 'mamba')
    convs = [
        k for k, v in state.items()
        if k.startswith('patch_embed.convs.') and v.dim() == 4
    ]
    arch.update(
        num_convs_patch_embed=len(convs),
        layers_with_dwconv=tuple(
            i for i in range(arch['num_layers'])
            if f'layers.{i}.dw.0.weight' in state))
    patch = 2 * shape_of(state, 'patch_embed.projection.weight')[-1]
    img_size = _image_size(shape_of(state, 'pos_embed')[1], 0, patch)
    cfg = _backbone(PlainMamba, arch, _PLAIN_DEFAULTS, img_size, patch)
    return Recognition('plainmamba', _size_name(cfg), 'current', cfg,
                       arch['embed_dims'],
                       head_classes(state, 'head.fc', arch['embed_dims']),
                       _config('plainmamba', cfg))


def rename_bidirectional(state: State) -> State:
    """Give Vim's and VideoMamba's weights the names of this package.

    Args:
        state (State): Official names -> tensors.

    Returns:
        State: Names inside an ``ImageClassifier`` -> tensors.
    """
    renamed = {}
    for name, value in state.items():
        if name in ('head.weight', 'head.bias'):
            renamed[name.replace('head.', 'head.fc.')] = value
        elif name == 'norm.weight':
            renamed['backbone.norm_f.weight'] = value
        else:
            renamed[f'backbone.{name}'] = value
    return renamed


def rename_plainmamba(state: State) -> State:
    """Give PlainMamba's weights the names of this package.

    Args:
        state (State): Official names -> tensors.

    Returns:
        State: Names inside an ``ImageClassifier`` -> tensors.
    """
    return {
        name if name.startswith('head.') else f'backbone.{name}': value
        for name, value in state.items()
    }
