from typing import Tuple

import torch
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import (
    TransformerEncoderLayer, VisionTransformer)
from torch import Tensor, nn

from transmamba_mm.registry import MODELS


@MODELS.register_module()
class ConvPosViT(VisionTransformer):
    """A ViT whose layers see their patches' neighbours by a convolution.

    Paper: `CPVT <https://arxiv.org/abs/2102.10882>`_; here before every layer
    (our choice). On few small images a plain ViT learns slowly; this one is a
    usable teacher after some minutes. All other parameters are those of
    MMPretrain's ``VisionTransformer``, so that they can be subcloned.

    Args:
        *args: As ``VisionTransformer``.
        **kwargs: As ``VisionTransformer``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.layers = ModuleList(
            ConvPosLayer(layer, self.num_extra_tokens)
            for layer in self.layers)
        if self.frozen_stages > 0:  # the convolutions too
            self._freeze_stages()

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images (B, C, H, W), sides of whole patches.

        Returns:
            Tuple[Tensor, ...]: As ``VisionTransformer``.
        """
        patch = self.patch_embed.projection.stride
        for layer in self.layers:
            layer.grid = (x.shape[2] // patch[0], x.shape[3] // patch[1])
        return super().forward(x)


class ConvPosLayer(TransformerEncoderLayer):
    """Add a depthwise 3 x 3 convolution of the patches, then attend.

    Args:
        layer (TransformerEncoderLayer): Its parts become those of this one.
        num_extra_tokens (int): Tokens before the patches, left as they are.
    """

    def __init__(self, layer: TransformerEncoderLayer,
                 num_extra_tokens: int) -> None:
        BaseModule.__init__(self, layer.init_cfg)
        self.embed_dims = c = layer.embed_dims
        self.ln1, self.attn = layer.ln1, layer.attn
        self.ln2, self.ffn = layer.ln2, layer.ffn
        self.num_extra_tokens = num_extra_tokens
        self.grid: Tuple[int, int] = (0, 0)
        self.pos_conv = nn.Conv2d(c, c, 3, padding=1, groups=c)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer.

        Args:
            x (Tensor): Tokens (B, L, C).

        Returns:
            Tensor: Tokens (B, L, C).
        """
        extra, patches = x.tensor_split([self.num_extra_tokens], dim=1)
        maps = patches.transpose(1, 2).unflatten(2, self.grid)
        patches = patches + self.pos_conv(maps).flatten(2).transpose(1, 2)
        return super().forward(torch.cat([extra, patches], dim=1))
