"""Cross-Mamba: one sequence reads a state that another one writes.

    h_t = exp(d_t A) h_{t-1} + d_t B(k_t) k_t
    y_t = C(q_t) h_t       (equal lengths)
    y_u = C(q_u) h_T       (any lengths)

k is the context, whose T tokens also give the step size d, and q the queries.

Glossary: B batch, T context tokens, U queries, E inner width, N state size,
R rank of the step size, M scan directions of the context.
"""
import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from transmamba_mm.ops import selective_scan
from transmamba_mm.ops.flops import note_operation
from .mamba_mixer import init_state_matrix, init_step_size, is_pretrained


class ContextMixer(BaseModule):
    """Let queries read a selective state written by a context.

    Source: TransMamba, cross-Mamba module (Q = S^C(x), K = S^B(x), V = x). Our
    choices: the context gives B, the step size and the value, the queries
    give C; without short convolution, skip and inner gate. Each direction of
    the context has its own B, step size and A, as in ViM; the states of both
    directions are summed, since C is one for both. What is read goes through
    an RMS norm: the steps start small and nothing else carries the signal,
    so that the gate after it would hardly learn. It has no bias, so that an
    empty state reads as zero.

    Args:
        query_dims (int): Width of the queries, and of the output.
        context_dims (int): Width of the context.
        d_state (int): State size N. Defaults to 16.
        expand (float): Inner width over ``query_dims``. Defaults to 2.
        bidirectional (bool): Whether the context is scanned backwards, too.
            Defaults to True.
        equal_length (bool): Whether query t reads the state after context
            token t (in either direction) rather than the last state. Defaults
            to False.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
    """

    def __init__(self,
                 query_dims: int,
                 context_dims: int,
                 d_state: int = 16,
                 expand: float = 2,
                 bidirectional: bool = True,
                 equal_length: bool = False,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.d_state = d_state
        self.d_inner = int(expand * query_dims)
        self.dt_rank = math.ceil(query_dims / 16)
        self.equal_length = equal_length
        self.suffixes = ('', '_b') if bidirectional else ('', )
        e, n, r = self.d_inner, d_state, self.dt_rank
        self.in_proj = nn.Linear(context_dims, e, bias=False)
        self.query_proj = nn.Linear(query_dims, e, bias=False)
        self.c_proj = nn.Linear(e, n, bias=False)
        for suffix in self.suffixes:
            self.add_module('x_proj' + suffix, nn.Linear(e, r + n, bias=False))
            self.add_module('dt_proj' + suffix, nn.Linear(r, e))
        self.A_log = nn.Parameter(torch.empty(e, n))
        self.A_b_log = nn.Parameter(torch.empty(e, n)) if bidirectional \
            else None
        self.out_norm = nn.RMSNorm(e, eps=1e-5)
        self.out_proj = nn.Linear(e, query_dims, bias=False)
        self.reset_ssm_parameters()

    def init_weights(self) -> None:
        """Initialise, and restore what generic rules would spoil."""
        super().init_weights()
        if not is_pretrained(self.init_cfg):
            self.reset_ssm_parameters()

    def reset_ssm_parameters(self) -> None:
        """Set the decay rates and step sizes of all directions."""
        for a_log in self._decay_logs():
            init_state_matrix(a_log)
        for suffix in self.suffixes:
            init_step_size(getattr(self, 'dt_proj' + suffix))

    def _decay_logs(self) -> Tuple[Tensor, ...]:
        return (self.A_log, ) if self.A_b_log is None else (self.A_log,
                                                            self.A_b_log)

    def forward(self,
                query: Tensor,
                context: Tensor,
                context_mask: Optional[Tensor] = None) -> Tensor:
        """Read the context.

        Args:
            query (Tensor): Normalised queries (B or 1, U, query_dims).
            context (Tensor): Normalised context (B or 1, T, context_dims).
            context_mask (Tensor, optional): True for real tokens (B or 1, T).
                The others have a step size of zero, so that they neither
                write into the state nor let it decay. Defaults to None.

        Returns:
            Tensor: Shape (B, U, query_dims).
        """
        if not self.equal_length:
            return self.read(query, self.write(context, context_mask))
        inputs = self._inputs(context, context_mask)
        c = self._weights(query)
        batch = max(len(query), len(context))
        *inputs, c = (t.expand(batch, *t.shape[1:]) for t in (*inputs, c))
        return self._finish(self._read_along(*inputs, c).transpose(1, 2))

    def write(self,
              context: Tensor,
              context_mask: Optional[Tensor] = None) -> Tensor:
        """Write the state that queries of any number read.

        No back end gives a gradient through its last state. So N steps of
        size zero follow the context in one scan, which keep the state, and
        step n reads its n-th part.

        Args:
            context (Tensor): Normalised context (B, T, context_dims).
            context_mask (Tensor, optional): See :meth:`forward`. Defaults to
                None.

        Returns:
            Tensor: Sum of the directions' last states (B, N, E).
        """
        u, delta, b = self._inputs(context, context_mask)
        length, n = u.shape[-1], self.d_state
        parts = torch.eye(n, dtype=b.dtype, device=b.device)
        u, delta, b = (F.pad(t, (0, n)) for t in (u, delta, b))
        c = F.pad(parts, (length, 0)).expand_as(b)
        y = self._scan(u, delta, b, c)[..., length:]  # (B, M, E, N)
        return y.sum(1).transpose(1, 2)

    def read(self, query: Tensor, state: Tensor) -> Tensor:
        """Read a state.

        Args:
            query (Tensor): Normalised queries (B or 1, U, query_dims).
            state (Tensor): What :meth:`write` returned, (B or 1, N, E).

        Returns:
            Tensor: Shape (B, U, query_dims).
        """
        weights = self._weights(query)
        return self._finish(weights @ state.to(weights.dtype))

    def _weights(self, query: Tensor) -> Tensor:
        """Return C of the queries (B, U, N)."""
        return self.c_proj(F.silu(self.query_proj(query)))

    def _finish(self, y: Tensor) -> Tensor:
        """Project what was read, (B, U, E)."""
        return self.out_proj(self.out_norm(y.to(self.out_norm.weight.dtype)))

    def _inputs(self, context: Tensor,
                mask: Optional[Tensor]) -> Tuple[Tensor, ...]:
        """Return u, delta (B, M, E, T) and B (B, M, N, T) of a context."""
        k = F.silu(self.in_proj(context))  # (B, T, E)
        each = (self._direction_inputs(k, s, mask) for s in self.suffixes)
        return tuple(torch.stack(t, dim=1) for t in zip(*each))

    def _direction_inputs(self, k: Tensor, suffix: str,
                          mask: Optional[Tensor]) -> Tuple[Tensor, ...]:
        """Return u, delta (B, E, T) and B (B, N, T) in order of the scan."""
        x_proj = getattr(self, 'x_proj' + suffix)
        dt_proj = getattr(self, 'dt_proj' + suffix)
        dt, b = x_proj(k).split([self.dt_rank, self.d_state], dim=-1)
        delta = _at_least_float(F.linear(dt, dt_proj.weight))
        # softplus here, since the zero of a padded token must be exact
        delta = F.softplus(delta + dt_proj.bias.to(delta.dtype))
        if mask is not None:
            delta = delta.masked_fill(~mask.unsqueeze(-1), 0.)
        out = tuple(t.transpose(1, 2) for t in (k, delta, b))
        return tuple(t.flip(-1) for t in out) if suffix else out

    def _read_along(self, u: Tensor, delta: Tensor, b: Tensor,
                    c: Tensor) -> Tensor:
        """y_t = C(q_t) h_t, summed over the directions, (B, E, T)."""
        c = c.transpose(1, 2)  # (B, N, T)
        c = torch.stack([c.flip(-1) if s else c for s in self.suffixes], 1)
        y = self._scan(u, delta, b, c)
        return sum(y[:, i].flip(-1) if suffix else y[:, i]
                   for i, suffix in enumerate(self.suffixes))

    def _scan(self, u: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Scan all directions at once, (B, M, E, L)."""
        batch, directions, channels, length = u.shape
        note_operation(
            'scan',
            batch=batch,
            channels=channels,
            length=length,
            d_state=self.d_state,
            directions=directions,
            with_skip=False,
            with_gate=False)
        rates = -_at_least_float(torch.cat(self._decay_logs())).exp()
        y = selective_scan(u.flatten(1, 2), delta.flatten(1, 2), rates, b, c)
        return y.unflatten(1, (directions, channels))


def _at_least_float(x: Tensor) -> Tensor:
    """Cast half precision to float32."""
    return x if x.dtype == torch.float64 else x.float()
