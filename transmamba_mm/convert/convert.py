from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from mmpretrain.registry import MODELS

from . import columnar, vmamba
from .difference import compare
from .recognition import Recognition, State


class Family(NamedTuple):
    """How weights of a family are recognised and renamed.

    Args:
        fits (Callable): State -> whether it may be of this family.
        describe (Callable): State -> :class:`Recognition`.
        rename (Callable): State -> names inside an ``ImageClassifier``.
        extras (Tuple[str, ...]): Prefixes of weights that belong to neither
            backbone nor head. Defaults to ().
    """
    fits: Callable[[State], bool]
    describe: Callable[[State], Recognition]
    rename: Callable[[State], State]
    extras: Tuple[str, ...] = ()


FAMILIES: Dict[str, Family] = {
    'vim':
    Family(
        lambda s: columnar.is_bidirectional(s) and not columnar.is_video_only(
            s), columnar.describe_vim, columnar.rename_bidirectional),
    'videomamba':
    Family(
        lambda s: columnar.is_bidirectional(s) and not columnar.is_vim_only(s),
        columnar.describe_videomamba, columnar.rename_bidirectional,
        columnar.VIDEO_EXTRAS),
    'plainmamba':
    Family(columnar.is_plain, columnar.describe_plainmamba,
           columnar.rename_plainmamba),
    'vmamba':
    Family(vmamba.is_vmamba, vmamba.describe_vmamba, vmamba.rename_vmamba),
}


@dataclass(frozen=True)
class Conversion:
    """Weights ready for this package.

    Args:
        state (State): Names inside an ``ImageClassifier`` -> tensors.
        recognition (Recognition): What the weights are.
        model (Dict[str, Any]): Config of the classifier that they fit.
        dropped (Tuple[str, ...]): Weights that belong to no backbone or head.
    """
    state: State
    recognition: Recognition
    model: Dict[str, Any]
    dropped: Tuple[str, ...]


def choose_family(state: State,
                  family: Optional[str] = None,
                  trained_as: Optional[str] = None) -> str:
    """Tell the family of official weights by names and shapes.

    Args:
        state (State): Official names -> tensors.
        family (str, optional): What the user says. Defaults to None.
        trained_as (str, optional): Model name that the training stored in
            the file, for example 'videomamba_tiny'. Defaults to None.

    Returns:
        str: Key of :data:`FAMILIES`.

    Raises:
        ValueError: No family fits, several fit, or the user's does not.
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(f'family {family!r} is unknown; use one of '
                         f'{list(FAMILIES)}')
    fitting = [f for f in FAMILIES if FAMILIES[f].fits(state)]
    if not fitting:
        raise ValueError('the weights belong to none of the families '
                         f'{list(FAMILIES)}; the file has names such as '
                         f'{sorted(state)[:6]}')
    if family is not None and family not in fitting:
        raise ValueError(f'the weights are those of {" or ".join(fitting)}, '
                         f'but family {family!r} was given')
    named = _family_of_name(trained_as)
    if family and named in fitting and named != family:
        raise ValueError(f'family {family!r} was given, but the file says '
                         f'that it was trained as {trained_as!r} ({named})')
    if len(fitting) == 1:
        return fitting[0]
    if family is None and named not in fitting:
        raise ValueError(
            'the weights fit Vim and VideoMamba: both have the same names and '
            'shapes, but the class token stands in the middle or first, and '
            'the directions are averaged or summed, so the wrong one gives '
            'wrong outputs without any error. Say whose file it is: --family '
            'vim or --family videomamba')
    return family or named


def _family_of_name(name: Optional[str]) -> Optional[str]:
    """Tell the family by the name of an official model."""
    for family in ('videomamba', 'vim'):
        if name is not None and name.lower().startswith(family + '_'):
            return family
    return None


def classifier_config(recognition: Recognition) -> Dict[str, Any]:
    """Make the config of the ``ImageClassifier`` that weights fit.

    Args:
        recognition (Recognition): What the weights are.

    Returns:
        Dict[str, Any]: Config; without a head if the weights have none.
    """
    head = None
    if recognition.num_classes is not None:
        head = dict(
            type='LinearClsHead',
            num_classes=recognition.num_classes,
            in_channels=recognition.features)
    return dict(
        type='ImageClassifier', backbone=dict(recognition.backbone), head=head)


def convert_weights(state: State,
                    family: Optional[str] = None,
                    num_classes: Optional[int] = None,
                    trained_as: Optional[str] = None) -> Conversion:
    """Turn official weights into those of an MMPretrain classifier.

    Args:
        state (State): Official names -> tensors, without wrapper prefixes;
            see :func:`~transmamba_mm.convert.unwrap.find_weights`.
        family (str, optional): 'vim', 'videomamba', 'plainmamba' or
            'vmamba'; None recognises it. Defaults to None.
        num_classes (int, optional): Number of classes that the head must
            have; None takes any. Defaults to None.
        trained_as (str, optional): Model name that the training stored in
            the file. Defaults to None.

    Returns:
        Conversion: Weights, and the config that takes all of them.

    Raises:
        ValueError: The weights are not recognised, or do not fit exactly.
    """
    name = choose_family(state, family, trained_as)
    chosen = FAMILIES[name]
    dropped = tuple(k for k in state if k.startswith(chosen.extras))
    state = {k: v for k, v in state.items() if k not in dropped}
    recognition = chosen.describe(state)
    found = recognition.num_classes
    if num_classes is not None and found != num_classes:
        raise ValueError(f'the head has {found or "no"} classes, but '
                         f'{num_classes} were expected')
    renamed = chosen.rename(state)
    model = classifier_config(recognition)
    difference = compare(renamed, expected_shapes(model))
    if difference:
        raise ValueError(_explain(recognition, difference))
    return Conversion(renamed, recognition, model, dropped)


def expected_shapes(model: Dict[str, Any]) -> Dict[str, Tuple[int, ...]]:
    """List the weights of a model without making room for them.

    Args:
        model (Dict[str, Any]): Config of a classifier.

    Returns:
        Dict[str, Tuple[int, ...]]: Name -> shape.
    """
    with torch.device('meta'):
        built = MODELS.build(dict(model))
    return {k: tuple(v.shape) for k, v in built.state_dict().items()}


def _explain(recognition: Recognition, difference: List[str]) -> str:
    lines = '\n'.join(f'  {line}' for line in difference)
    return (f'the weights look like {recognition.family} '
            f'{recognition.size!r} ({recognition.era} names), but do not fit '
            f'this model exactly:\n{lines}')
