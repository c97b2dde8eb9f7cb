import difflib
import json
import os.path as osp
from typing import List, Optional, Tuple, Union

from torch import Tensor, nn

from transmamba_mm.registry import MODELS
from transmamba_mm.subclone.depth_map import proportional_map
from ..teachers.open_clip_loading import import_open_clip, load_tower
from .base_text_tower import BaseTextTower, last_tokens


@MODELS.register_module()
class OpenCLIPTextTower(BaseTextTower):
    """Text tower of open_clip, trained from scratch or from weights.

    Weights are read by :meth:`init_weights`, which a training calls: a test
    of a trained model does not need them.

    Args:
        arch (str | dict): Name of an architecture such as 'ViT-B-32', a
            folder with open_clip_config.json, or arguments of open_clip's
            ``TextTransformer``, such as ``context_length``, ``vocab_size``,
            ``width``, ``heads``, ``layers``, ``output_dim``.
        pretrained (str, optional): Weights to start from: a file, or one of
            open_clip's tags; a whole CLIP or CLIP4Clip will do. If arch is a
            folder, None takes the weights in it; if arch is a dict, a folder
            of open_clip is needed. Defaults to None.
        num_layers (int, optional): Layers to keep, spread evenly over the
            tower's, so that a shallow tower is cloned from a deep one; None
            keeps all. Defaults to None.
        frozen (bool): See :class:`BaseTextTower`. Defaults to False.
        quick_gelu (bool, optional): Whether to use QuickGELU, as weights of
            OpenAI need; None takes the architecture's word. Defaults to None.

    Raises:
        ValueError: If there is no such architecture, or ``num_layers`` does
            not fit it.
    """

    def __init__(self,
                 arch: Union[str, dict],
                 pretrained: Optional[str] = None,
                 num_layers: Optional[int] = None,
                 frozen: bool = False,
                 quick_gelu: Optional[bool] = None) -> None:
        super().__init__(frozen=frozen)
        self.pretrained = pretrained
        self.model_name = arch if isinstance(arch, str) else None
        arguments, quick = _read_arch(arch)
        depth = arguments.get('layers', 12)
        self.layer_indices = _choose_layers(num_layers, depth)
        arguments['layers'] = len(self.layer_indices)
        self.model = _build(arguments,
                            quick if quick_gelu is None else quick_gelu)
        self.quick_gelu = quick_gelu
        self.freeze()

    def init_weights(self) -> None:
        """Read the weights, if there are any.

        Raises:
            ValueError: If they do not fit, or need the other activation.
            FileNotFoundError: If there are none.
        """
        super().init_weights()
        name, weights = self.model_name, self.pretrained
        if name is None:
            name, weights = weights, None
        elif weights is None and not osp.isdir(osp.expanduser(name)):
            return
        if name is None:
            return
        where = (f'model.text_tower, arch={self.model_name!r}, pretrained='
                 f'{self.pretrained!r}')
        try:
            tower = load_tower(name, weights, 'text', self.quick_gelu)
            blocks = tower.transformer.resblocks
            tower.transformer.resblocks = nn.ModuleList(
                blocks[i] for i in self.layer_indices)
            self.model.load_state_dict(tower.state_dict())
        except (ValueError, RuntimeError, IndexError, FileNotFoundError,
                AttributeError) as error:
            kind = FileNotFoundError if isinstance(
                error, FileNotFoundError) else ValueError
            raise kind(f'{where}: {error}') from error
        found, own = (
            type(m.transformer.resblocks[0].mlp.gelu).__name__
            for m in (tower, self.model))
        if found != own:
            raise ValueError(
                f'{where}: the weights were trained with {found}, but the '
                f'tower has {own}; set model.text_tower.quick_gelu='
                f"{found == 'QuickGELU'}.")

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


def _read_arch(arch: Union[str, dict]) -> Tuple[dict, bool]:
    """Return arguments of ``TextTransformer``, and whether to use
    QuickGELU."""
    if isinstance(arch, dict):
        return dict(arch), False
    open_clip = import_open_clip()
    path = osp.join(osp.expanduser(arch), 'open_clip_config.json')
    if osp.isfile(path):
        with open(path, encoding='utf-8') as file:
            config = json.load(file).get('model_cfg', {})
    else:
        config = open_clip.get_model_config(arch)
    if config is None:
        near = difflib.get_close_matches(arch, open_clip.list_models())
        raise ValueError(
            f"model.text_tower.arch='{arch}' is neither an architecture of "
            'open_clip nor a folder with open_clip_config.json; the nearest '
            f'names are {near}.')
    if 'hf_model_name' in config['text_cfg']:
        raise ValueError(f"The text tower of '{arch}' is not open_clip's own: "
                         'use transmamba_mm.HFTextTower as model.text_tower.')
    arguments = dict(config['text_cfg'], output_dim=config['embed_dim'])
    return arguments, bool(config.get('quick_gelu', False))


def _choose_layers(num_layers: Optional[int], depth: int) -> List[int]:
    """Return the numbers of the layers to keep."""
    if num_layers is None:
        return list(range(depth))
    if not 1 <= num_layers <= depth:
        raise ValueError(f'model.text_tower.num_layers={num_layers}, but the '
                         f'tower has {depth} layers: use 1 to {depth}.')
    return list(proportional_map(num_layers, depth))


def _build(arguments: dict, quick_gelu: bool) -> nn.Module:
    """Build a tower with random weights."""
    open_clip = import_open_clip()
    activation = open_clip.model.QuickGELU if quick_gelu else nn.GELU
    try:
        model = open_clip.model.TextTransformer(
            **arguments, act_layer=activation)
    except TypeError as error:
        raise ValueError(
            f'model.text_tower.arch={arguments} does not fit: {error}; use '
            'context_length, vocab_size, width, heads, layers and output_dim.'
        ) from error
    if model.attn_mask is None or model.cls_emb is not None or \
            model.pool_type not in ('argmax', 'eos'):
        raise ValueError(
            f'model.text_tower.arch={arguments} reads texts another way than '
            "CLIP's: take a tower with a causal mask, pooled at the end "
            'token.')
    return model
