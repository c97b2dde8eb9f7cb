import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transmamba_mm.ops import (CROSS_NAMES, ScanOrders, cross_orders,
                               multi_direction_scan)
from .mamba_mixer import MambaMixer, fill_step_size, init_state_matrix

#: Names of the newer official code, and ours: the released files'.
_NEWER_NAMES = {
    'x_proj.weight': 'x_proj_weight',
    'dt_projs.weight': 'dt_projs_weight'
}


class CrossMixer(MambaMixer):
    """Four scans along rows and columns with own parameters, as in VMamba.

    Paper: `VMamba <https://arxiv.org/abs/2401.10166>`_, SS2D. Parameter names
    are those of the released files; those of the newer one-file code are
    understood on loading. The merged directions go through a LayerNorm before
    the gate. A direction's own output is divided by the deviation of the
    merged one (our choice), so that the directions still sum to the whole.

    Args:
        embed_dims (int): Width C of the residual stream.
        conv_size (int): Odd kernel size of the 2-D depthwise convolution.
            Defaults to 3.
        conv_bias (bool): Whether it has a bias. Defaults to True.
        **kwargs: Further arguments of :class:`MambaMixer`.
    """

    merge = 'sum'

    def __init__(self,
                 embed_dims: int,
                 conv_size: int = 3,
                 conv_bias: bool = True,
                 **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        m, e, n, r = (len(CROSS_NAMES), self.d_inner, self.d_state,
                      self.dt_rank)
        self.conv2d = nn.Conv2d(
            e, e, conv_size, padding=conv_size // 2, groups=e, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(m, r + 2 * n, e))
        self.dt_projs_weight = nn.Parameter(torch.empty(m, e, r))
        self.dt_projs_bias = nn.Parameter(torch.empty(m, e))
        self.A_logs = nn.Parameter(torch.empty(m * e, n))
        self.Ds = nn.Parameter(torch.empty(m * e))
        self.out_norm = nn.LayerNorm(e)
        self._register_load_state_dict_pre_hook(self._read_official)
        self.reset_ssm_parameters()

    def reset_ssm_parameters(self) -> None:
        """Set ``A_logs``, ``Ds`` and the projections of all directions."""
        init_state_matrix(self.A_logs, self.Ds)
        fill_step_size(self.dt_projs_weight, self.dt_projs_bias)
        for weight in self.x_proj_weight:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))

    def find_orders(self, length: int, grid: Tuple[int, int],
                    device: torch.device) -> ScanOrders:
        """See :meth:`MambaMixer.find_orders`."""
        return cross_orders(*grid, device)

    def scan(self, inner: Tensor, gate: Optional[Tensor],
             grid: Tuple[int, int], orders: ScanOrders,
             record: bool) -> Tuple[Tensor, Optional[Tensor]]:
        """See :meth:`MambaMixer.scan`."""
        batch, e, _ = inner.shape
        m, n, r = len(CROSS_NAMES), self.d_state, self.dt_rank
        x = F.silu(self.conv2d(inner.reshape(batch, e, *grid))).flatten(2)
        # a linear layer does not mind the order of the tokens
        params = F.linear(x.transpose(1, 2), self.x_proj_weight.flatten(0, 1))
        params = params.unflatten(2, (m, -1)).permute(2, 0, 1, 3)
        dt, b, c = params.split([r, n, n], dim=3)  # (M, B, L, .)
        # one product for all directions, channels next to each other
        delta = dt.flatten(1, 2) @ self.dt_projs_weight.transpose(1, 2)
        delta = delta.unflatten(1, (batch, -1))
        delta, b, c = (t.permute(1, 0, 3, 2) for t in (delta, b, c))
        merged, directions = multi_direction_scan(
            x,
            delta,
            -self.A_logs.float().exp().view(m, e, n),
            b,
            c,
            self.Ds.float().view(m, e),
            orders=orders,
            delta_bias=self.dt_projs_bias.float(),
            merge=self.merge,
            record=record,
            backend=self.scan_backend)
        return self._norm(merged, directions, gate)

    def _norm(self, merged: Tensor, directions: Optional[Tensor],
              gate: Optional[Tensor]) -> Tuple[Tensor, Optional[Tensor]]:
        """Norm and gate the sum (B, E, L) and its parts (M, B, E, L)."""
        norm = self.out_norm
        merged = merged.transpose(1, 2).to(norm.weight.dtype)
        gate = None if gate is None else F.silu(gate).transpose(1, 2)
        if directions is not None:
            parts = directions.transpose(2, 3).to(merged.dtype)
            variance = merged.var(-1, unbiased=False, keepdim=True)
            parts = parts - parts.mean(-1, keepdim=True)
            parts = parts * (variance + norm.eps).rsqrt() * norm.weight
            parts = parts + norm.bias / len(parts)
            directions = parts if gate is None else parts * gate
            directions = directions.transpose(2, 3)
        out = norm(merged)
        out = out if gate is None else out * gate
        return out.transpose(1, 2), directions

    def _read_official(self, state_dict: dict, prefix: str, *args,
                       **kwargs) -> None:
        """Rename and reshape what is the same in another form."""
        for newer, name in _NEWER_NAMES.items():
            if prefix + newer in state_dict:
                shape = getattr(self, name).shape
                state_dict[prefix +
                           name] = state_dict.pop(prefix +
                                                  newer).reshape(shape)
