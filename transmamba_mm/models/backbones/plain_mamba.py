from typing import Tuple, Union

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from transmamba_mm.ops import SNAKE_NAMES
from transmamba_mm.registry import MODELS
from ..layers import MambaBlock, SnakeMixer, TokenLayout
from .base_mamba import BaseMamba, drop_path_rates, num_patches, pad_to_patches


def _arch(embed_dims: int, num_layers: int, num_convs: int, **kwargs) -> dict:
    return dict(
        embed_dims=embed_dims,
        num_layers=num_layers,
        num_convs_patch_embed=num_convs,
        **kwargs)


@MODELS.register_module()
class PlainMamba(BaseMamba):
    """PlainMamba: a columnar backbone with four snake scans.

    Paper: `PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition
    <https://arxiv.org/abs/2403.17695>`_. Parameter names and shapes are those
    of the official code.

    Args:
        arch (str | dict): A name from the list, or a dict with the keys
            ``embed_dims``, ``num_layers`` and optionally
            ``num_convs_patch_embed`` (1), ``layers_with_dwconv`` (()),
            ``d_state`` (16), ``img_size``, ``patch_size``.

            - 'l1', 'l2', 'l3': the published models.
            - 'tiny', 'small', 'base': 12 layers of width 192, 384 and 768,
              the students of the TransMamba paper.
            - 'tiny-32': 12 layers of width 192, d_state 8, for images of
              32 pixels in 64 tokens (our choice).
            - 'nano-16': 4 layers of width 64, d_state 4, for images of 16
              pixels in 16 tokens (our choice).

            Defaults to 'l1'.
        img_size (int | Tuple[int, int], optional): Image size that the
            position embedding is made for; other sizes work too. None takes
            the arch's, or 224. Defaults to None.
        patch_size (int, optional): Pixels a token, an even number: the stem
            halves the image first. None takes the arch's, or 16. Defaults to
            None.
        in_channels (int): Image channels. Defaults to 3.
        out_indices (int | Sequence[int]): Layers whose outputs are returned;
            negative ones count from the end. Defaults to -1.
        out_type (str): Form of each output:

            - 'raw': tokens (B, L, C).
            - 'featmap': feature map (B, C, H, W).
            - 'avg_featmap': mean over the tokens (B, C).

            Defaults to 'avg_featmap'.
        drop_rate (float): Dropout after the position embedding. Defaults to
            0.
        drop_path_rate (float): Stochastic depth of the last layer. Defaults
            to 0.
        frozen_stages (int): -1 freezes nothing, k the stem and k layers.
            Defaults to -1.
        norm_eval (bool): Whether BatchNorm stays in eval mode in training.
            Defaults to False.
        with_cp (bool): Whether to save memory by activation checkpointing.
            Defaults to False.
        scan_backend (str, optional): 'mamba_ssm', 'chunked' or 'reference';
            None takes the best for the device. Defaults to None.
        init_cfg (dict | list, optional): Initialisation config. Defaults to
            truncated normal linear layers, as published.
    """

    OUT_TYPES = ('raw', 'featmap', 'avg_featmap')
    final_norm_name = 'ln1'
    direction_names = SNAKE_NAMES
    arch_zoo = {
        'l1': _arch(192, 24, 1, layers_with_dwconv=(0, )),
        'l2': _arch(384, 24, 2),
        'l3': _arch(448, 36, 2),
        'tiny': _arch(192, 12, 2),
        'small': _arch(384, 12, 2),
        'base': _arch(768, 12, 2),
        'tiny-32': _arch(192, 12, 1, d_state=8, img_size=32, patch_size=4),
        'nano-16': _arch(64, 4, 1, d_state=4, img_size=16, patch_size=4),
    }

    def __init__(self,
                 arch: Union[str, dict] = 'l1',
                 in_channels: int = 3,
                 drop_path_rate: float = 0.,
                 init_cfg: Union[dict, list, None] = None,
                 **kwargs) -> None:
        if init_cfg is None:
            init_cfg = dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(arch, init_cfg=init_cfg, **kwargs)
        if self.patch_size % 2:
            raise ValueError(
                f'backbone.patch_size={self.patch_size} is odd, but the stem '
                'of PlainMamba halves the image first: use an even number.')
        settings = self.arch_settings
        self.patch_embed = ConvPatchEmbed(
            in_channels, self.embed_dims, self.patch_size,
            settings.get('num_convs_patch_embed', 1))
        self.pos_embed = nn.Parameter(
            torch.zeros(1,
                        self.token_layout(self.img_size).num_tokens,
                        self.embed_dims))
        rates = drop_path_rates(drop_path_rate, self.num_layers)
        self.layers = ModuleList([
            PlainMambaBlock(
                self.embed_dims,
                d_state=settings.get('d_state', 16),
                with_dwconv=i in settings.get('layers_with_dwconv', ()),
                drop_path_rate=rate) for i, rate in enumerate(rates)
        ])
        self.ln1 = nn.LayerNorm(self.embed_dims, eps=1e-6)
        for i in self.out_indices:
            if i != self.num_layers - 1:
                self.add_module(f'norm_layer{i}',
                                nn.LayerNorm(self.embed_dims, eps=1e-6))
        self.finish_init()

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`BaseMamba.token_layout`."""
        # the stem halves an odd side upwards
        k = self.patch_size // 2
        h, w = (num_patches((s + 1) // 2, k, k) for s in image_size)
        return TokenLayout((h, w))

    def embed(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """See :meth:`BaseMamba.embed`."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        return tokens + self.resized_pos_embed(layout)

    def _norm_output(self, x: Tensor, index: int) -> Tensor:
        """Norm every output; the extra ones have norms of their own."""
        if index == self.num_layers - 1:
            return self.ln1(x.to(self.ln1.weight.dtype))
        norm = getattr(self, f'norm_layer{index}')
        return norm(x.to(norm.weight.dtype))


