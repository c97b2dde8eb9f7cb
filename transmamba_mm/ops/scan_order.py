"""Orders in which a scan visits the tokens of a picture.

Glossary: M directions, L tokens in raster order. ``index[m, t]`` is the
raster position that direction m visits at step t; ``inverse`` undoes it.
"""
from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence, Tuple

import torch
from torch import Tensor

BIDIRECTIONAL_NAMES = ('forward', 'backward')
CROSS_NAMES = ('row', 'column', 'row_reversed', 'column_reversed')
SNAKE_NAMES = ('rows', 'rows_reversed', 'columns', 'columns_reversed')


@dataclass(frozen=True, eq=False)
class ScanOrders:
    """The visiting orders of all directions.

    Args:
        names (Tuple[str, ...]): M direction names.
        index (Tensor): Raster position of each step, (M, L), int64.
        inverse (Tensor): Step of each raster position, (M, L), int64.
    """
    names: Tuple[str, ...]
    index: Tensor
    inverse: Tensor

    @classmethod
    def from_index(cls, names: Sequence[str], index: Tensor) -> 'ScanOrders':
        """Build from the visiting orders alone.

        Args:
            names (Sequence[str]): M direction names.
            index (Tensor): (M, L) permutations.

        Returns:
            ScanOrders: With the inverse filled in.
        """
        return cls(tuple(names), index, index.argsort(dim=1))


@lru_cache(maxsize=128)
def bidirectional_orders(length: int,
                         device: torch.device = None) -> ScanOrders:
    """Forward and backward, as in ViM and VideoMamba.

    Args:
        length (int): Number of tokens L.
        device (torch.device, optional): Where the tables live. Defaults to
            None.

    Returns:
        ScanOrders: M = 2.
    """
    forward = torch.arange(length, device=device)
    return ScanOrders.from_index(BIDIRECTIONAL_NAMES,
                                 torch.stack([forward, forward.flip(0)]))


@lru_cache(maxsize=128)
def cross_orders(h: int, w: int, device: torch.device = None) -> ScanOrders:
    """Rows, columns and their reverses, as in VMamba.

    Args:
        h (int): Rows.
        w (int): Columns.
        device (torch.device, optional): Where the tables live. Defaults to
            None.

    Returns:
        ScanOrders: M = 4.
    """
    grid = torch.arange(h * w, device=device).reshape(h, w)
    row, column = grid.flatten(), grid.t().flatten()
    return ScanOrders.from_index(
        CROSS_NAMES, torch.stack([row, column, row.flip(0), column.flip(0)]))


@lru_cache(maxsize=128)
def snake_orders(h: int, w: int, device: torch.device = None
                 ) -> Tuple[ScanOrders, Tensor]:
    """Continuous scans that turn at the border, as in PlainMamba.

    Args:
        h (int): Rows.
        w (int): Columns.
        device (torch.device, optional): Where the tables live. Defaults to
            None.

    Returns:
        Tuple[ScanOrders, Tensor]: M = 4 orders, and the move into each step
        (4, L): 0 start, 1 right, 2 left, 3 up, 4 down.
    """
    grid = torch.arange(h * w, device=device).reshape(h, w)
    rows, columns = _snake(grid), _snake(grid.t())
    index = torch.stack([rows, rows.flip(0), columns, columns.flip(0)])
    step = index[:, 1:] - index[:, :-1]
    move = torch.zeros_like(index)
    # with one column every step of w = 1 is a move down or up
    for code, jump in ((1, 1), (2, -1), (3, -w), (4, w)):
        move[:, 1:][step == jump] = code
    return ScanOrders.from_index(SNAKE_NAMES, index), move


def _snake(grid: Tensor) -> Tensor:
    """Flatten a grid, every second line from its end."""
    grid = grid.clone()
    grid[1::2] = grid[1::2].flip(1)
    return grid.flatten()
