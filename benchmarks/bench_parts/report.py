"""What the backbone benchmark prints and draws."""
import argparse
import importlib.metadata
import importlib.util
import platform
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Optional

import torch

import transmamba_mm
from .models import MODELS
from .results import ResultFile

#: Rows are compared that agree in these.
_SAME = ('bench', 'mode', 'timing', 'resolution', 'batch', 'precision', 'card',
         'torch')


def card_name(device: str) -> str:
    """Name the card, or the processor and its threads.

    Args:
        device (str): The device.

    Returns:
        str: For example 'NVIDIA H100 80GB HBM3'.
    """
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads'


def versions() -> Dict[str, Optional[str]]:
    """Versions of what the times depend on.

    Returns:
        Dict[str, Optional[str]]: None for what is not installed.
    """
    names = ('triton', 'timm', 'mamba_ssm', 'causal_conv1d')
    return dict(
        torch=torch.__version__,
        **{name: _version(name)
           for name in names},
        transmamba_mm=transmamba_mm.__version__)


@lru_cache(maxsize=None)
def _version(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        return None
    # importing it may fail, or import much
    found = re.search(r'__version__ = .(\S+).', Path(spec.origin).read_text())
    return found and found[1]


def conditions(args: argparse.Namespace, rates: Dict[str,
                                                     Optional[float]]) -> str:
    """Write the conditions of a run.

    Args:
        args (argparse.Namespace): Holds ``device`` and ``precision``.
        rates (Dict[str, Optional[float]]): Of ``card_rates``.

    Returns:
        str: Two lines.
    """
    names = ', '.join(f'{k} {v}' for k, v in versions().items() if v)
    speeds = ', '.join(f'{k} {v:.3g}/s' for k, v in rates.items() if v)
    return (f'{card_name(args.device)}; {names}\n'
            f'{args.precision}; ceilings: {speeds or "not known"}')


def head() -> str:
    """Write the head of the backbones' table.

    Returns:
        str: One line.
    """
    return (f'{"row":<52} {"img/s":>9} {"ms":>9} {"+-":>7} {"MiB":>7} '
            f'{"x DeiT":>7} {"copy":>6} {"exp":>6}')


def line(name: str, row: dict) -> str:
    """Write one row of the table.

    Args:
        name (str): The row's name.
        row (dict): Its result.

    Returns:
        str: One line.
    """
    if 'error' in row:
        return f'{name:<52} {row["error"]} ({row["where"]})'

    def number(key: str, form: str, width: int) -> str:
        value = row[key]
        return format('-' if value is None else format(value, form),
                      f'>{width}')

    note = f'  ({row["note"]})' if row.get('note') else ''
    return (f'{name:<52} ' + ' '.join([
        number('images_per_s', '.1f', 9),
        number('latency_ms', '.2f', 9),
        number('spread_ms', '.2f', 7),
        number('peak_mib', '.0f', 7),
        number('ratio_to_deit', '.3f', 7),
        number('copy_share', '.1%', 6),
        number('exp_share', '.1%', 6)
    ]) + note)


def ratio_to(results: ResultFile,
             row: dict,
             implementation: str,
             model: Optional[str] = None) -> Optional[float]:
    """Tell how many times as fast a row is as another implementation.

    Args:
        results (ResultFile): Where the other one is looked up.
        row (dict): The row.
        implementation (str): The other implementation.
        model (str, optional): The other model. Defaults to None, the same.

    Returns:
        float, optional: Ratio of the images a second, None if one is missing.
    """
    wanted = dict(
        row, implementation=implementation, model=model or row['model'])
    keys = (*_SAME, 'implementation', 'model')
    other = results.find(wanted, keys)
    if model == row['model'] and implementation == row['implementation']:
        other = row
    if other is None or not (other['images_per_s'] and row['images_per_s']):
        return None
    return row['images_per_s'] / other['images_per_s']


def table(results: ResultFile) -> str:
    """Compare ours with the official code, row by row.

    Args:
        results (ResultFile): All rows.

    Returns:
        str: Lines, or a sentence if nothing can be compared.
    """
    lines = []
    for row in results.rows:
        if row['implementation'] not in ('ours', 'mamba_ssm'):
            continue
        ratio = ratio_to(results, row, 'official')
        if ratio is None:
            continue
        official = results.find(
            dict(row, implementation='official'),
            (*_SAME, 'implementation', 'model'))
        memory = row['peak_mib'] / official['peak_mib'] if \
            official['peak_mib'] else float('nan')
        name = '{model} {mode} {timing} {resolution} b{batch}'.format(**row)
        lines.append(f'{name:<44} {row["scan"]:<10} {ratio:6.2f}x the speed, '
                     f'{memory:5.2f}x the memory')
    if not lines:
        return 'nothing to compare with the official implementations'
    return '\n'.join(['against the official implementation:', *lines])


def plot(results: ResultFile, path: str) -> bool:
    """Draw images a second over the resolution, and bars at the smallest one.

    Only rows of the card that was measured last are drawn.

    Args:
        results (ResultFile): All rows.
        path (str): Picture to write.

    Returns:
        bool: Whether there was anything to draw, and Matplotlib to draw it.
    """
    rows = [
        r for r in results.rows
        if r['mode'] == 'infer' and r['batch'] > 1 and r['images_per_s']
    ]
    rows = [r for r in rows if r['card'] == rows[-1]['card']]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print('no plot: Matplotlib is not installed')
        return False
    if not rows:
        return False
    figure = Figure(figsize=(13, 5), layout='constrained')
    bars, curves = figure.subplots(1, 2)
    _draw_bars(bars, rows)
    _draw_curves(curves, rows)
    figure.suptitle(rows[-1]['card'])
    figure.savefig(path, dpi=120)
    return True


def _label(row: dict) -> str:
    scan = f' ({row["scan"]})' if row['implementation'] == 'ours' else ''
    return f'{row["model"]}, {row["implementation"]}{scan}'


def _best(rows: List[dict]) -> Dict[tuple, float]:
    """The faster of eager and graph, by label and resolution."""
    best: Dict[tuple, float] = {}
    for row in rows:
        key = _label(row), row['resolution']
        best[key] = max(best.get(key, 0.), row['images_per_s'])
    return best


def _draw_bars(axes, rows: List[dict]) -> None:
    side = min(r['resolution'] for r in rows)
    order = list(MODELS)
    rows = sorted((r for r in rows if r['resolution'] == side),
                  key=lambda r: (order.index(r['model']), _label(r)))
    best = _best(rows)
    labels = [label for label, _ in best]
    axes.barh(labels, list(best.values()))
    axes.invert_yaxis()
    axes.set_xscale('log')
    axes.set_xlabel(f'images a second at {side} px')


def _draw_curves(axes, rows: List[dict]) -> None:
    best = _best(rows)
    for label in dict.fromkeys(label for label, _ in best):
        points = sorted(
            (s, v) for (name, s), v in best.items() if name == label)
        if len(points) > 1:
            axes.plot(*zip(*points), marker='o', label=label)
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.set_xlabel('side of the image, px')
    axes.set_ylabel('images a second')
    if axes.lines:
        axes.legend(fontsize='small')
