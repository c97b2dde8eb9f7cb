from typing import Iterator, List, Optional, Tuple, Union

from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

from transmamba_mm.ops import CROSS_NAMES
from transmamba_mm.registry import MODELS
from ..layers import CrossMixer, MambaBlock, TokenLayout
from ..layers.map_layers import (DOWNSAMPLINGS, STEM_STRIDES, STEMS,
                                 Downsample, build_stem, to_map, to_tokens)
from .base_mamba import BaseMamba, drop_path_rates, num_patches, pad_to_patches

#: What an arch need not name.
_DEFAULTS = dict(
    d_state=1,
    expand=2,
    with_gate=False,
    conv_bias=False,
    mlp_ratio=4,
    stem='v2',
    downsample='v3',
    patch_size=4)
_MIXER_KEYS = ('d_state', 'expand', 'with_gate', 'conv_bias')


def _v0(embed_dims: int, depth: int) -> dict:
    return dict(
        embed_dims=embed_dims,
        depths=(2, 2, depth, 2),
        d_state=16,
        expand=2,
        with_gate=True,
        conv_bias=True,
        mlp_ratio=0,
        stem='v1',
        downsample='v1')


def _v2(embed_dims: int, expand: int, depth: int, **kwargs) -> dict:
    return dict(
        embed_dims=embed_dims,
        depths=(2, 2, depth, 2),
        expand=expand,
        **kwargs)


