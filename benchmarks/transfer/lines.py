"""The results: one JSON line a training."""
import json
import os
import os.path as osp
import sys
from statistics import mean
from typing import Dict, List, Optional


def read_lines(path: str) -> List[Dict]:
    """Read results; of a row that is there twice, the later line counts.

    Args:
        path (str): File of JSON lines; a line that is cut is left out, with
            a message.

    Returns:
        List[Dict]: The lines.
    """
    rows = {}
    if not osp.isfile(path):
        return []
    with open(path) as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text) if text.strip() else None
            except json.JSONDecodeError:
                print(f'{path}:{number} is cut and left out', file=sys.stderr)
                continue
            if line is not None:
                rows[key(line)] = line
    return list(rows.values())


def key(line: Dict) -> tuple:
    """Return what tells a line from others.

    Args:
        line (Dict): A line, or a row's ``identity()``.

    Returns:
        tuple: Hashable.
    """
    return tuple(line[k]
                 for k in ('task', 'data', 'student', 'teacher', 'method',
                           'variant', 'fraction', 'seed', 'epochs', 'metric'))


def append_line(path: str, line: Dict) -> None:
    """Add a line in one write, after whatever was left half written.

    Args:
        path (str): File of JSON lines.
        line (Dict): The line.
    """
    folder = osp.dirname(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    with open(path, 'a+b') as file:
        cut = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b'\n'
        file.write((b'\n' if cut else b'') + json.dumps(line).encode() + b'\n')
        file.flush()
        os.fsync(file.fileno())


def predictions_path(results: str, name: str) -> str:
    """Return where the predictions of a row are kept.

    Args:
        results (str): File of JSON lines.
        name (str): The row's name.

    Returns:
        str: A file in the folder ``predictions`` beside the results.
    """
    folder = osp.join(osp.dirname(osp.abspath(results)), 'predictions')
    return osp.join(folder, f'{name}.npz')


def estimate(row: Dict, lines: List[Dict]) -> Optional[float]:
    """Estimate the cost of a training by those of the same kind.

    Args:
        row (Dict): Its ``identity()``.
        lines (List[Dict]): Results.

    Returns:
        float, optional: Seconds of a device that the row will take, from the
        mean over lines of its student and method on the card that was used
        last; None if there are none.
    """
    known = [
        r for r in lines
        if all(r[k] == row[k] for k in ('task', 'data', 'student',
                                        'method')) and r.get('device_seconds')
    ]
    if not known:
        return None
    rates = [
        r['device_seconds'] / (r['fraction'] * r['epochs']) for r in known
        if r['card'] == known[-1]['card']
    ]
    return mean(rates) * row['fraction'] * row['epochs']
