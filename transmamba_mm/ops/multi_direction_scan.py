"""Scan a picture's tokens in several orders and merge the results."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import triton_merge, triton_scan
from .flops import note_operation
from .scan_order import ScanOrders
from .selective_scan import choose_backend, scan_groups


def multi_direction_scan(
        x: Tensor,
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
        backend: Optional[str] = None) -> Tuple[Tensor, Optional[Tensor]]:
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
        ValueError: If ``merge`` is unknown or shapes do not agree.
    """
    if merge not in ('sum', 'mean'):
        raise ValueError(f"merge='{merge}' is unknown; use 'sum' or 'mean'.")
    _check(x, A, z, orders, dict(delta=delta, B=B, C=C))
    note_operation(
        'scan',
        batch=x.shape[0],
        channels=x.shape[-2],
        length=x.shape[-1],
        d_state=A.shape[-1],
        directions=len(orders.names),
        with_skip=D is not None,
        with_gate=z is not None)
    orders = orders.to(x.device)
    # (batch, M or 1, ., L)
    x, delta, B, C = (
        t.unsqueeze(1) if t.dim() == 3 else t for t in (x, delta, B, C))
    scale = 1. if merge == 'sum' else 1. / len(orders.names)
    if choose_backend(x, A.shape[-1], backend) == 'triton':
        y, _ = triton_scan.scan_directions(
            x, delta,
            A.unsqueeze(0) if A.dim() == 2 else A, B, C, _rows(D),
            _rows(delta_bias), orders.index, params_in_scan_order)
        merged = triton_merge.merge_directions(y, z, scale, x.dtype)
        if not record:
            return merged, None
        y = y.transpose(0, 1)
        return merged, (y if z is None else y * F.silu(z)).to(x.dtype)
    x = _Permute.apply(x, orders.index, orders.inverse)
    if not params_in_scan_order:
        delta, B, C = (
            _Permute.apply(t, orders.index, orders.inverse)
            for t in (delta, B, C))
    y, _ = scan_groups(
        x,
        delta,
        A.unsqueeze(0) if A.dim() == 2 else A,
        *(t.expand(-1, len(orders.names), -1, -1) for t in (B, C)),
        _rows(D),
        delta_bias=_rows(delta_bias),
        delta_softplus=True,
        backend=backend)
    y = _Permute.apply(y, orders.inverse, orders.index)
    merged = _sum_directions(y) * scale
    if z is None:
        return merged, y.transpose(0, 1) if record else None
    gate = F.silu(z)
    return merged * gate, y.transpose(0, 1) * gate if record else None


class _Permute(torch.autograd.Function):
    """Pick tokens direction by direction.

    Args: x (batch, M or 1, E, L), index and its inverse (M, L). Returns
    (batch, M, E, L). The gradient is a gather too, by the inverse, where
    plain indexing would add up with atomics.
    """

    @staticmethod
    def forward(ctx, x, index, inverse):
        ctx.save_for_backward(index, inverse)
        ctx.shared = x.shape[1] < len(index)
        gather = _gather if x.is_cuda else _gather_rows
        return gather(x, index)

    @staticmethod
    def backward(ctx, grad):
        index, inverse = ctx.saved_tensors
        grad = _Permute.apply(grad, inverse, index)
        if ctx.shared:
            grad = _sum_directions(grad).unsqueeze(1)
        return grad, None, None


def _sum_directions(x: Tensor) -> Tensor:
    """(batch, M, E, L) -> (batch, E, L), in the memory layout of x."""
    if x.is_cuda:
        return x.sum(1)
    return x.permute(3, 1, 0, 2).sum(1).permute(1, 2, 0)


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """Gather along the last axis, contiguous there: one kernel on a card."""
    shape = (x.shape[0], len(index), *x.shape[2:])
    index = index[None, :, None].expand(shape)
    return x.expand(shape).gather(-1, index)


def _gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Gather whole rows into the layout (L, M, batch, E).

    It is the layout that the chunked scan works in.
    """
    batch, given, channels, length = x.shape
    m = len(index)
    rows = x.permute(3, 1, 0, 2).reshape(length * given, batch * channels)
    index = index.t()  # (L, M)
    if given == m:
        index = index * m + torch.arange(m, device=index.device)
    rows = rows.index_select(0, index.flatten())
    return rows.view(length, m, batch, channels).permute(2, 1, 3, 0)


def _check(x: Tensor, A: Tensor, z: Optional[Tensor], orders: ScanOrders,
           others: dict) -> None:
    """Refuse what would broadcast to something else than meant."""
    m, length = orders.index.shape
    if x.shape[-1] != length:
        raise ValueError(f'multi_direction_scan: x has {x.shape[-1]} tokens, '
                         f'the orders {length}.')
    for name, t in dict(x=x, **others).items():
        if t.dim() not in (3, 4) or t.dim() == 4 and t.shape[1] != m:
            raise ValueError(
                f'multi_direction_scan: {name} has the shape '
                f'{tuple(t.shape)}; give (batch, ., {length}) or (batch, {m}, '
                f'., {length}).')
    shape = (x.shape[0], *x.shape[-2:])
    if z is not None and tuple(z.shape) != shape:
        raise ValueError('multi_direction_scan: z has the shape '
                         f'{tuple(z.shape)}; give {shape}.')
    if A.dim() not in (2, 3):
        raise ValueError(f'multi_direction_scan: A has the shape '
                         f'{tuple(A.shape)}; give (E, N) or ({m}, E, N).')


def _rows(x: Optional[Tensor]) -> Optional[Tensor]:
    """([M,] E) -> (M or 1, E)."""
    return x.unsqueeze(0) if x is not None and x.dim() == 1 else x
