"""Where the tokens of a sequence come from."""
from dataclasses import dataclass
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Describe a token sequence that stands for an image.

    Args:
        grid (Tuple[int, int]): Rows and columns of the patch tokens, which
            stand in raster order.
        num_extra_tokens (int): Tokens that are not patches (class and
            distillation token). Defaults to 0.
        cls_index (int, optional): Position of the first extra token in the
            sequence: 0 for a ViT, the middle for ViM. Defaults to None.
    """
    grid: Tuple[int, int]
    num_extra_tokens: int = 0
    cls_index: Optional[int] = None

    @property
    def num_tokens(self) -> int:
        """int: Length of the whole sequence."""
        return self.grid[0] * self.grid[1] + self.num_extra_tokens

    def split(self, tokens: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
        """Separate patch tokens and class token.

        Args:
            tokens (Tensor): Shape (..., L, C), L as in ``num_tokens``.

        Returns:
            Tuple[Tensor, Optional[Tensor]]: Patch tokens (..., H * W, C) and
            the class token (..., 1, C), or None if there is none. Further
            extra tokens are dropped.
        """
        if tokens.shape[-2] != self.num_tokens:
            raise ValueError(
                f'{tokens.shape[-2]} tokens found, but a grid of {self.grid} '
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
            patches (Tensor): Shape (..., H * W, C).
            cls_token (Tensor): Shape (..., 1, C).

        Returns:
            Tensor: Shape (..., H * W + 1, C).
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