class ConvPatchEmbed(BaseModule):
    """Stem of PlainMamba: a convolution that halves the image, some that
    keep its size, and the patch projection.

    Args:
        in_channels (int): Image channels.
        embed_dims (int): Width C of a token.
        patch_size (int): Pixels a token, even.
        num_convs (int): Convolutions between the two. Defaults to 1.
        mid_channels (int): Channels inside. Defaults to 64.
    """

    def __init__(self,
                 in_channels: int,
                 embed_dims: int,
                 patch_size: int,
                 num_convs: int = 1,
                 mid_channels: int = 64) -> None:
        super().__init__()
        m = mid_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, m, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(m), nn.ReLU(inplace=True))
        convs = []
        for _ in range(num_convs):
            convs += [
                nn.Conv2d(m, m, 3, padding=1, bias=False),
                nn.BatchNorm2d(m),
                nn.ReLU(inplace=True)
            ]
        self.convs = nn.Sequential(*convs)
        self.kernel = patch_size // 2
        self.projection = nn.Conv2d(m, embed_dims, self.kernel, self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches.

        Args:
            x (Tensor): Images (B, C_in, H, W).

        Returns:
            Tensor: Tokens as a map (B, C, h, w).
        """
        x = self.convs(self.stem(x))
        return self.projection(pad_to_patches(x, self.kernel, self.kernel))


class PlainMambaBlock(MambaBlock):
    """Block of PlainMamba, optionally followed by a depthwise convolution.

    Args:
        embed_dims (int): Width C.
        d_state (int): State size N. Defaults to 16.
        with_dwconv (bool): Whether a 3 x 3 depthwise convolution follows the
            block (first layer of L1). The direction features are taken
            before it (our choice: it is not linear). Defaults to False.
        drop_path_rate (float): Stochastic depth. Defaults to 0.
    """

    def __init__(self,
                 embed_dims: int,
                 d_state: int = 16,
                 with_dwconv: bool = False,
                 drop_path_rate: float = 0.) -> None:
        super().__init__(
            nn.LayerNorm(embed_dims),
            SnakeMixer(embed_dims, d_state=d_state, bias=True),
            drop_path_rate,
            mixer_name='mamba')
        self.dw = None
        if with_dwconv:
            self.dw = nn.Sequential(
                nn.Conv2d(
                    embed_dims,
                    embed_dims,
                    3,
                    padding=1,
                    groups=embed_dims,
                    bias=False), nn.BatchNorm2d(embed_dims), nn.GELU())

    def forward(self,
                x: Tensor,
                grid: Tuple[int, int],
                record: bool = False) -> Tensor:
        """See :meth:`MambaBlock.forward`."""
        x = super().forward(x, grid, record)
        if self.dw is None:
            return x
        b, _, c = x.shape
        x = self.dw(x.transpose(1, 2).reshape(b, c, *grid))
        return x.flatten(2).transpose(1, 2)
