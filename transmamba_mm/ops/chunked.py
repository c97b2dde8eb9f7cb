"""Chunked selective scan in pure PyTorch, with a hand-written backward.

Time runs in a loop, but only over a chunk of T steps at once; exponentials,
outer products and read-outs are computed for a whole chunk. Nothing of size
L x E x N is kept: the backward starts from the states at the chunk starts and
computes the others again. Only products of decays are formed, never a ratio
or a difference of cumulative logarithms, so that underflow is harmless.

Glossary: L time, B batch, G groups, N state size, E channels of a group.
Inside, tensors are time-major: (L, B, G, E) and (L, B, G, N).

    h_t = a_t h_{t-1} + d_t u_t B_t,          y_t = <C_t, h_t> + D u_t
    g_t = C_t dy_t + a_{t+1} g_{t+1},         w_t = g_t a_t h_{t-1}
    dC_t = sum_e dy_t h_t,                    dB_t = sum_e g_t d_t u_t
    du_t = d_t <B_t, g_t> + D dy_t,           dA = sum_t w_t d_t
    dd_t = u_t <B_t, g_t> + sum_n w_t A
"""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: State elements of one chunk, about what a core's cache holds.
CHUNK_ELEMENTS = 2**19


def chunk_length(batch: int, channels: int, d_state: int) -> int:
    """Choose the number of steps T of a chunk.

    Args:
        batch (int): Batch size.
        channels (int): Channels in all groups.
        d_state (int): State size N.

    Returns:
        int: Between 16 and 64.
    """
    return min(64, max(16, CHUNK_ELEMENTS // (batch * channels * d_state)))


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
         D: Optional[Tensor], z: Optional[Tensor],
         delta_bias: Optional[Tensor],
         delta_softplus: bool) -> Tuple[Tensor, Tensor]:
    """Scan in chunks. See :func:`transmamba_mm.ops.reference.scan`.

    Args:
        u (Tensor): Input (B, E, L).
        delta (Tensor): Step size before softplus (B, E, L).
        A (Tensor): Negative decay rates (E, N).
        B (Tensor): Input weights (B, G, N, L).
        C (Tensor): Output weights (B, G, N, L).
        D (Tensor, optional): Skip weights (E,).
        z (Tensor, optional): Gate before SiLU (B, E, L).
        delta_bias (Tensor, optional): Added to ``delta`` (E,).
        delta_softplus (bool): Whether softplus is applied.

    Returns:
        Tuple[Tensor, Tensor]: Output (B, E, L) and last state (B, E, N),
        without gradient.
    """
    return _ChunkedScan.apply(u, delta, A, B, C, D, z, delta_bias,
                              delta_softplus)


class _ChunkedScan(torch.autograd.Function):

    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        with torch.autocast(u.device.type, enabled=False):
            seq = _Sequence(u, delta, A, B, C, D, delta_bias, delta_softplus)
            y, starts, last = _forward(seq)
            out = y if z is None else y * F.silu(seq.time_major(z))
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, starts)
        ctx.delta_softplus = delta_softplus
        last = last.transpose(2, 3).flatten(1, 2)  # (B, E, N)
        ctx.mark_non_differentiable(last)
        return seq.batch_major(out, u), last

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, _):
        *inputs, z, delta_bias, starts = ctx.saved_tensors
        u, delta, A, B, C, D = inputs
        with torch.autocast(u.device.type, enabled=False):
            seq = _Sequence(*inputs, delta_bias, ctx.delta_softplus)
            grads = _backward(seq, seq.time_major(dout), z, starts)
        du, dd, dA, dB, dC, dz = grads
        if ctx.delta_softplus:
            dd *= -torch.expm1(-seq.d)  # sigmoid of the raw step size
        dD = dbias = None
        if D is not None:
            dD = seq.skip_grad.reshape(D.shape).to(D.dtype)
        if delta_bias is not None:
            dbias = dd.sum((0, 1)).reshape(-1).to(delta_bias.dtype)
        dA = dA.transpose(1, 2).reshape(A.shape).to(A.dtype)
        return (seq.batch_major(du, u), seq.batch_major(dd, delta), dA,
                seq.group_major(dB, B), seq.group_major(dC, C), dD,
                None if z is None else seq.batch_major(dz, z), dbias, None)


