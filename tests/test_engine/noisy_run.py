"""A short training that draws random numbers wherever one can.

As a script it trains once for each [folder, moment] of a JSON list, in a
process of its own that kills itself at that moment of a write.
"""
import json
import os
import os.path as osp
import random
import signal
import sys
import uuid

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from transmamba_mm.utils import atomic_io


class NoisyDataset(Dataset):
    """Samples augmented by all three generators."""

    def __len__(self):
        return 12

    def __getitem__(self, idx):
        noise = random.random() + np.random.rand() + torch.rand(1).item()
        return dict(inputs=torch.arange(4.) * idx / 12 + noise)


class NoisyModel(BaseModel):
    """A regression with dropout and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5),
            nn.Linear(8, 1))

    def forward(self, inputs, mode='tensor'):
        out = self.body(torch.stack(inputs))
        if mode == 'loss':
            return dict(loss=(out - np.random.rand()).square().mean())
        return [row for row in out]


class DrawMetric(BaseMetric):
    """A score that grows, from a validation that draws random numbers."""

    def process(self, data_batch, data_samples):
        random.random(), np.random.rand(), torch.rand(3)
        self.results.append(0)

    def compute_metrics(self, results):
        hub = MessageHub.get_current_instance()
        return dict(acc=float(hub.get_info('iter')))


class LossRecorder(Hook):
    """Append the exact loss of each iteration to a file of this rank."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        name = f'losses_{runner.rank}.jsonl'
        with open(osp.join(runner.work_dir, name), 'a') as file:
            file.write(
                json.dumps([runner.iter, outputs['loss'].item()]) + '\n')


def build_runner(work_dir,
                 num_workers=0,
                 iterations=None,
                 resume=False,
                 seed=3,
                 ema=True,
                 load_from=None,
                 persistent=False,
                 max_epochs=4,
                 launcher='none',
                 **checkpoint):
    """Build the runner; ``iterations`` makes it iteration-based."""
    hooks = [LossRecorder()]
    if ema:
        hooks.append(dict(type='EMAHook', momentum=0.1))
    by_epoch = iterations is None
    loader = dict(
        batch_size=4,
        num_workers=num_workers,
        persistent_workers=persistent,
        dataset=NoisyDataset(),
        sampler=dict(
            type='DefaultSampler' if by_epoch else 'InfiniteSampler',
            shuffle=True))
    val_loader = dict(loader, sampler=dict(type='DefaultSampler'))
    hook = dict(
        type='transmamba_mm.ResumableCheckpointHook',
        interval=1 if by_epoch else 3,
        by_epoch=by_epoch,
        max_keep_ckpts=1,
        save_best='acc')
    hook.update(checkpoint)
    return Runner(
        model=dict(type=NoisyModel),
        work_dir=str(work_dir),
        experiment_name=uuid.uuid4().hex,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs) if by_epoch else
        dict(by_epoch=False, max_iters=iterations, val_interval=4),
        val_dataloader=val_loader,
        val_cfg=dict(),
        val_evaluator=Evaluator(DrawMetric()),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1)),
        param_scheduler=dict(
            type='CosineAnnealingLR', T_max=12, by_epoch=False),
        default_hooks=dict(
            checkpoint=hook, logger=dict(type='LoggerHook', interval=100)),
        custom_hooks=hooks,
        randomness=dict(seed=seed, diff_rank_seed=launcher != 'none'),
        launcher=launcher,
        resume=resume,
        load_from=load_from,
        log_level='WARNING',
        default_scope='mmengine',
        cfg=Config(
            dict(
                model_wrapper_cfg=dict(
                    type='MMDistributedDataParallel', device_ids=None))))


def read_losses(work_dir, rank=0):
    """Map each iteration to the last loss recorded for it."""
    with open(osp.join(work_dir, f'losses_{rank}.jsonl')) as file:
        return dict(json.loads(line) for line in file)


def kill():
    """End the process as the kernel would, with no chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


class _DyingFile:
    """Write half of the bytes of the chosen file, then die."""

    def __init__(self, file, dies):
        self.file, self.dies = file, dies

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        if self.dies:
            self.file.write(data[:len(data) // 2])
            self.file.flush()
            kill()
        return self.file.write(data)


def arm(moment, name):
    """Make the process die at a moment of writing the file ``name``."""
    replace, remove = os.replace, os.remove

    def open_dying(path, mode):
        return _DyingFile(
            open(path, mode), moment == 'write' and name in str(path))

    def dying_replace(source, target):
        if moment == 'before_replace' and name in str(target):
            kill()
        replace(source, target)
        if moment == 'after_replace' and name in str(target):
            kill()

    def dying_remove(path):
        if moment == 'remove' and name in str(path):
            kill()
        remove(path)

    atomic_io.open = open_dying
    os.replace, os.remove = dying_replace, dying_remove


def train_killed(work_dir, moment):
    """Train in a forked process and check that it was killed, not failed."""
    process = os.fork()
    if process == 0:
        try:
            arm(*moment.split(':'))
            build_runner(work_dir, num_workers=2).train()
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status), f'{moment} did not kill the run: {status}'
    assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == '__main__':
    torch.set_num_threads(1)
    for job in json.loads(sys.argv[1]):
        train_killed(*job)
