"""Figures, table and plot of the quickstart."""
import json
import statistics
from pathlib import Path
from typing import Dict, List

from .runs import Run

COLUMNS = ('model', 'images', 'accuracy %', 'training s', 'parameters',
           'images/s')


def measure(run: Run) -> Dict:
    """Collect the figures of one finished run.

    Args:
        run (Run): Trained and tested.

    Returns:
        Dict: Accuracy in per cent from ``tools/test.py``, seconds of training
        (without validation), parameters, and images a second in inference
        (batch 64, one thread).
    """
    import torch
    from mmengine.config import Config
    from mmpretrain.apis import get_model

    from transmamba_mm.utils.benchmark import measure_speed
    metrics = json.loads((run.dir / 'metrics.json').read_text())
    cfg = Config.fromfile(run.dir / 'config.py')
    model = get_model(cfg, pretrained=str(run.checkpoint()))
    model.distiller = None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = run.task.img_size
    speed = measure_speed(model, (64, 3, size, size))
    torch.set_num_threads(threads)
    return dict(
        kind=run.kind,
        seed=run.seed,
        images=run.num_images,
        accuracy=metrics['accuracy/top1'],
        train_seconds=training_seconds(run),
        parameters=sum(p.numel() for p in model.parameters()),
        images_per_s=speed['images_per_s'])


def training_seconds(run: Run) -> float:
    """Add up the time of all training iterations, resumed or not.

    Args:
        run (Run): Trained.

    Returns:
        float: Seconds, the teacher's forward and data loading included,
        validation and start-up not.
    """
    return sum(r['time'] for r in run.scalars() if 'loss' in r)


def collect(runs: List[Run]) -> List[Dict]:
    """Read the results of all runs.

    Args:
        runs (List[Run]): Finished runs.

    Returns:
        List[Dict]: One row a run.
    """
    return [json.loads(run.result_file.read_text()) for run in runs]


def table(rows: List[Dict]) -> str:
    """Format the results, seeds joined as mean and standard deviation.

    Args:
        rows (List[Dict]): From :func:`collect`.

    Returns:
        str: A Markdown table.
    """
    names = dict(
        teacher='ViT teacher',
        scratch='Mamba from scratch',
        transmamba='TransMamba')
    lines = [COLUMNS, tuple('-' * len(c) for c in COLUMNS)]
    for kind, name in names.items():
        same = [r for r in rows if r['kind'] == kind]
        lines.append((name, str(same[0]['images']),
                      _spread([r['accuracy'] for r in same],
                              1), _spread([r['train_seconds'] for r in same],
                                          0), f"{same[0]['parameters']:,}",
                      _spread([r['images_per_s'] for r in same], 0)))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join(
        '| ' + ' | '.join(c.ljust(w) for c, w in zip(line, widths)) + ' |'
        for line in lines)


def _spread(values: List[float], digits: int) -> str:
    text = f'{statistics.mean(values):.{digits}f}'
    if len(values) > 1:
        text += f' +- {statistics.stdev(values):.{digits}f}'
    return text


def plot_curves(runs: List[Run], path: Path) -> Path:
    """Draw the validation accuracy over the epochs.

    Args:
        runs (List[Run]): Finished runs.
        path (Path): PNG file to write.

    Returns:
        Path: The same path.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    colours = dict(teacher='0.6', scratch='tab:orange', transmamba='tab:blue')
    labels = dict(
        teacher='ViT teacher',
        scratch='Mamba from scratch, all images',
        transmamba='TransMamba')
    figure, axes = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for run in runs:
        rows = run.validations()
        label = labels.pop(run.kind, None)
        if label == 'TransMamba':
            label += f', {run.fraction:.0%} of the images'
        axes.plot([r['step'] for r in rows],
                  [r['accuracy/top1'] for r in rows],
                  color=colours[run.kind],
                  label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel('epoch')
    axes.set_ylabel('validation accuracy, %')
    axes.set_title(runs[0].task.name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