@MODELS.register_module()
class VMamba(BaseMamba):
    """VMamba: a hierarchical backbone with cross scans.

    Paper: `VMamba: Visual State Space Model
    <https://arxiv.org/abs/2401.10166>`_. Parameter names and shapes are those
    of the released files; stage i is ``layers.i``, its blocks
    ``layers.i.blocks.j``. There is no position embedding and no class token.

    Args:
        arch (str | dict): A name from the list, or a dict with the keys
            ``embed_dims`` (width of the first stage; each stage doubles it)
            and ``depths`` (blocks a stage), and optionally ``d_state`` (1),
            ``expand`` (inner width over the stage's, 2), ``with_gate``
            (False), ``conv_bias`` (False), ``mlp_ratio`` (4; 0 for no MLP),
            ``stem`` ('v2' or 'v1'), ``downsample`` ('v3', 'v2' or 'v1'),
            ``patch_size`` (4), ``img_size``.

            - 'v0-t', 'v0-s', 'v0-b': the first models, with gate, 16 states
              and without MLP.
            - 's2l5-t', 's2l15-s', 's2l15-b': the second models, also 'v2-t',
              'v2-s' and 'v2-b'; 's' tells ``expand``, 'l' the blocks of the
              third stage.
            - 's1l8-t', 's1l20-s', 's1l20-b': the fast ones among these.
            - 'tiny-32': widths 48 to 384, depths 2, 2, 5, 2, for images of
              32 pixels; the stem's two convolutions have the strides 2 and
              1, which makes grids of 16, 8, 4 and 2 (our choice).
            - 'nano-16': widths 16 to 128, one block a stage and two in the
              third, for images of 16 pixels; strides 2 and 1, grids of 8, 4,
              2 and 1 (our choice).

            Defaults to 's1l8-t'.
        img_size (int | Tuple[int, int], optional): Image size that tools
            take; any other works too. None takes the arch's, or 224. Defaults
            to None.
        patch_size (int, optional): Pixels a token of the first stage; 4, 2 or
            1 with the stem 'v2', whose convolutions then have the strides 2
            and 2, 2 and 1, or 1 and 1. None takes the arch's, or 4. Defaults
            to None.
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Stages whose outputs are returned;
            negative ones count from the end. All but the last get a norm of
            their own, ``outnorm{i}``. Defaults to -1.
        out_type (str): Form of each output:

            - 'raw': tokens (B, L, C).
            - 'featmap': feature map (B, C, H, W).
            - 'avg_featmap': mean over the tokens (B, C).

            Defaults to 'avg_featmap'.
        drop_rate (float): Dropout after the stem. Defaults to 0.
        drop_path_rate (float): Stochastic depth of the last block. Defaults
            to 0.
        frozen_stages (int): -1 freezes nothing, k the stem and k stages.
            Defaults to -1.
        with_cp (bool): Whether to save memory by activation checkpointing.
            Defaults to False.
        scan_backend (str, optional): 'mamba_ssm', 'chunked' or 'reference';
            None takes the best for the device. Defaults to None.
        init_cfg (dict | list, optional): Initialisation config. Defaults to
            truncated normal linear layers, as published.
    """

    OUT_TYPES = ('raw', 'featmap', 'avg_featmap')
    final_norm_name = 'classifier.norm'
    direction_names = CROSS_NAMES
    essential_keys = {'embed_dims', 'depths'}
    arch_zoo = {
        'v0-t':
        _v0(96, 9),
        'v0-s':
        _v0(96, 27),
        'v0-b':
        _v0(128, 27),
        'v2-t':
        _v2(96, 2, 5),
        'v2-s':
        _v2(96, 2, 15),
        'v2-b':
        _v2(128, 2, 15),
        's2l5-t':
        _v2(96, 2, 5),
        's2l15-s':
        _v2(96, 2, 15),
        's2l15-b':
        _v2(128, 2, 15),
        's1l8-t':
        _v2(96, 1, 8),
        's1l20-s':
        _v2(96, 1, 20),
        's1l20-b':
        _v2(128, 1, 20),
        'tiny-32':
        _v2(48, 1, 5, img_size=32, patch_size=2),
        'nano-16':
        dict(
            embed_dims=16,
            depths=(1, 1, 2, 1),
            expand=1,
            img_size=16,
            patch_size=2),
    }

    def __init__(self,
                 arch: Union[str, dict] = 's1l8-t',
                 in_channels: int = 3,
                 drop_path_rate: float = 0.,
                 init_cfg: Union[dict, list, None] = None,
                 **kwargs) -> None:
        if init_cfg is None:
            init_cfg = dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(arch, init_cfg=init_cfg, **kwargs)
        self._register_load_state_dict_pre_hook(self._read_official)
        settings = self.arch_settings
        self.depths = tuple(settings['depths'])
        #: Width of each stage.
        self.dims = [self.embed_dims * 2**i for i in range(self.num_layers)]
        self.num_features = self.dims[-1]
        if settings['stem'] == 'v2' and self.patch_size not in STEM_STRIDES:
            raise ValueError(
                f"backbone.patch_size={self.patch_size}, but the stem 'v2' "
                f"takes one of {sorted(STEM_STRIDES)}; 'v1' takes any.")
        self.patch_embed = build_stem(settings['stem'], in_channels,
                                      self.embed_dims, self.patch_size)
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        self.layers = ModuleList(
            [self._build_stage(i, rates) for i in range(self.num_layers)])
        self.classifier = Sequential()
        self.classifier.add_module('norm', nn.LayerNorm(self.num_features))
        for i in self.out_indices:
            if i != self.num_layers - 1:
                self.add_module(f'outnorm{i}', nn.LayerNorm(self.dims[i]))
        self.finish_init()

    def _resolve_arch(self, arch: Union[str, dict]) -> dict:
        """Fill in what an arch leaves open, and check it."""
        settings = {**_DEFAULTS, **super()._resolve_arch(arch)}
        for key, known in (('stem', STEMS), ('downsample', DOWNSAMPLINGS)):
            if settings[key] not in known:
                raise ValueError(
                    f"'{settings[key]}' as `{key}` in backbone.arch is "
                    f'unknown; use one of {known}.')
        return dict(settings, num_layers=len(settings['depths']))

    def _build_stage(self, index: int, rates: Iterator[float]) -> BaseModule:
        """Build the blocks of a stage, and the way to the next one."""
        settings, dims = self.arch_settings, self.dims[index]
        blocks = [
            VMambaBlock(
                dims,
                mlp_ratio=settings['mlp_ratio'],
                drop_path_rate=next(rates),
                **{k: settings[k]
                   for k in _MIXER_KEYS}) for _ in range(self.depths[index])
        ]
        downsample = None
        if index < self.num_layers - 1:
            downsample = Downsample(settings['downsample'], dims,
                                    self.dims[index + 1])
        return VMambaStage(blocks, downsample)

    @property
    def block_names(self) -> List[str]:
        """List[str]: See :class:`BaseMamba`."""
        return [
            f'layers.{i}.blocks.{j}' for i, depth in enumerate(self.depths)
            for j in range(depth)
        ]

    @property
    def block_dims(self) -> List[int]:
        """List[int]: See :class:`BaseMamba`."""
        return [c for c, n in zip(self.dims, self.depths) for _ in range(n)]

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`BaseMamba.token_layout`."""
        return self._stage_layout(image_size, self._block_stages[layer])

    @property
    def _block_stages(self) -> List[int]:
        """Stage of each block."""
        return [i for i, n in enumerate(self.depths) for _ in range(n)]

    def _stage_layout(self, image_size: Tuple[int, int],
                      stage: int) -> TokenLayout:
        """Layout of a stage: every step rounds odd sides upwards."""
        step = self.patch_size * 2**stage
        h, w = (num_patches(s, step, step) for s in image_size)
        return TokenLayout((h, w))

    def embed(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """See :meth:`BaseMamba.embed`."""
        if self.arch_settings['stem'] == 'v1':
            x = pad_to_patches(x, self.patch_size, self.patch_size)
        return to_tokens(self.patch_embed(x))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images (B, C, H, W) of any size.

        Returns:
            Tuple[Tensor, ...]: One entry per stage in ``out_indices``, shaped
            as ``out_type`` says.
        """
        layouts = [
            self._stage_layout(x.shape[2:], i) for i in range(self.num_layers)
        ]
        x = self.drop_after_pos(self.embed(x, layouts[0]))
        outs = []
        for i, (stage, layout) in enumerate(zip(self.layers, layouts)):
            for block in stage.blocks:
                x = self._run_layer(block, x, layout.grid)
            if i in self.out_indices:
                outs.append(self._format_output(x, layout, i))
            if stage.downsample is not None:
                x = to_tokens(stage.downsample(to_map(x, layout.grid)))
        return tuple(outs)

    def _norm_output(self, x: Tensor, index: int) -> Tensor:
        """Norm every output; all but the last have norms of their own."""
        norm = self.classifier.norm
        if index != self.num_layers - 1:
            norm = getattr(self, f'outnorm{index}')
        return norm(x.to(norm.weight.dtype))

    def _stage_of(self, name: str) -> int:
        """See :meth:`BaseMamba._stage_of`."""
        parts = name.split('.')
        if parts[0] == 'layers':
            return int(parts[1]) + 1
        return 0 if name.startswith(self.stem_names) else self.num_layers + 1

    def get_layer_depth(self,
                        param_name: str,
                        prefix: str = '') -> Tuple[int, int]:
        """Return the depth of a parameter, for layer-wise learning rates.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): Prefix of the backbone's names. Defaults to ''.

        Returns:
            Tuple[int, int]: Depth and number of depths: 0 for the stem, i + 1
            for block i of all stages (the downsampling counts to the block
            before it), the last for all the rest.
        """
        last = sum(self.depths) + 1
        name = param_name[len(prefix):] if param_name.startswith(
            prefix) else ''
        parts = name.split('.')
        if name.startswith(self.stem_names):
            return 0, last + 1
        if parts[0] != 'layers':
            return last, last + 1
        stage = int(parts[1])
        block = self.depths[stage] - 1 if parts[2] == 'downsample' else int(
            parts[3])
        return sum(self.depths[:stage]) + block + 1, last + 1

    def _read_official(self, state_dict: dict, prefix: str, *args,
                       **kwargs) -> None:
        """Accept the norm of a dense model, and 1 x 1 convolutions."""
        last = f'{prefix}outnorm{self.num_layers - 1}.'
        for key in [k for k in state_dict if k.startswith(last)]:
            name = f'{prefix}{self.final_norm_name}.{key[len(last):]}'
            state_dict[name] = state_dict.pop(key)
        for name, own in self.named_parameters():
            value = state_dict.get(prefix + name)
            if value is not None and value.shape == (*own.shape, 1, 1):
                state_dict[prefix + name] = value.flatten(1)


