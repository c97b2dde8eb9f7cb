import math
from typing import Tuple

import torch

from transmamba_mm.ops import CLIP_SCANS, ScanOrders, clip_orders
from .bidirectional_mixer import BidirectionalMixer


class ClipMixer(BidirectionalMixer):
    """Forward and backward scan through a clip, summed, as in VideoMamba.

    Paper: `VideoMamba <https://arxiv.org/abs/2403.06977>`_. Parameter names
    are the official ones. The convolution runs along the scan, so that it
    joins a position's frames where the scan is temporal.

    Args:
        embed_dims (int): Width C of the residual stream.
        scan_type (str): See :func:`~transmamba_mm.ops.clip_orders`. Defaults
            to 'spatial-first'.
        **kwargs: Further arguments of :class:`BidirectionalMixer`.

    Raises:
        ValueError: If the scan is unknown.
    """

    def __init__(self,
                 embed_dims: int,
                 scan_type: str = 'spatial-first',
                 **kwargs) -> None:
        super().__init__(embed_dims, merge='sum', **kwargs)
        if scan_type not in CLIP_SCANS:
            raise ValueError(f"backbone.scan_type='{scan_type}' is unknown; "
                             f'use one of {CLIP_SCANS}.')
        self.scan_type = scan_type

    def find_orders(self, length: int, grid: Tuple[int, ...],
                    device: torch.device) -> ScanOrders:
        """See :meth:`MambaMixer.find_orders`; a grid of three is a clip's."""
        frames = grid[0] if len(grid) == 3 else 1
        patches = math.prod(grid)
        return clip_orders(frames, patches // frames, self.scan_type,
                           length - patches, device)
