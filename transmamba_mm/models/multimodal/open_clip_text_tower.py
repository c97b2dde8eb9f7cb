import difflib
from typing import Optional, Tuple, Union

from mmengine.model import ModuleList
from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from transmamba_mm.subclone.depth_map import proportional_map
from ..teachers.open_clip_loading import import_open_clip, load_tower
from .base_text_tower import BaseTextTower, last_tokens


@MODELS.register_module()
class OpenCLIPTextTower(BaseTextTower):
    """Text tower of open_clip, trained from scratch or from weights.

    Args:
        arch (str | dict): Name of an architecture such as 'ViT-B-32', a
            folder with open_clip_config.json and weights, or arguments of
            open_clip's ``TextTransformer``, such as ``context_length``,
            ``vocab_size``, ``width``, ``heads``, ``layers``, ``output_dim``.
        pretrained (str, optional): Weights file or one of open_clip's tags;
            a whole CLIP or CLIP4Clip will do. None takes the weights of the
            folder, and random ones for a name or arguments. Defaults to None.
        num_layers (int, optional): Layers to keep, spread evenly over the
            tower's, so that a shallow tower is cloned from a deep one; None
            keeps all. Defaults to None.
        frozen (bool): See :class:`BaseTextTower`. Defaults to False.
        quick_gelu (bool, optional): See
            :class:`~transmamba_mm.models.OpenCLIPTeacher`. Defaults to None.

    Raises:
        ValueError: If there is no such architecture, or the weights or
            ``num_layers`` do not fit it.
        FileNotFoundError: If there are no such weights.
    """

    def __init__(self,
                 arch: Union[str, dict],
                 pretrained: Optional[str] = None,
                 num_layers: Optional[int] = None,
                 frozen: bool = False,
                 quick_gelu: Optional[bool] = None) -> None:
        super().__init__(frozen=frozen)
        self.model = _build(arch, pretrained, quick_gelu)
        if self.model.attn_mask is None or self.model.cls_emb is not None or \
                self.model.pool_type not in ('argmax', 'eos'):
            raise ValueError(
                f'model.text_tower.arch={arch!r} reads texts another way than '
                "CLIP's: take a tower with a causal mask, pooled at the end "
                'token.')
        if num_layers is not None:
            self._keep_layers(num_layers)
        self.freeze()

    def _keep_layers(self, num_layers: int) -> None:
        blocks = self.model.transformer.resblocks
        if not 1 <= num_layers <= len(blocks):
            raise ValueError(
                f'model.text_tower.num_layers={num_layers}, but the tower '
                f'has {len(blocks)} layers: use 1 to {len(blocks)}.')
        self.model.transformer.resblocks = ModuleList(
            blocks[i] for i in proportional_map(num_layers, len(blocks)))
        self.model.transformer.layers = num_layers

    @property
    def token_dims(self) -> int:
        """int: Width C of the tokens."""
        return self.model.token_embedding.embedding_dim

    @property
    def embed_dims(self) -> int:
        """int: Width D of the pooled text."""
        return self.model.output_dim or self.token_dims

    @property
    def max_length(self) -> int:
        """int: Tokens that a text may have."""
        return self.model.context_length

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tuple[Tensor, Tensor]:
        """See :meth:`BaseTextTower.encode`; a text is pooled at its last real
        token, which is CLIP's end token."""
        net, length = self.model, input_ids.shape[1]
        # the library takes texts of its whole length only
        x = net.token_embedding(input_ids) + net.positional_embedding[:length]
        causal = net.attn_mask[:length, :length]
        tokens = net.ln_final(net.transformer(x, attn_mask=causal))
        pooled = last_tokens(tokens, mask)
        projection = net.text_projection
        if projection is None:
            return tokens, pooled
        if isinstance(projection, nn.Linear):
            return tokens, projection(pooled)
        return tokens, pooled @ projection


def _build(arch: Union[str, dict], pretrained: Optional[str],
           quick_gelu: Optional[bool]) -> nn.Module:
    """Build a ``TextTransformer``, with weights if they are told."""
    open_clip = import_open_clip()
    if isinstance(arch, dict):
        if pretrained is not None:
            raise ValueError(
                f"model.text_tower.pretrained='{pretrained}' needs an arch "
                'that is a name or a folder, not a dict.')
        return _from_arguments(open_clip, arch, quick_gelu)
    config = open_clip.get_model_config(arch)
    if config is not None and pretrained is None:
        if 'hf_model_name' in config['text_cfg']:
            raise ValueError(f"The text tower of '{arch}' is not open_clip's "
                             'own: use transmamba_mm.HFTextTower as '
                             'model.text_tower.')
        arguments = dict(config['text_cfg'], output_dim=config['embed_dim'])
        quick = config.get('quick_gelu', False)
        return _from_arguments(open_clip, arguments,
                               quick if quick_gelu is None else quick_gelu)
    try:
        model = load_tower(arch, pretrained, 'text', quick_gelu)
    except (ValueError, FileNotFoundError) as error:
        near = difflib.get_close_matches(arch, open_clip.list_models())
        hint = f' Architectures of a like name: {near}.' if near else ''
        raise type(error)(
            f"model.text_tower of arch='{arch}', pretrained='{pretrained}' "
            f'cannot be had: {error}{hint}') from error
    if not isinstance(model, open_clip.model.TextTransformer):
        raise ValueError(f"The text tower of '{arch}' is not open_clip's own: "
                         'use transmamba_mm.HFTextTower as model.text_tower.')
    return model


def _from_arguments(open_clip, arguments: dict,
                    quick_gelu: Optional[bool]) -> nn.Module:
    """Build a tower with random weights."""
    activation = open_clip.model.QuickGELU if quick_gelu else nn.GELU
    try:
        return open_clip.model.TextTransformer(
            **arguments, act_layer=activation)
    except TypeError as error:
        raise ValueError(
            f'model.text_tower.arch={arguments} does not fit: {error}; use '
            'context_length, vocab_size, width, heads, layers and output_dim.'
        ) from error
