from typing import Optional

import torch
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..layers.token_layout import resize_frames
from .mean_pool_head import MeanPoolHead


@MODELS.register_module()
class SequenceHead(MeanPoolHead):
    """Mean of the frames after a transformer has seen them in their order.

    The ``seqTransf`` of `CLIP4Clip <https://arxiv.org/abs/2104.08860>`_:
    frames with a position embedding pass an encoder, whose output is added to
    them.

    Args:
        *args: As :class:`MeanPoolHead`.
        num_frames (int): Steps in time the position embedding is made for;
            others are interpolated. Defaults to 8.
        num_layers (int): Layers of the encoder. Defaults to 4.
        num_heads (int, optional): Attention heads. None takes one for each 64
            of the width. Defaults to None.
        **kwargs: As :class:`MeanPoolHead`.

    Raises:
        ValueError: If the width is no multiple of ``num_heads``.
    """

    def __init__(self,
                 *args,
                 num_frames: int = 8,
                 num_layers: int = 4,
                 num_heads: Optional[int] = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        dims = self.embed_dims
        num_heads = num_heads or max(1, dims // 64)
        if dims % num_heads:
            raise ValueError(f'model.head.num_heads={num_heads} does not '
                             f'divide the width {dims} of the texts.')
        self.frame_pos_embed = nn.Parameter(torch.zeros(1, num_frames, dims))
        layer = nn.TransformerEncoderLayer(
            dims,
            num_heads,
            4 * dims,
            dropout=0.,
            activation='gelu',
            batch_first=True,
            norm_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, num_layers, enable_nested_tensor=False)

    def init_weights(self) -> None:
        """Initialise; the position embedding is normal."""
        super().init_weights()
        nn.init.normal_(self.frame_pos_embed, std=0.01)

    def pool(self, frames: Tensor) -> Tensor:
        """See :meth:`MeanPoolHead.pool`."""
        places = resize_frames(self.frame_pos_embed, frames.shape[1])
        return super().pool(frames + self.encoder(frames + places))
