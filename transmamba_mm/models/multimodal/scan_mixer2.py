from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from transmamba_mm.ops import resumed_scan, selective_scan
from .recurrent_state import RecurrentState
from .scan_mixer import convolve


class ScanMixer2(Mamba2Mixer):
    """Mamba-2 mixer of the Transformers library on our selective scan.

    A head is ``head_dim`` channels that share their step size and one decay
    rate. Where B and C have several groups, each serves the heads beside it,
    as in the library's decoding and in mamba-ssm; its prefill without kernels
    mixes the groups up.
    """

    def forward(self,
                hidden_states: Tensor,
                state: Optional[RecurrentState] = None,
                mask: Optional[Tensor] = None) -> Tensor:
        """See :meth:`ScanMixer.forward`."""
        inner, groups = self.intermediate_size, self.n_groups
        projected = self.in_proj(hidden_states)
        gate, x, dt = projected.split([inner, self.conv_dim, self.num_heads],
                                      dim=-1)
        x, window = convolve(self, x.transpose(1, 2), state, mask)
        size = groups * self.ssm_state_size
        x, B, C = x.split([inner, size, size], dim=1)
        B, C = (t.unflatten(1, (groups, -1)) for t in (B, C))
        rates = -torch.exp(self.A_log.float())[:, None]
        delta, bias, softplus = self._steps(dt.transpose(1, 2))
        inputs = (x, delta, self._spread(rates).expand(-1,
                                                       self.ssm_state_size), B,
                  C, self._spread(self.D.float()), None, bias, softplus)
        if state is None:
            out = selective_scan(*inputs)
        else:
            out, last = resumed_scan(*inputs, state=state.ssms[self.layer_idx])
            state.update(self.layer_idx, window, last)
        out = self.norm(out.transpose(1, 2), gate)
        return self.out_proj(out.to(hidden_states.dtype))

    def _spread(self, x: Tensor, dim: int = 0) -> Tensor:
        """Repeat the value of a head for each of its channels."""
        return x.repeat_interleave(self.head_dim, dim=dim)

    def _steps(self, dt: Tensor) -> Tuple[Tensor, Optional[Tensor], bool]:
        """Return step sizes, their bias, and whether softplus is to come."""
        low, high = self.time_step_limit
        bias = self.dt_bias.float()
        if (low, high) == (0., float('inf')):
            return self._spread(dt, 1), self._spread(bias), True
        dt = F.softplus(dt.float() + bias[:, None]).clamp(low, high)
        return self._spread(dt, 1), None, False
