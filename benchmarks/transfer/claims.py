"""What the figures allow to say."""
from statistics import mean
from typing import Dict, List, Tuple

from figures import (Line, against, difference, group, is_clear, pick, spread,
                     table, values_of)
from sections import plain_students


def claims(lines: List[Line]) -> List[Tuple]:
    """Pair scratch on all images with TransMamba on 75 % of them.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[Tuple]: Student, epochs, teacher, lines of scratch, lines of
        TransMamba.
    """
    out = []
    for (student,
         epochs), own in group(plain_students(lines), 'student',
                               'epochs').items():
        scratch = pick(own, method='scratch', fraction=1.)
        taught = pick(own, method='transmamba', fraction=0.75)
        for (teacher, ), those in group(taught, 'teacher').items():
            if scratch:
                out.append((student, epochs, teacher, scratch, those))
    return out


def claim_table(lines: List[Line]) -> str:
    """Compare TransMamba on 75 % of the images with scratch on all.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown.
    """
    return table([
        'student', 'epochs', 'scratch, 100%', 'teacher (its images)',
        'TransMamba, 75%', 'difference'
    ], [(student, epochs, spread(values_of(scratch)), teacher,
         spread(values_of(taught)), against(taught, scratch))
        for student, epochs, teacher, scratch, taught in claims(lines)])


def verdict(lines: List[Line]) -> str:
    """Say in words what the figures allow to say.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Sentences, '' without figures.
    """
    return '\n'.join(
        [*totals(lines), *map(sentence, claims(lines)), *winners(lines)])


def totals(lines: List[Line]) -> List[str]:
    """Count the students of which the claim holds.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[str]: A sentence a teacher and length.
    """
    counts: Dict[tuple, List[bool]] = {}
    for _, epochs, teacher, scratch, taught in claims(lines):
        gap = difference(taught, scratch)
        counts.setdefault((teacher, epochs),
                          []).append(is_clear(gap) and gap[0] > 0)
    return [
        f'- With the teacher {teacher}, TransMamba on 75% of the images beats '
        f'scratch on all of them by more than the seed spread for {sum(won)} '
        f'of {len(won)} students ({epochs} epochs).'
        for (teacher, epochs), won in counts.items()
    ]


def sentence(claim: Tuple) -> str:
    """Say by how much, and whether the seeds decide it.

    Args:
        claim (Tuple): One of :func:`claims`.

    Returns:
        str: The sentence.
    """
    student, epochs, teacher, scratch, taught = claim
    gap, noise = difference(taught, scratch)
    if min(len(scratch), len(taught)) < 2:
        words = 'which one seed does not decide'
    elif not is_clear((gap, noise)):
        words = f'which is within the seed spread of {noise:.2f}'
    else:
        words = f'more than the seed spread of {noise:.2f}'
    side = 'above' if gap >= 0 else 'below'
    return (f'- {student}, {epochs} epochs: TransMamba with 75% of the images '
            f'and the teacher {teacher} ends {abs(gap):.2f} points {side} '
            f'scratch with all of them, {words}.')


def winners(lines: List[Line]) -> List[str]:
    """Name the best method of each student where all four were trained.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[str]: A sentence a student, share of the images and teacher.
    """
    out = []
    for (student, fraction, epochs), own in group(
            plain_students(lines), 'student', 'fraction', 'epochs').items():
        taught = [r for r in own if r['teacher']]
        for (teacher, ), those in group(taught, 'teacher').items():
            methods = group(pick(own, method='scratch') + those, 'method')
            if len(methods) < 4:
                continue
            first, second = sorted(
                methods, key=lambda m: -mean(values_of(methods[m])))[:2]
            clear = is_clear(difference(methods[first], methods[second]))
            out.append(
                f'- {student}, {fraction:.0%} of the images, {epochs} epochs, '
                f'teacher {teacher}: {first[0]} ends highest, '
                f'{"above" if clear else "within the seed spread of"} '
                f'{second[0]}.')
    return out
