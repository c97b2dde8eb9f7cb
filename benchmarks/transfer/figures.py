"""Means, spreads and tables of the results."""
from collections import defaultdict
from math import hypot
from statistics import mean, stdev
from typing import Dict, Iterable, List, Optional, Sequence

Line = Dict
Group = Dict[tuple, List[Line]]


def group(lines: Iterable[Line], *keys: str) -> Group:
    """Collect the seeds of each combination of keys.

    Args:
        lines (Iterable[Line]): Results.
        *keys (str): What must be equal.

    Returns:
        Group: Lines by the values of the keys, in order of coming.
    """
    out: Group = defaultdict(list)
    for line in lines:
        out[tuple(line[k] for k in keys)].append(line)
    return dict(out)


def pick(lines: Iterable[Line], **wanted) -> List[Line]:
    """Choose lines.

    Args:
        lines (Iterable[Line]): Results.
        **wanted: Keys and what they must be.

    Returns:
        List[Line]: Those that have all of it.
    """
    return [r for r in lines if all(r[k] == v for k, v in wanted.items())]


def label_of(line: Line) -> str:
    """Name a teacher as its students' lines do.

    Args:
        line (Line): The teacher's training.

    Returns:
        str: Such as 'vit-tiny-32 (75%)'.
    """
    return f'{line["student"]} ({line["fraction"]:.0%})'


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds; of one seed it is not known.

    Args:
        values (Sequence[float]): A value a seed.

    Returns:
        float: It, NaN for one value.
    """
    return stdev(values) if len(values) > 1 else float('nan')


def spread(values: Sequence[Optional[float]], digits: int = 2) -> str:
    """Format mean, standard deviation and number of seeds.

    Args:
        values (Sequence[float | None]): A value a seed; None is left out.
        digits (int): After the point. Defaults to 2.

    Returns:
        str: Such as '84.00 ± 1.41 (2)', '' without values.
    """
    known = [v for v in values if v is not None]
    if not known:
        return ''
    text = f'{mean(known):.{digits}f}'
    if len(known) > 1:
        text += f' ± {stdev(known):.{digits}f}'
    return f'{text} ({len(known)})'


def values_of(lines: Iterable[Line], key: str = 'value') -> List[float]:
    """Take one figure of each line.

    Args:
        lines (Iterable[Line]): Results.
        key (str): Which. Defaults to 'value'.

    Returns:
        List[float]: The figures.
    """
    return [line[key] for line in lines]


def difference(ours: Sequence[Line],
               theirs: Sequence[Line]) -> Optional[tuple]:
    """Compare the means of two sets of seeds.

    Args:
        ours (Sequence[Line]): Lines.
        theirs (Sequence[Line]): Lines of what they are compared with.

    Returns:
        tuple, optional: Difference of the means, and the root of the sum of
        both variances, NaN with one seed. None if a set is empty.
    """
    if not ours or not theirs:
        return None
    first, second = values_of(ours), values_of(theirs)
    return (mean(first) - mean(second),
            hypot(deviation(first), deviation(second)))


def is_clear(gap: Optional[tuple]) -> bool:
    """Tell whether a difference is larger than the seed spread.

    Args:
        gap (tuple, optional): From :func:`difference`.

    Returns:
        bool: False too where the spread is not known.
    """
    return gap is not None and abs(gap[0]) > gap[1]


def against(ours: Sequence[Line], theirs: Sequence[Line]) -> str:
    """Format a difference; it is bold if it is clear.

    Args:
        ours (Sequence[Line]): Lines.
        theirs (Sequence[Line]): Lines of what they are compared with.

    Returns:
        str: Such as '**+13.00**', '' if there is nothing to compare.
    """
    gap = difference(ours, theirs)
    if gap is None:
        return ''
    text = f'{gap[0]:+.2f}'
    return f'**{text}**' if is_clear(gap) else text


def table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Format a Markdown table.

    Args:
        head (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence]): Cells.

    Returns:
        str: The table, '' without rows.
    """
    body = list(rows)
    if not body:
        return ''
    lines = [head, ['---'] * len(head), *body]
    return '\n'.join('| ' + ' | '.join(map(str, r)) + ' |' for r in lines)
