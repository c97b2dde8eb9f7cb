"""How a report was made, and what it does not show."""
import json
import platform
import shlex
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Dict, List

import torch

from transmamba_mm.utils.atomic_io import atomic_write
from .study import Study

PACKAGES = ('transmamba_mm', 'torch', 'mmpretrain', 'mmengine', 'numpy')


class Clock:
    """Time of all starts together.

    Args:
        path (Path): Where the time of earlier starts is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = json.loads(path.read_text()) if path.exists() else 0.
        self.start = time.monotonic()

    def total(self) -> float:
        """Read the clock.

        Returns:
            float: Seconds.
        """
        return self.before + time.monotonic() - self.start

    def stop(self) -> None:
        """Keep the time."""
        atomic_write(self.path, json.dumps(self.total()).encode())


def describe(study: Study, seconds: float) -> Dict:
    """Say how a report was made.

    Args:
        study (Study): Finished runs.
        seconds (float): Time of all starts.

    Returns:
        Dict: ``command``, ``runs`` (title and command), ``versions``,
        ``machine``, ``date`` and ``minutes``.
    """
    runs = [study.teacher_run] if study.teacher_run else []
    return dict(
        command=shlex.join(['python', 'tools/poc.py', *sys.argv[1:]]),
        runs=[
            dict(
                title=run.title,
                command=shlex.join([
                    'python', 'tools/train.py', f'runs/{run.dir.name}/'
                    'config.py', '--work-dir', f'runs/{run.dir.name}',
                    '--resume', *run.flags()
                ])) for run in [*runs, *study.students]
        ],
        versions=versions(),
        machine=machine(),
        date=date.today().isoformat(),
        minutes=seconds / 60)


def versions() -> Dict[str, str]:
    """List what was installed.

    Returns:
        Dict[str, str]: Package to version.
    """
    out = dict(python=platform.python_version())
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            from transmamba_mm.version import __version__
            out[name] = __version__
    return out


def machine() -> str:
    """Name the cards, or the processor.

    Returns:
        str: A short line.
    """
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f'{count} x {torch.cuda.get_device_name()}'
    return f'{processor()}, without a card'


def processor() -> str:
    """Name the processor.

    Returns:
        str: As the system calls it.
    """
    info = Path('/proc/cpuinfo')
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def limits(report: Dict) -> List[str]:
    """Say what a report does not show.

    Args:
        report (Dict): See :func:`~poc_parts.results.collect`.

    Returns:
        List[str]: Sentences.
    """
    teacher, seeds = report['teacher'], report['seeds']
    share = report['verdict']['fraction']
    out = [
        f'All accuracies are of {report["validation_images"]} validation '
        'images from the same folder. Images from elsewhere, or of a later '
        'time, may be harder.'
    ]
    if ('scratch', share) not in [(g['kind'], g['fraction'])
                                  for g in report['groups']]:
        out.append(f'No student from scratch was trained with {100 * share:g} '
                   '% of the images: whether it would do as well is not '
                   f'known (--scratch-fractions {share:g}).')
    if seeds == 1:
        out.append('There is one seed: how far another start would end '
                   'elsewhere is not known.')
    else:
        out.append(f'{seeds} seeds show how far starts differ only roughly.')
    if not teacher['trained_here']:
        out.append('The teacher was given: which images it has seen, and what '
                   'its training cost, is not counted here. If it has seen '
                   'the validation images, the comparison is void.')
    elif teacher['fraction'] > share:
        out.append(f'The teacher has seen {teacher["fraction"]:.0%} of the '
                   'images, more than its student.')
    out += [
        'Training times hold for this machine and this number of trainings '
        'side by side, and are the times of one training, not of a search '
        'for settings.',
        'Both students had the settings of the recipe; neither was tuned.'
    ]
    if any('Shortened' in note for note in report['notes']):
        out.append('Trainings were shortened to fit a budget. Longer ones may '
                   'rank differently.')
    return out
