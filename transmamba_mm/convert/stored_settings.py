"""What an official file says, beside the weights, about its own model.

Some settings leave no trace in names and shapes. Where a file still holds the
arguments or the config of its training, they are compared with what this
package builds; where it does not, nothing is checked.
"""
import re
from typing import Any, Dict, Optional

from .inert_pickle import Inert

#: VMamba's names for its cross scan, without the tags that say how the gate
#: and the precision are handled; the others scan in another way.
_CROSS_SCANS = ('v0', 'v0seq', 'v01', 'v02', 'v03', 'v04', 'v05', 'v2', 'v3')
_HARMLESS_TAGS = re.compile(r'_(noz|no32)(?=_|$)')
_ACTIVATIONS = dict(SSM_ACT_LAYER='silu', MLP_ACT_LAYER='gelu')


def training_model(content: Any) -> Optional[str]:
    """Read the model's name that the official training stored in a file.

    Args:
        content (Any): The content of a file.

    Returns:
        Optional[str]: ``args.model``, or None if it is not there.
    """
    name = _entries(_entries(content).get('args')).get('model')
    return name if isinstance(name, str) else None


def check_settings(content: Any, family: str) -> None:
    """Refuse a model that this package cannot compute.

    Args:
        content (Any): The content of a file.
        family (str): The family that its weights were recognised as.

    Raises:
        ValueError: The file says that its model works in another way.
    """
    if family == 'vim':
        _check_vim(training_model(content))
    if family == 'vmamba':
        config = _entries(_entries(content).get('config'))
        _check_vmamba(_entries(_entries(config.get('MODEL')).get('VSSM')))


def _entries(value: Any) -> Dict[Any, Any]:
    """Give the entries of a dict, or of what stands for an object."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Inert):
        return {}
    state = value.state if isinstance(value.state, dict) else {}
    return {**state, **value.entries}


def _check_vim(name: Optional[str]) -> None:
    """Vim's long model names tell how the directions are merged."""
    if name is None or not name.startswith('vim_') or 'bimamba' not in name:
        return
    if not re.search('midclstok|middle_cls_token', name) or 'div2' not in name:
        raise ValueError(
            f'the file says that it was trained as {name!r}, but this package '
            'computes Vim with the class token in the middle and averaged '
            'directions, whose names hold "midclstok" and "div2"')


def _check_vmamba(settings: Dict[Any, Any]) -> None:
    scan = settings.get('SSM_FORWARDTYPE')
    if isinstance(scan, str) and _HARMLESS_TAGS.sub('',
                                                    scan) not in _CROSS_SCANS:
        raise ValueError(
            f'the file says SSM_FORWARDTYPE={scan!r}, but this package '
            'computes VMamba with the cross scan and a norm after it: '
            f'{list(_CROSS_SCANS)}, with or without "_noz" and "_no32"')
    for key, expected in _ACTIVATIONS.items():
        found = settings.get(key, expected)
        if isinstance(found, str) and found.lower() != expected:
            raise ValueError(f'the file says {key}={found!r}, but this '
                             f'package computes VMamba with {expected!r}')
