from typing import List, Optional

import torch
from torch import Tensor


class RecurrentState:
    """What a Mamba language model remembers of the tokens it has read.

    Its size does not depend on how many they were. Takes the place of a key
    and value cache in Transformers' ``generate``.

    Args:
        num_layers (int): Number of Mamba layers.

    Attributes:
        convs (List[Tensor]): Per layer the last inputs of its convolution
            (B, channels, kernel - 1), None before the first token.
        ssms (List[Tensor]): Per layer the state of its scan (B, E, N), None
            before the first token.
        num_seen (int): Tokens read, with padding.
    """

    def __init__(self, num_layers: int) -> None:
        self.convs: List[Optional[Tensor]] = [None] * num_layers
        self.ssms: List[Optional[Tensor]] = [None] * num_layers
        self.num_seen = 0

    def update(self, layer: int, conv: Tensor, ssm: Tensor) -> None:
        """Keep the state of a layer.

        Args:
            layer (int): Index of the layer.
            conv (Tensor): Inputs of its convolution (B, channels, kernel -
                1).
            ssm (Tensor): State of its scan (B, E, N).
        """
        # a view would keep the tensors of the whole prompt alive
        self.convs[layer] = conv.detach().clone()
        self.ssms[layer] = ssm.detach()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tell how many tokens were read, as a cache of Transformers does.

        Args:
            layer_idx (int): Not used. Defaults to 0.

        Returns:
            int: Number of tokens.
        """
        return self.num_seen

    def reorder_cache(self, beam_idx: Tensor) -> 'RecurrentState':
        """Take the states of other samples, as a beam search asks for.

        Args:
            beam_idx (Tensor): Index of the sample to take, per sample (B',).

        Returns:
            RecurrentState: self.
        """
        for states in (self.convs, self.ssms):
            for i, state in enumerate(states):
                if state is not None:
                    states[i] = state.index_select(0,
                                                   beam_idx.to(state.device))
        return self

    @property
    def num_bytes(self) -> int:
        """int: Memory that the state takes."""
        states = [s for s in self.convs + self.ssms if s is not None]
        return sum(s.numel() * s.element_size() for s in states)


def slide_window(window: Optional[Tensor], inputs: Tensor,
                 kernel: int) -> Tensor:
    """Put the inputs that a causal convolution remembers before new ones.

    Args:
        window (Tensor, optional): Remembered inputs (B, channels, kernel -
            1), None for zeros.
        inputs (Tensor): New inputs (B, channels, L).
        kernel (int): Size of the convolution.

    Returns:
        Tensor: Shape (B, channels, kernel - 1 + L).
    """
    if window is None:
        window = inputs.new_zeros(*inputs.shape[:2], kernel - 1)
    return torch.cat([window.to(inputs.dtype), inputs], dim=-1)
