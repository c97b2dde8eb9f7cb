"""Curves of a training, and the similarity of its layers over time."""
from typing import List, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import COLOURS, STYLES
from .training_log import TrainingLog


def draw_curves(logs: Sequence[TrainingLog],
                metric: Optional[str] = None,
                smoothing: int = 1) -> Figure:
    """Draw losses, validation and mean similarity of one or several runs.

    A panel is left out if no run has logged what it shows.

    Args:
        logs (Sequence[TrainingLog]): The runs, one colour each.
        metric (str, optional): Metric of the validation; None takes the
            first one. Defaults to None.
        smoothing (int): Training values are means over so many logged rows.
            Defaults to 1.

    Returns:
        Figure: One panel a value.

    Raises:
        ValueError: If no run has logged this metric.
    """
    metric = _pick_metric(logs, metric)
    panels = [('train', 'loss', 'loss, total'),
              ('train', 'loss_cls', 'loss of the task'),
              ('val', metric, f'validation {metric}'),
              ('train', 'distill.cos_mean', 'cosine to the teacher')]
    panels = [
        p for p in panels if any(len(g.series(p[1], p[0])[0]) for g in logs)
    ]
    directions = any(log.directions() for log in logs)
    count = len(panels) + directions
    figure = Figure(
        figsize=(4.2 * min(count, 3), 3.2 * -(-count // 3)),
        layout='constrained')
    grid = figure.subplots(-(-count // 3), min(count, 3), squeeze=False).flat
    for axes, (split, key, label) in zip(grid, panels):
        for log, colour in zip(logs, _colours(logs)):
            _draw_series(axes, log, key, split, smoothing, color=colour)
            if key == 'distill.cos_mean':
                _draw_band(axes, log, colour)
        axes.set_ylabel(label)
    if directions:
        _draw_directions(grid[len(panels)], logs, smoothing)
    for axes in grid[count:]:
        axes.remove()
    for axes in grid[:count]:
        axes.set_xlabel(logs[0].unit)
        axes.grid(alpha=0.3)
    _draw_legend(figure, logs)
    return figure


def _pick_metric(logs: Sequence[TrainingLog],
                 metric: Optional[str]) -> Optional[str]:
    known = list(dict.fromkeys(m for log in logs for m in log.metrics()))
    if metric is not None and metric not in known:
        raise ValueError(f"No run has logged the metric '{metric}'; --metric "
                         f'may be one of {known}.')
    return metric or (known[0] if known else None)


def _colours(logs: Sequence[TrainingLog]) -> List[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(logs))]


def _draw_series(axes: Axes, log: TrainingLog, key: str, split: str,
                 smoothing: int, **line) -> None:
    x, y = log.series(key, split)
    if split == 'train':
        x, y = smooth(x, smoothing), smooth(y, smoothing)
    marker = '.' if len(x) == 1 or split == 'val' else None
    axes.plot(x, y, marker=marker, linewidth=1.5, markersize=4, **line)


def _draw_band(axes: Axes, log: TrainingLog, colour: str) -> None:
    """Show the least and the most similar layer."""
    x, low = log.series('distill.cos_min')
    _, high = log.series('distill.cos_max')
    if len(x) and len(x) == len(high):
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _draw_directions(axes: Axes, logs: Sequence[TrainingLog],
                     smoothing: int) -> None:
    """Show the distillation of each direction, one line style each."""
    names = list(dict.fromkeys(d for log in logs for d in log.directions()))
    for log, colour in zip(logs, _colours(logs)):
        for i, name in enumerate(names):
            _draw_series(
                axes,
                log,
                f'distill.loss_{name}',
                'train',
                smoothing,
                color=colour,
                linestyle=STYLES[i % len(STYLES)])
    for i, name in enumerate(names):
        axes.plot([], [],
                  color='0.3',
                  linestyle=STYLES[i % len(STYLES)],
                  label=name)
    axes.set_ylabel('distillation loss by direction')
    axes.legend(frameon=False, fontsize='small')


def _draw_legend(figure: Figure, logs: Sequence[TrainingLog]) -> None:
    if len(logs) == 1:
        figure.suptitle(logs[0].name, fontsize='medium')
        return
    axes = figure.axes[0]
    lines = [
        axes.plot([], [], color=colour, label=log.name)[0]
        for log, colour in zip(logs, _colours(logs))
    ]
    figure.legend(
        handles=lines,
        loc='outside lower center',
        ncols=min(3, len(logs)),
        frameon=False)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Take means over a moving window, without padding.

    Args:
        values (np.ndarray): Shape (n,).
        width (int): Values in a window; cut to n.

    Returns:
        np.ndarray: Shape (n - width + 1,), or (0,).
    """
    width = max(1, min(width, len(values)))
    if not len(values):
        return values
    return np.convolve(values, np.full(width, 1 / width), mode='valid')


def draw_similarity(logs: Sequence[TrainingLog]) -> Figure:
    """Draw the cosine of every student layer to its teacher layer over time.

    Below each, the weights that the distillation gives to the layers.

    Args:
        logs (Sequence[TrainingLog]): Runs with ``distiller.log_layers=True``;
            others are left out.

    Returns:
        Figure: One column a run.

    Raises:
        ValueError: If no run has logged single layers.
    """
    logs = [log for log in logs if len(log.layers()[1])]
    if not logs:
        raise ValueError(
            'No run has logged the similarity of single layers: train with '
            'model.distiller.log_layers=True, in a variant with cosines '
            "('default' or 'paper_v1').")
    kinds = dict(cos='cosine to the teacher', weight='weight of the layer')
    kinds = {k: v for k, v in kinds.items() if len(logs[0].layers(k)[1])}
    figure = Figure(
        figsize=(4.5 * len(logs) + 0.8, 3 * len(kinds)), layout='constrained')
    grid = figure.subplots(len(kinds), len(logs), squeeze=False)
    for row, (kind, label) in zip(grid, kinds.items()):
        values = np.concatenate([log.layers(kind)[1].ravel() for log in logs])
        low, high = np.nanmin(values), np.nanmax(values)
        for axes, log in zip(row, logs):
            image = _draw_layers(axes, *log.layers(kind), low, high)
            axes.set_xlabel(log.unit)
        row[0].set_ylabel('student layer')
        figure.colorbar(image, ax=row, label=label)
    for axes, log in zip(grid[0], logs):
        axes.set_title(log.name, fontsize='medium')
    return figure


def _draw_layers(axes: Axes, positions: np.ndarray, values: np.ndarray,
                 low: float, high: float):
    """Draw a map of layers by time; a cell ends where its row was logged."""
    edges = np.concatenate([[0.], positions])
    image = axes.pcolormesh(
        edges,
        np.arange(len(values) + 1) - 0.5,
        values,
        vmin=low,
        vmax=high,
        cmap='viridis',
        rasterized=True)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return image
