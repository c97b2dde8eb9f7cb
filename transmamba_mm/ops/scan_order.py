"""Orders in which a scan visits the tokens of a picture.

Glossary: M directions, L tokens in raster order. ``index[m, t]`` is the
raster position that direction m visits at step t; ``inverse`` undoes it. The
tables are built once for each size and device.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

BIDIRECTIONAL_NAMES = ('forward', 'backward')
CROSS_NAMES = ('row', 'column', 'row_reversed', 'column_reversed')
CLIP_SCANS = ('spatial-first', 'temporal-first', 'mixed')
SNAKE_NAMES = ('rows', 'rows_reversed', 'columns', 'columns_reversed')

Device = Optional[Union[torch.device, str]]


@dataclass(frozen=True, eq=False)
class ScanOrders:
    """The visiting orders of all directions.

    Args:
        names (Tuple[str, ...]): M direction names.
        index (Tensor): Raster position of each step, (M, L), int64.
        inverse (Tensor): Step of each raster position, (M, L), int64.
        is_bidirectional (bool): Whether these are raster order and its
            reverse, which need no table. Defaults to False.
    """
    names: Tuple[str, ...]
    index: Tensor
    inverse: Tensor
    is_bidirectional: bool = False

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

    def to(self, device: Device) -> 'ScanOrders':
        """Copy to a device; the copy is kept for the next call.

        Args:
            device (torch.device | str): Where the tables shall live.

        Returns:
            ScanOrders: Itself if it lives there already.
        """
        device = torch.device(device)
        return self if self.index.device == device else _moved(self, device)


def bidirectional_orders(length: int, device: Device = None) -> ScanOrders:
    """Forward and backward, as in ViM and VideoMamba.

    Args:
        length (int): Number of tokens L.
        device (torch.device | str, optional): Where the tables live; None
            means the CPU. Defaults to None.

    Returns:
        ScanOrders: M = 2.

    Raises:
        ValueError: If there are no tokens.
    """
    _check_sizes(length=length)
    return _bidirectional(length, torch.device(device or 'cpu'))


def clip_orders(frames: int,
                positions: int,
                scan_type: str = 'spatial-first',
                num_leading: int = 0,
                device: Device = None) -> ScanOrders:
    """Forward and backward through a clip, as in VideoMamba.

    Raster order is frame after frame. 'spatial-first' visits one frame after
    the other, 'temporal-first' one position after the other through all
    frames, and 'mixed' goes forward by the first and backward by the second.

    Args:
        frames (int): Steps in time T.
        positions (int): Patches of a frame.
        scan_type (str): One of ``CLIP_SCANS``. Defaults to 'spatial-first'.
        num_leading (int): Extra tokens before the patches, which stay first.
            Defaults to 0.
        device (torch.device | str, optional): Where the tables live; None
            means the CPU. Defaults to None.

    Returns:
        ScanOrders: M = 2.

    Raises:
        ValueError: If there are no tokens, or the scan is unknown.
    """
    _check_sizes(frames=frames, positions=positions)
    if scan_type not in CLIP_SCANS:
        raise ValueError(
            f"scan_type='{scan_type}' is unknown; use one of {CLIP_SCANS}.")
    if scan_type == 'spatial-first' or 1 in (frames, positions):
        return bidirectional_orders(num_leading + frames * positions, device)
    return _clip(frames, positions, scan_type, num_leading,
                 torch.device(device or 'cpu'))


def cross_orders(h: int, w: int, device: Device = None) -> ScanOrders:
    """Rows, columns and their reverses, as in VMamba.

    Args:
        h (int): Rows.
        w (int): Columns.
        device (torch.device | str, optional): Where the tables live; None
            means the CPU. Defaults to None.

    Returns:
        ScanOrders: M = 4.

    Raises:
        ValueError: If there are no tokens.
    """
    _check_sizes(h=h, w=w)
    return _cross(h, w, torch.device(device or 'cpu'))


def snake_orders(h: int,
                 w: int,
                 device: Device = None) -> Tuple[ScanOrders, Tensor]:
    """Continuous scans that turn at the border, as in PlainMamba.

    Args:
        h (int): Rows.
        w (int): Columns.
        device (torch.device | str, optional): Where the tables live; None
            means the CPU. Defaults to None.

    Returns:
        Tuple[ScanOrders, Tensor]: M = 4 orders, and the move into each step
        (4, L): 0 start, 1 right, 2 left, 3 up, 4 down.

    Raises:
        ValueError: If there are no tokens.
    """
    _check_sizes(h=h, w=w)
    return _snakes(h, w, torch.device(device or 'cpu'))


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f'Scan orders need {name} >= 1, got {size}.')


# Tables made under inference mode could not be saved for a backward later.


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _moved(orders: ScanOrders, device: torch.device) -> ScanOrders:
    return replace(
        orders,
        index=orders.index.to(device),
        inverse=orders.inverse.to(device))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _bidirectional(length: int, device: torch.device) -> ScanOrders:
    forward = torch.arange(length, device=device)
    index = torch.stack([forward, forward.flip(0)])
    return replace(
        ScanOrders.from_index(BIDIRECTIONAL_NAMES, index),
        is_bidirectional=True)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _clip(frames: int, positions: int, scan_type: str, num_leading: int,
          device: torch.device) -> ScanOrders:
    spatial = torch.arange(num_leading + frames * positions, device=device)
    patches = spatial[num_leading:].reshape(frames, positions)
    temporal = torch.cat([spatial[:num_leading], patches.t().flatten()])
    forward = spatial if scan_type == 'mixed' else temporal
    return ScanOrders.from_index(BIDIRECTIONAL_NAMES,
                                 torch.stack([forward,
                                              temporal.flip(0)]))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _cross(h: int, w: int, device: torch.device) -> ScanOrders:
    grid = torch.arange(h * w, device=device).reshape(h, w)
    row, column = grid.flatten(), grid.t().flatten()
    return ScanOrders.from_index(
        CROSS_NAMES, torch.stack([row, column,
                                  row.flip(0),
                                  column.flip(0)]))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _snakes(h: int, w: int, device: torch.device) -> Tuple[ScanOrders, Tensor]:
    grid = torch.arange(h * w, device=device).reshape(h, w)
    rows, columns = _snake(grid), _snake(grid.t())
    index = torch.stack([rows, rows.flip(0), columns, columns.flip(0)])
    across, down = (index % w).diff(dim=1), (index // w).diff(dim=1)
    moves = torch.zeros_like(index)
    # right, left, up, down
    for code, taken in enumerate((across > 0, across < 0, down < 0, down > 0),
                                 1):
        moves[:, 1:][taken] = code
    return ScanOrders.from_index(SNAKE_NAMES, index), moves


def _snake(grid: Tensor) -> Tensor:
    """Flatten a grid, every second line from its end."""
    grid = grid.clone()
    grid[1::2] = grid[1::2].flip(1)
    return grid.flatten()
