from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from torch import Tensor

#: Entries that hold weights, in the order in which they are looked for.
WEIGHT_KEYS = ('model', 'state_dict', 'module', 'model_ema', 'ema')
#: Prefixes that wrappers put before every name.
_WRAPPER_PREFIXES = ('module.', 'backbone.', 'encoder.')
#: The part of a larger model that is a backbone.
_ENCODER_PREFIX = 'vision_encoder.'
#: Parts of detectors and segmentors.
_TASK_PREFIXES = ('neck.', 'rpn_head.', 'roi_head.', 'bbox_head.',
                  'decode_head.', 'auxiliary_head.')


class Weights(NamedTuple):
    """Weights found in a file.

    Args:
        state (Dict[str, Tensor]): Names without wrapper prefixes -> tensors.
        key (str): Entry of the file that held them, or '' for the file.
        other_keys (Tuple[str, ...]): Further entries that hold weights.
        dropped (Tuple[str, ...]): Names left out: parts of a larger model
            and copies that a moving average keeps.
    """
    state: Dict[str, Tensor]
    key: str
    other_keys: Tuple[str, ...]
    dropped: Tuple[str, ...]


def find_weights(content: Any, key: Optional[str] = None) -> Weights:
    """Find the state dict in what a file holds, and strip its wrappers.

    Args:
        content (Any): The content of a file.
        key (str, optional): Entry to take, for example 'model_ema'. None
            takes the first of :data:`WEIGHT_KEYS`. Defaults to None.

    Returns:
        Weights: State dict and where it was.

    Raises:
        ValueError: There are no weights, or not under ``key``.
    """
    if not isinstance(content, dict):
        raise ValueError(
            f'the file holds a {type(content).__name__}, but a state dict, or '
            f'a dict with one of the entries {list(WEIGHT_KEYS)}, is expected')
    found = [k for k in WEIGHT_KEYS if _is_state(content.get(k))]
    if key is not None and not _is_state(content.get(key)):
        raise ValueError(f'the file has no weights under {key!r}; it has '
                         f'them under {found or "no entry"}')
    if key is None and found:
        key = found[0]
    if key is None and not _is_state(content):
        raise ValueError(
            f'the file holds the entries {_some(content)}, but none of '
            f'{list(WEIGHT_KEYS)} with tensors inside')
    state = content if key is None else content[key]
    others = tuple(k for k in found if k != key)
    names, dropped = _strip(list(state))
    tensors = _tensors(state, names)
    return Weights(tensors, key or '', others, tuple(dropped))


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and any(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _some(names: Any) -> List[str]:
    names = sorted(map(str, names))
    return names[:6] + ['...'] * (len(names) > 6)


def _strip(names: List[str]) -> Tuple[Dict[str, str], List[str]]:
    """Map full names to names without prefixes; list those to drop."""
    short = {n: n for n in names if isinstance(n, str)}
    if short and all(n.startswith('module.') for n in short):
        short = {n: s[len('module.'):] for n, s in short.items()}
    if any(s.startswith(_ENCODER_PREFIX) for s in short.values()):
        short = {
            n: s[len(_ENCODER_PREFIX):]
            for n, s in short.items() if s.startswith(_ENCODER_PREFIX)
        }
    for prefix in _WRAPPER_PREFIXES:
        short = {
            n: s[len(prefix):] if s.startswith(prefix) else s
            for n, s in short.items()
        }
    short = {n: s for n, s in short.items() if not _is_extra(s)}
    return short, [str(n) for n in names if n not in short]


def _is_extra(name: str) -> bool:
    """Tell whether a weight is part of a larger model, or a copy that MMCV's
    moving average keeps."""
    return name.startswith(('ema_', *_TASK_PREFIXES))


def _tensors(state: dict, names: Dict[str, str]) -> Dict[str, Tensor]:
    wrong = [n for n in names if not isinstance(state[n], Tensor)]
    if wrong:
        raise ValueError(
            f'the entries {_some(wrong)} of the state dict are no tensors, '
            f'but {type(state[wrong[0]]).__name__}')
    if len(set(names.values())) != len(names):
        raise ValueError('two weights of the file have the same name once '
                         'the prefixes are removed')
    return {short: state[full] for full, short in names.items()}
