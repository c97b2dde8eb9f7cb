"""Load a network of the Transformers library, from a folder or by name."""
import difflib
import inspect
import os
import os.path as osp
from typing import Any, Dict, Optional, Tuple

import torch
from mmengine.logging import print_log
from torch import nn

from .teacher_inputs import refuse_non_finite

WHERE = 'the `teacher` of BidirectionalDistillHook in custom_hooks'
#: Towers of the composite models, the one taken by default first; LLaVA has
#: no default.
TOWERS: Dict[str, Tuple[str, ...]] = {
    'clip': ('vision', 'text'),
    'siglip': ('vision', 'text'),
    'llava': ('language', 'vision'),
}
#: Architectures whose head gives logits; of any other, the bare network is
#: taken.
_HEADS = ('ForImageClassification', 'ForImageClassificationWithTeacher',
          'ForCausalLM', 'LMHeadModel')


def load_hf_model(pretrained: str,
                  tower: Optional[str] = None,
                  dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a network, or one tower of a composite one.

    Code that comes with a model is never run, and pickled weights are read as
    weights only. A folder is read without the network, as is the hub's cache
    where ``HF_HUB_OFFLINE`` is set.

    Args:
        pretrained (str): A folder as ``save_pretrained`` writes it, or a
            name on the hub.
        tower (str, optional): See :class:`HFTeacher`. Defaults to None.
        dtype (torch.dtype): Precision of the weights. Defaults to
            ``torch.float32``.

    Returns:
        nn.Module: The network, with its ``config``.

    Raises:
        FileNotFoundError: If there is no such folder or model.
        ValueError: If the model cannot be read, is quantised, or lacks
            weights; or if there is no such tower.
        ImportError: If the Transformers library is not installed.
    """
    transformers = import_transformers()
    pretrained = osp.expanduser(pretrained)
    local = dict(local_files_only=is_offline(pretrained))
    _check_folder(pretrained)
    config = _guard(
        transformers.AutoConfig.from_pretrained,
        pretrained,
        trust_remote_code=False,
        **local)
    _check_config(config, pretrained)
    tower = pick_tower(config.model_type, tower)
    build, arguments = _builder(transformers, config, tower)
    model, info = _guard(
        build.from_pretrained,
        pretrained,
        output_loading_info=True,
        torch_dtype=dtype,
        weights_only=True,
        **arguments,
        **local)
    missing = [k for k in info['missing_keys'] if 'position_ids' not in k]
    if missing:
        raise ValueError(
            f"The weights of '{pretrained}' do not fit "
            f'{type(model).__name__}: {len(missing)} tensors missing '
            f'{sorted(missing)[:4]}. Change `pretrained` in {WHERE}.')
    if config.model_type == 'llava':
        model = _llava_tower(model, tower)
    refuse_non_finite(model, pretrained)
    if getattr(model.config, 'use_cache', False):
        model.config.use_cache = False
    return model


def import_transformers() -> Any:
    """Import the Transformers library, or say how to install it.

    Returns:
        Any: The library.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            'HFTeacher needs the Transformers library, which is not '
            "installed. Run: pip install 'transformers>=4.49,<6'") from error
    return transformers


