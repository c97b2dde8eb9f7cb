"""The part that all multi-direction Mamba mixers share.

Glossary: B batch, L tokens, C width of the residual stream, E = expand * C
inner width, N state size, R rank of the step size, M scan directions.
"""
import math
from abc import abstractmethod
from typing import Optional, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from transmamba_mm.ops import ScanOrders

#: Rows and columns of the patch tokens; before them the frames of a clip.
Grid = Tuple[int, ...]
#: Scan orders; in PlainMamba with the move into each step.
Orders = Union[ScanOrders, Tuple[ScanOrders, Tensor]]


class MambaMixer(BaseModule):
    """Base of the mixers: projections in and out, and SSM initialisation.

    A sub-class owns the short convolution and the SSM parameters under their
    official names and implements :meth:`scan`.

    Args:
        embed_dims (int): Width C of the residual stream.
        d_state (int): State size N. Defaults to 16.
        expand (float): Inner width over C. Defaults to 2.
        dt_rank (int, optional): Rank R of the step size projection; None
            means ceil(C / 16). Defaults to None.
        bias (bool): Whether ``in_proj`` and ``out_proj`` have a bias.
            Defaults to False.
        with_gate (bool): Whether ``in_proj`` makes a gate too. Defaults to
            True.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
    """

    #: How the directions are joined, 'sum' or 'mean'.
    merge = 'sum'
    #: Back end of the scan, None for the best; see ``selective_scan``.
    scan_backend: Optional[str] = None

    def __init__(self,
                 embed_dims: int,
                 d_state: int = 16,
                 expand: float = 2,
                 dt_rank: Optional[int] = None,
                 bias: bool = False,
                 with_gate: bool = True,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims
        self.d_state = d_state
        self.d_inner = int(expand * embed_dims)
        self.with_gate = with_gate
        self.dt_rank = dt_rank or math.ceil(embed_dims / 16)
        self.in_proj = nn.Linear(
            embed_dims, (1 + with_gate) * self.d_inner, bias=bias)
        self.out_proj = nn.Linear(self.d_inner, embed_dims, bias=bias)

    @abstractmethod
    def find_orders(self, length: int, grid: Grid,
                    device: torch.device) -> Orders:
        """Look up the orders in which :meth:`scan` visits the tokens.

        Args:
            length (int): Tokens L, extra ones included.
            grid (Tuple[int, int]): Rows and columns of the patch tokens.
            device (torch.device): Where the tables shall live.

        Returns:
            Orders: The same object at each call.
        """

    @abstractmethod
    def scan(self, inner: Tensor, gate: Optional[Tensor], grid: Grid,
             orders: Orders, record: bool) -> Tuple[Tensor, Optional[Tensor]]:
        """Convolve, scan in every direction, gate and merge.

        Args:
            inner (Tensor): Inner stream (B, E, L).
            gate (Tensor, optional): Gate before SiLU (B, E, L), None in a
                mixer without gate.
            grid (Tuple[int, int]): Rows and columns of the patch tokens.
            orders (Orders): What :meth:`find_orders` gave.
            record (bool): Whether the directions are returned one by one.

        Returns:
            Tuple[Tensor, Optional[Tensor]]: Merged output (B, E, L) and, if
            recorded, the gated directions (M, B, E, L) before the merge.
        """

    def forward(
            self,
            x: Tensor,
            grid: Grid,
            record: bool = False,
            orders: Optional[Orders] = None
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """Mix tokens.

        Args:
            x (Tensor): Normalised tokens (B, L, C).
            grid (Tuple[int, int]): Rows and columns of the patch tokens.
            record (bool): Whether the directions are returned one by one.
                Defaults to False.
            orders (Orders, optional): What :meth:`find_orders` gave; None
                looks them up. Defaults to None.

        Returns:
            Tuple[Tensor, Optional[Tensor]]: Output (B, L, C) and, if
            recorded, one output a direction (M, B, L, C), scaled so that
            their mean is the output.
        """
        if orders is None:
            orders = self.find_orders(x.shape[1], grid, x.device)
        inner, gate = self.in_proj(x).transpose(1, 2), None
        if self.with_gate:
            inner, gate = inner.chunk(2, dim=1)
        merged, directions = self.scan(inner, gate, grid, orders, record)
        out = self.out_proj(merged.transpose(1, 2))  # (B, L, C)
        if directions is None:
            return out, None
        if self.merge == 'sum':
            directions = directions * directions.shape[0]
        return out, self.out_proj(directions.transpose(2, 3))

    def init_weights(self) -> None:
        """Initialise, and restore what generic rules would spoil.

        A rule such as ``TruncNormal`` on every ``Linear`` sets the step size
        bias to zero, so the SSM parameters are set again afterwards.
        """
        super().init_weights()
        if not is_pretrained(self.init_cfg):
            self.reset_ssm_parameters()

    @abstractmethod
    def reset_ssm_parameters(self) -> None:
        """Set ``A_log``, ``D`` and the step size projections."""


def aligned(weight: Tensor, dim: int) -> Tensor:
    """Pad an axis with zeros to a multiple of 8.

    Half-precision products on a card are several times slower where a row of
    a matrix does not start at a multiple of 16 bytes, as with R = 12.

    Args:
        weight (Tensor): Any shape.
        dim (int): The axis, negative.

    Returns:
        Tensor: The padded weight; the same one on a CPU.
    """
    missing = -weight.shape[dim] % 8
    if not missing or not weight.is_cuda:
        return weight
    return F.pad(weight, (0, 0) * (-1 - dim) + (0, missing))


def is_pretrained(init_cfg: Union[dict, list, None]) -> bool:
    """Tell whether an ``init_cfg`` loads weights.

    Args:
        init_cfg (dict | list, optional): As given to a ``BaseModule``.

    Returns:
        bool: True if it, or one of several, is of type 'Pretrained'.
    """
    cfgs = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any(c and c.get('type') == 'Pretrained' for c in cfgs)


def init_state_matrix(a_log: Tensor, d_skip: Optional[Tensor] = None) -> None:
    """Set A = -(1, ..., N) for every channel and D = 1, in place.

    Args:
        a_log (Tensor): log(-A), shape (E, N).
        d_skip (Tensor, optional): Skip weights D, shape (E,); None if there
            are none. Defaults to None.
    """
    n = torch.arange(1, a_log.shape[1] + 1, device=a_log.device)
    with torch.no_grad():
        a_log.copy_(n.float().log().expand_as(a_log))
        if d_skip is not None:
            d_skip.fill_(1.)


def init_step_size(dt_proj: nn.Linear,
                   dt_min: float = 1e-3,
                   dt_max: float = 0.1,
                   dt_floor: float = 1e-4) -> None:
    """Set a step size projection so that softplus(bias) is log-uniform.

    Args:
        dt_proj (nn.Linear): From rank R to E channels.
        dt_min (float): Smallest step size. Defaults to 1e-3.
        dt_max (float): Largest step size. Defaults to 0.1.
        dt_floor (float): Lower bound after sampling. Defaults to 1e-4.
    """
    fill_step_size(dt_proj.weight, dt_proj.bias, dt_min, dt_max, dt_floor)


def fill_step_size(weight: Tensor,
                   bias: Tensor,
                   dt_min: float = 1e-3,
                   dt_max: float = 0.1,
                   dt_floor: float = 1e-4) -> None:
    """Fill weight and bias of step size projections, in place.

    Args:
        weight (Tensor): Shape (..., E, R).
        bias (Tensor): Shape (..., E).
        dt_min (float): Smallest step size. Defaults to 1e-3.
        dt_max (float): Largest step size. Defaults to 0.1.
        dt_floor (float): Lower bound after sampling. Defaults to 1e-4.
    """
    std = weight.shape[-1]**-0.5
    nn.init.uniform_(weight, -std, std)
    low, high = math.log(dt_min), math.log(dt_max)
    with torch.no_grad():
        dt = torch.empty_like(bias).uniform_(low, high).exp()
        dt.clamp_(min=dt_floor)
        # inverse of softplus
        bias.copy_(dt + torch.log(-torch.expm1(-dt)))
