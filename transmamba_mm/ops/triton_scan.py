"""Selective scan by Triton kernels: several directions, no copy of a token.

Unlike mamba-ssm's extension it needs no compiler, walks the sequence with the
states in registers, reads tokens in any order by their address, and has a
backward without atomics, so that it gives the same gradients at each run.
"""
import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import first_order_only

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_STATES = 64
#: Channels of a program, and steps that are loaded at once; the latter are
#: spread over the lanes that share a channel's states.
BLOCK, WARPS, TILE, BACKWARD_TILE = 32, 1, 4, 4
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
    if _kernels() is None:
        return 'Triton is not installed'
    if dtype not in DTYPES:
        return f'it cannot compute in {dtype}'
    if d_state > MAX_STATES:
        return f'it takes at most {MAX_STATES} states, got {d_state}'
    return None


@lru_cache(maxsize=None)
def _kernels():
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
    if os.environ.get('TRITON_INTERPRET') != '1' or _kernels() is None:
        return False
    return type(_kernels().scan_forward).__name__ == 'InterpretedFunction'


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
            delta_softplus)
    if torch.compiler.is_compiling():
        return torch.ops.transmamba_mm.scan_directions(*args)[:2]
    return _Scan.apply(*args)


def merge_directions(y: Tensor, z: Optional[Tensor], scale: float,
                     dtype: torch.dtype) -> Tensor:
    """Sum directions and gate the sum.

    Args:
        y (Tensor): Outputs (batch, M, E, L) of :func:`scan_directions`.
        z (Tensor, optional): Gate before SiLU (batch, E, L).
        scale (float): Factor of the sum.
        dtype (torch.dtype): Of the result.

    Returns:
        Tensor: Shape (batch, E, L), laid out token by token.
    """
    if torch.compiler.is_compiling():  # the compiler joins these itself
        merged = y.sum(1) * scale
        merged = merged if z is None else merged * F.silu(z.float())
        return merged.to(dtype)
    return _Merge.apply(y, z, scale, dtype)


def _strides(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
             D: Optional[Tensor], bias: Optional[Tensor]) -> Tuple[int, ...]:
    """Strides in the kernels' order of arguments."""
    return (*x.stride(), *delta.stride(), A.stride(0), *B.stride(),
            *C.stride(), 0 if D is None else D.stride(0),
            0 if bias is None else bias.stride(0))


def _kernels_for(d_state: int):
    if d_state > 1:
        return _kernels()
    from . import triton_one_state
    return triton_one_state


def _options(d_state: int, order, params_in_order, D, bias, softplus,
             tile: int) -> Dict[str, object]:
    return dict(
        HAS_D=D is not None,
        HAS_BIAS=bias is not None,
        HAS_ORDER=order is not None,
        PARAMS_IN_ORDER=params_in_order or order is None,
        SOFTPLUS=softplus,
        TILE=tile,
        MARK=mark_steps(d_state),
        BN=padded(d_state),
        BE=BLOCK,
        num_warps=WARPS)


