import json
import os
import os.path as osp
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import dataloader

from transmamba_mm.utils.atomic_io import PARTIAL_SUFFIX
from ..noisy_run import build_runner, read_losses

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '../../..'))


@pytest.fixture(autouse=True)
def end_workers(monkeypatch):
    """End the workers of unfinished iterators; it is slow in a collection."""
    started = []
    init = dataloader._MultiProcessingDataLoaderIter.__init__

    def keep(self, loader):
        init(self, loader)
        started.append(self)

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, '__init__',
                        keep)
    yield
    for iterator in started:
        iterator._shutdown_workers()


def final_state(work_dir, name):
    """Weights, moving average and optimizer state of a checkpoint."""
    checkpoint = torch.load(osp.join(work_dir, name), weights_only=False)
    flat = {}
    for part in ('state_dict', 'ema_state_dict'):
        flat.update({(part, k): v for k, v in checkpoint[part].items()})
    for index, state in checkpoint['optimizer']['state'].items():
        flat.update({(index, k): v for k, v in state.items()})
    return flat


def assert_same_run(straight, resumed, last):
    """The two runs are equal bit for bit."""
    assert read_losses(straight) == read_losses(resumed)
    expected, got = final_state(straight, last), final_state(resumed, last)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert torch.equal(value, got[key]), key


KILLS = [
    ('half of the checkpoint is written', 'write:epoch_2.pth', 1),
    ('the checkpoint has its temporary name', 'before_replace:epoch_2.pth', 1),
    ('the pointer is half written', 'write:last_checkpoint', None),
    ('the outdated checkpoint is still there', 'remove:epoch_1.pth', 2),
    ('half of the best one is written', 'write:best_acc_epoch_3.pth', 3),
]


@pytest.fixture(scope='module')
def killed_runs(tmp_path_factory):
    """Train once for each moment, in processes that kill themselves."""
    folders = {kill[1]: tmp_path_factory.mktemp('killed') for kill in KILLS}
    jobs = [(str(folder), moment) for moment, folder in folders.items()]
    # Workers outlive the kill a little: they must not hold a pipe open.
    log = tmp_path_factory.mktemp('log') / 'log.txt'
    with open(log, 'w') as file:
        result = subprocess.run([
            sys.executable, '-m', 'tests.test_engine.noisy_run',
            json.dumps(jobs)
        ],
                                cwd=ROOT,
                                env=dict(
                                    os.environ,
                                    PYTHONPATH=ROOT,
                                    OMP_NUM_THREADS='1'),
                                stdout=file,
                                stderr=file,
                                timeout=120)
    assert result.returncode == 0, log.read_text()
    return folders


@pytest.fixture(scope='module')
def straight_run(tmp_path_factory):
    """A run with two workers that nobody interrupts."""
    folder = tmp_path_factory.mktemp('straight')
    build_runner(folder, num_workers=2).train()
    return folder


@pytest.mark.parametrize(
    'moment, epoch', [kill[1:] for kill in KILLS],
    ids=[kill[0].replace(' ', '-') for kill in KILLS])
def test_killed_run_resumes_exactly(killed_runs, straight_run, moment, epoch):
    folder = killed_runs[moment]
    pointer = folder / 'last_checkpoint'
    if epoch is None:
        assert not pointer.exists()
        epoch = 0
    else:
        assert pointer.read_text().endswith(f'epoch_{epoch}.pth')
        torch.load(pointer.read_text(), weights_only=False)
    if moment.startswith('write'):
        assert [f for f in os.listdir(folder) if f.endswith(PARTIAL_SUFFIX)]
    if 'best' in moment:
        torch.load(folder / 'best_acc_epoch_2.pth', weights_only=False)
    runner = build_runner(folder, num_workers=2, resume=True)
    runner.train()
    assert not [f for f in os.listdir(folder) if f.endswith(PARTIAL_SUFFIX)]
    assert_same_run(straight_run, folder, 'epoch_4.pth')


def resumable_hook(runner):
    """The hook under test among those of a runner."""
    return next(h for h in runner.hooks if 'Resumable' in type(h).__name__)


def interrupt_and_resume(folder, stop, **kwargs):
    """Train to the epoch or iteration ``stop``, then resume in a new runner.

    The interrupted run had the same length, but ended right after saving.
    """
    runner = build_runner(folder, **kwargs)
    hook = resumable_hook(runner)
    save = hook._save_checkpoint_with_step

    def stop_after_save(runner, step, meta):
        save(runner, step, meta)
        if step == stop:
            raise KeyboardInterrupt

    hook._save_checkpoint_with_step = stop_after_save
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    resumed = build_runner(folder, resume=True, **kwargs)
    resumed.train()
    return resumed


