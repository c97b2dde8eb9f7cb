"""Load one tower of an open_clip model, with the activation it needs."""
import difflib
import json
import logging
import os
import os.path as osp
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Tuple

from mmengine.logging import print_log
from torch import Tensor, nn

from .teacher_weights import (open_teacher_weights, read_teacher_weights,
                              refuse_non_finite, refuse_quantised)

State = Dict[str, Tensor]
WHERE = 'the OpenCLIPTeacher in custom_hooks'
#: Entries that only OpenAI's own files have beside the weights.
_OPENAI_MARKS = ('input_resolution', 'context_length', 'vocab_size')
_WEIGHT_ENDINGS = ('.safetensors', '.bin', '.pth', '.pt')


def load_tower(model_name: str,
               pretrained: Optional[str],
               tower: str,
               quick_gelu: Optional[bool] = None,
               image_size: Optional[Tuple[int, int]] = None) -> nn.Module:
    """Build an open_clip model, load its weights and keep one tower.

    Args:
        model_name (str): Name of an architecture, a folder with
            open_clip_config.json, or 'hf-hub:NAME'.
        pretrained (str, optional): Weights file or tag; None takes the
            weights of the folder or of the hub's repository.
        tower (str): 'visual' or 'text'.
        quick_gelu (bool, optional): See :class:`OpenCLIPTeacher`. Defaults to
            None.
        image_size (Tuple[int, int], optional): Size for which the position
            embedding is resized. Defaults to None.

    Returns:
        nn.Module: The tower.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If there is no such architecture, or the weights do not
            fit it.
        ImportError: If open_clip is not installed.
    """
    open_clip = import_open_clip()
    folder = _folder(model_name)
    if folder:
        model_name = f'local-dir:{folder}'
        pretrained = pretrained or _weights_in(folder)
    config = _config(open_clip, model_name, folder)
    state, tag = None, None
    if pretrained and osp.isfile(osp.expanduser(pretrained)):
        state = read_teacher_weights(pretrained, f'`pretrained` in {WHERE}')
    elif pretrained:
        tag = _check_tag(open_clip, model_name, pretrained)
    elif not model_name.startswith('hf-hub:'):
        raise ValueError(f'OpenCLIPTeacher needs `pretrained`: a weights file '
                         f"or a tag of '{model_name}'.")
    wants_quick = _is_openai(state) if state is not None else tag and \
        tag.get('quick_gelu', False)
    later = state is not None and 'timm_model_name' in (config or {}).get(
        'vision_cfg', {})
    arguments = dict(
        force_image_size=None if later else image_size, pretrained_text=False)
    quick = choose_activation(config, wants_quick, tag is not None, quick_gelu,
                              model_name, pretrained)
    if quick is not None:
        arguments['quick_gelu'] = quick
    model = _create(
        open_clip,
        model_name,
        pretrained=pretrained if tag is not None else None,
        load_weights=state is None,
        require_pretrained=state is None,
        weights_only=True,
        force_custom_text=tower == 'text',
        **arguments)
    if state is not None:
        _load(model, state, tower, pretrained)
        print_log(
            f"The {tower} tower is loaded from '{pretrained}'.",
            logger='current')
    network = getattr(model, tower)
    if later and image_size is not None:
        network.set_input_size(image_size)
    refuse_non_finite(network, pretrained or model_name)
    return network


def learned_scale(model_name: str, pretrained: Optional[str]) -> float:
    """Read the factor on the cosines from a weights file.

    Args:
        model_name (str): See :func:`load_tower`.
        pretrained (str, optional): See :func:`load_tower`.

    Returns:
        float: The factor; 0 if there is no file, or it does not tell.
    """
    folder = _folder(model_name)
    path = osp.expanduser(
        pretrained or (_weights_in(folder) if folder else ''))
    if not osp.isfile(path):
        return 0.
    weights = open_teacher_weights(path, f'`pretrained` in {WHERE}')
    for name in ('logit_scale', 'clip.logit_scale'):
        if name in weights:
            return weights[name].float().exp().item()
    return 0.


