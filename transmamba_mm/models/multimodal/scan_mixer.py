from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from transformers.models.mamba.modeling_mamba import MambaMixer

from transmamba_mm.ops import causal_conv1d, resumed_scan, selective_scan
from .recurrent_state import RecurrentState, slide_window


class ScanMixer(MambaMixer):
    """Mamba mixer of the Transformers library on our selective scan.

    Has the library's parameters and gives its outputs, but reads prompts in
    pieces, and lets padding move neither of the two states.
    """

    def forward(self,
                hidden_states: Tensor,
                state: Optional[RecurrentState] = None,
                mask: Optional[Tensor] = None) -> Tensor:
        """Mix tokens.

        Args:
            hidden_states (Tensor): Normalised tokens (B, L, C).
            state (RecurrentState, optional): State before the first token,
                which is updated; None starts at zero and keeps none.
                Defaults to None.
            mask (Tensor, optional): Bool, False for padding (B, L). Defaults
                to None.

        Returns:
            Tensor: Shape (B, L, C).
        """
        x, gate = self.in_proj(hidden_states).transpose(1, 2).chunk(2, dim=1)
        x, window = convolve(self, x, state, mask)
        dt, B, C = torch.split(
            self.x_proj(x.transpose(1, 2)),
            [self.time_step_rank, self.ssm_state_size, self.ssm_state_size],
            dim=-1)
        delta, bias = step_size(self.dt_proj, dt)
        inputs = (x, delta, -torch.exp(self.A_log.float()), B.transpose(1, 2),
                  C.transpose(1, 2), self.D.float(), gate, bias, True)
        if state is None:
            out = selective_scan(*inputs)
        else:
            out, last = resumed_scan(*inputs, state=state.ssms[self.layer_idx])
            state.update(self.layer_idx, window, last)
        return self.out_proj(out.transpose(1, 2))


def step_size(dt_proj: nn.Module,
              dt: Tensor) -> Tuple[Tensor, Optional[Tensor]]:
    """Project step sizes, and leave a plain bias to the scan.

    Args:
        dt_proj (nn.Module): The projection, which an adapter may wrap.
        dt (Tensor): Shape (B, L, R).

    Returns:
        Tuple[Tensor, Optional[Tensor]]: Step sizes (B, E, L), and the bias
        (E,) that the scan is to add in float32, None if it is in them.
    """
    if type(dt_proj) is not nn.Linear:
        return dt_proj(dt).transpose(1, 2), None
    delta = nn.functional.linear(dt, dt_proj.weight).transpose(1, 2)
    return delta, dt_proj.bias.float()


def convolve(mixer: nn.Module, x: Tensor, state: Optional[RecurrentState],
             mask: Optional[Tensor]) -> Tuple[Tensor, Optional[Tensor]]:
    """Run a mixer's convolution over masked inputs.

    Args:
        mixer (nn.Module): Has ``conv1d``, ``conv_kernel_size`` and
            ``layer_idx``.
        x (Tensor): Inputs (B, channels, L).
        state (RecurrentState, optional): State before them.
        mask (Tensor, optional): Bool, False for padding (B, L).

    Returns:
        Tuple[Tensor, Optional[Tensor]]: Activated outputs (B, channels, L),
        zero at padding, and the inputs to remember (B, channels, kernel - 1),
        None without a state.
    """
    kernel, window = mixer.conv_kernel_size, None
    if mask is not None:
        x = x * mask[:, None].to(x.dtype)
    length = x.shape[-1]
    if state is not None:
        x = slide_window(state.convs[mixer.layer_idx], x, kernel)
        window = x[..., x.shape[-1] - kernel + 1:]
    bias = mixer.conv1d.bias
    x = causal_conv1d(x, mixer.conv1d.weight[:, 0].to(x.dtype),
                      None if bias is None else bias.to(x.dtype))
    x = x[..., x.shape[-1] - length:]
    if mask is not None:
        x = x * mask[:, None].to(x.dtype)
    return x, window
