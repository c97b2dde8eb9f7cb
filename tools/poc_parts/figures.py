"""Figures of the report."""
from typing import Dict, List, Optional, Sequence

import numpy as np

from .svg import PAGE, SIZE, draw

NAMES = dict(
    teacher='teacher', scratch='from scratch', transmamba='TransMamba')
#: Classes at each end of the figure of all classes.
ENDS = 10


def label(group: Dict) -> str:
    """Name a group of runs.

    Args:
        group (Dict): See ``groups`` in ``docs/poc.md``.

    Returns:
        str: Such as 'TransMamba, 75 %'.
    """
    name = NAMES[group['kind']]
    if group['fraction'] is None:
        return name
    return f'{name}, {100 * group["fraction"]:g} %'


def all_figures(report: Dict) -> List[Dict]:
    """Draw all figures that the results allow.

    Args:
        report (Dict): See :func:`~poc_parts.results.collect`.

    Returns:
        List[Dict]: ``title``, ``text`` (what is seen) and ``svg``.
    """
    main = chosen(report)
    drawn = [
        accuracy_figure(report),
        curves_figure(main),
        time_figure(report),
        classes_figure(report['classes']),
        reliability_figure(main),
        faults_figure(report),
    ]
    return [figure for figure in drawn if figure is not None]


def chosen(report: Dict) -> List[Dict]:
    """Pick the groups that the verdict is about, and the teacher.

    Args:
        report (Dict): See :func:`all_figures`.

    Returns:
        List[Dict]: Groups.
    """
    verdict = report['verdict']
    return [
        g for g in report['groups']
        if g['kind'] == 'teacher' or (g['kind'], g['fraction']) in (
            ('scratch', 1.), ('transmamba', verdict['fraction']))
    ]


def accuracy_figure(report: Dict) -> Dict:
    """Accuracy by share of the images.

    Args:
        report (Dict): See :func:`all_figures`.

    Returns:
        Dict: See :func:`all_figures`.
    """

    def plot(axes) -> None:
        for kind in ('scratch', 'transmamba'):
            rows = sorted((g for g in report['groups'] if g['kind'] == kind),
                          key=lambda g: g['fraction'])
            x = [100 * g['fraction'] for g in rows]
            y = [g['accuracy']['mean'] for g in rows]
            axes.plot(x, y, marker='o', color=PAGE[kind], label=NAMES[kind])
            axes.errorbar(
                x,
                y, [g['accuracy']['std'] or 0 for g in rows],
                fmt='none',
                capsize=4,
                ecolor=PAGE[kind])
        for group in report['groups']:
            if group['kind'] == 'teacher':
                axes.axhline(
                    group['accuracy']['mean'],
                    color=PAGE['teacher'],
                    linestyle='--',
                    linewidth=1.5,
                    label='teacher')
        axes.set_xlim(0, 105)
        axes.set_xlabel('training images, %')
        axes.set_ylabel('accuracy, %')

    return dict(
        title='Accuracy and data',
        text='Accuracy on the validation images against the share of the '
        'training images that a student sees. Bars: standard deviation over '
        'the seeds.',
        svg=draw(plot, 'accuracy'))


def curves_figure(groups: Sequence[Dict]) -> Dict:
    """Accuracy over the training.

    Args:
        groups (Sequence[Dict]): Groups.

    Returns:
        Dict: See :func:`all_figures`.
    """

    def plot(axes) -> None:
        for group in groups:
            length = min(map(len, group.get('curves') or [[]]))
            if not length:  # a ready teacher, or stopped while validating
                continue
            curves = np.array([c[:length] for c in group['curves']])
            x = 100 * curves[0, :, 0] / group['epochs']
            middle = curves[..., 1].mean(0)
            colour = PAGE[group['kind']]
            axes.plot(x, middle, color=colour, label=NAMES[group['kind']])
            if len(curves) > 1:
                width = curves[..., 1].std(0, ddof=1)
                axes.fill_between(
                    x,
                    middle - width,
                    middle + width,
                    color=colour,
                    alpha=0.18,
                    linewidth=0)
        axes.set_xlabel('of its own training, %')
        axes.set_ylabel('accuracy, %')

    return dict(
        title='On the way',
        text='Validation accuracy during the training, mean over the seeds; '
        'the band is one standard deviation.',
        svg=draw(plot, 'curves'))


def time_figure(report: Dict) -> Dict:
    """Training time, the teacher's part apart.

    Args:
        report (Dict): See :func:`all_figures`.

    Returns:
        Dict: See :func:`all_figures`.
    """
    costs = report['costs']
    unit, name = time_unit(
        max(costs[k]['train_seconds'] for k in ('scratch', 'transmamba')))
    teacher = costs['teacher_seconds'] / unit

    def plot(axes) -> None:
        for row, kind in enumerate(('transmamba', 'scratch')):
            total = costs[kind]['train_seconds'] / unit
            before = teacher if kind == 'transmamba' else 0.
            if before:
                axes.barh(
                    row,
                    before,
                    height=0.5,
                    color=PAGE['teacher'],
                    label='teacher')
            axes.barh(
                row, total - before, left=before, height=0.5, color=PAGE[kind])
            axes.annotate(
                f'{total:.3g}', (total, row),
                xytext=(5, 0),
                textcoords='offset points',
                va='center')
        axes.set_yticks([0, 1], ['TransMamba', 'from scratch'])
        axes.set_ylim(-0.6, 1.6)
        axes.margins(x=0.15)
        axes.grid(axis='y', visible=False)
        axes.set_xlabel(f'training, {name}')

    return dict(
        title='Training time',
        text='Time of all training steps of one student, data loading '
        'included, validation not' +
        ('; the teacher is trained once, for all students.'
         if teacher else '; the teacher was given.'),
        svg=draw(plot, 'time', (SIZE[0], 2.6)))


