from typing import Optional

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .context_mixer import ContextMixer
from .mamba_mixer import is_pretrained


class ContextBlock(BaseModule):
    """Add what the queries read: q + gate * mixer(norm(q), norm(context)).

    Source: our choice. The gate has one entry a channel and starts at zero,
    so that a new block changes nothing.

    Args:
        query_dims (int): Width of the queries.
        context_dims (int): Width of the context.
        init_cfg (dict, optional): Initialisation config. Defaults to None.
        **kwargs: Further arguments of :class:`ContextMixer`.
    """

    def __init__(self,
                 query_dims: int,
                 context_dims: int,
                 init_cfg: Optional[dict] = None,
                 **kwargs) -> None:
        super().__init__(init_cfg=init_cfg)
        self.query_norm = nn.LayerNorm(query_dims)
        self.context_norm = nn.LayerNorm(context_dims)
        self.mixer = ContextMixer(query_dims, context_dims, **kwargs)
        self.gate = nn.Parameter(torch.zeros(query_dims))

    def init_weights(self) -> None:
        """Initialise, and close the gate."""
        super().init_weights()
        if not is_pretrained(self.init_cfg):
            nn.init.zeros_(self.gate)

    def forward(self,
                query: Tensor,
                context: Tensor,
                query_mask: Optional[Tensor] = None,
                context_mask: Optional[Tensor] = None) -> Tensor:
        """Run the block.

        Args:
            query (Tensor): Queries (B or 1, U, query_dims).
            context (Tensor): Context (B or 1, T, context_dims).
            query_mask (Tensor, optional): True for real queries (B or 1, U);
                the others stay as they are. Defaults to None.
            context_mask (Tensor, optional): True for real tokens (B or 1, T).
                Defaults to None.

        Returns:
            Tensor: Shape (B, U, query_dims), in the dtype of the queries.
        """
        if not self.mixer.equal_length:
            return self.read(query, self.write(context, context_mask),
                             query_mask)
        read = self.mixer(
            self.query_norm(_blank(query, query_mask, self.query_norm)),
            self.context_norm(
                _blank(context, context_mask, self.context_norm)),
            context_mask)
        return self._add(query, read, query_mask)

    def write(self,
              context: Tensor,
              context_mask: Optional[Tensor] = None) -> Tensor:
        """Write the state of a context, see :meth:`ContextMixer.write`.

        Args:
            context (Tensor): Context (B, T, context_dims).
            context_mask (Tensor, optional): See :meth:`forward`. Defaults to
                None.

        Returns:
            Tensor: Shape (B, N, E).
        """
        context = _blank(context, context_mask, self.context_norm)
        return self.mixer.write(self.context_norm(context), context_mask)

    def read(self,
             query: Tensor,
             state: Tensor,
             query_mask: Optional[Tensor] = None) -> Tensor:
        """Add what the queries read of a state.

        Args:
            query (Tensor): Queries (B or 1, U, query_dims).
            state (Tensor): What :meth:`write` returned.
            query_mask (Tensor, optional): See :meth:`forward`. Defaults to
                None.

        Returns:
            Tensor: See :meth:`forward`.
        """
        blank = _blank(query, query_mask, self.query_norm)
        read = self.mixer.read(self.query_norm(blank), state)
        return self._add(query, read, query_mask)

    def _add(self, query: Tensor, read: Tensor,
             query_mask: Optional[Tensor]) -> Tensor:
        read = (self.gate * read).to(query.dtype)
        if query_mask is not None:
            read = read.masked_fill(~query_mask.unsqueeze(-1), 0.)
        return query + read


def _blank(x: Tensor, mask: Optional[Tensor], norm: nn.LayerNorm) -> Tensor:
    """Clear padding, whatever it holds, even NaN, and cast for the norm."""
    if mask is not None:
        x = x.masked_fill(~mask.unsqueeze(-1), 0.)
    return x.to(norm.weight.dtype)
