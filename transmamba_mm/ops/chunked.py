"""Chunked selective scan in pure PyTorch, with a hand-written backward.

Time runs in a loop, but exponentials, outer products and read-outs are
computed for a chunk of T steps at once, in buffers that all chunks share and
that fit a core's cache. Nothing of size L x E x N is kept: the backward
starts from the states at the chunk starts and computes the others again. Only
products of decays are formed, never a ratio or a difference of cumulative
logarithms, so that underflow is harmless.

Glossary: L time, B batch, G groups, N state size, E channels of a group. What
all groups share has 1 in place of G; one exponential then serves them all.
Inside, tensors are time-major: (L, G, B, E), (L, G, B, N) and, in a chunk,
(T, G, B, N, E).

    h_t = a_t h_{t-1} + d_t u_t B_t,          y_t = <C_t, h_t> + D u_t
    g_t = C_t dy_t + a_{t+1} g_{t+1},         w_t = g_t a_t h_{t-1}
    dC_t = sum_e dy_t h_t,                    dB_t = sum_e g_t d_t u_t
    du_t = d_t <B_t, g_t> + D dy_t,           dA = sum_t w_t d_t
    dd_t = u_t <B_t, g_t> + sum_n w_t A
"""
from typing import Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import first_order_only, without_autocast

#: State elements that a thread works on at once, about what its cache holds.
CACHE_ELEMENTS = 2**20
#: The same for an accelerator, whose kernels want more to do.
DEVICE_ELEMENTS = 2**24
MIN_STEPS, MAX_STEPS = 16, 64


def scan(u: Tensor,
         delta: Tensor,
         A: Tensor,
         B: Tensor,
         C: Tensor,
         D: Optional[Tensor] = None,
         z: Optional[Tensor] = None,
         delta_bias: Optional[Tensor] = None,
         delta_softplus: bool = False) -> Tuple[Tensor, Tensor]:
    """Scan in chunks. See :func:`transmamba_mm.ops.reference.scan`.

    Args:
        u (Tensor): Input (B, G, E, L).
        delta (Tensor): Step size before softplus (B, G or 1, E, L).
        A (Tensor): Negative decay rates (G or 1, E, N); 1 goes with 1 in
            ``delta``.
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
    return _ChunkedScan.apply(u, delta, A, B, C, D, z, delta_bias,
                              delta_softplus)


def chunk_sizes(batch: int, channels: int, d_state: int,
                device: torch.device) -> Tuple[int, int]:
    """Choose how much of the batch and of time is worked on at once.

    Args:
        batch (int): Batch size.
        channels (int): Channels of all groups.
        d_state (int): State size N.
        device (torch.device): Where the scan runs.

    Returns:
        Tuple[int, int]: Pictures in a block and steps T in a chunk.
    """
    elements = DEVICE_ELEMENTS
    if device.type == 'cpu':
        elements = CACHE_ELEMENTS * _num_threads()
    picture = max(1, channels * d_state)
    block = min(batch, max(1, elements // (MIN_STEPS * picture)))
    steps = elements // (block * picture)
    return block, min(MAX_STEPS, max(MIN_STEPS, steps))


@torch.compiler.assume_constant_result
def _num_threads() -> int:
    return torch.get_num_threads()


class _ChunkedScan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        batch, groups, channels, length = u.shape
        dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
        y = u.new_empty(length, groups, batch, channels)
        last = u.new_empty(groups, batch, A.shape[-1], channels, dtype=dtype)
        starts = []
        # kept, since the number of threads may change before the backward
        ctx.blocks = list(_blocks(u, A))
        with without_autocast(u.device):
            for rows, steps in ctx.blocks:
                block = _Block(dtype, steps, u[rows], delta[rows], A, B[rows],
                               C[rows], D, delta_bias, delta_softplus)
                gate = None if z is None else _time_major(z[rows], dtype)
                starts.append(block.forward(gate, y[:, :, rows]))
                last[:, rows] = block.states[block.last]
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, *starts)
        ctx.delta_softplus = delta_softplus
        last = last.permute(1, 0, 3, 2)  # (B, G, E, N)
        ctx.mark_non_differentiable(last)
        return _batch_major(y), last

    @staticmethod
    @first_order_only
    def backward(ctx, dout, _):
        u, delta, A, B, C, D, z, bias, *starts = ctx.saved_tensors
        dtype = starts[0].dtype
        need = dict(
            zip(('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'bias'),
                ctx.needs_input_grad))
        inputs = dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=bias)
        grads = _empty_grads(inputs, need, dtype)
        with without_autocast(u.device):
            for (rows, steps), start in zip(ctx.blocks, starts):
                block = _Block(dtype, steps, u[rows], delta[rows], A, B[rows],
                               C[rows], D, bias, ctx.delta_softplus)
                gate = None if z is None else _time_major(z[rows], dtype)
                block.backward(
                    _time_major(dout[rows], dtype), gate, start, {
                        k: g[:, :, rows] if k in _PER_STEP else g
                        for k, g in grads.items()
                    })
        return tuple(_give_back(k, grads.get(k), inputs[k])
                     for k in need) + (None, )


_PER_STEP = ('u', 'delta', 'B', 'C', 'z')


def _empty_grads(inputs, need, dtype):
    """Room for the gradients that are needed, time-major."""
    grads = {}
    for name in (name for name, needed in need.items() if needed):
        x = inputs[name]
        if name in _PER_STEP:
            shape = x.permute(3, 1, 0, 2).shape
            grads[name] = x.new_empty(shape, dtype=x.dtype)
        else:
            x = x.transpose(1, 2) if name == 'A' else x
            grads[name] = x.new_zeros(x.shape, dtype=dtype)
    return grads


def _give_back(name, grad, like):
    """Return a gradient in the layout and dtype of its input."""
    if grad is None:
        return None
    if name in _PER_STEP:
        return _batch_major(grad)
    return (grad.transpose(1, 2) if name == 'A' else grad).to(like.dtype)


def _blocks(u: Tensor, A: Tensor) -> Iterator[Tuple[slice, int]]:
    """Yield the rows of each block of pictures, and its chunk length."""
    batch, groups, channels, length = u.shape
    size, steps = chunk_sizes(batch, groups * channels, A.shape[-1], u.device)
    for i in range(0, batch, size):
        yield slice(i, min(i + size, batch)), max(1, min(steps, length))


def _time_major(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, G, ., L) -> (L, G, B, .), channels contiguous."""
    x = x.to(dtype)
    if x.is_contiguous():  # a plain transpose is the fast kind
        x = x.flatten(0, 2).t().contiguous().view(-1, *x.shape[:3])
        return x.transpose(1, 2)
    x = x.permute(3, 1, 0, 2)
    return x if x.stride(-1) == 1 else x.contiguous()


