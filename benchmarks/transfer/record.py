"""Read what a training has left behind, and keep it as one line."""
import json
import os
import os.path as osp
import re
import subprocess
from typing import Dict, List, Optional

import torch
from row import Row

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '..', '..'))
#: Iterations between two lines of a training's log.
LOG_INTERVAL = 50

_ERROR = re.compile(r'^[\w.]*(Error|Exception|Interrupt|Exit)\b')


def read_scalars(folder: str) -> List[Dict]:
    """Read the logs of a row, interrupted or not.

    Args:
        folder (str): Its work folder.

    Returns:
        List[Dict]: Records of training and validation, in order.
    """
    records = []
    for name in sorted(n for n in os.listdir(folder) if n[:8].isdigit()):
        path = osp.join(folder, name, 'vis_data', 'scalars.json')
        if osp.isfile(path):
            with open(path) as file:
                records += [json.loads(line) for line in file if line.strip()]
    return records


def read_curve(folder: str, metric: str) -> List[list]:
    """Read the measured values and the training time before each.

    Args:
        folder (str): Work folder.
        metric (str): Key of the validation's log.

    Returns:
        List[list]: Epoch, value, seconds of training so far: all iterations
        with their data and the teacher's forward pass, without validation
        and start-up.
    """
    # iteration, seconds until then, and epoch and value of a validation
    events = [(0, 0., None, None)]
    for record in read_scalars(folder):
        if metric in record:
            events.append((*events[-1][:2], record['step'], record[metric]))
        elif 'loss' in record:
            now = record['iter']
            # a resumed training repeats what came after its checkpoint
            events = [e for e in events if e[0] < now]
            last, seconds = events[-1][:2]
            seconds += record['time'] * (now - last)
            events.append((now, seconds, None, None))
    return [[epoch, round(value, 2), round(seconds, 2)]
            for _, seconds, epoch, value in events if epoch is not None]


def describe(row: Row, folder: str, **measured) -> Optional[Dict]:
    """Return the line of a row that is done, or None.

    Args:
        row (Row): The row.
        folder (str): Its work folder.
        **measured: What else is known.

    Returns:
        Dict, optional: The line.
    """
    curve = read_curve(folder, row.metric)
    if not curve or curve[-1][0] != row.epochs:
        return None
    final = [r for r in read_scalars(folder) if row.metric in r][-1]
    cuda = torch.cuda.is_available()
    return dict(
        **row.identity(),
        name=row.name,
        value=curve[-1][1],
        metrics={
            k: round(v, 4)
            for k, v in final.items() if '/' in k
        },
        train_seconds=curve[-1][2],
        **measured,
        card=torch.cuda.get_device_name(0) if cuda else 'cpu',
        config=row.config,
        commit=os.environ.get('COMMIT') or head(),
        options=row.options(),
        curve=curve)


def head() -> str:
    """Return the commit of the code.

    Returns:
        str: Its short form, '' outside of a repository.
    """
    return subprocess.run(['git', 'rev-parse', '--short', 'HEAD'],
                          cwd=ROOT,
                          capture_output=True,
                          text=True).stdout.strip()


def last_error(path: str) -> str:
    """Find what ended a training.

    Args:
        path (str): Its output.

    Returns:
        str: The last line that names an error, or else the last one.
    """
    if not osp.isfile(path):
        return 'no output'
    with open(path, errors='replace') as file:
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ['no output'])[-1]