def import_open_clip() -> Any:
    """Import open_clip, or say how to install it.

    Returns:
        Any: The library.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ImportError(
            'OpenCLIPTeacher needs open_clip, which is not installed. Run: '
            "pip install 'open_clip_torch>=3.3,<4'") from error
    return open_clip


def choose_activation(config: Optional[dict], wants_quick: Optional[bool],
                      is_tag: bool, told: Optional[bool], model_name: str,
                      source: Optional[str]) -> Optional[bool]:
    """Choose GELU or QuickGELU, whose mix-up nothing else would notice.

    Args:
        config (dict, optional): The architecture, None if not known yet.
        wants_quick (bool, optional): Whether the weights were trained with
            QuickGELU; False of a file says nothing.
        is_tag (bool): Whether the weights are known by a tag.
        told (bool, optional): What the user says.
        model_name (str): For messages.
        source (str, optional): The weights, for messages.

    Returns:
        bool, optional: Whether to build with QuickGELU; None leaves it to
        the architecture.

    Raises:
        ValueError: If the user's word, or the architecture, contradicts the
            weights.
    """
    if told is not None:
        if wants_quick and not told:
            raise ValueError(
                f"The weights '{source}' are OpenAI's, which need QuickGELU, "
                f'but quick_gelu=False; leave it out of {WHERE}.')
        return told
    if config is None:
        return None
    has_quick = bool(config.get('quick_gelu', False))
    if wants_quick and not has_quick:
        print_log(
            f"The weights '{source}' were trained with QuickGELU, and "
            f"'{model_name}' has GELU: QuickGELU is used.",
            logger='current')
        return True
    if is_tag and has_quick and not wants_quick:
        raise ValueError(
            f"The weights '{source}' were trained with GELU, and "
            f"'{model_name}' has QuickGELU; set model_name="
            f"'{model_name.replace('-quickgelu', '')}' in {WHERE}.")
    return None


def _folder(model_name: str) -> Optional[str]:
    """Return the folder that a model name means, if it is one."""
    told = model_name.startswith('local-dir:')
    path = osp.expanduser(model_name[len('local-dir:') if told else 0:])
    if not told and not osp.isdir(path):
        return None
    if not osp.isfile(osp.join(path, 'open_clip_config.json')):
        raise FileNotFoundError(
            f"'{path}' holds no open_clip_config.json; change `model_name` in "
            f'{WHERE} to a folder as open_clip writes it. A folder with '
            'config.json is one for HFTeacher.')
    return path


def _weights_in(folder: str) -> str:
    """Return the weights file of a folder."""
    names = [
        n for n in sorted(os.listdir(folder)) if n.endswith(_WEIGHT_ENDINGS)
    ]
    # beside them there may be the same weights for another library
    names.sort(key=lambda n: (not n.startswith('open_clip'),
                              _WEIGHT_ENDINGS.index(osp.splitext(n)[1])))
    if not names:
        raise FileNotFoundError(
            f"'{folder}' holds no weights ({', '.join(_WEIGHT_ENDINGS)}); "
            f'give them as `pretrained` in {WHERE}.')
    return osp.join(folder, names[0])


def _config(open_clip: Any, model_name: str,
            folder: Optional[str]) -> Optional[dict]:
    """Return the architecture, None for one on the hub."""
    if folder:
        with open(osp.join(folder, 'open_clip_config.json')) as file:
            return json.load(file).get('model_cfg', {})
    if model_name.startswith('hf-hub:'):
        return None
    config = open_clip.get_model_config(model_name.replace('/', '-'))
    if config is None:
        near = difflib.get_close_matches(model_name, open_clip.list_models())
        raise ValueError(
            f"open_clip has no model '{model_name}', and it is no folder; the "
            f'nearest names are {near}. Change `model_name` in {WHERE}.')
    return config


def _check_tag(open_clip: Any, model_name: str, tag: str) -> dict:
    """Return what open_clip knows about a tag."""
    model_name = model_name.replace('/', '-')
    known = open_clip.list_pretrained_tags_by_model(model_name)
    found = open_clip.get_pretrained_cfg(model_name, tag)
    if not found:
        raise FileNotFoundError(
            f"'{tag}' is neither a file nor a tag of '{model_name}', whose "
            f'tags are {known}; change `pretrained` in {WHERE}.')
    return found


def _is_openai(state: State) -> bool:
    """Tell OpenAI's weights, also inside a CLIP4Clip, from others."""
    return any(k in _OPENAI_MARKS for k in state) or any(
        k.startswith('clip.visual.') for k in state)


def _create(open_clip: Any, model_name: str, **kwargs) -> nn.Module:
    """Build, and explain what goes wrong."""
    try:
        with _no_warnings(not kwargs['load_weights']):
            return open_clip.create_model(model_name, **kwargs)
    except (RuntimeError, OSError, ValueError) as error:
        kind = FileNotFoundError if kwargs['load_weights'] else ValueError
        raise kind(
            f"The open_clip model '{model_name}' cannot be had: {error} A tag "
            'or a name on the hub needs the network, or a copy in its cache. '
            f'Change `model_name` or `pretrained` in {WHERE}.') from error


@contextmanager
def _no_warnings(hide: bool) -> Iterator[None]:
    """Hide that a model is random whose weights are still to be loaded."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not hide

    logging.getLogger().addFilter(is_shown)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_shown)


def _load(model: nn.Module, state: State, tower: str, source: str) -> None:
    """Load the weights of one tower, all of them."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import (convert_to_custom_text_state_dict,
                                 resize_pos_embed)
    if any(k.startswith('clip.visual.') for k in state):
        state = {
            k[len('clip.'):]: v
            for k, v in state.items() if k.startswith('clip.')
        }
    state = {k: v for k, v in state.items() if k not in _OPENAI_MARKS}
    state = convert_state_dict(model, state)
    if tower == 'text':
        state = convert_to_custom_text_state_dict(state)
    else:
        resize_pos_embed(state, model)
    network = getattr(model, tower)
    own = network.state_dict()
    state = {
        k[len(tower) + 1:]: v
        for k, v in state.items() if k.startswith(f'{tower}.')
    }
    refuse_quantised(state, own, source)
    missing = [k for k in own if k not in state]
    wrong = [
        f'{k}: {tuple(state[k].shape)} in the file, {tuple(v.shape)} here'
        for k, v in own.items() if k in state and state[k].shape != v.shape
    ]
    surplus = [k for k in state if k not in own]
    if missing or wrong or surplus:
        raise ValueError(
            f"The weights '{source}' do not fit the {tower} tower: "
            f'{len(missing)} tensors missing {missing[:3]}, {len(wrong)} of '
            f'another shape {wrong[:3]}, {len(surplus)} not known '
            f'{surplus[:3]}. Change `model_name` or `pretrained` in {WHERE}.')
    network.load_state_dict(state)
