"""Training and testing through the project's own tools."""
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from transmamba_mm.utils.atomic_io import atomic_write
from .data import Task

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'teacher': 'vit-nano-16_1xb64-20e_digits.py',
    'scratch': 'vim-nano-16_1xb64-20e_digits.py',
    'transmamba': 'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py',
}
POLL_SECONDS = 1.


@dataclass
class Run:
    """One training with its test.

    Args:
        kind (str): Key of ``CONFIGS``.
        title (str): Shown to the user.
        dir (Path): Work dir.
        task (Task): What is learned.
        seed (int): Random seed. Defaults to 0.
        fraction (float): Share of the training images. Defaults to 1.
        teacher (Path, optional): Teacher's checkpoint. Defaults to None.
        epochs (int, optional): None takes the recipe's. Defaults to None.
    """
    kind: str
    title: str
    dir: Path
    task: Task
    seed: int = 0
    fraction: float = 1.
    teacher: Optional[Path] = None
    epochs: Optional[int] = None
    shown: int = field(default=0, repr=False)

    @property
    def num_images(self) -> int:
        """int: Training images that this run sees."""
        known = self.dir / 'data_subset.json'
        if known.exists():
            return json.loads(known.read_text())[0]['num_images']
        return self.task.num_train

    @property
    def result_file(self) -> Path:
        """Path: Written last, so it tells that the run is finished."""
        return self.dir / 'result.json'

    def checkpoint(self) -> Path:
        """Return the last whole checkpoint.

        Returns:
            Path: The file that MMEngine's ``last_checkpoint`` names.
        """
        return Path((self.dir / 'last_checkpoint').read_text().strip())

    def write_config(self) -> Path:
        """Write the run's config: the published one, and what differs.

        Returns:
            Path: The file.
        """
        task = self.task
        base = ROOT / 'configs' / 'transmamba' / CONFIGS[self.kind]
        lines = [
            f'_base_ = [{str(base)!r}]',
            f'model = {model_changes(task)!r}',
            f'data_preprocessor = dict(num_classes={len(task.classes)})',
            f'train_dataloader = {loader_changes(task, "train")!r}',
            f'val_dataloader = {loader_changes(task, "val")!r}',
            'test_dataloader = val_dataloader',
            f'randomness = dict(seed={self.seed})',
            # the time of every iteration, for the table
            'default_hooks = dict(logger=dict(interval=1))',
            'log_processor = dict(window_size=1)',
        ]
        if self.epochs is not None:
            lines.append(f'train_cfg = dict(max_epochs={self.epochs})')
        if self.teacher is not None:
            lines.append(f'custom_hooks = {teacher_hooks(self.teacher)!r}')
        self.dir.mkdir(parents=True, exist_ok=True)
        path = self.dir / 'config.py'
        path.write_text('\n'.join(lines) + '\n')
        return path

    def start(self) -> subprocess.Popen:
        """Start the training, or go on with it.

        Returns:
            subprocess.Popen: The process; its output is in ``train.log``.
        """
        config = self.write_config()
        return self._tool(
            'train.py', config, '--work-dir', self.dir, '--resume',
            '--cfg-options',
            f'train_dataloader.dataset.fraction={self.fraction}')

    def test(self) -> subprocess.Popen:
        """Start the test of the last checkpoint.

        Returns:
            subprocess.Popen: The process; metrics go to ``metrics.json``.
        """
        return self._tool('test.py', self.dir / 'config.py', self.checkpoint(),
                          '--work-dir', self.dir / 'test', '--out',
                          self.dir / 'metrics.json', '--out-item', 'metrics')

    def _tool(self, name: str, *args) -> subprocess.Popen:
        env = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')
        log = (self.dir / f'{name.split(".")[0]}.log').open('a')
        return subprocess.Popen([sys.executable, ROOT / 'tools' / name, *args],
                                stdout=log,
                                stderr=subprocess.STDOUT,
                                env=env)

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the newest log.

        Args:
            lines (int): Number of lines. Defaults to 15.

        Returns:
            str: The text.
        """
        newest = max(self.dir.glob('*.log'), key=lambda p: p.stat().st_mtime)
        return '\n'.join(newest.read_text().splitlines()[-lines:])

    def measure(self) -> None:
        """Write the result: accuracy, time, size and speed."""
        from .report import measure
        result = json.dumps(measure(self), indent=2)
        atomic_write(str(self.result_file), result.encode())

    def scalars(self) -> List[dict]:
        """Read what the runs in this folder have logged, in order.

        Returns:
            List[dict]: Training rows hold 'loss', validation rows
            'accuracy/top1'; a resumed epoch appears once.
        """
        rows = {}
        for path in sorted(self.dir.glob('*/vis_data/scalars.json')):
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # being written just now
                    continue
                rows['loss' in row, row.get('step', 0)] = row
        return [rows[key] for key in sorted(rows, key=lambda k: k[1])]

    def validations(self) -> List[dict]:
        """Return one row an epoch.

        Returns:
            List[dict]: Rows with 'step' (epoch) and 'accuracy/top1'.
        """
        return [r for r in self.scalars() if 'accuracy/top1' in r]

    def show_progress(self) -> None:
        """Print the epochs that are new."""
        rows = self.validations()
        for row in rows[self.shown:]:
            print(
                f'  {self.title}: epoch {row["step"]}, '
                f'accuracy {row["accuracy/top1"]:.1f} %',
                flush=True)
        self.shown = len(rows)


def model_changes(task: Task) -> dict:
    """Return what a task changes in the published model config.

    Args:
        task (Task): The task.

    Returns:
        dict: Overrides of ``model``.
    """
    return dict(
        backbone=dict(img_size=task.img_size),
        head=dict(num_classes=len(task.classes)))


def teacher_hooks(checkpoint: Path) -> list:
    """Return the hooks of TransMamba with the teacher of this task.

    Args:
        checkpoint (Path): The teacher's checkpoint, beside its config.

    Returns:
        list: ``custom_hooks``.
    """
    weights = str(checkpoint)
    return [
        dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=weights),
        dict(
            type='transmamba_mm.BidirectionalDistillHook',
            teacher=dict(
                type='transmamba_mm.MMPretrainTeacher',
                config=str(checkpoint.parent / 'config.py'),
                checkpoint=weights))
    ]


def loader_changes(task: Task, split: str) -> dict:
    """Return what a task changes in a dataloader.

    Args:
        task (Task): The task.
        split (str): 'train' or 'val'.

    Returns:
        dict: Overrides of a dataloader config.
    """
    files = dict(
        data_root=task.data_root,
        data_prefix='',
        ann_file=f'{task.lists}/{split}.txt',
        classes=task.classes)
    dataset = dict(dataset=files) if split == 'train' else files
    return dict(dataset=dataset)


def run_all(runs: List[Run]) -> None:
    """Train and test some runs, as many at a time as there are cores.

    Args:
        runs (List[Run]): The runs; finished ones are skipped.
    """
    waiting = [run for run in runs if not run.result_file.exists()]
    for run in runs:
        if run not in waiting:
            print(f'{run.title}: finished before', flush=True)
    slots = os.cpu_count() or 1
    while waiting:
        batch, waiting = waiting[:slots], waiting[slots:]
        names = ' and '.join(run.title for run in batch)
        print(f'Training {names}', flush=True)
        for run in batch:
            run.shown = len(run.validations())
        _wait(batch, [run.start() for run in batch])
        _wait(batch, [run.test() for run in batch])
        for run in batch:
            run.measure()


def _wait(batch: List[Run], processes: List[subprocess.Popen]) -> None:
    """Wait for all and show progress; stop all if one fails."""
    while any(process.poll() is None for process in processes):
        time.sleep(POLL_SECONDS)
        for run in batch:
            run.show_progress()
        failed = [
            run for run, process in zip(batch, processes) if process.poll()
        ]
        if failed:
            for process in processes:
                process.terminate()
            raise SystemExit(
                f'{failed[0].title} failed; the end of its log:\n'
                f'{failed[0].log_tail()}\nAll logs are in {failed[0].dir}. '
                'Start again to go on from the last whole checkpoint.')
