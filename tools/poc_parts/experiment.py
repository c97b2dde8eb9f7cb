"""The trainings of a proof of concept."""
import io
import json
import math
import os
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Callable, Dict, List, Optional

from mmengine.config import Config
from quickstart_parts.data import Task
from quickstart_parts.report import training_seconds
from quickstart_parts.runs import Run, pipeline, task_changes, teacher_hooks

from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.derived_config import shorten_schedulers
from .tiers import Tier

#: Least number of steps an epoch, for which batches get smaller (our choice).
MIN_STEPS = 10
#: Validations in the curves, at most (our choice).
MAX_VALIDATIONS = 20
TITLES = dict(
    teacher='Teacher', scratch='Mamba from scratch', transmamba='TransMamba')


@dataclass
class Settings:
    """What all trainings of a proof of concept have in common.

    Args:
        task (Task): The images.
        tier (Tier): Presets for their size.
        family (str): Family of the student.
        work_dir (Path): Folder of all runs.
        jobs (int): Trainings side by side.
        epochs (Dict[str, int]): Wanted epochs of teacher and students; the
            recipes' where missing.
        teacher_init (str, optional): Weights that the teacher starts from;
            None means the recipe's. Defaults to None.
        amp (bool): Mixed precision. Defaults to False.
        options (List[str]): As ``--cfg-options``.
    """
    task: Task
    tier: Tier
    family: str
    work_dir: Path
    jobs: int
    epochs: Dict[str, int]
    teacher_init: Optional[str] = None
    amp: bool = False
    options: List[str] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        """int: A power of two, the recipe's unless images are few."""
        most = max(2, self.task.num_train // MIN_STEPS)
        return min(self.tier.batch_size, 2**int(math.log2(most)))

    def bases(self, role: str) -> List[Path]:
        """Return the base configs of the teacher or the student.

        Args:
            role (str): 'teacher' or 'student'.

        Returns:
            List[Path]: Files.
        """
        if role == 'teacher':
            return self.tier.teacher_bases()
        return self.tier.student_bases(self.family)

    def planned_epochs(self, role: str) -> int:
        """Return the epochs of the teacher or of a student.

        Args:
            role (str): 'teacher' or 'student'.

        Returns:
            int: Epochs.
        """
        return self.epochs.get(role) or read_bases(tuple(
            self.bases(role))).train_cfg.max_epochs


@lru_cache(maxsize=None)
def read_bases(bases: tuple) -> Config:
    """Read base configs as one.

    Args:
        bases (Tuple[Path, ...]): Files.

    Returns:
        Config: Their union.
    """
    names = [str(path) for path in bases]
    return Config.fromstring(f'_base_ = {names!r}', '.py')


@dataclass
class PocRun(Run):
    """One training of a proof of concept, whose result is its predictions.

    Args:
        settings (Settings, optional): What all have in common.
        hooks (dict, optional): The teacher, see
            :class:`~poc_parts.teachers.Teacher`: keys ``weights``,
            ``teacher``, ``embed_dims`` and ``depth``.
        is_probe (bool): Whether it only measures steps. Defaults to False.
    """
    settings: Optional[Settings] = None
    hooks: Optional[dict] = None
    is_probe: bool = False

    @property
    def role(self) -> str:
        """str: 'teacher' or 'student'."""
        return 'teacher' if self.kind == 'teacher' else 'student'

    def bases(self) -> List[Path]:
        """See :meth:`Run.bases`.

        Returns:
            List[Path]: Files.
        """
        return self.settings.bases(self.role)

    def changes(self) -> dict:
        """See :meth:`Run.changes`.

        Returns:
            dict: Overrides.
        """
        settings, base = self.settings, read_bases(tuple(self.bases()))
        out = task_changes(self.task)
        self._change_loaders(out)
        out.update(
            randomness=dict(seed=self.seed),
            default_hooks=dict(
                logger=dict(interval=1),
                checkpoint=dict(max_keep_ckpts=1, save_best=None)),
            log_processor=dict(window_size=1),
            # some recipes ask for the best five of what may be three classes
            val_evaluator=dict(type='Accuracy', topk=(1, )),
            test_evaluator=dict(type='Accuracy', topk=(1, )),
            optim_wrapper=dict(optimizer=dict(lr=self._learning_rate(base))),
            train_cfg=dict(
                max_epochs=self.epochs,
                val_interval=-(-self.epochs // MAX_VALIDATIONS)),
            param_scheduler=shorten_schedulers(
                base.param_scheduler, self.epochs / base.train_cfg.max_epochs)
            or None)
        if self.kind == 'teacher' and settings.teacher_init is not None:
            start = settings.teacher_init
            out['load_from'] = None if start == 'none' else start
        if self.hooks is not None:
            out['model'].update(
                type='transmamba_mm.DistillClassifier',
                distiller=dict(
                    type='transmamba_mm.BidirectionalDistiller',
                    teacher_dims=self.hooks['embed_dims'],
                    teacher_depth=self.hooks['depth']))
            out['custom_hooks'] = teacher_hooks(self.hooks['weights'],
                                                self.hooks['teacher'])
        return out

    def _learning_rate(self, base: Config) -> float:
        """Scale by the root of the batch size, as fits AdamW (our choice)."""
        share = self.settings.batch_size / base.auto_scale_lr.base_batch_size
        return base.optim_wrapper.optimizer.lr * math.sqrt(share)

    def _change_loaders(self, out: dict) -> None:
        tier, batch = self.settings.tier, self.settings.batch_size
        train, val = out['train_dataloader'], out['val_dataloader']
        train.update(batch_size=batch)
        train['dataset']['fraction'] = self.fraction
        if tier.size == 32:
            # decoded once; resized by the way
            cache = str(self.settings.work_dir / 'cache')
            for files in (train['dataset']['dataset'], val['dataset']):
                files.update(
                    cache_dir=cache, pipeline=pipeline(tier.size, False)[:2])
        elif tier.size == 224:
            workers = max(1, cores() // self.settings.jobs - 1)
            for loader in (train, val):
                loader.update(
                    num_workers=min(8, workers), persistent_workers=False)

    def steps(self) -> List[Callable]:
        """See :meth:`Run.steps`; predictions are made in this process.

        Returns:
            List[Callable]: The training alone.
        """
        return [self.start]

    def flags(self) -> List[str]:
        """See :meth:`Run.flags`.

        Returns:
            List[str]: Further flags of ``tools/train.py``.
        """
        out = ['--amp'] if self.settings.amp else []
        if self.settings.options:
            out += ['--cfg-options', *self.settings.options]
        return out

    def measure(self) -> None:
        """Write predictions and result."""
        if not self.is_probe:
            from transmamba_mm.apis import predict_dataset
            with redirect_stdout(io.StringIO()):
                answers = predict_dataset(
                    str(self.dir / 'config.py'), str(self.checkpoint()))
            answers.save(self.dir / 'predictions.npz')
        result = dict(
            kind=self.kind,
            seed=self.seed,
            fraction=self.fraction,
            images=self.num_images,
            epochs=self.epochs,
            train_seconds=training_seconds(self),
            curve=[[r['step'], r['accuracy/top1']]
                   for r in self.validations()])
        atomic_write(self.result_file, json.dumps(result, indent=2).encode())

    def wall_seconds(self) -> float:
        """Tell how long the process ran, start and end included.

        Returns:
            float: Seconds of the last start of a finished run.
        """
        first, last = (self.dir / 'config.py').stat(), self.result_file.stat()
        return last.st_mtime - first.st_mtime

    def val_batches(self) -> int:
        """Count the batches of a validation.

        Returns:
            int: Batches.
        """
        loader = read_bases(tuple(self.bases())).val_dataloader
        return -(-self.task.num_val // loader.batch_size)

    def result(self) -> dict:
        """Read the result of a finished run.

        Returns:
            dict: ``kind``, ``seed``, ``fraction``, ``images``, ``epochs``,
            ``train_seconds`` and ``curve`` (epoch, accuracy).
        """
        return json.loads(self.result_file.read_text())


def make_run(settings: Settings,
             kind: str,
             epochs: int,
             fraction: float = 1.,
             seed: int = 0,
             hooks: Optional[dict] = None,
             folder: str = '') -> PocRun:
    """Describe a training.

    Args:
        settings (Settings): What all have in common.
        kind (str): 'teacher', 'scratch' or 'transmamba'.
        epochs (int): Its length.
        fraction (float): Share of the training images. Defaults to 1.
        seed (int): Random seed. Defaults to 0.
        hooks (dict, optional): See :class:`PocRun`. Defaults to None.
        folder (str): Folder of a probe; an ordinary run is named by what it
            does. Defaults to ''.

    Returns:
        PocRun: The run.
    """
    name, title = kind, TITLES[kind]
    if kind != 'teacher':
        name += f'_{100 * fraction:g}_seed{seed}'
        title += f', {100 * fraction:g} % of the images, seed {seed}'
    if folder:
        title = f'test run of: {TITLES[kind]}'
    return PocRun(
        kind,
        title,
        settings.work_dir / 'runs' / (folder or name),
        settings.task,
        seed=seed,
        fraction=fraction,
        epochs=epochs,
        threads=threads_of(1 if kind == 'teacher' else settings.jobs),
        settings=settings,
        hooks=hooks,
        is_probe=bool(folder))


def cores() -> int:
    """Count the cores that this process may use.

    Returns:
        int: At least 1.
    """
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(jobs: int) -> int:
    """Share the cores.

    Args:
        jobs (int): Trainings side by side.

    Returns:
        int: Threads of each, or what ``OMP_NUM_THREADS`` says.
    """
    told = os.environ.get('OMP_NUM_THREADS', '')
    if told.isdigit() and int(told) > 0:
        return int(told)
    return max(1, cores() // jobs)