def is_offline(pretrained: str) -> bool:
    """Tell whether a model is to be read without the network.

    Args:
        pretrained (str): Folder, or name on the hub.

    Returns:
        bool: True for a folder, and where ``HF_HUB_OFFLINE`` or
        ``TRANSFORMERS_OFFLINE`` is set.
    """
    told = (
        os.environ.get(name, '').upper()
        for name in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'))
    return osp.isdir(pretrained) or any(
        value in ('1', 'ON', 'YES', 'TRUE') for value in told)


def pick_tower(model_type: str, tower: Optional[str]) -> Optional[str]:
    """Check which tower of a model is asked for.

    Args:
        model_type (str): Kind of the model, as its config says.
        tower (str, optional): What is asked for.

    Returns:
        str, optional: The tower, None for a model of one tower.

    Raises:
        ValueError: If the model has no such tower, or must be told one.
    """
    allowed = TOWERS.get(model_type)
    if allowed is None:
        if tower is not None:
            raise ValueError(
                f"tower='{tower}', but a {model_type} model is one network; "
                f'leave `tower` out of {WHERE}.')
        return None
    if tower is None and model_type != 'llava':
        return allowed[0]
    if tower not in allowed:
        raise ValueError(f'tower={tower!r}, but a {model_type} model has the '
                         f'towers {allowed}; change `tower` in {WHERE}.')
    return tower


def _check_folder(pretrained: str) -> None:
    """Refuse a path that is no folder of a model."""
    if osp.isdir(pretrained):
        if osp.isfile(osp.join(pretrained, 'config.json')):
            return
        hint = ''
        if osp.isfile(osp.join(pretrained, 'open_clip_config.json')):
            hint = ' Is it of open_clip? Use OpenCLIPTeacher.'
        raise FileNotFoundError(
            f"The folder '{pretrained}' holds no config.json, but "
            f'{sorted(os.listdir(pretrained))[:6]}.{hint} Change `pretrained` '
            f'in {WHERE} to a folder that `save_pretrained` has written.')
    if osp.isfile(pretrained):
        raise ValueError(
            f"'{pretrained}' is a file; give the folder that holds it and "
            f'its config.json as `pretrained` in {WHERE}.')
    if pretrained.startswith(('.', os.sep)) or pretrained.count('/') > 1:
        parent = osp.dirname(pretrained.rstrip(os.sep)) or os.curdir
        near = difflib.get_close_matches(
            osp.basename(pretrained.rstrip(os.sep)),
            os.listdir(parent) if osp.isdir(parent) else [],
            n=3)
        raise FileNotFoundError(
            f"No folder '{pretrained}'; change `pretrained` in {WHERE}" +
            (f", perhaps to one of {near} in '{parent}'." if near else '.'))


def _guard(load: Any, pretrained: str, **kwargs) -> Any:
    """Call a loader of the library, and explain what goes wrong."""
    try:
        return load(pretrained, **kwargs)
    except OSError as error:
        raise FileNotFoundError(
            f"The model '{pretrained}' cannot be read: {error} A name on the "
            'hub needs the network, or a copy in its cache; a folder needs '
            f'config.json and weights. Change `pretrained` in {WHERE}.'
        ) from error
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"The model '{pretrained}' cannot be loaded: {error} Code that "
            'comes with a model is never run; if it needs such code, or a '
            'newer Transformers library, it cannot teach. Otherwise change '
            f'`pretrained` in {WHERE}.') from error


def _check_config(config: Any, pretrained: str) -> None:
    """Refuse quantised weights."""
    for part in (config, getattr(config, 'text_config', None)):
        quantised = getattr(part, 'quantization_config', None)
        if quantised:
            method = dict(quantised).get('quant_method', 'unknown')
            raise ValueError(
                f"'{pretrained}' holds quantised weights ({method}), which "
                'give neither exact features nor weights to copy; change '
                f'`pretrained` in {WHERE} to the same model in float32, '
                'float16 or bfloat16.')


def _builder(transformers: Any, config: Any,
             tower: Optional[str]) -> Tuple[Any, dict]:
    """Choose the class to load, and arguments of its own."""
    names = list(getattr(config, 'architectures', None) or [])
    name = names[0] if names else ''
    if config.model_type == 'clip':
        projected = 'Model' == name[len('CLIP'):] or 'Projection' in name
        name = f'CLIP{tower.capitalize()}Model' + \
            ('WithProjection' if projected or not name else '')
        return getattr(transformers, name), {}
    if config.model_type == 'siglip':
        return getattr(transformers, f'Siglip{tower.capitalize()}Model'), {}
    known = name.endswith(_HEADS) or name.endswith('WithProjection') or \
        config.model_type == 'llava'
    if known and hasattr(transformers, name):
        return getattr(transformers, name), {}
    bare = transformers.MODEL_MAPPING.get(type(config), None)
    if bare is None:
        raise ValueError(
            f'A model of the kind {config.model_type!r} has no network that '
            f'gives features; change `pretrained` in {WHERE}.')
    pooled = 'add_pooling_layer' in inspect.signature(bare.__init__).parameters
    print_log(
        f'Of {name or "the model"}, {bare.__name__} without a head is taken: '
        'it has no logits.',
        logger='current')
    return bare, dict(add_pooling_layer=False) if pooled else {}


def _llava_tower(model: nn.Module, tower: str) -> nn.Module:
    """Take a tower out of a LLaVA, old or new, and let the rest go."""
    name = 'language_model' if tower == 'language' else 'vision_tower'
    inner = model if hasattr(model, name) else model.model
    return getattr(inner, name)
