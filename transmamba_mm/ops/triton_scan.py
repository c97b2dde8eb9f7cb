"""Selective scan by Triton kernels: several directions, no copy of a token.

Unlike mamba-ssm's extension it needs no compiler, walks the sequence with the
states in registers, reads tokens in any order by their address, and has a
backward without atomics, so that it gives the same gradients at each run.
"""
import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import ModuleType
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import first_order_only

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STATES = 64
#: Channels of a program, which is one warp.
BLOCK = 32
#: Steps of a tile in the forward; those of the backward in ``_backward_tile``.
TILE = 4
#: Steps of a tile where a channel has one state.
ONE_STATE_TILE = 16
#: Steps between the states that the forward keeps for the backward.
MARK = 32
LOG2_E = 1.4426950408889634


def why_not(device: torch.device,
            dtype: torch.dtype = torch.float32,
            d_state: int = 1) -> Optional[str]:
    """Say why the kernels cannot run a scan.

    Args:
        device (torch.device): Where the input lives.
        dtype (torch.dtype): Dtype of the input. Defaults to torch.float32.
        d_state (int): State size N. Defaults to 1.

    Returns:
        str, optional: The reason, or None if they can.
    """
    if device.type != 'cuda':
        return f'it needs CUDA tensors, got {device.type}'
    if kernels() is None:
        return 'Triton is not installed'
    if dtype not in DTYPES:
        return f'it cannot compute in {dtype}'
    if d_state > MAX_STATES:
        return f'it takes at most {MAX_STATES} states, got {d_state}'
    return None


@lru_cache(maxsize=None)
def kernels() -> Optional[ModuleType]:
    """Import Triton and the kernels.

    Returns:
        ModuleType, optional: The module, None where there is no Triton.
    """
    try:
        from . import triton_kernels
    except ImportError:
        return None
    return triton_kernels


def is_interpreted() -> bool:
    """Tell whether Triton runs its kernels on the CPU, for tests.

    Returns:
        bool: Whether TRITON_INTERPRET=1 was set before the first kernel.
    """
    # asked first, so that Triton is not imported for nothing
    if os.environ.get('TRITON_INTERPRET') != '1' or kernels() is None:
        return False
    return type(kernels().scan_forward).__name__ == 'InterpretedFunction'


def scan(u: Tensor,
         delta: Tensor,
         A: Tensor,
         B: Tensor,
         C: Tensor,
         D: Optional[Tensor] = None,
         z: Optional[Tensor] = None,
         delta_bias: Optional[Tensor] = None,
         delta_softplus: bool = False) -> Tuple[Tensor, Tensor]:
    """Scan on the card. See :func:`transmamba_mm.ops.reference.scan`.

    Args:
        u (Tensor): Input (B, G, E, L).
        delta (Tensor): Step size before softplus (B, G or 1, E, L).
        A (Tensor): Negative decay rates (G or 1, E, N).
        B (Tensor): Input weights (B, G, N, L).
        C (Tensor): Output weights (B, G, N, L).
        D (Tensor, optional): Skip weights (G or 1, E). Defaults to None.
        z (Tensor, optional): Gate before SiLU (B, G, E, L). Defaults to
            None.
        delta_bias (Tensor, optional): Added to ``delta`` (G or 1, E).
            Defaults to None.
        delta_softplus (bool): Whether softplus is applied. Defaults to
            False.

    Returns:
        Tuple[Tensor, Tensor]: Output (B, G, E, L) and last state
        (B, G, E, N), the latter without gradient.
    """
    y, last = scan_directions(
        u, delta, A, B, C, D, delta_bias, delta_softplus=delta_softplus)
    if z is not None:
        y = y * F.silu(z.float())
    return y.to(u.dtype), last


def scan_directions(x: Tensor,
                    delta: Tensor,
                    A: Tensor,
                    B: Tensor,
                    C: Tensor,
                    D: Optional[Tensor] = None,
                    delta_bias: Optional[Tensor] = None,
                    order: Optional[Tensor] = None,
                    params_in_scan_order: bool = False,
                    delta_softplus: bool = True) -> Tuple[Tensor, Tensor]:
    """Scan in several orders, each in raster order again.

    Args:
        x (Tensor): Input (batch, M or 1, E, L), raster order.
        delta (Tensor): Raw step size (batch, M or 1, E, L).
        A (Tensor): Decay rates (M or 1, E, N).
        B (Tensor): Input weights (batch, M or 1, N, L).
        C (Tensor): Output weights (batch, M or 1, N, L).
        D (Tensor, optional): Skip weights (M or 1, E). Defaults to None.
        delta_bias (Tensor, optional): Shape (M or 1, E). Defaults to None.
        order (Tensor, optional): Raster position of each step (M, L), int64;
            None means raster order. Defaults to None.
        params_in_scan_order (bool): Whether ``delta``, B and C are indexed
            by step. Defaults to False.
        delta_softplus (bool): Whether softplus is applied. Defaults to True.

    Returns:
        Tuple[Tensor, Tensor]: Outputs (batch, M, E, L), float32, laid out
        token by token, and last states (batch, M, E, N).
    """
    m = max(
        len(order) if order is not None else 1,
        *(t.shape[1] for t in (x, delta, B, C)), A.shape[0])
    x, delta, B, C = (t.expand(-1, m, -1, -1) for t in (x, delta, B, C))
    A, D, delta_bias = (None if t is None else t.float().expand(
        m, *t.shape[1:]) for t in (A, D, delta_bias))
    args = (x, delta, A, B, C, D, delta_bias, order, params_in_scan_order,
            delta_softplus, _is_training(x, delta, A, B, C, D, delta_bias))
    if torch.compiler.is_compiling():
        return torch.ops.transmamba_mm.scan_directions(*args)[:2]
    return _Scan.apply(*args)


