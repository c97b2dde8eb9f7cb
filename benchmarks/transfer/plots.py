"""The pictures of docs/results.md."""
from statistics import mean
from typing import List

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from figures import Line, group, pick, values_of  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from sections import plain_students, timed_students  # noqa: E402

COLOURS = dict(scratch='tab:orange', transmamba='tab:blue')
NAMES = dict(scratch='from scratch', transmamba='TransMamba')


def plot_data_curve(lines: List[Line], path: str) -> bool:
    """Draw accuracy over the share of the images.

    Args:
        lines (List[Line]): Results.
        path (str): PNG file to write.

    Returns:
        bool: Whether there was something to draw: three shares or more.
    """
    chosen = [r for r in plain_students(lines) if r['method'] in COLOURS]
    curves = [(key, group(own, 'fraction')) for key, own in group(
        chosen, 'student', 'method', 'teacher', 'epochs').items()]
    curves = [(key, points) for key, points in curves if len(points) > 2]
    if not curves:
        return False
    figure, axes = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for (student, method, teacher, epochs), points in curves:
        xs = sorted(fraction for fraction, in points)
        ys = [values_of(points[(x, )]) for x in xs]
        centre = list(map(mean, ys))
        axes.errorbar([100 * x for x in xs],
                      centre,
                      yerr=[[c - min(y) for c, y in zip(centre, ys)],
                            [max(y) - c for c, y in zip(centre, ys)]],
                      marker='o',
                      capsize=3,
                      color=COLOURS[method],
                      label=f'{student}, {NAMES[method]}, {epochs} epochs')
    finish(axes, 'training images, %')
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def plot_over_time(lines: List[Line], path: str) -> bool:
    """Draw accuracy over the seconds of training, a panel a student.

    Args:
        lines (List[Line]): Results.
        path (str): PNG file to write.

    Returns:
        bool: Whether there was something to draw: students with both
        methods.
    """
    panels = [(key, own) for key, own in group(
        timed_students(lines), 'student', 'epochs', 'side_by_side').items()
              if len(group(own, 'method')) == 2]
    if not panels:
        return False
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(5 * len(panels), 4),
        squeeze=False,
        sharey=True,
        layout='constrained')
    for axes, ((student, epochs, _), own) in zip(grid[0], panels):
        draw_times(axes, own)
        finish(axes, 'seconds of training, validation not counted')
        axes.set_title(f'{student}, {epochs} epochs')
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def draw_times(axes: Axes, lines: List[Line]) -> None:
    """Draw the seeds of both methods on all images and on 75 %.

    Args:
        axes (Axes): Where to.
        lines (List[Line]): Results of one student.
    """
    for fraction, style in ((1., '-'), (0.75, '--')):
        for method, colour in COLOURS.items():
            label = f'{NAMES[method]}, {fraction:.0%} of the images'
            for line in pick(lines, method=method, fraction=fraction):
                _, values, seconds = zip(*line['curve'])
                axes.plot(seconds, values, style, color=colour, label=label)
                label = None


def finish(axes: Axes, label: str) -> None:
    """Name the axes.

    Args:
        axes (Axes): A picture.
        label (str): What is to the right.
    """
    axes.set_xlabel(label)
    axes.set_ylabel('accuracy on the test images, %')
    axes.label_outer()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