class _Sequence:
    """The inputs in time-major layout, and the way back."""

    def __init__(self, u, delta, A, B, C, D, delta_bias, delta_softplus):
        double = u.dtype == torch.float64
        self.dtype = torch.float64 if double else torch.float32
        self.groups = B.shape[1]
        self.u = self.time_major(u)  # (L, B, G, E)
        self.d = self.time_major(delta)
        if delta_bias is not None:
            self.d = self.d + self._per_channel(delta_bias)
        if delta_softplus:
            self.d = F.softplus(self.d)
        # (L, B, G, N) and (G, N, E)
        self.B, self.C = (
            t.permute(3, 0, 1, 2).to(self.dtype).contiguous() for t in (B, C))
        A = A.to(self.dtype).reshape(self.groups, -1, A.shape[1])
        self.A = A.transpose(1, 2).contiguous()
        self.D = None if D is None else self._per_channel(D)
        self.skip_grad = None
        batch, channels = u.shape[:2]
        self.T = chunk_length(batch, channels, A.shape[2])

    def time_major(self, x):
        x = x.permute(2, 0, 1).to(self.dtype).contiguous()
        return x.unflatten(2, (self.groups, -1))

    def _per_channel(self, x):
        return x.to(self.dtype).reshape(self.groups, -1)

    def batch_major(self, x, like):
        return x.flatten(2).permute(1, 2, 0).to(like.dtype)

    def group_major(self, x, like):
        return x.permute(1, 2, 3, 0).to(like.dtype)

    def chunks(self):
        length = self.u.shape[0]
        return [
            slice(i, min(i + self.T, length))
            for i in range(0, length, self.T)
        ]

    def buffer(self):
        _, batch, groups, channels = self.u.shape
        return self.u.new_empty(
            min(self.T, self.u.shape[0]), batch, groups, self.A.shape[1],
            channels)


def _states(seq, part, h, decay, states):
    """Fill decay a_t and states h_t (T, B, G, N, E) of one chunk."""
    d = seq.d[part]
    torch.mul(d.unsqueeze(3), seq.A, out=decay).exp_()
    torch.mul((d * seq.u[part]).unsqueeze(3),
              seq.B[part].unsqueeze(4),
              out=states)
    for a_t, x_t in zip(decay, states):
        h = x_t.addcmul_(a_t, h)
    return h


def _read_out(seq, part, states):
    """y_t = <C_t, h_t> + D u_t, shape (T, B, G, E)."""
    y = torch.matmul(seq.C[part].unsqueeze(3), states).squeeze(3)
    return y if seq.D is None else y.addcmul_(seq.D, seq.u[part])


def _forward(seq):
    decay, states = seq.buffer(), seq.buffer()
    y, parts = torch.empty_like(seq.u), seq.chunks()
    h = torch.zeros_like(states[0])
    starts = h.new_empty(len(parts), *h.shape)
    for i, part in enumerate(parts):
        steps = part.stop - part.start
        starts[i] = h
        # a copy, since the next chunk writes into the same buffer
        h = _states(seq, part, h, decay[:steps], states[:steps]).clone()
        y[part] = _read_out(seq, part, states[:steps])
    return y, starts, h


def _backward(seq, dout, z, starts):
    du, dd = torch.empty_like(seq.u), torch.empty_like(seq.u)
    dB, dC = torch.empty_like(seq.B), torch.empty_like(seq.C)
    dA = torch.zeros_like(seq.A)
    dz = None if z is None else torch.empty_like(dout)
    if z is not None:
        z = seq.time_major(z)
        gate = torch.sigmoid(z)
    dy = dout if z is None else dout * z * gate
    decay, states, g, w = (seq.buffer() for _ in range(4))
    carry = torch.zeros_like(starts[0])  # a_{t+1} g_{t+1} of the next chunk
    for part, start in reversed(list(zip(seq.chunks(), starts))):
        steps = part.stop - part.start
        a, h, g_, w_ = (x[:steps] for x in (decay, states, g, w))
        _states(seq, part, start, a, h)
        if z is not None:
            slope = gate[part] * (1 + z[part] * (1 - gate[part]))
            dz[part] = dout[part] * _read_out(seq, part, h) * slope
        torch.mul(dy[part].unsqueeze(3), seq.C[part].unsqueeze(4), out=g_)
        for t in range(steps - 1, -1, -1):
            torch.mul(a[t], g_[t].add_(carry), out=carry)
        d, u = seq.d[part], seq.u[part]
        dC[part] = torch.matmul(h, dy[part].unsqueeze(4)).squeeze(4)
        dB[part] = torch.matmul(g_, (d * u).unsqueeze(4)).squeeze(4)
        s = torch.matmul(seq.B[part].unsqueeze(3), g_).squeeze(3)
        torch.mul(g_, a, out=w_)
        w_[0] *= start
        w_[1:] *= h[:-1]
        du[part] = d * s
        dd[part] = (u * s).add_((w_ * seq.A).sum(3))
        dA += w_.mul_(d.unsqueeze(3)).sum((0, 1))
    if seq.D is not None:
        seq.skip_grad = (dy * seq.u).sum((0, 1))
        du.addcmul_(seq.D, dy)
    return du, dd, dA, dB, dC, dz
