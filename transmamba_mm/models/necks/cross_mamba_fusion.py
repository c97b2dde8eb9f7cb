from typing import Optional

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from transmamba_mm.registry import MODELS
from ..layers import ContextBlock


@MODELS.register_module()
class CrossMambaFusion(BaseModule):
    """Make visual tokens aware of text, or text of visual tokens.

    Source: TransMamba, cross-Mamba module: Q = S^C(x), K = S^B(x), V = x. The
    queries give C; the context gives B, the step size and the value:

        h_t = exp(d_t A) h_{t-1} + d_t B(k_t) k_t
        y_t = C(q_t) h_t   (equal lengths),   y_u = C(q_u) h_T   (any lengths)

    Our choices: visual tokens are the queries; the context is scanned forward
    and backward, and the two states are summed; norms before, residual
    around, and a gate after each layer that starts at zero, so that a new
    module changes nothing.

    Args:
        visual_dims (int): Width C_v of the visual tokens.
        text_dims (int): Width C_t of the text tokens.
        d_state (int): State size. Defaults to 16.
        expand (float): Inner width over the queries' width. Defaults to 2.
        num_layers (int): Layers, which all read the same context. Defaults to
            1.
        bidirectional (bool): Whether the context is scanned backwards, too.
            Defaults to True.
        equal_length (bool): Whether token t of the one reads the state after
            token t of the other, rather than the last state. Both must then
            have the same length. Defaults to False.
        output (str): Which of the two is returned, 'visual' or 'text': it
            gives the queries, the other is the context. Defaults to 'visual'.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        ValueError: If ``output`` is unknown or a size is below 1.
    """

    def __init__(self,
                 visual_dims: int,
                 text_dims: int,
                 d_state: int = 16,
                 expand: float = 2,
                 num_layers: int = 1,
                 bidirectional: bool = True,
                 equal_length: bool = False,
                 output: str = 'visual',
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if output not in ('visual', 'text'):
            raise ValueError(f'neck.output={output!r} is unknown; use '
                             "'visual' or 'text'.")
        for name, value in dict(
                visual_dims=visual_dims,
                text_dims=text_dims,
                d_state=d_state,
                num_layers=num_layers).items():
            if value < 1:
                raise ValueError(f'neck.{name}={value}; give 1 or more.')
        self.visual_dims, self.text_dims = visual_dims, text_dims
        self.equal_length = equal_length
        self.output = output
        dims = (visual_dims, text_dims)
        self.layers = ModuleList([
            ContextBlock(
                *(dims if output == 'visual' else dims[::-1]),
                d_state=d_state,
                expand=expand,
                bidirectional=bidirectional,
                equal_length=equal_length) for _ in range(num_layers)
        ])

    def forward(self,
                visual: Tensor,
                text: Tensor,
                text_mask: Optional[Tensor] = None,
                visual_mask: Optional[Tensor] = None) -> Tensor:
        """Fuse.

        A batch of 1 beside one of B is shared by all B samples.

        Args:
            visual (Tensor): Visual tokens (B, L_v, C_v).
            text (Tensor): Text tokens (B, L_t, C_t).
            text_mask (Tensor, optional): Bool, True for real tokens (B, L_t).
                Padding of the context does not touch the state, whatever it
                holds; padded queries are returned as they are. Defaults to
                None.
            visual_mask (Tensor, optional): The same for the visual tokens
                (B, L_v). Defaults to None.

        Returns:
            Tensor: Shape (B, L_v, C_v), or (B, L_t, C_t) with
            ``output='text'``.

        Raises:
            ValueError: If shapes do not fit.
            TypeError: If a mask is not of type bool.
        """
        self._check(visual, text, text_mask, visual_mask)
        query, context, masks = visual, text, (visual_mask, text_mask)
        if self.output == 'text':
            query, context, masks = text, visual, masks[::-1]
        for layer in self.layers:
            query = layer(query, context, *masks)
        return query

    def write(self,
              text: Tensor,
              text_mask: Optional[Tensor] = None) -> Tensor:
        """Write the states of texts, so that many clips can read them.

        ``read(visual, write(text, mask))`` is ``forward(visual, text, mask)``
        for ``output='visual'`` without ``equal_length``; the scan runs once a
        text.

        Args:
            text (Tensor): Text tokens (B, L_t, C_t).
            text_mask (Tensor, optional): See :meth:`forward`. Defaults to
                None.

        Returns:
            Tensor: States (B, layers, N, E).
        """
        return torch.stack(
            [layer.write(text, text_mask) for layer in self.layers], 1)

    def read(self, visual: Tensor, states: Tensor) -> Tensor:
        """Let visual tokens read states.

        Args:
            visual (Tensor): Visual tokens (B, L_v, C_v).
            states (Tensor): What :meth:`write` returned.

        Returns:
            Tensor: Shape (B, L_v, C_v).
        """
        for layer, state in zip(self.layers, states.unbind(1)):
            visual = layer.read(visual, state)
        return visual

    def _check(self, visual: Tensor, text: Tensor, text_mask: Optional[Tensor],
               visual_mask: Optional[Tensor]) -> None:
        """Refuse inputs that would fail later, or broadcast to nonsense."""
        for name, x, mask, dims in (('visual', visual, visual_mask,
                                     self.visual_dims),
                                    ('text', text, text_mask, self.text_dims)):
            if x.dim() != 3 or x.shape[-1] != dims or not x.shape[1]:
                raise ValueError(
                    f'CrossMambaFusion: {name} has the shape '
                    f'{tuple(x.shape)}; give (batch, length >= 1, {dims}), or '
                    f'set neck.{name}_dims.')
            if mask is None:
                continue
            if mask.dtype != torch.bool:
                raise TypeError(f'CrossMambaFusion: {name}_mask is '
                                f'{mask.dtype}; give bool, True for real '
                                'tokens (such as mask.bool()).')
            if mask.shape != x.shape[:2]:
                raise ValueError(f'CrossMambaFusion: {name}_mask has the '
                                 f'shape {tuple(mask.shape)}; give '
                                 f'{tuple(x.shape[:2])}.')
        samples = visual.shape[0], text.shape[0]
        if samples[0] != samples[1] and 1 not in samples:
            raise ValueError(f'CrossMambaFusion: {samples[0]} visual and '
                             f'{samples[1]} text samples; give as many of '
                             'both, or 1 of one.')
        if self.equal_length and visual.shape[1] != text.shape[1]:
            raise ValueError(
                f'CrossMambaFusion: {visual.shape[1]} visual and '
                f'{text.shape[1]} text tokens; neck.equal_length=True needs '
                'as many of both.')