def test_resumes_exactly_without_workers(tmp_path):
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    build_runner(straight).train()
    interrupt_and_resume(resumed, 3)
    assert_same_run(straight, resumed, 'epoch_4.pth')


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resumes_exactly_by_iteration(tmp_path, num_workers):
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    kwargs = dict(iterations=10, num_workers=num_workers)
    build_runner(straight, **kwargs).train()
    interrupt_and_resume(resumed, 6, **kwargs)
    assert_same_run(straight, resumed, 'iter_10.pth')


def test_drawn_seed_keeps_its_order_of_images(tmp_path):
    """Without a configured seed, the resumed order is that of the first."""
    runner = interrupt_and_resume(tmp_path, 2, seed=None, max_keep_ckpts=-1)
    stored = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    assert runner.train_dataloader.sampler.seed == stored['meta']['seed']


def test_validation_does_not_move_training(tmp_path):
    """The losses do not depend on how often the model is validated."""
    often, never = tmp_path / 'often', tmp_path / 'never'
    build_runner(often).train()
    runner = build_runner(never, save_best=None)
    runner._val_loop, runner._val_evaluator = None, None
    runner.train()
    assert read_losses(often) == read_losses(never)


def test_worker_noise_differs_between_epochs(tmp_path):
    """MMEngine's default gives each epoch the noise of the first one."""
    noise = []

    def keep(runner, batch_idx, data_batch=None):
        noise.append([x[0].item() for x in data_batch['inputs']])

    runner = build_runner(tmp_path, num_workers=1, max_epochs=2, ema=False)
    sampler = runner.train_dataloader.sampler
    sampler.shuffle = False
    runner.hooks[-1].before_train_iter = keep
    runner.train()
    assert len(noise) == 6
    assert not set(noise[0]) & set(noise[3])


def test_load_from_starts_from_fresh_random_states(tmp_path):
    trained, loaded = tmp_path / 'trained', tmp_path / 'loaded'
    build_runner(trained, ema=False, max_epochs=1).train()
    runner = build_runner(
        loaded, ema=False, load_from=str(trained / 'epoch_1.pth'))
    runner.train_loop
    states = []
    runner.hooks[-1].before_train_epoch = lambda runner: states.append(
        np.random.get_state()[1].copy())
    runner.train()
    stored = torch.load(trained / 'epoch_1.pth', weights_only=False)
    numpy_state = stored['random_states'][0]['generators']['numpy'][1]
    assert not np.array_equal(states[0], numpy_state)


def test_resume_without_a_checkpoint_trains_from_the_start(tmp_path):
    build_runner(tmp_path, ema=False, max_epochs=1, resume=True).train()
    assert (tmp_path / 'epoch_1.pth').exists()


def test_keeps_only_the_newest_and_the_best(tmp_path):
    build_runner(tmp_path, max_keep_ckpts=2).train()
    names = sorted(n for n in os.listdir(tmp_path) if n.endswith('.pth'))
    assert names == ['best_acc_epoch_4.pth', 'epoch_3.pth', 'epoch_4.pth']


def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    runner = build_runner(tmp_path, ema=False)
    synced = []

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) > 8:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError, match='No space left'):
        runner.train()
    last = (tmp_path / 'last_checkpoint').read_text()
    torch.load(last, weights_only=False)
    assert not [n for n in os.listdir(tmp_path) if n.endswith(PARTIAL_SUFFIX)]


@pytest.mark.parametrize('kwargs, key', [
    (dict(num_workers=1, persistent=True), 'persistent_workers=False'),
    (dict(by_epoch=False), 'default_hooks.checkpoint.by_epoch'),
])
def test_warns_where_it_cannot_be_exact(tmp_path, caplog, kwargs, key):
    runner = build_runner(tmp_path, ema=False, **kwargs)
    runner.logger.addHandler(caplog.handler)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    resumable_hook(runner).before_train(runner)
    assert key in caplog.text


def test_checkpoint_of_another_hook_resumes_with_a_warning(tmp_path, caplog):
    build_runner(
        tmp_path, ema=False, max_epochs=1, type='CheckpointHook').train()
    runner = build_runner(tmp_path, ema=False, max_epochs=2, resume=True)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert 'fresh random states' in caplog.text
    assert (tmp_path / 'epoch_2.pth').exists()


def test_refuses_the_deprecated_file_client(tmp_path):
    with pytest.raises(ValueError, match='backend_args'):
        build_runner(tmp_path, file_client_args=dict(backend='disk'))
