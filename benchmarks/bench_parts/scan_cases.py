"""The scans that are timed: their sizes, inputs and calls."""
from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transmamba_mm.ops import (ScanOrders, bidirectional_orders, clip_orders,
                               cross_orders, multi_direction_scan,
                               selective_scan, snake_orders)

#: The baseline beside the back ends.
LOOP = 'loop'


@dataclass(frozen=True)
class Case:
    """A scan to measure.

    Args:
        batch (int): Batch.
        groups (int): Groups of channels, or directions M.
        channels (int): Channels of a group, or E.
        states (int): State size N.
        length (int): Steps L.
        gate (bool): Whether the output is gated. Defaults to False.
        family (str, optional): Whose orders a multi-direction scan takes:
            'vim', 'videomamba' (a clip of 8 frames, temporal-first),
            'plainmamba' or 'vmamba'. None is a scan in one order. Defaults to
            None.
    """
    batch: int
    groups: int
    channels: int
    states: int
    length: int
    gate: bool = False
    family: Optional[str] = None

    def shrunk(self, batch: int, channels: int) -> 'Case':
        """The same with a smaller batch and fewer channels."""
        return replace(
            self,
            batch=min(batch, self.batch),
            channels=min(channels, self.channels))

    @property
    def is_shared(self) -> bool:
        """Whether all directions share step sizes, A and C."""
        return self.family == 'plainmamba'

    @property
    def exponentials(self) -> int:
        """Exponentials of the decays in a forward pass."""
        differing = 1 if self.is_shared else self.groups
        return (self.batch * differing * self.channels * self.length *
                self.states)


#: For a CPU.
CPU_CASES = {
    'vim-tiny': Case(8, 1, 384, 16, 197),
    'vim-tiny-b1': Case(1, 1, 384, 16, 197),
    'plainmamba-l1': Case(2, 4, 384, 16, 196),
    'vmamba-stage1': Case(1, 4, 192, 1, 3136),
    'vmamba-stage4': Case(8, 4, 1536, 16, 49),
    'long': Case(1, 1, 384, 16, 4096),
}
#: For a card.
CARD_CASES = {
    'vim-tiny-b128': Case(128, 1, 384, 16, 197, True),
    'vmamba-t-b128': Case(128, 4, 96, 1, 3136),
    'vim-directions': Case(128, 2, 384, 16, 197, True, 'vim'),
    'plainmamba-directions': Case(128, 4, 384, 16, 196, True, 'plainmamba'),
    'vmamba-directions': Case(128, 4, 96, 1, 3136, False, 'vmamba'),
    'videomamba-directions': Case(16, 2, 384, 16, 1569, True, 'videomamba'),
}
#: One small case of each kind, to try the command.
TINY_CASES = {
    'tiny': Case(2, 2, 8, 4, 9, True),
    'tiny-vim': Case(2, 2, 8, 4, 9, True, 'vim'),
    'tiny-plainmamba': Case(2, 4, 8, 4, 9, True, 'plainmamba'),
    'tiny-vmamba': Case(2, 4, 8, 1, 9, False, 'vmamba'),
    'tiny-videomamba': Case(2, 2, 8, 4, 33, True, 'videomamba'),
}
CASES = {**CPU_CASES, **CARD_CASES, **TINY_CASES}


def draw_inputs(case: Case,
                device: str,
                dtype: torch.dtype,
                seed: Optional[int] = None) -> Dict[str, Tensor]:
    """Draw inputs as a freshly initialised block would see them.

    Args:
        case (Case): The sizes.
        device (str): Where they live.
        dtype (torch.dtype): Of u, delta, B, C and z; the others are in
            float32, or float64 with it.
        seed (int, optional): Defaults to None, another one each time.

    Returns:
        Dict[str, Tensor]: Leaves that want gradients, ``z`` only with a gate.
    """
    generator = torch.Generator(device)
    generator.manual_seed(torch.seed() if seed is None else seed)
    shapes, exact = _shapes(case), torch.promote_types(dtype, torch.float32)

    def draw(name: str) -> Tensor:
        return torch.randn(
            shapes[name], generator=generator, device=device, dtype=exact)

    low, high = -6.9, -2.3  # logarithms of the smallest and largest step
    step = torch.rand(
        shapes['delta_bias'], generator=generator, device=device, dtype=exact)
    step = torch.exp(low + (high - low) * step)
    rates = torch.arange(1., case.states + 1, device=device, dtype=exact)
    inputs = dict(
        u=draw('u'),
        delta=0.5 * draw('delta'),
        A=-rates.expand(shapes['A']).contiguous(),
        B=draw('B'),
        C=draw('C'),
        D=torch.ones(shapes['D'], device=device, dtype=exact),
        delta_bias=step + torch.log(-torch.expm1(-step)))
    if case.gate:
        inputs['z'] = draw('z')
    return in_precision(inputs, dtype)


