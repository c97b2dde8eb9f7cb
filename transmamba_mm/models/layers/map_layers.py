"""Stems and downsampling of hierarchical backbones.

Maps are (B, C, H, W). The numbers of the modules are those of the official
VMamba, whose empty slots turn a map.
"""
from typing import Tuple

import torch
from mmengine.model import Sequential
from torch import Tensor, nn

#: Strides of the two convolutions of the stem 'v2', by patch size. Those for
#: patches of 2 and 1 pixels are our choice, for small images.
STEM_STRIDES = {4: (2, 2), 2: (2, 1), 1: (1, 1)}
STEMS = ('v1', 'v2')
DOWNSAMPLINGS = ('v1', 'v2', 'v3')


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Norm a map.

        Args:
            x (Tensor): Shape (B, C, H, W).

        Returns:
            Tensor: The same shape.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MapLinear(nn.Linear):
    """Linear layer over the channels of a map (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map.

        Args:
            x (Tensor): Shape (B, C, H, W).

        Returns:
            Tensor: Shape (B, C', H, W).
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchMerge(nn.Module):
    """Put the four pixels of each 2 x 2 window into the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Merge, column by column within a window.

        Args:
            x (Tensor): Shape (B, C, H, W), even sides.

        Returns:
            Tensor: Shape (B, 4 C, H / 2, W / 2).
        """
        windows = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return torch.cat(windows, dim=1)


def build_stem(version: str, in_channels: int, embed_dims: int,
               patch_size: int) -> Sequential:
    """Build a stem of VMamba.

    Args:
        version (str): 'v1' is one convolution of the patch's size, 'v2' two
            overlapping ones of size 3 with the strides of ``STEM_STRIDES``.
        in_channels (int): Image channels.
        embed_dims (int): Width C of the first stage.
        patch_size (int): Pixels a token.

    Returns:
        Sequential: From images to maps; sides are divided by the patch size
        and rounded upwards (the stem 'v1' needs padded images).
    """
    if version == 'v1':
        conv = nn.Conv2d(in_channels, embed_dims, patch_size, patch_size)
        return Sequential(conv, nn.Identity(), MapNorm(embed_dims))
    first, second = STEM_STRIDES[patch_size]
    half = embed_dims // 2
    return Sequential(
        nn.Conv2d(in_channels, half, 3, stride=first,
                  padding=1), nn.Identity(), MapNorm(half), nn.Identity(),
        nn.GELU(), nn.Conv2d(half, embed_dims, 3, stride=second, padding=1),
        nn.Identity(), MapNorm(embed_dims))


class Downsample(Sequential):
    """Halve the sides between two stages of VMamba.

    Args:
        version (str): 'v1' is Swin's patch merging, 'v2' a convolution of
            size 2, 'v3' an overlapping one of size 3.
        in_dims (int): Width before.
        out_dims (int): Width after.
    """

    def __init__(self, version: str, in_dims: int, out_dims: int) -> None:
        if version == 'v1':
            super().__init__(PatchMerge(), MapNorm(4 * in_dims),
                             MapLinear(4 * in_dims, out_dims, bias=False))
        else:
            size = 2 if version == 'v2' else 3
            conv = nn.Conv2d(in_dims, out_dims, size, 2, padding=size - 2)
            super().__init__(nn.Identity(), conv, nn.Identity(),
                             MapNorm(out_dims))
        self.is_overlapping = version == 'v3'

    def forward(self, x: Tensor) -> Tensor:
        """Halve a map.

        Args:
            x (Tensor): Shape (B, C, H, W). Odd sides are padded with zeros
                at the bottom and right.

        Returns:
            Tensor: Shape (B, C', ceil(H / 2), ceil(W / 2)).
        """
        pad = (x.shape[3] % 2, x.shape[2] % 2)
        if any(pad) and not self.is_overlapping:
            x = nn.functional.pad(x, (0, pad[0], 0, pad[1]))
        return super().forward(x)


def to_tokens(x: Tensor) -> Tensor:
    """Flatten a map to tokens in raster order.

    Args:
        x (Tensor): Shape (B, C, H, W).

    Returns:
        Tensor: Shape (B, H * W, C).
    """
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, grid: Tuple[int, int]) -> Tensor:
    """Arrange tokens as a map.

    Args:
        tokens (Tensor): Shape (B, H * W, C).
        grid (Tuple[int, int]): H and W.

    Returns:
        Tensor: Shape (B, C, H, W).
    """
    return tokens.transpose(1, 2).unflatten(2, tuple(grid))
