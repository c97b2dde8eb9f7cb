from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from torch import Tensor

State = Dict[str, Tensor]


@dataclass(frozen=True)
class Recognition:
    """What a file was recognised as.

    Args:
        family (str): 'vim', 'plainmamba', 'vmamba' or 'videomamba'.
        size (str): Name of the arch, or 'custom'.
        era (str): Which naming of the official code the file has.
        backbone (Dict[str, Any]): Config of the backbone that it fits.
        features (int): Width of the features that the head takes.
        num_classes (Optional[int]): Rows of the head; None without a head.
        config (Optional[str]): Path of the model config in this repository;
            None for a custom size.
        remark (str): Anything a user should know. Defaults to ''.
    """
    family: str
    size: str
    era: str
    backbone: Dict[str, Any]
    features: int
    num_classes: Optional[int]
    config: Optional[str]
    remark: str = ''


def shape_of(state: State, key: str) -> Tuple[int, ...]:
    """Return the shape of a weight.

    Args:
        state (State): Official names -> tensors.
        key (str): Name of the weight.

    Returns:
        Tuple[int, ...]: Its shape.

    Raises:
        ValueError: The weight is not there.
    """
    if key not in state:
        raise ValueError(f'the file lacks the weight {key!r}, which every '
                         'checkpoint of this family has')
    return tuple(state[key].shape)


def count_children(state: State, prefix: str) -> int:
    """Count numbered children, such as the layers of a model.

    Args:
        state (State): Official names -> tensors.
        prefix (str): What stands before the number, for example 'layers.'.

    Returns:
        int: One more than the largest number.

    Raises:
        ValueError: A number is missing in between.
    """
    numbers = {
        int(k[len(prefix):].split('.')[0])
        for k in state
        if k.startswith(prefix) and k[len(prefix):].split('.')[0].isdigit()
    }
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if missing:
        raise ValueError(f'the file has {prefix}0 to {prefix}{max(numbers)}, '
                         f'but lacks {[prefix + str(i) for i in missing]}')
    return len(numbers)


def square_side(length: int, extra: int) -> Optional[int]:
    """Return the side of the square grid of a position embedding.

    Args:
        length (int): Number of positions.
        extra (int): Number of them that are no patches.

    Returns:
        Optional[int]: Patches a side, None if the grid is no square.
    """
    side = round(max(0, length - extra)**0.5)
    return side if side * side + extra == length else None


def find_arch(zoo: Dict[str, dict], arch: dict,
              defaults: dict) -> Optional[str]:
    """Find the name of an arch by its settings.

    Args:
        zoo (Dict[str, dict]): Name -> settings, a backbone's ``arch_zoo``.
        arch (dict): The settings looked for.
        defaults (dict): What a missing setting means.

    Returns:
        Optional[str]: The first name that fits, or None.
    """
    wanted = _normal({**defaults, **arch})
    for name, settings in zoo.items():
        if _normal({**defaults, **settings}) == wanted:
            return name
    return None


def _normal(settings: dict) -> dict:
    return {
        k: tuple(v) if isinstance(v, (list, tuple)) else v
        for k, v in settings.items()
    }


def head_classes(state: State, key: str, features: int) -> Optional[int]:
    """Read the number of classes off a linear head, and check its shape.

    Args:
        state (State): Official names -> tensors.
        key (str): Name of the head, for example 'head'.
        features (int): Width of the features that it must take.

    Returns:
        Optional[int]: Number of classes, None without a head.

    Raises:
        ValueError: Weight and bias do not belong together, or the width is
            another one.
    """
    weight, bias = f'{key}.weight', f'{key}.bias'
    if weight not in state and bias not in state:
        return None
    classes, width = shape_of(state, weight)
    if width != features:
        raise ValueError(f'{weight} takes {width} features, but the backbone '
                         f'gives {features}')
    if shape_of(state, bias) != (classes, ):
        raise ValueError(f'{weight} has {classes} classes, but {bias} has '
                         f'{tuple(state[bias].shape)}')
    return classes
