from typing import Optional, Tuple

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from torch import Tensor, nn

from .direction_tap import DirectionTap
from .mamba_mixer import MambaMixer, Orders


class MambaBlock(BaseModule):
    """Add a mixed branch to the residual stream: x + mixer(norm(x)).

    While somebody records ``direction_tap``, the block also computes one
    feature a scan direction, x + branch_m, scaled so that the mean over the
    directions is x + branch (our choice: the width stays that of the residual
    stream, so that an alignment can start as the identity). The residual
    stream is kept in float32 under mixed precision.

    Args:
        norm (nn.Module): Norm before the mixer.
        mixer (MambaMixer): Token mixer.
        drop_path_rate (float): Probability of dropping the branch of a sample
            in training. Defaults to 0.
        mixer_name (str): Attribute name of the mixer, as in the official
            state dict. Defaults to 'mixer'.
    """

    def __init__(self,
                 norm: nn.Module,
                 mixer: MambaMixer,
                 drop_path_rate: float = 0.,
                 mixer_name: str = 'mixer') -> None:
        super().__init__()
        self.norm = norm
        self.mixer_name = mixer_name
        self.add_module(mixer_name, mixer)
        self.drop_path = DropPath(drop_path_rate)
        self.direction_tap = DirectionTap()

    def forward(self,
                x: Tensor,
                grid: Tuple[int, int],
                record: bool = False) -> Tensor:
        """Run the block.

        Args:
            x (Tensor): Tokens (B, L, C).
            grid (Tuple[int, int]): Rows and columns of the patch tokens.
            record (bool): Whether the direction features go through the tap.
                Decided by the caller, since activation checkpointing runs
                this again when nobody listens any more. Defaults to False.

        Returns:
            Tensor: Tokens (B, L, C).
        """
        mixer = getattr(self, self.mixer_name)
        # tables are looked up here, a compiler would build them again
        orders = mixer.find_orders(x.shape[1], grid, x.device)
        x, directions = self.mix(x, grid, orders, record)
        if directions is not None:
            self.direction_tap(directions)
        return x

    def mix(self, x: Tensor, grid: Tuple[int, int], orders: Orders,
            record: bool) -> Tuple[Tensor, Optional[Tensor]]:
        """Compute the block without the tap, as a compiler may take it.

        Args:
            x (Tensor): Tokens (B, L, C).
            grid (Tuple[int, int]): Rows and columns of the patch tokens.
            orders (Orders): What the mixer's ``find_orders`` gave.
            record (bool): Whether the direction features are wanted.

        Returns:
            Tuple[Tensor, Optional[Tensor]]: Tokens (B, L, C) and direction
            features (M, B, L, C).
        """
        mixer = getattr(self, self.mixer_name)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        out, directions = mixer(
            self.norm(x.to(self.norm.weight.dtype)), grid, record, orders)
        if directions is None:
            x = x + self.drop_path(out)
            second = self.second_branch(x)
            return (x if second is None else x + second), None
        # one stack, so that a dropped sample is dropped in all of them
        stack = torch.cat([out.unsqueeze(0), directions]).transpose(0, 1)
        stack = self.drop_path(stack).transpose(0, 1) + x  # (1 + M, B, L, C)
        second = self.second_branch(stack[0])
        stack = stack if second is None else stack + second
        return stack[0], stack[1:]

    def second_branch(self, x: Tensor) -> Optional[Tensor]:
        """Compute what follows the mixer, if anything does.

        Every direction feature gets it too (our choice), so that their mean
        stays the block's output.

        Args:
            x (Tensor): Tokens after the mixer (B, L, C).

        Returns:
            Tensor, optional: To be added to the tokens.
        """
        return None
