"""Training and testing through the project's own tools."""
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional, Sequence

from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.derived_config import write_config
from .data import Task

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'teacher': 'vit-nano-16_1xb64-20e_digits.py',
    'scratch': 'vim-nano-16_1xb64-20e_digits.py',
    'transmamba': 'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py',
}
POLL_SECONDS = 0.5


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
        threads (int): Threads of a training. Defaults to 1.
    """
    kind: str
    title: str
    dir: Path
    task: Task
    seed: int = 0
    fraction: float = 1.
    teacher: Optional[Path] = None
    epochs: Optional[int] = None
    threads: int = 1
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

    def bases(self) -> List[Path]:
        """Return the published configs that the run's starts from.

        Returns:
            List[Path]: Files.
        """
        return [ROOT / 'configs' / 'transmamba' / CONFIGS[self.kind]]

    def changes(self) -> dict:
        """Return what differs from the published configs.

        Returns:
            dict: Overrides.
        """
        out = task_changes(self.task)
        train = out['train_dataloader']['dataset']
        train['fraction'] = self.fraction
        train['dataset']['pipeline'] = pipeline(self.task.img_size, True)
        out['val_dataloader']['dataset']['pipeline'] = pipeline(
            self.task.img_size, False)
        out.update(
            randomness=dict(seed=self.seed),
            # the time of every iteration, for the table
            default_hooks=dict(logger=dict(interval=1)),
            log_processor=dict(window_size=1))
        if self.epochs is not None:
            out['train_cfg'] = dict(max_epochs=self.epochs)
        if self.teacher is not None:
            out['custom_hooks'] = teacher_hooks(
                str(self.teacher), trained_teacher(self.teacher))
        return out

    def write_config(self) -> Path:
        """Write the run's config: the published ones, and what differs.

        Returns:
            Path: The file.
        """
        path = self.dir / 'config.py'
        write_config(path, self.bases(), self.changes())
        return path

    def start(self) -> subprocess.Popen:
        """Start the training, or go on with it.

        Returns:
            subprocess.Popen: The process; its output is in ``train.log``.
        """
        return self._tool('train.py', self.write_config(), '--work-dir',
                          self.dir, '--resume', *self.flags())

    def flags(self) -> List[str]:
        """Return further flags of ``tools/train.py``.

        Returns:
            List[str]: Flags.
        """
        return []

    def test(self) -> subprocess.Popen:
        """Start the test of the last checkpoint.

        Returns:
            subprocess.Popen: The process; metrics go to ``metrics.json``.
        """
        return self._tool('test.py', self.dir / 'config.py', self.checkpoint(),
                          '--work-dir', self.dir / 'test', '--out',
                          self.dir / 'metrics.json', '--out-item', 'metrics')

    def _tool(self, name: str, *args) -> subprocess.Popen:
        threads = str(self.threads)
        env = dict(
            os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        log = (self.dir / f'{name.split(".")[0]}.log').open('a')
        return subprocess.Popen([sys.executable, ROOT / 'tools' / name, *args],
                                stdout=log,
                                stderr=subprocess.STDOUT,
                                env=env)

    def steps(self) -> List[Callable[[], subprocess.Popen]]:
        """Return what is started, one after the other.

        Returns:
            List[Callable]: Each starts a process.
        """
        return [self.start, self.test]

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


#: Looks at the runs that are at work.
Watch = Callable[[Sequence[Run]], None]


def task_changes(task: Task) -> dict:
    """Return what a task changes in a published config.

    Args:
        task (Task): The task.

    Returns:
        dict: Overrides of model and data.
    """
    val = dict(dataset=files_of(task, 'val'))
    return dict(
        model=dict(
            backbone=dict(img_size=task.img_size),
            head=dict(num_classes=len(task.classes))),
        data_preprocessor=dict(num_classes=len(task.classes)),
        train_dataloader=dict(dataset=dict(dataset=files_of(task, 'train'))),
        val_dataloader=val,
        test_dataloader=val)


def trained_teacher(checkpoint: Path) -> dict:
    """Return the config of a teacher that was trained here.

    Args:
        checkpoint (Path): Its checkpoint, beside its config.

    Returns:
        dict: Of a ``FrozenTeacher``.
    """
    return dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=str(checkpoint.parent / 'config.py'),
        checkpoint=str(checkpoint))


def teacher_hooks(weights: str, teacher: dict) -> list:
    """Return the hooks of TransMamba.

    Args:
        weights (str): What is cloned.
        teacher (dict): Config of the teacher.

    Returns:
        list: ``custom_hooks``.
    """
    return [
        dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=weights),
        dict(type='transmamba_mm.BidirectionalDistillHook', teacher=teacher)
    ]


def files_of(task: Task, split: str) -> dict:
    """Return where a split's images are.

    Args:
        task (Task): The task.
        split (str): 'train' or 'val'.

    Returns:
        dict: Overrides of a dataset config.
    """
    return dict(
        data_root=task.data_root,
        data_prefix='',
        ann_file=f'{task.lists}/{split}.txt',
        classes=task.classes)


def pipeline(size: int, training: bool) -> list:
    """Return the transforms of small images of any size.

    Args:
        size (int): Side in pixels.
        training (bool): Whether images are shifted by a pixel.

    Returns:
        list: Configs.
    """
    shift = [dict(type='RandomCrop', crop_size=size, padding=1)]
    return [
        dict(type='transmamba_mm.LoadImage'),
        dict(type='Resize', scale=(size, size)), *(shift if training else []),
        dict(type='PackInputs')
    ]


def run_all(runs: Sequence[Run],
            jobs: Optional[int] = None,
            watch: Optional[Watch] = None) -> None:
    """Train and test some runs, several at a time.

    Args:
        runs (Sequence[Run]): The runs; finished ones are skipped.
        jobs (int, optional): How many at a time; None means as many as there
            are cores. Defaults to None.
        watch (Callable, optional): Called about once a second with the runs
            at work; None prints their epochs. Defaults to None.
    """
    waiting = [run for run in runs if not run.result_file.exists()]
    for run in runs:
        if run not in waiting:
            print(f'{run.title}: finished before', flush=True)
    slots = jobs or os.cpu_count() or 1
    while waiting:
        batch, waiting = waiting[:slots], waiting[slots:]
        names = ' and '.join(run.title for run in batch)
        print(f'Training {names}', flush=True)
        for run in batch:
            run.shown = len(run.validations())
        for step in zip(*(run.steps() for run in batch)):
            _wait(batch, [start() for start in step], watch or print_epochs)
        for run in batch:
            run.measure()


def print_epochs(batch: Sequence[Run]) -> None:
    """Print the epochs that are new.

    Args:
        batch (Sequence[Run]): The runs at work.
    """
    for run in batch:
        run.show_progress()


def _wait(batch: Sequence[Run], processes: List[subprocess.Popen],
          watch: Watch) -> None:
    """Wait for all and show progress; stop all if one fails."""
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(POLL_SECONDS)
            watch(batch)
            failed = [
                run for run, process in zip(batch, processes)
                if process.poll()
            ]
            if failed:
                raise SystemExit(
                    f'{failed[0].title} failed; the end of its log:\n'
                    f'{failed[0].log_tail()}\nAll logs are in '
                    f'{failed[0].dir}. Start again to go on from the last '
                    'whole checkpoint.')
    finally:
        for process in processes:
            process.terminate()
            process.wait()
