"""Configs that are written as a difference from others."""
import os
from pathlib import Path
from pprint import pformat
from typing import List, Sequence, Union

from mmengine.config import Config

from .atomic_io import atomic_write


def write_config(path: Path, base: Union[Path, Sequence[Path]],
                 changes: dict) -> None:
    """Write a config as its difference from one or several others.

    Args:
        path (Path): The file; it appears whole.
        base (Path | Sequence[Path]): The other configs.
        changes (dict): Overrides.
    """
    bases = [base] if isinstance(base, Path) else base
    folder = path.resolve().parent
    names = [os.path.relpath(name.resolve(), folder) for name in bases]
    plain = dict(_base_=names[0] if len(names) == 1 else names)
    plain.update(Config(changes).to_dict())
    # a config's own pretty_text takes seconds, and no interruption
    lines = [
        f'{name} = {pformat(value, sort_dicts=False)}\n'
        for name, value in plain.items()
    ]
    atomic_write(path, ''.join(lines).encode())


def shorten_schedulers(schedulers: Union[dict, Sequence],
                       share: float) -> List[dict]:
    """Squeeze schedulers; what becomes shorter than an epoch is left out.

    Args:
        schedulers (dict | Sequence): Config of a parameter scheduler, or of
            several.
        share (float): New length over the old one.

    Returns:
        List[dict]: Configs.
    """
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    out = []
    for scheduler in schedulers:
        scheduler = dict(scheduler)
        if scheduler.get('by_epoch', True):
            begin = scheduler.get('begin', 0)
            end = scheduler.get('end')
            for key in ('begin', 'end', 'T_max', 'step_size'):
                if scheduler.get(key) is not None:
                    scheduler[key] = round(scheduler[key] * share)
            if 'milestones' in scheduler:
                scheduler['milestones'] = [
                    round(m * share) for m in scheduler['milestones']
                ]
            if end is not None and round(begin * share) == round(end * share):
                continue
        out.append(scheduler)
    return out