class VMambaStage(BaseModule):
    """Blocks of one width, and the downsampling after them.

    Args:
        blocks (List[nn.Module]): Blocks.
        downsample (nn.Module, optional): None in the last stage.
    """

    def __init__(self, blocks: List[nn.Module],
                 downsample: Optional[nn.Module]) -> None:
        super().__init__()
        self.blocks = ModuleList(blocks)
        self.downsample = downsample


class VMambaBlock(MambaBlock):
    """Block of VMamba: a cross scan and, if wanted, an MLP.

    Args:
        embed_dims (int): Width C.
        mlp_ratio (float): Hidden width of the MLP over C; 0 for no MLP.
            Defaults to 4.
        drop_path_rate (float): Stochastic depth of both branches. Defaults
            to 0.
        **kwargs: Further arguments of :class:`CrossMixer`.
    """

    def __init__(self,
                 embed_dims: int,
                 mlp_ratio: float = 4.,
                 drop_path_rate: float = 0.,
                 **kwargs) -> None:
        super().__init__(
            nn.LayerNorm(embed_dims),
            CrossMixer(embed_dims, **kwargs),
            drop_path_rate,
            mixer_name='op')
        self.mlp = None
        if mlp_ratio > 0:
            self.norm2 = nn.LayerNorm(embed_dims)
            self.mlp = Mlp(embed_dims, int(mlp_ratio * embed_dims))

    def second_branch(self, x: Tensor) -> Optional[Tensor]:
        """See :meth:`MambaBlock.second_branch`."""
        if self.mlp is None:
            return None
        return self.drop_path(self.mlp(self.norm2(x)))


class Mlp(BaseModule):
    """Two linear layers with GELU between.

    Args:
        embed_dims (int): Width C.
        hidden_dims (int): Width between.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens.

        Args:
            x (Tensor): Shape (..., C).

        Returns:
            Tensor: The same shape.
        """
        return self.fc2(self.act(self.fc1(x)))