def run_forward(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                D: Optional[Tensor], bias: Optional[Tensor],
                order: Optional[Tensor], params_in_order: bool,
                softplus: bool) -> Tuple[Tensor, Tensor, Tensor]:
    """Launch the forward kernel; arguments as :func:`scan_directions`.

    Returns:
        Tuple[Tensor, Tensor, Tensor]: Outputs (batch, M, E, L), last states,
        and the states that the backward starts from.
    """
    batch, m, e, length = x.shape
    n = A.shape[-1]
    A, B, C, D, bias = _prepare(A, B, C, D, bias)
    y, last, marks = empty_outputs(x, n)
    with on_device(x.device):
        _kernels_for(n).scan_forward[(-(-e // BLOCK), batch * m)](
            x, delta, A, B, C, D, bias, order, y, last, marks, m, e, length, n,
            *_strides(x, delta, A, B, C, D, bias), *y.stride(),
            **_options(n, order, params_in_order, D, bias, softplus,
                       ONE_STATE_TILE if n == 1 else TILE))
    return y, last, marks


def mark_steps(d_state: int) -> int:
    """Tell after how many steps a state is kept.

    Args:
        d_state (int): State size N.

    Returns:
        int: Steps.
    """
    return ONE_STATE_TILE if d_state == 1 else MARK


def empty_outputs(x: Tensor, d_state: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Allocate what the forward kernel fills.

    Args:
        x (Tensor): Input (batch, M, E, L).
        d_state (int): State size N.

    Returns:
        Tuple[Tensor, Tensor, Tensor]: (batch, M, E, L), token by token in
        memory, (batch, M, E, N) and (batch, M, ceil(E / BLOCK), marks, N',
        BLOCK), float32.
    """
    batch, m, e, length = x.shape
    y = x.new_empty((batch, m, length, e), dtype=torch.float32)
    last = x.new_empty((batch, m, e, d_state), dtype=torch.float32)
    marks = x.new_empty(
        (batch, m, -(-e // BLOCK), -(-length // mark_steps(d_state)),
         padded(d_state), BLOCK),
        dtype=torch.float32)
    return y.transpose(2, 3), last, marks


def padded(d_state: int) -> int:
    """Round the number of states up to a power of two.

    Args:
        d_state (int): State size N.

    Returns:
        int: N'.
    """
    return 1 << (d_state - 1).bit_length()


def run_backward(dy: Tensor, marks: Tensor, x: Tensor, delta: Tensor,
                 A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor],
                 bias: Optional[Tensor], order: Optional[Tensor],
                 params_in_order: bool, softplus: bool) -> List[Tensor]:
    """Launch the backward kernel.

    Returns:
        List[Tensor]: Gradients of x, delta, A, B, C, D and bias, shaped as
        these; the last two are undefined where there is no such input.
    """
    batch, m, e, length = x.shape
    n, blocks = A.shape[-1], -(-e // BLOCK)
    kinds = B.dtype, C.dtype
    A, B, C, D, bias = _prepare(A, B, C, D, bias)
    tile = ONE_STATE_TILE if n == 1 else BACKWARD_TILE
    options = _options(n, order, params_in_order, D, bias, softplus, tile)

    def empty(*shape, dtype=torch.float32):
        return x.new_empty((batch, m, *shape), dtype=dtype)

    dx = empty(length, e, dtype=x.dtype)
    ddelta = empty(length, e, dtype=delta.dtype)
    dA, dD, dbias = empty(e, n), empty(e), empty(e)
    dB, dC = empty(blocks, length, n), empty(blocks, length, n)
    states = empty(blocks, options['MARK'] // tile, options['BN'], BLOCK)
    with on_device(x.device):
        _kernels_for(n).scan_backward[(blocks, batch * m)](
            x, delta, A, B, C, D, bias, order, dy, dx, ddelta, dA, dB, dC, dD,
            dbias, marks, states, m, e, length, n,
            *_strides(x, delta, A, B, C, D, bias), *dy.stride(), **options)
    return [
        dx.transpose(2, 3),
        ddelta.transpose(2, 3),
        dA.sum(0),
        # parts of the blocks of channels, always added in the same order
        dB.sum(2).transpose(2, 3).to(kinds[0]),
        dC.sum(2).transpose(2, 3).to(kinds[1]),
        dD.sum(0),
        dbias.sum(0)
    ]


def _prepare(A: Tensor, B: Tensor, C: Tensor, D: Optional[Tensor],
             bias: Optional[Tensor]) -> Tuple[Optional[Tensor], ...]:
    """Lay the small inputs out as the kernels read them."""
    # read by each block of channels: kept small and aligned
    B, C = (_by_token(t) for t in (B, C))
    D, bias = (None if t is None else _contiguous_rows(t) for t in (D, bias))
    return _contiguous_rows(A * LOG2_E), B, C, D, bias


class _Scan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, *args):
        y, last, marks = run_forward(*args)
        ctx.save_for_backward(marks, *args[:8])
        ctx.settings = args[8:]
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @first_order_only
    def backward(ctx, dy, _):
        marks, *inputs = ctx.saved_tensors
        grads = run_backward(dy, marks, *inputs, *ctx.settings)
        return (*(None if t is None else g
                  for t, g in zip(inputs, grads)), None, None, None)


def _by_token(x: Tensor) -> Tensor:
    """(batch, M, N, L), float32, in memory (batch, M, L, N)."""
    return x.transpose(2, 3).float().contiguous().transpose(2, 3)


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


class _Merge(torch.autograd.Function):

    @staticmethod
    def forward(ctx, y, z, scale, dtype):
        batch, m, e, length = y.shape
        out = y.new_empty((batch, length, e), dtype=dtype)
        merged = None if z is None else torch.empty_like(out)
        with on_device(y.device):
            _kernels().merge_forward[(-(-out.numel() // 1024), )](
                y,
                z,
                merged,
                out,
                out.numel(),
                length * e,
                *_gate_strides(z),
                length,
                e,
                scale,
                M=m,
                HAS_Z=z is not None,
                BLOCK=1024)
        ctx.save_for_backward(merged, z)
        ctx.shape, ctx.scale = y.shape, scale
        return out.transpose(1, 2)

    @staticmethod
    @first_order_only
    def backward(ctx, dout):
        merged, z = ctx.saved_tensors
        batch, m, e, length = ctx.shape
        dy = dout.new_empty((batch, length, e))
        dz = None if z is None else torch.empty_like(dy, dtype=z.dtype)
        with on_device(dout.device):
            _kernels().merge_backward[(-(-dy.numel() // 1024), )](
                dout,
                merged,
                z,
                dy,
                dz,
                dy.numel(),
                length * e,
                *dout.stride(),
                *_gate_strides(z),
                length,
                e,
                ctx.scale,
                HAS_Z=z is not None,
                BLOCK=1024)
        dy = dy.transpose(1, 2).unsqueeze(1).expand(-1, m, -1, -1)
        dz = None if z is None else dz.transpose(1, 2)
        return dy, dz, None, None


def _gate_strides(z: Optional[Tensor]) -> Tuple[int, int, int]:
    return (0, 0, 0) if z is None else z.stride()
