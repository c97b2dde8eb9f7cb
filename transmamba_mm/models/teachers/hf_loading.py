"""Load a network of the Transformers library, from a folder or by name."""
import difflib
import inspect
import logging
import os
import os.path as osp
import pickle
import re
from typing import Any, Dict, Iterable, Optional, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from transmamba_mm.utils.towers import tower_name
from transmamba_mm.utils.weight_files import WeightFile
from .teacher_weights import (WHERE, open_teacher_weights, quantised_error,
                              refuse_non_finite)

#: Towers of the composite models, the one taken by default first; LLaVA has
#: no default.
TOWERS: Dict[str, Tuple[str, ...]] = {
    'clip': ('vision', 'text'),
    'siglip': ('vision', 'text'),
    'llava': ('text', 'vision'),
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
        pretrained,
        transformers.AutoConfig.from_pretrained,
        pretrained,
        trust_remote_code=False,
        **local)
    _check_config(config, pretrained)
    weights = _open_folder(pretrained)
    tower = pick_tower(config, tower)
    source: Optional[str] = pretrained
    state = read_tower(weights, tower) if \
        config.model_type == 'llava' and weights is not None else None
    if state:  # the tower alone, since a whole LLaVA is large
        source, config = None, getattr(config, f'{tower}_config')
        local = dict(config=config, state_dict=state)
    build, arguments = _builder(transformers, config, tower)
    model, info = _guard(
        pretrained,
        build.from_pretrained,
        source,
        output_loading_info=True,
        torch_dtype=dtype,
        weights_only=True,
        **arguments,
        **local)
    _check_missing(model, info['missing_keys'], pretrained)
    _tell_surplus(info['unexpected_keys'], tower, pretrained)
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
            'The Transformers library is needed, but not '
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


def pick_tower(config: Any, tower: Optional[str]) -> Optional[str]:
    """Check which tower of a model is asked for.

    Args:
        config (Any): The model's config.
        tower (str, optional): What is asked for.

    Returns:
        str, optional: The tower, None for a model of one tower.

    Raises:
        ValueError: If the model has no such tower, or must be told one.
    """
    model_type, tower = config.model_type, tower_name(tower)
    allowed = TOWERS.get(model_type)
    if allowed is None:
        own = 'text' if hasattr(config, 'vocab_size') else 'vision'
        if tower not in (None, own):
            raise ValueError(
                f"tower='{tower}', but a {model_type} model is one network, "
                f"the tower '{own}'; leave `tower` out of {WHERE}.")
        return None
    if tower is None and model_type != 'llava':
        return allowed[0]
    if tower not in allowed:
        raise ValueError(f'tower={tower!r}, but a {model_type} model has the '
                         f'towers {allowed}; change `tower` in {WHERE}.')
    return tower


def read_tower(weights: WeightFile, tower: str) -> Dict[str, Tensor]:
    """Read the weights of one tower of a LLaVA, and leave the rest unread.

    Args:
        weights (WeightFile): The weights of the whole.
        tower (str): 'text' or 'vision'.

    Returns:
        Dict[str, Tensor]: Weights under the names of the tower alone; empty
        if there are none.
    """
    names = {_tower_key(key, tower): key for key in weights}
    found = {name: weights[key] for name, key in names.items() if name}
    if 'embeddings.class_embedding' in found and _is_old():
        # version 5 writes the names without this part, and reads both
        found = {f'vision_model.{k}': v for k, v in found.items()}
    return found


def _is_old() -> bool:
    return int(import_transformers().__version__.split('.')[0]) < 5


def _tower_key(key: str, tower: str) -> Optional[str]:
    """Return a tensor's name in a tower, None if it is not of it."""
    if tower == 'vision':
        match = re.fullmatch(r'(?:model\.)?vision_tower\.(.+)', key)
        return match and match[1]
    if key.startswith('model.language_model.'):  # new names
        return 'model.' + key[len('model.language_model.'):]
    if key.startswith('language_model.'):
        return key[len('language_model.'):]
    return key if key.startswith('lm_head.') else None


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


def _open_folder(pretrained: str) -> Optional[WeightFile]:
    """Open the weights of a folder, None of a name on the hub."""
    if not osp.isdir(pretrained):
        return None
    weights = open_teacher_weights(pretrained, f'`pretrained` in {WHERE}')
    small = ('I8', 'U8', 'F8', 'torch.float8')
    odd = [
        f'{key} ({weights.dtype(key)})' for key in weights
        if weights.dtype(key).startswith(small)
    ]
    if odd:
        raise quantised_error(odd, pretrained)
    return weights


def _guard(pretrained: str, load: Any, source: Optional[str], **kwargs) -> Any:
    """Call a loader of the library, and explain what goes wrong."""
    try:
        return load(source, **kwargs)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"The weights of '{pretrained}' hold more than tensors, and "
            f'loading them would run code, or are damaged: {error} Change '
            f'`pretrained` in {WHERE}.') from error
    except OSError as error:
        raise FileNotFoundError(
            f"The model '{pretrained}' cannot be read: {error} A name on the "
            'hub needs the network, or a copy in its cache; a folder needs '
            f'config.json and weights. Change `pretrained` in {WHERE}.'
        ) from error
    except Exception as error:  # each version of the library has its own
        wrong = re.findall(r'size mismatch for (.*)', str(error))
        if wrong:
            raise ValueError(
                f"The weights of '{pretrained}' do not fit its config.json: "
                f'{len(wrong)} tensors of another shape, such as {wrong[0]} '
                f'Change `pretrained` in {WHERE}.') from error
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


def _check_missing(model: nn.Module, names: Iterable[str],
                   pretrained: str) -> None:
    """Refuse a network that is partly random."""
    missing = sorted(name for name in names if 'position_ids' not in name)
    if missing:
        raise ValueError(
            f"The weights of '{pretrained}' do not fit "
            f'{type(model).__name__}: {len(missing)} tensors missing '
            f'{missing[:4]}. Change `pretrained` in {WHERE}.')


def _tell_surplus(names: Iterable[str], tower: Optional[str],
                  pretrained: str) -> None:
    """Log what of the file is not used, but for poolers and other towers."""
    surplus = sorted(
        name for name in names
        if 'position_ids' not in name and 'pooler.' not in name and (
            tower is None or name.startswith(f'{tower}_model.')))
    if surplus:
        print_log(
            f"{len(surplus)} tensors of '{pretrained}' have no place in the "
            f'network that its config.json describes, and are left out: '
            f'{surplus[:4]}.',
            logger='current',
            level=logging.WARNING)


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
    causal = getattr(transformers, 'MODEL_FOR_CAUSAL_LM_MAPPING', {})
    if tower == 'text' and type(config) in causal:
        return causal[type(config)], {}
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
    if tower is None and name not in ('', bare.__name__):
        print_log(
            f'Of {name}, {bare.__name__} without a head is '
            'taken: it has no logits.',
            logger='current')
    return bare, dict(add_pooling_layer=False) if pooled else {}


def _llava_tower(model: nn.Module, tower: str) -> nn.Module:
    """Take a tower out of a LLaVA, old or new, and let the rest go."""
    name = 'language_model' if tower == 'text' else 'vision_tower'
    inner = model if hasattr(model, name) else model.model
    return getattr(inner, name)
