"""What files and folders tell of a teacher beside its tensors."""
from typing import Any, Dict, Mapping, Optional, Tuple

from ..teacher_info import TeacherInfo

#: Activation and heads where a config leaves them out, as the library fills
#: them in: dialect and tower to both.
_LEFT_OUT = {
    ('Hugging Face ViT', 'vision'): ('gelu', 12),
    ('Hugging Face CLIP', 'vision'): ('quick_gelu', 12),
    ('Hugging Face CLIP', 'text'): ('quick_gelu', 8),
    ('BERT', 'text'): ('gelu', 12),
    ('LLaMA', 'text'): ('silu', 32),
    ('LLaVA', 'text'): ('silu', 32),
    ('LLaVA', 'vision'): ('quick_gelu', 12),
}
#: Activation that goes without saying.
_ACTIVATIONS = {
    'mmpretrain': 'gelu',
    'timm': 'gelu',
    'Hugging Face ViT': 'gelu',
    'BERT': 'gelu',
    'LLaMA': 'silu'
}
#: Tensors that only OpenAI's files hold.
_OPENAI = ('input_resolution', 'context_length', 'vocab_size')


def teacher_info(dialect: str, tower: str, towers: Tuple[str, ...],
                 weights: Mapping) -> TeacherInfo:
    """Collect what is known of a teacher.

    Args:
        dialect (str): Name of the dialect.
        tower (str): The tower that is read.
        towers (Tuple[str, ...]): All that the file holds.
        weights (Mapping): The file; may have ``configs``.

    Returns:
        TeacherInfo: The description.
    """
    configs: Dict[str, dict] = getattr(weights, 'configs', {})
    fields = dict(
        norm='rms' if (dialect, tower) in (('LLaMA', 'text'),
                                           ('LLaVA', 'text')) else 'layer',
        norm_first=dialect != 'BERT',
        activation=_ACTIVATIONS.get(dialect))
    if dialect == 'LLaVA' and tower == 'text':
        fields['activation'] = 'silu'
    if dialect == 'open_clip':
        fields.update(_from_open_clip(configs, tower, weights))
    elif dialect == 'timm':
        fields.update(_from_timm(configs.get('config.json', {})))
    elif 'config.json' in configs:
        fields.update(
            _from_hugging_face(configs['config.json'], dialect, tower))
    fields.update(_pixels(configs))
    if tower != 'vision':
        fields.update(mean=None, std=None)
    return TeacherInfo(dialect, tower, towers, **fields)


def _from_hugging_face(config: dict, dialect: str, tower: str) -> dict:
    """Read ``config.json``, whose towers may have a dict of their own.

    In the files of LLaVA's authors it is the language model's.
    """
    own = config.get(f'{tower}_config')
    if isinstance(own, dict):
        config = own
    elif dialect == 'LLaVA' and tower != 'text':
        return {}
    activation, heads = _LEFT_OUT.get((dialect, tower), (None, None))
    if str(config.get('model_type', '')).startswith('siglip'):
        activation = 'gelu_pytorch_tanh'
    heads = config.get('num_attention_heads', heads)
    return dict(
        activation=config.get('hidden_act', activation),
        num_heads=heads,
        num_kv_heads=config.get('num_key_value_heads') or heads)


def _from_timm(config: dict) -> dict:
    name = str(config.get('architecture', ''))
    return dict(activation='quick_gelu') if 'quickgelu' in name else {}


def _from_open_clip(configs: dict, tower: str, weights: Mapping) -> dict:
    """Read ``open_clip_config.json``, or know OpenAI's files by their names.
    """
    config = configs.get('open_clip_config.json', {}).get('model_cfg')
    if not isinstance(config, dict):
        keys = [key.split('.') for key in weights]
        is_openai = any('clip' in k[:2] or k[-1] in _OPENAI for k in keys)
        return dict(activation='quick_gelu' if is_openai else None)
    own = config.get('vision_cfg' if tower == 'vision' else 'text_cfg', {})
    heads = own.get('heads', 8)
    if tower == 'vision':
        heads = own.get('width', 768) // own.get('head_width', 64)
    activation = 'quick_gelu' if config.get('quick_gelu') else 'gelu'
    return dict(activation=activation, num_heads=heads, num_kv_heads=heads)


def _pixels(configs: Dict[str, dict]) -> dict:
    """Find the normalisation; of timm and open_clip it is in their config."""
    processor = configs.get('preprocessor_config.json', {})
    if processor.get('do_normalize') is False:
        return dict(mean=(0., 0., 0.), std=(1., 1., 1.))
    clip = configs.get('open_clip_config.json', {}).get('preprocess_cfg')
    timm = configs.get('config.json', {}).get('pretrained_cfg')
    places = ((processor, 'image_mean', 'image_std'), (clip, 'mean', 'std'),
              (timm, 'mean', 'std'))
    for place, mean, std in places:
        if isinstance(place, dict) and mean in place and std in place:
            return dict(mean=_floats(place[mean]), std=_floats(place[std]))
    return {}


def _floats(values: Any) -> Optional[Tuple[float, ...]]:
    if not isinstance(values, (list, tuple)):
        return None
    return tuple(float(value) for value in values)
