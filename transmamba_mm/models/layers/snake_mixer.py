from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from transmamba_mm.ops import ScanOrders, multi_direction_scan, snake_orders
from .mamba_mixer import MambaMixer, aligned, init_state_matrix, init_step_size


class SnakeMixer(MambaMixer):
    """Four continuous "snake" scans with shared parameters, as in PlainMamba.

    Paper: `PlainMamba <https://arxiv.org/abs/2403.17695>`_. Parameter names
    are the official ones. Three habits of the official code are kept, since
    its weights only work with them: only the scanned input is permuted, while
    the step size, B and C stay in raster order; the vector of the direction
    moved is added to B by scan step; the bias of ``dt_proj`` counts twice.

    Args:
        embed_dims (int): Width C of the residual stream.
        conv_size (int): Odd kernel size of the 2-D depthwise convolution.
            Defaults to 7.
        **kwargs: Further arguments of :class:`MambaMixer`.
    """

    merge = 'sum'

    def __init__(self, embed_dims: int, conv_size: int = 7, **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        e, n, r = self.d_inner, self.d_state, self.dt_rank
        self.conv2d = nn.Conv2d(
            e, e, conv_size, padding=conv_size // 2, groups=e)
        self.x_proj = nn.Linear(e, r + 2 * n, bias=False)
        self.dt_proj = nn.Linear(r, e)
        self.A_log = nn.Parameter(torch.empty(e, n))
        self.D = nn.Parameter(torch.empty(e))
        # start, right, left, up, down
        self.direction_Bs = nn.Parameter(torch.empty(5, n))
        self.reset_ssm_parameters()

    def reset_ssm_parameters(self) -> None:
        """Set ``A_log``, ``D``, ``dt_proj`` and the direction vectors."""
        init_state_matrix(self.A_log, self.D)
        init_step_size(self.dt_proj)
        trunc_normal_(self.direction_Bs, std=0.02)

    def find_orders(self, length: int, grid: Tuple[int, int],
                    device: torch.device) -> Tuple[ScanOrders, Tensor]:
        """See :meth:`MambaMixer.find_orders`; with the moves."""
        return snake_orders(*grid, device)

    def scan(self, inner: Tensor, gate: Tensor, grid: Tuple[int, int],
             orders: Tuple[ScanOrders, Tensor],
             record: bool) -> Tuple[Tensor, Optional[Tensor]]:
        """See :meth:`MambaMixer.scan`."""
        batch, e, length = inner.shape
        x = F.silu(self.conv2d(inner.reshape(batch, e, *grid)))
        x = x.flatten(2)  # (B, E, L)
        params = F.linear(x.transpose(1, 2), aligned(self.x_proj.weight, -2))
        r, n = self.dt_rank, self.d_state
        b, c = params[..., r:r + n], params[..., r + n:r + 2 * n]
        # columns past R meet zeros
        dt_proj = aligned(self.dt_proj.weight, -1)
        delta = F.linear(params[..., :dt_proj.shape[1]], dt_proj,
                         self.dt_proj.bias).transpose(1, 2)
        orders, moves = orders
        moved = self.direction_Bs[moves].transpose(1, 2)  # (4, N, L)
        b = b.transpose(1, 2).unsqueeze(1) + moved.to(b.dtype)
        return multi_direction_scan(
            x,
            delta,
            -self.A_log.float().exp(),
            b,
            c.transpose(1, 2),
            self.D.float(),
            orders=orders,
            z=gate,
            delta_bias=self.dt_proj.bias.float(),
            merge=self.merge,
            params_in_scan_order=True,
            record=record,
            backend=self.scan_backend)
