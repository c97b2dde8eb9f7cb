from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from transmamba_mm.ops import (ScanOrders, bidirectional_orders,
                               direction_conv1d, multi_direction_scan)
from .mamba_mixer import MambaMixer, aligned, init_state_matrix, init_step_size


class BidirectionalMixer(MambaMixer):
    """Forward and backward scan with own SSM parameters, as in ViM.

    Paper: `Vision Mamba <https://arxiv.org/abs/2401.09417>`_. Parameter names
    are the official ones; the backward set has the suffix ``_b``.

    Args:
        embed_dims (int): Width C of the residual stream.
        d_conv (int): Kernel size of the causal convolution. Defaults to 4.
        merge (str): 'mean' (ViM) or 'sum' (VideoMamba). Defaults to 'mean'.
        **kwargs: Further arguments of :class:`MambaMixer`.
    """

    def __init__(self,
                 embed_dims: int,
                 d_conv: int = 4,
                 merge: str = 'mean',
                 **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        self.merge = merge
        e, n, r = self.d_inner, self.d_state, self.dt_rank
        for suffix in ('', '_b'):
            self.add_module(
                'conv1d' + suffix,
                nn.Conv1d(e, e, d_conv, groups=e, padding=d_conv - 1))
            self.add_module('x_proj' + suffix,
                            nn.Linear(e, r + 2 * n, bias=False))
            self.add_module('dt_proj' + suffix, nn.Linear(r, e))
        self.A_log = nn.Parameter(torch.empty(e, n))
        self.A_b_log = nn.Parameter(torch.empty(e, n))
        self.D = nn.Parameter(torch.empty(e))
        self.D_b = nn.Parameter(torch.empty(e))
        self.reset_ssm_parameters()

    def reset_ssm_parameters(self) -> None:
        """Set ``A_log``, ``D`` and ``dt_proj`` of both directions."""
        init_state_matrix(self.A_log, self.D)
        init_state_matrix(self.A_b_log, self.D_b)
        init_step_size(self.dt_proj)
        init_step_size(self.dt_proj_b)

    def find_orders(self, length: int, grid: Tuple[int, ...],
                    device: torch.device) -> ScanOrders:
        """See :meth:`MambaMixer.find_orders`; the grid is not used."""
        return bidirectional_orders(length, device)

    def scan(self, inner: Tensor, gate: Tensor, grid: Tuple[int, ...],
             orders: ScanOrders,
             record: bool) -> Tuple[Tensor, Optional[Tensor]]:
        """See :meth:`MambaMixer.scan`; the grid is not used."""
        kernels, shift = self._both('conv1d', 'weight', 'bias')
        x = direction_conv1d(
            inner,
            kernels.squeeze(2),
            shift,
            orders=orders,
            backend=self.scan_backend)
        x_proj, = self._both('x_proj', 'weight')
        dt_proj, dt_bias = self._both('dt_proj', 'weight', 'bias')
        # one product for both directions, (2, B L, .)
        params = x.permute(1, 0, 3, 2).flatten(1, 2) @ aligned(
            x_proj, -2).transpose(1, 2)
        r, n = self.dt_rank, self.d_state
        b, c = params[..., r:r + n], params[..., r + n:r + 2 * n]
        # the scan adds the bias of dt_proj; columns past R meet zeros
        dt_proj = aligned(dt_proj, -1)
        delta = params[..., :dt_proj.shape[2]] @ dt_proj.transpose(1, 2)
        delta, b, c = (t.unflatten(1,
                                   (inner.shape[0], -1)).permute(1, 0, 3, 2)
                       for t in (delta, b, c))  # (B, 2, ., L)
        return multi_direction_scan(
            x,
            delta,
            -torch.stack([self.A_log, self.A_b_log]).float().exp(),
            b,
            c,
            torch.stack([self.D, self.D_b]).float(),
            orders=orders,
            z=gate,
            delta_bias=dt_bias.float(),
            merge=self.merge,
            record=record,
            backend=self.scan_backend)

    def _both(self, name: str, *params: str) -> List[Tensor]:
        """Stack a layer's parameters of both directions, forward first."""
        pair = getattr(self, name), getattr(self, name + '_b')
        return [
            torch.stack([getattr(layer, p) for layer in pair]) for p in params
        ]
