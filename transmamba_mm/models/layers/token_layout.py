"""Where the tokens of a sequence come from."""
import math
from dataclasses import dataclass
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Describe a token sequence that stands for an image or a clip.

    Args:
        grid (Tuple[int, int]): Rows and columns of the patch tokens, which
            stand in raster order, frame by frame.
        num_extra_tokens (int): Tokens that are not patches (class and
            distillation token). Defaults to 0.
        cls_index (int, optional): Position of the first extra token in the
            sequence: 0 for a ViT, the middle for ViM. Defaults to None.
        frames (int, optional): Steps in time of a clip, which share the
            extra tokens; None for an image. Defaults to None.
    """
    grid: Tuple[int, int]
    num_extra_tokens: int = 0
    cls_index: Optional[int] = None
    frames: Optional[int] = None

    @property
    def shape(self) -> Tuple[int, ...]:
        """Tuple[int, ...]: Shape of the patch tokens, (H, W) of an image or
        (T, H, W) of a clip."""
        return self.grid if self.frames is None else (self.frames, *self.grid)

    @property
    def num_tokens(self) -> int:
        """int: Length of the whole sequence."""
        return math.prod(self.shape) + self.num_extra_tokens

    def split(self, tokens: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        """Separate patch tokens and class token.

        Args:
            tokens (Tensor): Shape (..., L, C), L as in ``num_tokens``.

        Returns:
            Tuple[Tensor, Optional[Tensor]]: Patch tokens (..., L', C), L' as
            in ``shape``, and the class token (..., 1, C), or None if there is
            none. Further extra tokens are dropped.
        """
        if tokens.shape[-2] != self.num_tokens:
            raise ValueError(
                f'{tokens.shape[-2]} tokens found, but a grid of {self.shape} '
                f'with {self.num_extra_tokens} extra tokens has '
                f'{self.num_tokens}.')
        if self.cls_index is None:
            return tokens, None
        start, stop = self.cls_index, self.cls_index + self.num_extra_tokens
        patches = torch.cat([tokens[..., :start, :], tokens[..., stop:, :]],
                            dim=-2)
        return patches, tokens[..., start:start + 1, :]

    def join(self, patches: Tensor, cls_token: Tensor) -> Tensor:
        """Put one class token at its place among the patch tokens.

        Args:
            patches (Tensor): Shape (..., L', C), L' as in ``shape``.
            cls_token (Tensor): Shape (..., 1, C).

        Returns:
            Tensor: Shape (..., L' + 1, C).
        """
        i = self.cls_index
        return torch.cat([patches[..., :i, :], cls_token, patches[..., i:, :]],
                         dim=-2)


def resize_tokens(patches: Tensor,
                  grid: Tuple[int, int],
                  new_grid: Tuple[int, int],
                  mode: str = 'bicubic') -> Tensor:
    """Resize patch tokens as a picture.

    Args:
        patches (Tensor): Shape (B, H * W, C) in raster order.
        grid (Tuple[int, int]): H and W.
        new_grid (Tuple[int, int]): Rows and columns wanted.
        mode (str): Mode of ``F.interpolate``. Defaults to 'bicubic'.

    Returns:
        Tensor: Shape (B, H' * W', C), the same tensor if the grids agree.
    """
    if tuple(grid) == tuple(new_grid):
        return patches
    b, _, c = patches.shape
    picture = patches.transpose(1, 2).reshape(b, c, *grid).float()
    picture = F.interpolate(
        picture, size=tuple(new_grid), mode=mode, align_corners=False)
    return picture.flatten(2).transpose(1, 2).to(patches.dtype)


def resize_patches(patches: Tensor,
                   layout: TokenLayout,
                   new_layout: TokenLayout,
                   mode: str = 'bilinear') -> Tensor:
    """Resize the patch tokens of images or clips, frame by frame.

    Where frames become fewer, each is the mean of several (our choice).

    Args:
        patches (Tensor): Shape (B, L, C), L as in ``layout.shape``.
        layout (TokenLayout): Where they stand.
        new_layout (TokenLayout): Where they shall stand.
        mode (str): See :func:`resize_tokens`. Defaults to 'bilinear'.

    Returns:
        Tensor: Shape (B, L', C), the same tensor if the shapes agree.
    """
    if layout.shape == new_layout.shape:
        return patches
    frames = patches.unflatten(1, (layout.frames or 1, -1))
    frames = resize_frames(frames, new_layout.frames or 1, average=True)
    pictures = resize_tokens(
        frames.flatten(0, 1), layout.grid, new_layout.grid, mode)
    return pictures.reshape(patches.shape[0], -1, patches.shape[-1])


def resize_frames(frames: Tensor,
                  num_frames: int,
                  average: bool = False) -> Tensor:
    """Resize in time, linearly.

    Args:
        frames (Tensor): Shape (B, T, ..., C).
        num_frames (int): Frames wanted, T'.
        average (bool): Whether fewer frames are means of all the old ones,
            where a linear resizing would leave some out. Defaults to False.

    Returns:
        Tensor: Shape (B, T', ..., C), the same tensor if the numbers agree.
    """
    if frames.shape[1] == num_frames:
        return frames
    rows = frames.flatten(2).transpose(1, 2).float()  # (B, ... C, T)
    if average and num_frames < frames.shape[1]:
        rows = F.adaptive_avg_pool1d(rows, num_frames)
    else:
        rows = F.interpolate(
            rows, size=num_frames, mode='linear', align_corners=False)
    rows = rows.transpose(1, 2).unflatten(2, frames.shape[2:])
    return rows.to(frames.dtype)
