"""Bars in a terminal, lines elsewhere."""
import json
from contextlib import contextmanager
from typing import Iterator, List, Optional, Sequence

from quickstart_parts import runs as quickstart_runs
from rich.console import Console
from rich.progress import (BarColumn, MofNCompleteColumn, Progress, TextColumn,
                           TimeElapsedColumn, TimeRemainingColumn)

from .experiment import PocRun

#: Bytes at the end of a log that are read for a bar.
TAIL = 4096


class Bars:
    """One bar a training at work.

    Args:
        console (Console): Where they are shown.
        jobs (int): Trainings side by side.
    """

    def __init__(self, console: Console, jobs: int) -> None:
        self.console = console
        self.jobs = jobs

    def run_all(self, runs: Sequence[PocRun]) -> None:
        """Train what is not finished.

        Args:
            runs (Sequence[PocRun]): The runs.
        """
        with self._open() as progress:
            tasks = {}

            def watch(batch: Sequence[PocRun]) -> None:
                for run in batch:
                    if run.title not in tasks:
                        tasks[run.title] = progress.add_task(
                            run.title, total=run.epochs, accuracy='')
                    _update(progress, tasks[run.title], run)

            quickstart_runs.run_all(runs, self.jobs, progress and watch)

    @contextmanager
    def _open(self) -> Iterator[Optional[Progress]]:
        if not self.console.is_terminal:
            yield None
            return
        with Progress(
                TextColumn('{task.description}'),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn('epochs'),
                TextColumn('{task.fields[accuracy]}'),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console) as progress:
            yield progress


def _update(progress: Progress, task, run: PocRun) -> None:
    """Move a bar to where a training is."""
    for row in newest_rows(run):
        if 'accuracy/top1' in row:
            progress.update(task, accuracy=f'{row["accuracy/top1"]:.1f} %')
        elif 'epoch' in row:
            progress.update(task, completed=min(row['epoch'], run.epochs))


def newest_rows(run: PocRun) -> List[dict]:
    """Read the end of the newest log, however long it is.

    Args:
        run (PocRun): A training at work.

    Returns:
        List[dict]: Its last whole rows.
    """
    files = sorted(run.dir.glob('*/vis_data/scalars.json'))
    if not files:
        return []
    with files[-1].open('rb') as file:
        file.seek(max(0, files[-1].stat().st_size - TAIL))
        lines = file.read().decode(errors='replace').splitlines()
    out = []
    for line in lines:
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:  # cut at either end
            continue
    return out
