from typing import Optional, Tuple

from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from ..teachers.hf_loading import import_transformers, load_hf_model
from .base_text_tower import BaseTextTower


@MODELS.register_module()
class HFTextTower(BaseTextTower):
    """Text tower of a CLIP of the Transformers library.

    Args:
        pretrained (str, optional): A folder as ``save_pretrained`` writes it,
            of a whole CLIP or of its text tower, or a name on the hub.
            Defaults to None.
        config (dict, optional): Arguments of ``CLIPTextConfig``, for a tower
            with random weights. Defaults to None.
        frozen (bool): See :class:`BaseTextTower`. Defaults to False.

    Raises:
        ValueError: If not one of ``pretrained`` and ``config`` is given, or
            the model has no text tower.
        FileNotFoundError: If there is no such folder or model.
    """

    def __init__(self,
                 pretrained: Optional[str] = None,
                 config: Optional[dict] = None,
                 frozen: bool = False) -> None:
        super().__init__(frozen=frozen)
        if (pretrained is None) == (config is None):
            raise ValueError(
                f'model.text_tower has pretrained={pretrained!r} and '
                f'config={config!r}: HFTextTower needs one of them.')
        self.model = _build(pretrained, config)
        self.freeze()

    @property
    def token_dims(self) -> int:
        """int: Width C of the tokens."""
        return self.model.config.hidden_size

    @property
    def embed_dims(self) -> int:
        """int: Width D of the pooled text."""
        projection = getattr(self.model, 'text_projection', None)
        if projection is None:
            return self.token_dims
        return projection.out_features

    @property
    def max_length(self) -> int:
        """int: Tokens that a text may have."""
        return self.model.config.max_position_embeddings

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tuple[Tensor, Tensor]:
        """See :meth:`BaseTextTower.encode`."""
        out = self.model(input_ids=input_ids, attention_mask=mask.long())
        pooled = getattr(out, 'text_embeds', None)
        if pooled is None:
            pooled = out.pooler_output
        return out.last_hidden_state, pooled


def _build(pretrained: Optional[str], config: Optional[dict]) -> nn.Module:
    """Build the tower, with weights if they are told."""
    transformers = import_transformers()
    if pretrained is None:
        return transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**config))
    try:
        return load_hf_model(pretrained, 'text')
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"model.text_tower.pretrained='{pretrained}' cannot "
                          f'be had: {error}') from error