def _is_training(*inputs: Optional[Tensor]) -> bool:
    """Tell whether a backward may come."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad
                                           for t in inputs)


def _row_stride(rows: Optional[Tensor]) -> int:
    return 0 if rows is None else rows.stride(0)


def _kernels_for(d_state: int):
    if d_state > 1:
        return kernels()
    from . import triton_one_state
    return triton_one_state


def _options(d_state: int, order, params_in_order, D, softplus,
             tile: int) -> Dict[str, object]:
    return dict(
        HAS_D=D is not None,
        HAS_ORDER=order is not None,
        PARAMS_IN_ORDER=params_in_order or order is None,
        SOFTPLUS=softplus,
        TILE=ONE_STATE_TILE if d_state == 1 else tile,
        MARK=mark_steps(d_state),
        N=d_state,
        BE=BLOCK,
        num_warps=1)


def _backward_options(d_state: int) -> Dict[str, int]:
    """Steps of a tile, and the registers of a thread, by the states.

    Few registers let more warps run at once, long tiles go less often to
    memory; chosen by what the compiler spills, not by timings.
    """
    if d_state > 8:
        return dict(tile=2, maxnreg=255)
    return dict(tile=4, maxnreg=168)


def run_forward(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                D: Optional[Tensor], bias: Optional[Tensor],
                order: Optional[Tensor], params_in_order: bool, softplus: bool,
                keep: bool) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the forward kernel; arguments as :func:`scan_directions`.

    Returns:
        Tuple[Tensor, ...]: As :func:`empty_outputs`.
    """
    batch, m, e, length = x.shape
    n = A.shape[-1]
    outputs = empty_outputs(x, delta, bias, n, keep)
    y, _, _, steps = outputs
    A, pairs, D, bias = _prepare(A, B, C, D, bias)
    with on_device(x.device):
        _kernels_for(n).scan_forward[(-(-e // BLOCK), batch * m)](
            x,
            delta,
            A,
            pairs,
            D,
            bias,
            order,
            *outputs,
            m,
            e,
            length,
            *x.stride(),
            *delta.stride(),
            *map(_row_stride, (A, D, bias)),
            *_steps_strides(steps),
            HAS_BIAS=bias is not None,
            KEEP=keep,
            **_options(n, order, params_in_order, D, softplus, TILE))
    return outputs


def mark_steps(d_state: int) -> int:
    """Tell after how many steps a state is kept.

    Args:
        d_state (int): State size N.

    Returns:
        int: Steps.
    """
    return ONE_STATE_TILE if d_state == 1 else MARK


def empty_outputs(x: Tensor, delta: Tensor, bias: Optional[Tensor],
                  d_state: int,
                  keep: bool) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate what the forward kernel fills.

    Args:
        x (Tensor): Input (batch, M, E, L).
        delta (Tensor): Raw step size (batch, M, E, L).
        bias (Tensor, optional): Added to it (M, E).
        d_state (int): State size N.
        keep (bool): Whether there will be a backward.

    Returns:
        Tuple[Tensor, Tensor, Tensor, Tensor]: Output (batch, M, E, L), token
        by token in memory; last states (batch, M, E, N); states for the
        backward (batch, M, ceil(E / BLOCK), marks, N, BLOCK), and its step
        sizes (batch, M or 1, L, E), the last two empty if not kept. float32.
    """
    batch, m, e, length = x.shape
    shared = delta.stride(1) == 0 == _row_stride(bias)
    y = x.new_empty((batch, m, length, e), dtype=torch.float32)
    last = x.new_empty((batch, m, d_state, e), dtype=torch.float32)
    marks = x.new_empty((batch * keep, m, -(-e // BLOCK),
                         -(-length // mark_steps(d_state)), d_state, BLOCK),
                        dtype=torch.float32)
    steps = x.new_empty((batch * keep, 1 if shared else m, length, e),
                        dtype=torch.float32)
    return y.transpose(2, 3), last.transpose(2, 3), marks, steps


def _steps_strides(steps: Tensor) -> Tuple[int, int]:
    return steps.stride(0), 0 if steps.shape[1] == 1 else steps.stride(1)


def run_backward(dy: Tensor, marks: Tensor, steps: Tensor, x: Tensor,
                 A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor],
                 order: Optional[Tensor], params_in_order: bool,
                 softplus: bool, dtype: torch.dtype) -> List[Tensor]:
    """Launch the backward kernel.

    ``dtype`` is that of the raw step size.

    Returns:
        List[Tensor]: Gradients of x, delta, A, B, C, D and bias, shaped as
        these; the last two are of no account where there is no such input.
    """
    batch, m, e, length = x.shape
    n, blocks = A.shape[-1], -(-e // BLOCK)
    v = 1 << (2 * n - 1).bit_length()
    kinds = B.dtype, C.dtype
    A, pairs, D, _ = _prepare(A, B, C, D, None)
    chosen = _backward_options(n)
    options = _options(n, order, params_in_order, D, softplus,
                       chosen.pop('tile'))

    def empty(*shape, dtype=torch.float32):
        return x.new_empty((batch, m, *shape), dtype=dtype)

    dx, ddelta = empty(length, e, dtype=x.dtype), empty(length, e, dtype=dtype)
    dA, dD, dbias = empty(n, e), empty(e), empty(e)
    dpairs = empty(blocks, length, v)
    states = empty(blocks, options['MARK'] // options['TILE'], n, BLOCK)
    with on_device(x.device):
        _kernels_for(n).scan_backward[(blocks, batch * m)](
            x,
            steps,
            A,
            pairs,
            D,
            order,
            dy,
            dx,
            ddelta,
            dA,
            dpairs,
            dD,
            dbias,
            marks,
            states,
            m,
            e,
            length,
            *x.stride(),
            *_steps_strides(steps),
            *map(_row_stride, (A, D)),
            *dy.stride(),
            V=v,
            **options,
            **(chosen if n > 1 else {}))
    # parts of the blocks of channels, always added in the same order
    dB, dC = dpairs.sum(2)[..., :2 * n].transpose(2, 3).split(n, dim=2)
    return [
        dx.transpose(2, 3),
        ddelta.transpose(2, 3),
        dA.sum(0).transpose(1, 2),
        dB.to(kinds[0], copy=True),
        dC.to(kinds[1], copy=True),
        dD.sum(0),
        dbias.sum(0)
    ]


def _prepare(A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor],
             bias: Optional[Tensor]) -> Tuple[Optional[Tensor], ...]:
    """Lay the small inputs out as the kernels read them."""
    D, bias = (None if t is None else _contiguous_rows(t) for t in (D, bias))
    rates = (A * LOG2_E).transpose(1, 2)  # (M, N, E)
    return _contiguous_rows(rates), _pairs(B, C), D, bias


def _pairs(B: Tensor, C: Tensor) -> Tensor:
    """Join B and C (batch, M, N, L) as int64 (batch, M, L, N)."""
    batch, m, n, length = B.shape
    both = B.new_empty((batch, m, length, n, 2), dtype=torch.float32)
    both[..., 0] = B.transpose(2, 3)
    both[..., 1] = C.transpose(2, 3)
    return both.view(torch.int64)


class _Scan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *args):
        y, last, marks, steps = run_forward(*args)
        x, delta, A, B, C, D, bias, order = args[:8]
        ctx.save_for_backward(marks, steps, x, A, B, C, D, order)
        ctx.settings = *args[8:10], delta.dtype
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @first_order_only
    def backward(ctx, dy, _):
        grads = run_backward(dy, *ctx.saved_tensors, *ctx.settings)
        return given(grads, ctx.saved_tensors[6], ctx.has_bias)


def given(grads: List[Tensor], D: Optional[Tensor], has_bias: bool) -> tuple:
    """Leave out the gradients of inputs that are not there.

    Args:
        grads (List[Tensor]): What :func:`run_backward` gave.
        D (Tensor, optional): Skip weights.
        has_bias (bool): Whether there is a bias of the step size.

    Returns:
        tuple: A gradient or None for each argument of :func:`run_forward`.
    """
    *grads, dD, dbias = grads
    return (*grads, None if D is None else dD, dbias if has_bias else None,
            None, None, None, None)


def _contiguous_rows(x: Tensor) -> Tensor:
    """Make all but the first axis, which may be expanded, contiguous."""
    return x if x[0].is_contiguous() else x.contiguous()


def on_device(device: torch.device) -> AbstractContextManager:
    """Make a device current, as Triton launches on the current one.

    Args:
        device (torch.device): Where the kernels' tensors are.

    Returns:
        AbstractContextManager: Nothing to do on a CPU.
    """
    return torch.cuda.device(device) if device.type == 'cuda' else \
        nullcontext()
