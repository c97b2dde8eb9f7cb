import math
from typing import Optional, Tuple, Union

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from transmamba_mm.ops import BIDIRECTIONAL_NAMES
from transmamba_mm.registry import MODELS
from ..layers import BidirectionalMixer, MambaBlock, TokenLayout
from ..layers.mamba_mixer import is_pretrained
from .base_mamba import BaseMamba, drop_path_rates, num_patches, pad_to_patches


@MODELS.register_module()
class VisionMamba(BaseMamba):
    """Vision Mamba (ViM): forward and backward scans, class token amid.

    Paper: `Vision Mamba: Efficient Visual Representation Learning with
    Bidirectional State Space Model <https://arxiv.org/abs/2401.09417>`_.
    Parameter names, shapes and meaning are those of the official code: the
    class token stands in the middle, the directions are averaged, and the
    residual stream is kept in float32.

    Args:
        arch (str | dict): A name from the list, or a dict with the keys
            ``embed_dims``, ``num_layers`` and optionally ``d_state`` (16),
            ``img_size``, ``patch_size``.

            - 'tiny', 'small', 'base': 24 layers of width 192, 384 and 768.
            - 'tiny-32': 12 layers of width 192, d_state 8, for images of
              32 pixels in 64 tokens (our choice).
            - 'nano-16': 4 layers of width 64, d_state 4, for images of 16
              pixels in 16 tokens (our choice).

            Defaults to 'tiny'.
        img_size (int | Tuple[int, int], optional): Image size that the
            position embedding is made for; other sizes work too. None takes
            the arch's, or 224. Defaults to None.
        patch_size (int, optional): Pixels a patch. None takes the arch's, or
            16. Defaults to None.
        patch_stride (int, optional): Step between patches; half the patch
            size in the fine-tuned "+" models. None means ``patch_size``.
            Defaults to None.
        in_channels (int): Image channels. Defaults to 3.
        with_cls_token (bool): Whether there is a class token. Defaults to
            True.
        out_indices (int | Sequence[int]): Layers whose outputs are returned;
            negative ones count from the end. Defaults to -1.
        out_type (str): Form of each output:

            - 'cls_token': class token (B, C).
            - 'raw': tokens (B, L, C), class token in the middle.
            - 'featmap': feature map (B, C, H, W).
            - 'avg_featmap': mean over the patch tokens (B, C).

            Defaults to 'cls_token'.
        drop_rate (float): Dropout after the position embedding. Defaults to
            0.
        drop_path_rate (float): Stochastic depth of the last layer. Defaults
            to 0.
        frozen_stages (int): -1 freezes nothing, k the stem and k layers.
            Defaults to -1.
        with_cp (bool): Whether to save memory by activation checkpointing.
            Defaults to False.
        scan_backend (str, optional): 'mamba_ssm', 'chunked' or 'reference';
            None takes the best for the device. Defaults to None.
        init_cfg (dict | list, optional): Initialisation config. Defaults to
            None, the published initialisation.
    """

    final_norm_name = 'norm_f'
    direction_names = BIDIRECTIONAL_NAMES
    arch_zoo = {
        'tiny':
        dict(embed_dims=192, num_layers=24),
        'small':
        dict(embed_dims=384, num_layers=24),
        'base':
        dict(embed_dims=768, num_layers=24),
        'tiny-32':
        dict(
            embed_dims=192,
            num_layers=12,
            d_state=8,
            img_size=32,
            patch_size=4),
        'nano-16':
        dict(
            embed_dims=64, num_layers=4, d_state=4, img_size=16, patch_size=4),
    }

    def __init__(self,
                 arch: Union[str, dict] = 'tiny',
                 patch_stride: Optional[int] = None,
                 in_channels: int = 3,
                 with_cls_token: bool = True,
                 out_type: str = 'cls_token',
                 drop_path_rate: float = 0.,
                 init_cfg: Union[dict, list, None] = None,
                 **kwargs) -> None:
        super().__init__(arch, out_type=out_type, init_cfg=init_cfg, **kwargs)
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError(
                "backbone.out_type='cls_token' needs with_cls_token=True; "
                "use out_type='avg_featmap' without a class token.")
        self.num_extra_tokens = int(with_cls_token)
        self.patch_stride = patch_stride or self.patch_size
        self.patch_embed = PatchEmbed(in_channels, self.embed_dims,
                                      self.patch_size, self.patch_stride)
        length = self.token_layout(self.img_size).num_tokens
        self.pos_embed = nn.Parameter(torch.zeros(1, length, self.embed_dims))
        self.cls_token = None
        if with_cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))
        d_state = self.arch_settings.get('d_state', 16)
        self.layers = ModuleList([
            MambaBlock(
                nn.RMSNorm(self.embed_dims, eps=1e-5),
                BidirectionalMixer(self.embed_dims, d_state=d_state), rate)
            for rate in drop_path_rates(drop_path_rate, self.num_layers)
        ])
        self.norm_f = nn.RMSNorm(self.embed_dims, eps=1e-5)
        self.finish_init()

    def token_layout(self,
                     image_size: Tuple[int, int],
                     layer: int = -1) -> TokenLayout:
        """See :meth:`BaseMamba.token_layout`."""
        h, w = (
            num_patches(s, self.patch_size, self.patch_stride)
            for s in image_size)
        return self._layout((h, w), self.num_extra_tokens)

    def _layout(self, grid: Tuple[int, int],
                num_extra_tokens: int) -> TokenLayout:
        """Build a layout; ViM's class token stands in the middle."""
        middle = grid[0] * grid[1] // 2 if num_extra_tokens else None
        return TokenLayout(grid, num_extra_tokens, middle)

    def embed(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """See :meth:`BaseMamba.embed`."""
        tokens = self.patch_embed(x)
        if self.cls_token is not None:
            cls_token = self.cls_token.expand(x.shape[0], -1, -1)
            tokens = layout.join(tokens, cls_token.to(tokens.dtype))
        return tokens + self.resized_pos_embed(layout)

    def init_weights(self) -> None:
        """Initialise as published: LeCun-normal patch embedding, output
        projections scaled by the root of the depth."""
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        proj = self.patch_embed.proj
        fan_in = proj.weight[0].numel()
        nn.init.trunc_normal_(proj.weight, std=fan_in**-0.5)
        nn.init.zeros_(proj.bias)
        for layer in self.layers:
            weight = layer.mixer.out_proj.weight
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            with torch.no_grad():
                weight /= math.sqrt(self.num_layers)


class PatchEmbed(BaseModule):
    """Cut an image into patches and embed them.

    Args:
        in_channels (int): Image channels.
        embed_dims (int): Width C of a token.
        patch_size (int): Pixels a patch.
        stride (int): Step between patches.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int,
                 stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            in_channels, embed_dims, kernel_size=patch_size, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Embed patches.

        Args:
            x (Tensor): Images (B, C_in, H, W).

        Returns:
            Tensor: Tokens (B, L, C) in raster order.
        """
        x = pad_to_patches(x, self.proj.kernel_size[0], self.proj.stride[0])
        return self.proj(x).flatten(2).transpose(1, 2)
