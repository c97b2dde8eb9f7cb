import logging
import os.path as osp
from functools import partial
from itertools import islice
from typing import Any, Dict, Iterator, List, Optional

from mmengine.dataset import worker_init_fn
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from transmamba_mm.registry import HOOKS
from transmamba_mm.utils.atomic_io import (AtomicLocalBackend, atomic_write,
                                           remove_partial_files)
from transmamba_mm.utils.random_state import (get_random_state, seed_worker,
                                              set_random_state)


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """Save checkpoints that survive a kill and resume exactly.

    It takes the arguments of MMEngine's ``CheckpointHook`` and differs from it
    in three ways (our choice; the paper does not deal with interruptions):

    - A checkpoint is written under a temporary name and renamed, then
      ``last_checkpoint`` is renewed in the same way, and only then are older
      files deleted. A run killed at any moment leaves a whole checkpoint to
      resume from, and a whole best checkpoint once there was one. This holds
      for local folders; remote ones are written as MMEngine does.
    - The states of the Python, NumPy, PyTorch and CUDA generators of every
      rank are stored, and put back by ``--resume`` (not by ``load_from``).
      Each epoch starts from the state that the previous *training* epoch
      left, so that validation, which a resumed run does not repeat, makes no
      difference.
    - Workers of the training data loader are seeded by (seed, epoch, rank,
      worker), unless the config sets a ``worker_init_fn``. MMEngine's default
      repeats the augmentations of the first epoch in every epoch.

    On a CPU, the losses of a resumed run then equal those of an uninterrupted
    one, if checkpoints are saved by epoch in an epoch-based loop, or by
    iteration in an iteration-based one. With ``persistent_workers=True`` the
    workers carry a random state of their own that nobody can store: the hook
    warns, and augmentations differ after a resume.

    Args:
        *args: As in ``CheckpointHook``.
        **kwargs: As in ``CheckpointHook``.

    Raises:
        ValueError: ``file_client_args`` is given.

    Examples:
        >>> default_hooks = dict(checkpoint=dict(
        >>>     type='transmamba_mm.ResumableCheckpointHook',
        >>>     interval=1, max_keep_ckpts=2, save_best='auto'))
    """

    # for save_best='auto': also the recall of retrieval
    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'R@']

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.file_client_args is not None:
            raise ValueError(
                'ResumableCheckpointHook does not take file_client_args, got '
                f'{self.file_client_args}; use `default_hooks.checkpoint.'
                'backend_args` instead')
        # Of this rank, at the end of the last training epoch.
        self._random_state: Optional[Dict[str, Any]] = None
        # Of every rank, as stored in a checkpoint.
        self._rank_states: Optional[List[Dict[str, Any]]] = None

    def before_train(self, runner: Runner) -> None:
        """Find the checkpoint folder, clean it, restore the random state.

        Args:
            runner (Runner): The runner of the training process.
        """
        folder = self.out_dir or runner.work_dir
        if self.backend_args is None and isinstance(
                get_file_backend(folder), LocalBackend):
            self.backend_args = dict(backend=AtomicLocalBackend.__name__)
        super().before_train(runner)
        self._remove_outdated()
        if is_main_process():
            for folder in {runner.work_dir, str(self.out_dir)}:
                remove_partial_files(folder)
        # A checkpoint given as `load_from` leaves the counter at 0.
        if runner.iter > 0:
            self._restore_state(runner)
        self._warn_if_inexact(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start from the random state that the last training epoch left.

        Args:
            runner (Runner): The runner of the training process.
        """
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            if self._random_state is not None:
                runner.train_loop.dataloader_iterator = self._resume_batches(
                    runner.train_loop.dataloader_iterator, runner.iter)
            return
        self._seed_workers(runner)
        if self._random_state is not None:
            set_random_state(self._random_state)

    def after_train_epoch(self, runner: Runner) -> None:
        """Keep the random state, then save as ``CheckpointHook`` does.

        Args:
            runner (Runner): The runner of the training process.
        """
        self._random_state = get_random_state()
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Keep the random state of an iteration-based training.

        Args:
            runner (Runner): The runner of the training process.
        """
        if not self.by_epoch:
            self._random_state = get_random_state()

    def after_val(self, runner: Runner) -> None:
        """Go on from the state before validation if saving by iteration.

        Args:
            runner (Runner): The runner of the training process.
        """
        if not self.by_epoch:
            set_random_state(self._random_state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the random states out of a checkpoint.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): The loaded checkpoint.
        """
        self._rank_states = checkpoint.get('random_states')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random states to a checkpoint that can be resumed.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): The checkpoint to be written.
        """
        if 'optimizer' in checkpoint and self._rank_states is not None:
            checkpoint['random_states'] = self._rank_states

    def _save_checkpoint(self, runner: Runner) -> None:
        if not self.by_epoch:
            self._random_state = get_random_state()
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict) -> None:
        """Write the new checkpoint first, delete the outdated one last."""
        outdated = self._rotate(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._rank_states = all_gather_object(
            dict(
                generators=self._random_state,
                sampler_seed=getattr(
                    _sampler(runner.train_dataloader), 'seed', None)))
        runner.save_checkpoint(
            self.out_dir,
            filename,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)
        if not is_main_process():
            return
        atomic_write(
            osp.join(runner.work_dir, 'last_checkpoint'),
            self.last_ckpt.encode())
        if outdated is not None and self.file_backend.isfile(outdated):
            self.file_backend.remove(outdated)
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _rotate(self, runner: Runner, step: int) -> Optional[str]:
        """Note the step as kept; return the path that falls out, if any."""
        # The best checkpoint makes the last one be saved a second time.
        if self.max_keep_ckpts <= 0 or step in list(self.keep_ckpt_ids)[-1:]:
            return None
        outdated = None
        if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            outdated = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(self.keep_ckpt_ids[0]))
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids',
                                       list(self.keep_ckpt_ids))
        return outdated

    def _remove_outdated(self) -> None:
        """Delete what became outdated, now that its successor is whole."""
        if not isinstance(self.file_backend, AtomicLocalBackend):
            return
        in_use = [self.last_ckpt, getattr(self, 'best_ckpt_path', None)]
        in_use += getattr(self, 'best_ckpt_path_dict', {}).values()
        if is_main_process():
            self.file_backend.remove_outdated(keep=in_use)

    def _restore_state(self, runner: Runner) -> None:
        """Use the state of this rank; it takes effect before the epoch."""
        states, self._rank_states = self._rank_states, None
        rank = get_rank()
        if states is None or len(states) != runner.world_size:
            found = 'no' if states is None else f'{len(states)}'
            print_log(
                f'the checkpoint holds the random states of {found} '
                f'processes, and {runner.world_size} are running: training '
                'goes on from fresh random states',
                logger='current',
                level=logging.WARNING)
            return
        self._random_state = states[rank]['generators']
        sampler = _sampler(runner.train_dataloader)
        if states[rank]['sampler_seed'] is not None:
            sampler.seed = states[rank]['sampler_seed']

    def _resume_batches(self, batches: Iterator, seen: int) -> Iterator:
        """Restore the random state right after the batches already seen."""
        yield from islice(batches, seen)
        set_random_state(self._random_state)
        yield from batches

    def _seed_workers(self, runner: Runner) -> None:
        """Replace MMEngine's seeds of the workers, the same each epoch."""
        loader = runner.train_dataloader
        init_fn = loader.worker_init_fn
        if getattr(init_fn, 'func', None) is seed_worker:
            init_fn = init_fn.keywords['init_fn']
        if getattr(init_fn, 'func', None) is worker_init_fn:
            loader.worker_init_fn = partial(
                seed_worker,
                seed=runner.seed,
                epoch=runner.epoch,
                rank=get_rank(),
                init_fn=init_fn)

    def _warn_if_inexact(self, runner: Runner) -> None:
        """Say once why a resumed run could differ."""
        reasons = []
        if runner.train_dataloader.persistent_workers:
            reasons.append('workers keep random states of their own (set '
                           'train_dataloader.persistent_workers=False)')
        if self.by_epoch is isinstance(runner.train_loop, IterBasedTrainLoop):
            reasons.append(f'by_epoch={self.by_epoch} does not fit '
                           f'{type(runner.train_loop).__name__} (change '
                           'default_hooks.checkpoint.by_epoch)')
        if reasons:
            print_log(
                'a resumed run will not repeat the losses of an '
                f'uninterrupted one exactly: {"; ".join(reasons)}',
                logger='current',
                level=logging.WARNING)


def _sampler(loader: DataLoader) -> Any:
    """Return the sampler that orders the images of a data loader."""
    sampler = loader.sampler
    if not hasattr(sampler, 'seed') and loader.batch_sampler is not None:
        sampler = getattr(loader.batch_sampler, 'sampler', sampler)
    return sampler
