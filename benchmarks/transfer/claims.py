"""What the figures allow to say."""
from dataclasses import dataclass
from statistics import mean
from typing import Dict, List

from figures import (Line, against, difference, group, is_clear, pick, spread,
                     table, values_of)
from sections import comparable

#: What two lines must share to be compared.
SETUP = ('data', 'metric', 'student', 'epochs')


@dataclass(frozen=True)
class Claim:
    """Scratch on all data beside TransMamba on 75 % of it.

    Args:
        data (str): The data.
        metric (str): What is measured.
        student (str): The student.
        epochs (int): Length.
        teacher (str): The teacher and the share of the data that it saw.
        scratch (List[Line]): Seeds from scratch.
        taught (List[Line]): Seeds of TransMamba.
    """
    data: str
    metric: str
    student: str
    epochs: int
    teacher: str
    scratch: List[Line]
    taught: List[Line]


def find_claims(lines: List[Line]) -> List[Claim]:
    """Pair scratch on all data with TransMamba on 75 % of it.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[Claim]: One a student and teacher.
    """
    out = []
    for setup, own in group(comparable(lines), *SETUP).items():
        scratch = pick(own, method='scratch', fraction=1.)
        taught = pick(own, method='transmamba', fraction=0.75)
        for (teacher, ), those in group(taught, 'teacher').items():
            if scratch:
                out.append(Claim(*setup, teacher, scratch, those))
    return out


def claim_table(lines: List[Line]) -> str:
    """Compare TransMamba on 75 % of the data with scratch on all.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown.
    """
    return table([
        'data', 'metric', 'student', 'epochs', 'scratch, 100%',
        'teacher (its data)', 'TransMamba, 75%', 'difference'
    ], [(c.data, c.metric, c.student, c.epochs, spread(values_of(c.scratch)),
         c.teacher, spread(values_of(c.taught)), against(c.taught, c.scratch))
        for c in find_claims(lines)])


def verdict(lines: List[Line]) -> str:
    """Say in words what the figures allow to say.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Sentences, '' without figures.
    """
    return '\n'.join(
        [*totals(lines), *map(sentence, find_claims(lines)), *winners(lines)])


def totals(lines: List[Line]) -> List[str]:
    """Count the students of which the claim holds.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[str]: A sentence a data set, teacher and length.
    """
    counts: Dict[tuple, List[bool]] = {}
    for claim in find_claims(lines):
        gap = difference(claim.taught, claim.scratch)
        kind = (claim.data, claim.metric, claim.teacher, claim.epochs)
        counts.setdefault(kind, []).append(is_clear(gap) and gap[0] > 0)
    return [
        f'- {data}: with the teacher {teacher}, TransMamba on 75% of the data '
        f'beats scratch on all of it by more than the seed spread for '
        f'{sum(won)} of {len(won)} students ({metric}, {epochs} epochs).'
        for (data, metric, teacher, epochs), won in counts.items()
    ]


def sentence(claim: Claim) -> str:
    """Say by how much, and whether the seeds decide it.

    Args:
        claim (Claim): The claim.

    Returns:
        str: The sentence.
    """
    gap, noise = difference(claim.taught, claim.scratch)
    if min(len(claim.scratch), len(claim.taught)) < 2:
        words = 'which one seed does not decide'
    elif not is_clear((gap, noise)):
        words = f'which is within the seed spread of {noise:.2f}'
    else:
        words = f'more than the seed spread of {noise:.2f}'
    side = 'above' if gap >= 0 else 'below'
    return (f'- {claim.student}, {claim.data}, {claim.epochs} epochs: '
            f'TransMamba with 75% of the data and the teacher {claim.teacher} '
            f'ends {abs(gap):.2f} points {side} scratch with all of it, '
            f'{words}.')


def winners(lines: List[Line]) -> List[str]:
    """Name the best method of each student where all four were trained.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[str]: A sentence a student, share of the data and teacher.
    """
    out = []
    for setup, own in group(comparable(lines), *SETUP, 'fraction').items():
        data, _, student, epochs, fraction = setup
        taught = [r for r in own if r['teacher']]
        for (teacher, ), those in group(taught, 'teacher').items():
            methods = group(pick(own, method='scratch') + those, 'method')
            if len(methods) < 4:
                continue
            first, second = sorted(
                methods, key=lambda m: -mean(values_of(methods[m])))[:2]
            clear = is_clear(difference(methods[first], methods[second]))
            out.append(
                f'- {student}, {fraction:.0%} of {data}, {epochs} epochs, '
                f'teacher {teacher}: {first[0]} ends highest, '
                f'{"above" if clear else "not clearly above"} '
                f'{second[0]}.')
    return out