def in_precision(inputs: Dict[str, Tensor],
                 dtype: torch.dtype) -> Dict[str, Tensor]:
    """Copy inputs, rounded to another precision.

    Args:
        inputs (Dict[str, Tensor]): Of :func:`draw_inputs`.
        dtype (torch.dtype): As there.

    Returns:
        Dict[str, Tensor]: New leaves.
    """
    exact = torch.promote_types(dtype, torch.float32)
    kept = ('A', 'D', 'delta_bias')
    return {
        k:
        v.detach().to(exact if k in kept else dtype).clone().requires_grad_()
        for k, v in inputs.items()
    }


def _shapes(case: Case) -> Dict[str, Tuple[int, ...]]:
    batch, m, e = case.batch, case.groups, case.channels
    n, length = case.states, case.length
    if case.family is None:
        flat = (batch, m * e, length)
        return dict(
            u=flat,
            delta=flat,
            z=flat,
            A=(m * e, n),
            D=(m * e, ),
            delta_bias=(m * e, ),
            B=(batch, m, n, length),
            C=(batch, m, n, length))
    rows = () if case.is_shared else (m, )
    streams = (m, ) if case.family in ('vim', 'videomamba') else ()
    return dict(
        u=(batch, *streams, e, length),
        delta=(batch, *rows, e, length),
        z=(batch, e, length),
        A=(*rows, e, n),
        D=(*rows, e),
        delta_bias=(*rows, e),
        B=(batch, m, n, length),
        C=(batch, *rows, n, length))


def orders_of(case: Case, device: str) -> ScanOrders:
    """Look up the orders of a multi-direction case.

    Args:
        case (Case): With a family.
        device (str): Where the tables live.

    Returns:
        ScanOrders: M orders of L steps.
    """
    if case.family == 'vim':
        return bidirectional_orders(case.length, device)
    if case.family == 'videomamba':
        return clip_orders(8, (case.length - 1) // 8, 'temporal-first', 1,
                           device)
    side = round(case.length**0.5)
    if case.family == 'vmamba':
        return cross_orders(side, side, device)
    return snake_orders(side, side, device)[0]


def run_scan(case: Case, backend: str, inputs: Dict[str, Tensor]) -> Tensor:
    """Run a candidate forward.

    Args:
        case (Case): What to run.
        backend (str): A back end of the scan, or ``LOOP``.
        inputs (Dict[str, Tensor]): Of :func:`draw_inputs`.

    Returns:
        Tensor: The output, merged over the directions.
    """
    if backend == LOOP:
        return loop_scan(**inputs)
    u, delta, A, B, C, D, bias = (
        inputs[k] for k in ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias'))
    shared = dict(z=inputs.get('z'), delta_bias=bias, backend=backend)
    if case.family is None:
        return selective_scan(
            u, delta, A, B, C, D, delta_softplus=True, **shared)
    merged, _ = multi_direction_scan(
        u,
        delta,
        A,
        B,
        C,
        D,
        orders=orders_of(case, u.device),
        merge='mean' if case.family == 'vim' else 'sum',
        params_in_scan_order=case.is_shared,
        **shared)
    return merged


def loop_scan(u: Tensor,
              delta: Tensor,
              A: Tensor,
              B: Tensor,
              C: Tensor,
              D: Tensor,
              delta_bias: Tensor,
              z: Optional[Tensor] = None) -> Tensor:
    """Scan as textbooks do: the baseline.

    All decays are formed at once, the steps are walked over by ``unbind``
    slices, and autograd differentiates. For the arguments see
    ``selective_scan``; B and C have groups.
    """
    groups, out_dtype = B.shape[1], u.dtype
    u, delta, B, C = (t.to(A.dtype) for t in (u, delta, B, C))
    delta = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(torch.einsum('bel,en->beln', delta, A))
    rows = B.repeat_interleave(u.shape[1] // groups, dim=1)
    x = torch.einsum('bel,benl,bel->beln', delta, rows, u)
    h = u.new_zeros(*u.shape[:2], A.shape[1])
    ys = []
    for a_t, x_t, c_t in zip(decay.unbind(2), x.unbind(2), C.unbind(3)):
        h = a_t * h + x_t
        y = torch.einsum('bgen,bgn->bge', h.unflatten(1, (groups, -1)), c_t)
        ys.append(y.flatten(1))
    out = torch.stack(ys, dim=2) + u * D[:, None]
    out = out if z is None else out * F.silu(z.to(out.dtype))
    return out.to(out_dtype)