def time_unit(seconds: float):
    """Choose a unit.

    Args:
        seconds (float): Largest time.

    Returns:
        Tuple[float, str]: Seconds of the unit, and its name.
    """
    if seconds >= 5400:
        return 3600., 'hours'
    return (60., 'minutes') if seconds >= 90 else (1., 'seconds')


def classes_figure(rows: Sequence[Dict]) -> Dict:
    """Difference of each class.

    Args:
        rows (Sequence[Dict]): See
            :func:`~poc_parts.results.compare_classes`.

    Returns:
        Dict: See :func:`all_figures`.
    """
    cut = len(rows) > 2 * ENDS
    shown = [*rows[:ENDS], *rows[-ENDS:]] if cut else list(rows)
    colours = dict(better='good', worse='bad', open='muted')

    def plot(axes) -> None:
        for i, row in enumerate(reversed(shown)):
            colour = PAGE[colours[row['outcome']]]
            axes.errorbar(
                row['difference'],
                i,
                xerr=row['margin'],
                marker='o',
                color=colour,
                elinewidth=1.2,
                capsize=0)
        axes.axvline(0, color=PAGE['ink'], linewidth=1)
        names = [shorten(row['name']) for row in reversed(shown)]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(axis='y', visible=False)
        axes.set_xlabel('TransMamba minus from scratch, points')

    return dict(
        title='Class by class',
        text='Difference in accuracy, with its 95 % margin; coloured where '
        'chance does not explain it.' +
        (f' The {ENDS} classes at each end.' if cut else ''),
        svg=draw(plot, 'classes',
                 (SIZE[0], max(2.4, 0.9 + 0.24 * len(shown)))))


def shorten(text: str, length: int = 18) -> str:
    """Cut a long name.

    Args:
        text (str): The name.
        length (int): Characters, at most. Defaults to 18.

    Returns:
        str: The name or its start.
    """
    text = text.replace('$', r'\$')
    return text if len(text) <= length else text[:length - 1] + '…'


def reliability_figure(groups: Sequence[Dict]) -> Dict:
    """Confidence against accuracy.

    Args:
        groups (Sequence[Dict]): Groups.

    Returns:
        Dict: See :func:`all_figures`.
    """

    def plot(axes) -> None:
        axes.plot([0, 100], [0, 100],
                  color=PAGE['muted'],
                  linewidth=1,
                  linestyle=':')
        for group in groups:
            bins = group['reliability']
            axes.plot([b['confidence'] for b in bins],
                      [b['accuracy'] for b in bins],
                      marker='o',
                      markersize=4,
                      color=PAGE[group['kind']],
                      label=NAMES[group['kind']])
        axes.set_xlabel('confidence, %')
        axes.set_ylabel('of these right, %')
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)

    return dict(
        title='Can its confidence be trusted?',
        text='On the dotted line confidence is deserved; below it a model is '
        'too sure, above it too careful.',
        svg=draw(plot, 'reliability'))


def faults_figure(report: Dict) -> Optional[Dict]:
    """What happens where the teacher is wrong.

    Args:
        report (Dict): See :func:`all_figures`.

    Returns:
        Dict, optional: See :func:`all_figures`; None if the teacher makes no
        mistakes or has no head.
    """
    groups = [
        g for g in chosen(report)
        if g.get('faults') and g['faults']['inherited'] is not None
    ]
    if not groups:
        return None
    keys = dict(wrong_too='wrong too', inherited='the same mistake')

    def plot(axes) -> None:
        for i, group in enumerate(groups):
            values = [group['faults'][key] for key in keys]
            place = np.arange(len(keys)) + 0.36 * (i - (len(groups) - 1) / 2)
            axes.bar(
                place,
                values,
                width=0.32,
                color=PAGE[group['kind']],
                label=NAMES[group['kind']])
            for x, value in zip(place, values):
                axes.annotate(
                    f'{value:.0f}', (x, value), ha='center', va='bottom')
        axes.set_xticks(range(len(keys)), list(keys.values()))
        axes.grid(axis='x', visible=False)
        axes.set_ylabel("of the teacher's mistakes, %")
        axes.margins(y=0.12)

    return dict(
        title='Where the teacher is wrong',
        text='A student from scratch has never seen the teacher: what both '
        'share with it are hard images. What TransMamba shares beyond that '
        'is inherited.',
        svg=draw(plot, 'faults'))
