"""The short convolution of several directions, each along its own scan."""
from typing import Optional

import torch
from torch import Tensor

from .causal_conv1d import causal_conv1d
from .flops import note_operation
from .scan_order import ScanOrders
from .selective_scan import choose_backend


def direction_conv1d(x: Tensor,
                     weight: Tensor,
                     bias: Optional[Tensor] = None,
                     *,
                     orders: ScanOrders,
                     activation: Optional[str] = 'silu',
                     backend: Optional[str] = None) -> Tensor:
    """Convolve each channel causally along each direction's scan.

    Args:
        x (Tensor): Input (batch, E, L), raster order.
        weight (Tensor): Kernels (M, E, K).
        bias (Tensor, optional): Shape (M, E). Defaults to None.
        orders (ScanOrders): The M visiting orders of the L tokens.
        activation (str, optional): 'silu' or None. Defaults to 'silu'.
        backend (str, optional): Back end of the scan, which the convolution
            goes with; see :func:`selective_scan`. Defaults to None.

    Returns:
        Tensor: Outputs (batch, M, E, L) in x's dtype, raster order.

    Raises:
        ValueError: If the activation is unknown or shapes do not agree.
    """
    if weight.dim() != 3 or weight.shape[:2] != (len(
            orders.names), x.shape[1]):
        raise ValueError(
            f'direction_conv1d: give weight ({len(orders.names)}, '
            f'{x.shape[1]}, K), got {tuple(weight.shape)}.')
    orders = orders.to(x.device)
    if choose_backend(x, 1, backend) == 'triton':
        from .triton_conv import convolve_directions
        if activation not in ('silu', None):
            raise ValueError(f"activation='{activation}' is unknown; use "
                             "'silu' or None.")
        for _ in orders.names:
            note_operation(
                'convolution',
                batch=x.shape[0],
                channels=x.shape[1],
                length=x.shape[2],
                width=weight.shape[2])
        return convolve_directions(x, weight, bias, orders.index,
                                   orders.inverse, activation)
    outs = []
    for m in range(len(orders.names)):
        shift = None if bias is None else bias[m]
        if orders.is_bidirectional:
            outs.append(
                causal_conv1d(x, weight[m], shift, activation, reverse=m == 1))
        else:
            y = causal_conv1d(x[..., orders.index[m]], weight[m], shift,
                              activation)
            outs.append(y[..., orders.inverse[m]])
    return torch.stack(outs, dim=1)
