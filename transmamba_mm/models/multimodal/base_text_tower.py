from abc import abstractmethod
from typing import NamedTuple, Optional

import torch
from mmengine.model import BaseModule
from torch import Tensor


class TextFeatures(NamedTuple):
    """What a text tower makes of texts.

    Args:
        tokens (Tensor): One vector a token, (B, L, C).
        mask (Tensor): True for a real token, (B, L).
        pooled (Tensor): One vector a text, (B, D).
    """
    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class BaseTextTower(BaseModule):
    """A text encoder that trains with the model, or stays as it is.

    A sub-class builds ``model``, tells ``token_dims`` and ``embed_dims``, and
    writes :meth:`encode`.

    Args:
        frozen (bool): Whether the tower gets no gradient and stays in eval
            mode. Defaults to False.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
    """

    def __init__(self,
                 frozen: bool = False,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.frozen = frozen

    @property
    @abstractmethod
    def token_dims(self) -> int:
        """int: Width C of the tokens."""

    @property
    @abstractmethod
    def embed_dims(self) -> int:
        """int: Width D of the pooled text."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """int: Tokens that a text may have."""

    @abstractmethod
    def encode(self, input_ids: Tensor,
               mask: Tensor) -> 'tuple[Tensor, Tensor]':
        """Run the network.

        Args:
            input_ids (Tensor): Token numbers (B, L).
            mask (Tensor): True for a real token, (B, L).

        Returns:
            tuple[Tensor, Tensor]: Tokens (B, L, C) and pooled texts (B, D).
        """

    def forward(self,
                input_ids: Tensor,
                attention_mask: Optional[Tensor] = None) -> TextFeatures:
        """Encode texts.

        Args:
            input_ids (Tensor): Token numbers (B, L).
            attention_mask (Tensor, optional): 1 for a real token, 0 for
                padding, (B, L); None takes all as real. Defaults to None.

        Returns:
            TextFeatures: Tokens, mask and pooled texts.

        Raises:
            ValueError: If the texts are longer than the tower allows, or one
                is empty.
        """
        if input_ids.shape[1] > self.max_length:
            raise ValueError(
                f'Texts of {input_ids.shape[1]} tokens came to a text tower '
                f'for {self.max_length}: let the tokenising transform of the '
                'pipeline cut them to this length.')
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = attention_mask.bool()
        with torch.set_grad_enabled(torch.is_grad_enabled()
                                    and not self.frozen):
            tokens, pooled = self.encode(input_ids, mask)
        return TextFeatures(tokens, mask, pooled)

    def freeze(self) -> None:
        """Freeze the network if the config asks for it; a sub-class calls it
        when ``model`` is built."""
        if self.frozen:
            self.requires_grad_(False)
            self.eval()

    def train(self, mode: bool = True) -> 'BaseTextTower':
        """Set the mode; a frozen tower stays in eval mode.

        Args:
            mode (bool): Whether to train. Defaults to True.

        Returns:
            BaseTextTower: self.
        """
        return super().train(mode and not self.frozen)


def last_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Take the last real token of each text, where CLIP's end token stands.

    Args:
        tokens (Tensor): Shape (B, L, C).
        mask (Tensor): True for a real token, (B, L).

    Returns:
        Tensor: Shape (B, C).
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).argmax(dim=1)
    return tokens[torch.arange(len(tokens), device=tokens.device), last]
