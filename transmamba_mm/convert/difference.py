import re
from typing import Dict, List, Tuple

from torch import Tensor

Shapes = Dict[str, Tuple[int, ...]]
_MOST_LINES = 20


def compare(state: Dict[str, Tensor], expected: Shapes) -> List[str]:
    """Compare weights with those that a model has.

    Names that differ only in their numbers share a line.

    Args:
        state (Dict[str, Tensor]): Name -> tensor.
        expected (Shapes): Name -> shape.

    Returns:
        List[str]: One line for each difference; empty if all fits.
    """
    found = {k: tuple(v.shape) for k, v in state.items()}
    lines = _grouped('left over, the model has no place for it', {
        k: f'{v}'
        for k, v in found.items() if k not in expected
    })
    lines += _grouped('missing, the model needs it', {
        k: f'{v}'
        for k, v in expected.items() if k not in found
    })
    lines += _grouped(
        'of another shape', {
            k: f'found {found[k]}, expected {v}'
            for k, v in expected.items() if found.get(k, v) != v
        })
    if len(lines) > _MOST_LINES:
        rest = len(lines) - _MOST_LINES
        lines = lines[:_MOST_LINES] + [f'... and {rest} more lines']
    return lines


def _grouped(what: str, notes: Dict[str, str]) -> List[str]:
    """Make one line of all names that are the same but for numbers."""
    groups: Dict[Tuple[str, str], List[str]] = {}
    for name, note in notes.items():
        pattern = re.sub(r'(?<=\.)\d+(?=\.)', '*', name)
        groups.setdefault((pattern, note), []).append(name)
    return [
        f'{names[0] if len(names) == 1 else pattern} {note}: {what}' +
        (f' ({len(names)} times)' if len(names) > 1 else '')
        for (pattern, note), names in groups.items()
    ]
