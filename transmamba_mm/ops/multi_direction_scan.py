"""Scan a picture's tokens in several orders and merge the results."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .flops import note_scan
from .scan_order import ScanOrders
from .selective_scan import selective_scan


def multi_direction_scan(x: Tensor,
                         delta: Tensor,
                         A: Tensor,
                         B: Tensor,
                         C: Tensor,
                         D: Optional[Tensor] = None,
                         *,
                         orders: ScanOrders,
                         z: Optional[Tensor] = None,
                         delta_bias: Optional[Tensor] = None,
                         merge: str = 'sum',
                         params_in_scan_order: bool = False,
                         record: bool = False,
                         backend: Optional[str] = None
                         ) -> Tuple[Tensor, Optional[Tensor]]:
    """Run one selective scan a direction, back in raster order, and merge.

    Whatever is given without the direction axis M is shared by all
    directions. The step size goes through softplus.

    Args:
        x (Tensor): Input (batch, [M,] E, L), raster order.
        delta (Tensor): Raw step size (batch, [M,] E, L), raster order.
        A (Tensor): Decay rates ([M,] E, N), negative.
        B (Tensor): Input weights (batch, [M,] N, L), raster order.
        C (Tensor): Output weights (batch, [M,] N, L), raster order.
        D (Tensor, optional): Skip weights ([M,] E). Defaults to None.
        orders (ScanOrders): The M visiting orders of the L tokens.
        z (Tensor, optional): Gate (batch, E, L), raster order. Defaults to
            None.
        delta_bias (Tensor, optional): Added to ``delta``, ([M,] E). Defaults
            to None.
        merge (str): 'sum' or 'mean' of the directions. Defaults to 'sum'.
        params_in_scan_order (bool): Whether ``delta``, B and C are indexed by
            scan step already, as PlainMamba's. Defaults to False.
        record (bool): Whether the directions are returned too. Defaults to
            False.
        backend (str, optional): See :func:`selective_scan`. Defaults to
            None.

    Returns:
        Tuple[Tensor, Optional[Tensor]]: Merged output (batch, E, L), gated;
        and, if recorded, the directions (M, batch, E, L), gated, before the
        merge.

    Raises:
        ValueError: If ``merge`` is unknown.
    """
    if merge not in ('sum', 'mean'):
        raise ValueError(f"merge='{merge}' is unknown; use 'sum' or 'mean'.")
    m, (batch, *_, e, length) = len(orders.names), x.shape
    note_scan(
        batch=batch,
        channels=e,
        length=length,
        d_state=A.shape[-1],
        directions=m,
        with_skip=D is not None,
        with_gate=z is not None)
    x = _in_scan_order(x, orders)
    if params_in_scan_order:
        delta, B, C = (_per_direction(t, m) for t in (delta, B, C))
    else:
        delta, B, C = (_in_scan_order(t, orders) for t in (delta, B, C))
    y = selective_scan(
        x.flatten(1, 2),
        delta.flatten(1, 2),
        A.repeat(m, 1) if A.dim() == 2 else A.flatten(0, 1),
        B,
        C,
        _flat(D, m),
        delta_bias=_flat(delta_bias, m),
        delta_softplus=True,
        backend=backend)
    y = _gather(y.unflatten(1, (m, e)), orders.inverse)
    gate = 1. if z is None else F.silu(z)
    merged = (y.sum(1) if merge == 'sum' else y.mean(1)) * gate
    if not record:
        return merged, None
    return merged, y.transpose(0, 1) * gate


def _per_direction(x: Tensor, m: int) -> Tensor:
    """(batch, ., L) or (batch, M, ., L) -> (batch, M, ., L)."""
    return x.unsqueeze(1).expand(-1, m, -1, -1) if x.dim() == 3 else x


def _in_scan_order(x: Tensor, orders: ScanOrders) -> Tensor:
    return _gather(_per_direction(x, len(orders.names)), orders.index)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Pick tokens direction by direction, x (batch, M, ., L)."""
    return torch.stack(
        [part.index_select(-1, i) for part, i in zip(x.unbind(1), index)],
        dim=1)


def _flat(x: Optional[Tensor], m: int) -> Optional[Tensor]:
    """([M,] E) -> (M * E,)."""
    if x is None:
        return None
    return x.repeat(m) if x.dim() == 1 else x.flatten()
