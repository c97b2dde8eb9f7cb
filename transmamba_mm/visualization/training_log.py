import json
import math
import os.path as osp
import re
from dataclasses import dataclass, field
from glob import glob
from typing import Dict, List, Tuple

import numpy as np


@dataclass
class TrainingLog:
    """What a training has logged.

    Args:
        name (str): Name of the run.
        train (List[dict]): One row a logged iteration; 'position' is its
            place on the horizontal axis.
        val (List[dict]): One row a validation, with 'position' too.
        unit (str): What 'position' counts, 'epoch' or 'iteration'.
    """
    name: str
    train: List[dict] = field(default_factory=list)
    val: List[dict] = field(default_factory=list)
    unit: str = 'epoch'

    def series(self,
               key: str,
               split: str = 'train') -> Tuple[np.ndarray, np.ndarray]:
        """Follow one value.

        Args:
            key (str): Its name in the log.
            split (str): 'train' or 'val'. Defaults to 'train'.

        Returns:
            Tuple[np.ndarray, np.ndarray]: Positions and values, both (n,);
            empty if it was never logged.
        """
        rows = [r for r in getattr(self, split) if key in r]
        if key == 'loss_cls' and not rows and not self.is_distilled:
            return self.series('loss')  # there is no other loss
        return (np.array([r['position'] for r in rows],
                         float), np.array([r[key] for r in rows], float))

    @property
    def is_distilled(self) -> bool:
        """bool: Whether terms of a distillation were logged."""
        return any(k.startswith('distill.') for row in self.train for k in row)

    def metrics(self) -> List[str]:
        """List the metrics of the validations.

        Returns:
            List[str]: Names, in the order of their first appearance.
        """
        known = dict.fromkeys(key for row in self.val for key in row)
        return [k for k in known if k not in _BOOKKEEPING]

    def directions(self) -> List[str]:
        """List the scan directions whose distillation was logged.

        Returns:
            List[str]: Names; empty without distillation by direction.
        """
        names = dict.fromkeys(key for row in self.train for key in row)
        found = (re.fullmatch(r'distill\.loss_(\w+)', key) for key in names)
        return [m[1] for m in found if m and m[1] not in _NO_DIRECTIONS]

    def layers(self, kind: str = 'cos') -> Tuple[np.ndarray, np.ndarray]:
        """Follow one value of every layer.

        Args:
            kind (str): 'cos' or 'weight'. Defaults to 'cos'.

        Returns:
            Tuple[np.ndarray, np.ndarray]: Positions (n,) and values (N, n) of
            N layers; of 0 layers where they were not logged one by one.
        """
        pattern = re.compile(rf'distill\.{kind}_l(\d+)')
        rows = [r for r in self.train if any(map(pattern.fullmatch, r))]
        keys = sorted((k for k in rows[0] if pattern.fullmatch(k)),
                      key=lambda k: int(pattern.fullmatch(k)[1])) \
            if rows else []
        positions = np.array([r['position'] for r in rows], float)
        values = [[r.get(key, math.nan) for r in rows] for key in keys]
        return positions, np.array(values, float).reshape(len(keys), len(rows))


_BOOKKEEPING = ('position', 'step', 'time', 'data_time', 'epoch', 'iter',
                'memory')
_NO_DIRECTIONS = ('feat', 'logit', 'idle')


def read_training_log(work_dir: str) -> TrainingLog:
    """Read what the trainings in a folder have logged.

    A run that was stopped and resumed is put together; what it did twice
    counts as done the second time.

    Args:
        work_dir (str): Work dir of a run.

    Returns:
        TrainingLog: Named after the folder.

    Raises:
        ValueError: If nothing was logged there.
    """
    train: Dict[int, dict] = {}
    val: Dict[int, dict] = {}
    for path in sorted(glob(osp.join(work_dir, '*/vis_data/scalars.json'))):
        for row in _read_rows(path):
            rows = train if 'loss' in row else val
            rows[row.get('step', 0)] = row
    if not train:
        raise ValueError(
            f"'{work_dir}' holds no training log (*/vis_data/scalars.json "
            'with rows of losses): give the work dir of a run whose '
            "`visualizer.vis_backends` include dict(type='LocalVisBackend').")
    log = TrainingLog(
        osp.basename(osp.abspath(work_dir)), [train[k] for k in sorted(train)],
        [val[k] for k in sorted(val)])
    _set_positions(log)
    return log


def _read_rows(path: str) -> List[dict]:
    """Read a file of JSON lines, whose last one may be half written."""
    rows = []
    with open(path, encoding='utf-8') as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return [row for row in rows if isinstance(row, dict)]


def _set_positions(log: TrainingLog) -> None:
    """Count in epochs where the run does, and else in iterations."""
    by_epoch = all('epoch' in row for row in log.train)
    length = epoch_length(log.train) if by_epoch else 1
    log.unit = 'epoch' if by_epoch else 'iteration'
    for row in log.train:
        row['position'] = row['step'] / length
    for row in log.val:
        row['position'] = row.get('step', 0)


def epoch_length(rows: List[dict]) -> int:
    """Find out how many iterations an epoch has.

    Args:
        rows (List[dict]): Rows with 'step' (counted from 1) and 'epoch'.

    Returns:
        int: The least number for which every step lies in its epoch.
    """
    return max(math.ceil(row['step'] / row['epoch']) for row in rows)