def _batch_major(x: Tensor) -> Tensor:
    """(L, G, B, .) -> (B, G, ., L)."""
    return x.permute(2, 1, 3, 0)


def _sum_states(weight: Tensor, x: Tensor) -> Tensor:
    """sum_n: (T, G, B, N) and (T, G, B, N, E) -> (T, G, B, E)."""
    if x.shape[3] == 1 or x.is_cuda:  # without TF32 on CUDA
        return (x * weight.unsqueeze(4)).sum(3)
    y = torch.bmm(weight.flatten(0, 2).unsqueeze(1), x.flatten(0, 2))
    return y.view(*x.shape[:3], x.shape[4])


def _sum_channels(weight: Tensor, x: Tensor) -> Tensor:
    """sum_e: (T, G, B, E) and (T, G, B, N, E) -> (T, G, B, N)."""
    if x.shape[3] == 1 or x.is_cuda:
        return (x * weight.unsqueeze(3)).sum(4)
    # as a row times a matrix: four times as fast as matrix times column
    y = torch.bmm(
        weight.flatten(0, 2).unsqueeze(1),
        x.flatten(0, 2).transpose(1, 2))
    return y.view(*x.shape[:4])


class _Block:
    """Some pictures of the batch in time-major layout, and their buffers."""

    def __init__(self, dtype, steps, u, delta, A, B, C, D, bias, softplus):
        self.steps, self.softplus = steps, softplus
        self.u = _time_major(u, dtype)  # (L, G, B, E)
        self.d = _time_major(delta, dtype)
        if bias is not None:
            self.d = self.d + bias.to(dtype).unsqueeze(1)
        if softplus:
            self.d = F.softplus(self.d)
        self.B, self.C = _time_major(B, dtype), _time_major(C, dtype)
        # (G, 1, N, E) and (G, 1, E)
        self.A = A.to(dtype).transpose(1, 2).contiguous().unsqueeze(1)
        self.D = None if D is None else D.to(dtype).unsqueeze(1)
        self.du = self.d * self.u
        groups, batch, channels = self.u.shape[1:]
        state = (batch, A.shape[2], channels)
        # slot 0 holds the state before the chunk
        self.states = self.u.new_empty(steps + 1, groups, *state)
        self.decay = self.u.new_empty(steps, self.d.shape[1], *state)
        # views of single steps, made once: they cost as much as small steps
        self.state_steps = self.states.unbind(0)
        self.decay_steps = self.decay.unbind(0)
        length = len(self.u)
        self.last = (length - 1) % steps + 1
        self.parts = [
            slice(i, min(i + steps, length)) for i in range(0, length, steps)
        ]

    def compute_states(self, part: slice) -> Tensor:
        """Fill decay a_t and states h_t of one chunk from slot 0 on."""
        steps = part.stop - part.start
        decay, states = self.decay[:steps], self.states[1:steps + 1]
        torch.mul(self.d[part].unsqueeze(3), self.A, out=decay).exp_()
        torch.mul(
            self.du[part].unsqueeze(3), self.B[part].unsqueeze(4), out=states)
        h = self.state_steps[0]
        for a_t, h_t in zip(self.decay_steps[:steps], self.state_steps[1:]):
            h = h_t.addcmul_(a_t, h)
        return states

    def read_out(self, part: slice, states: Tensor) -> Tensor:
        """y_t = <C_t, h_t> + D u_t, shape (T, G, B, E)."""
        y = _sum_states(self.C[part], states)
        return y if self.D is None else y.addcmul_(self.D, self.u[part])

    def forward(self, gate: Optional[Tensor], out: Tensor) -> Tensor:
        """Write the output and return the states at the chunk starts."""
        starts = self.u.new_empty(len(self.parts), *self.states.shape[1:])
        for i, part in enumerate(self.parts):
            self.states[0] = self.states[self.steps] if i else 0
            starts[i] = self.states[0]
            y = self.read_out(part, self.compute_states(part))
            out[part] = y if gate is None else y.mul_(F.silu(gate[part]))
        return starts

    def backward(self, dout: Tensor, gate: Optional[Tensor], starts: Tensor,
                 grads: dict) -> None:
        """Write or add the gradients named in ``grads``."""
        adjoints = torch.empty_like(self.states[1:])
        steps = adjoints.unbind(0)
        carry = None  # a_{t+1} g_{t+1} of the chunk after
        for i, part in reversed(list(enumerate(self.parts))):
            self.states[0] = starts[i]
            states = self.compute_states(part)
            dy = dout[part]
            if gate is not None:
                dy = self._gate_backward(part, states, dy, gate[part], grads)
            g = adjoints[:len(dy)]
            carry = self._adjoints(part, dy, g, steps[:len(g)], carry)
            self._step_grads(part, dy, states, g, grads)

    def _gate_backward(self, part, states, dout, z, grads):
        sigmoid = z.sigmoid()
        if 'z' in grads:
            slope = sigmoid * (1 + z * (1 - sigmoid))
            grads['z'][part] = self.read_out(part, states) * slope * dout
        return dout * z * sigmoid

    def _adjoints(self, part, dy, g, steps, carry):
        """Fill g_t of one chunk; return a_t g_t of its first step."""
        torch.mul(dy.unsqueeze(3), self.C[part].unsqueeze(4), out=g)
        if carry is not None:
            g[-1].add_(carry)
        after = steps[-1]
        for a_t, g_t in zip(self.decay_steps[len(g) - 1:0:-1], steps[-2::-1]):
            after = g_t.addcmul_(a_t, after)
        return self.decay_steps[0] * after

    def _step_grads(self, part, dy, states, g, grads):
        d, u = self.d[part], self.u[part]
        if 'C' in grads:
            grads['C'][part] = _sum_channels(dy, states)
        if 'B' in grads:
            grads['B'][part] = _sum_channels(self.du[part], g)
        s = _sum_states(self.B[part], g)
        if 'u' in grads:
            du = d * s
            if self.D is not None:
                du.addcmul_(self.D, dy)
            grads['u'][part] = du
        if 'D' in grads:
            grads['D'] += (dy * u).sum((0, 2)).sum_to_size(grads['D'].shape)
        if grads.keys() & {'delta', 'A', 'bias'}:
            w = g.mul_(self.decay[:len(g)]).mul_(self.states[:len(g)])
            s = s.mul_(u)
            if self.d.shape[1] < w.shape[1]:
                w, s = w.sum(1, keepdim=True), s.sum(1, keepdim=True)
            self._decay_grads(part, d, s, w, grads)

    def _decay_grads(self, part, d, dd, w, grads):
        if grads.keys() & {'delta', 'bias'}:
            scaled = torch.mul(w, self.A, out=self.decay[:len(w)])
            dd = dd.add_(scaled.sum(3))
            if self.softplus:
                dd.mul_(torch.expm1(-d).neg_())  # sigmoid of the raw value
        if 'delta' in grads:
            grads['delta'][part] = dd
        if 'bias' in grads:
            grads['bias'] += dd.sum((0, 2)).sum_to_size(grads['bias'].shape)
        if 'A' in grads:
            grads['A'] += w.mul_(d.unsqueeze(3)).sum(0).sum(1)
