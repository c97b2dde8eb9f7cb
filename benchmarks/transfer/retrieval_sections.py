"""The table of docs/results.md about text-video retrieval."""
from typing import List

from figures import Line, against, group, pick, spread, table

RANKS = (1, 5, 10)
#: What the metrics' names begin with, and what such a row is called.
FORMS = {
    'retrieval/t2v_': '',
    'retrieval/t2v_rerank_': ', judged again',
}


def chance(lines: List[Line]) -> str:
    """Tell what guessing would give.

    Args:
        lines (List[Line]): Results on the same galleries.

    Returns:
        str: R@1, R@5 and R@10 in per cent.
    """
    first = lines[0]['metrics']['retrieval/chance_R@1']
    return ' / '.join(f'{min(100, k * first):.1f}' for k in RANKS)


def retrieval_table(lines: List[Line]) -> str:
    """List the rows of retrieval, chance beside them.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown; a head that re-ranks has two rows, before and after.
    """
    rows = []
    setups = group(pick(lines, task='retrieval'), 'data', 'student', 'epochs')
    for (data, student, epochs), own in setups.items():
        plain = pick(own, method='scratch', variant='', fraction=1.)
        kinds = group(own, 'method', 'variant', 'fraction', 'teacher')
        for (method, variant, fraction, teacher), seeds in kinds.items():
            for start, form in FORMS.items():
                values = [[s['metrics'].get(f'{start}R@{k}') for s in seeds]
                          for k in RANKS]
                if None in values[0]:
                    continue
                compared = [dict(s, value=v) for s, v in zip(seeds, values[0])]
                gain = '' if seeds == plain else against(compared, plain)
                rows.append(
                    (data, student, epochs, f'{fraction:.0%}', method, teacher
                     or '-', (variant or 'as the recipe') + form,
                     *map(spread, values), gain, chance(seeds)))
    return table([
        'data', 'model', 'epochs', 'share', 'method', 'teacher', 'variant',
        *(f'R@{k}, %' for k in RANKS), 'R@1 against scratch', 'chance, %'
    ], rows)
