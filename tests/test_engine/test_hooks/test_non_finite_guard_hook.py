import copy
import functools
import uuid

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from torch import nn

from transmamba_mm.engine.hooks import NonFiniteGuardHook
from transmamba_mm.utils.non_finite import tie_gradients_to_loss
from transmamba_mm.utils.saved_batch import load_batch


class Poison(nn.Module):
    """An identity that spoils its output, gradient or both on command."""

    def __init__(self):
        super().__init__()
        self.mode = None

    def forward(self, x):
        if self.mode == 'forward':
            return x * float('nan')
        if self.mode == 'backward':
            # The gradient of sqrt is infinite at 0, and 0 * inf is NaN.
            return x + (x * 0).sqrt()
        return x


class PoisonedModel(BaseModel):
    """A regression with BatchNorm and dropout behind the poison."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.poison = Poison()
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 1)

    def forward(self, inputs, mode='tensor'):
        x = self.poison(self.first(torch.stack(inputs)))
        out = self.last(self.drop(self.norm(x)))
        losses = dict(loss=out.square().mean())
        if self.poison.mode == 'loss':
            losses['loss_extra'] = out.mean() * float('inf')
        if self.poison.mode == 'detached':  # no gradient tells of it
            losses['loss_extra'] = [out.detach().mean() * float('inf')]
        return losses


class Schedule(Hook):
    """Poison the model at chosen iterations; keep its state after each."""

    priority = 'VERY_HIGH'

    def __init__(self, modes):
        self.modes = modes
        self.states = []

    def before_train(self, runner):
        self.states.append(self.snapshot(runner))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        mode = self.modes.get(runner.iter)
        getattr(runner.model, 'module', runner.model).poison.mode = mode
        if mode == 'data':
            data_batch['inputs'][0].mul_(float('nan'))

    def snapshot(self, runner):
        return copy.deepcopy(
            dict(
                model=dict(runner.model.state_dict()),
                optimizer=runner.optim_wrapper.optimizer.state_dict()
                ['state']))


class Snapshot(Hook):
    """Take the snapshots of :class:`Schedule` after all other hooks."""

    priority = 'LOWEST'

    def __init__(self, schedule):
        self.schedule = schedule

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.schedule.states.append(self.schedule.snapshot(runner))


def train(work_dir,
          modes,
          iterations=6,
          optim_wrapper=None,
          custom_hooks=(),
          launcher='none',
          **guard):
    """Train the poisoned model; return the runner and the schedule."""
    schedule = Schedule(modes)
    runner = Runner(
        model=dict(type=PoisonedModel),
        work_dir=str(work_dir),
        experiment_name=uuid.uuid4().hex,
        train_dataloader=dict(
            batch_size=4,
            dataset=[
                dict(inputs=torch.arange(4.) + i)
                for i in range(4 * iterations)
            ],
            sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=optim_wrapper
        or dict(optimizer=dict(type='AdamW', lr=0.01)),
        custom_hooks=[
            schedule,
            dict(type='transmamba_mm.NonFiniteGuardHook', **guard),
            Snapshot(schedule), *custom_hooks
        ],
        randomness=dict(seed=1),
        launcher=launcher,
        default_scope='mmengine',
        cfg=Config(
            dict(
                model_wrapper_cfg=dict(
                    type='MMDistributedDataParallel', device_ids=None))))
    log = []
    runner.logger.addFilter(
        lambda record: log.append(record.getMessage()) or True)
    try:
        runner.train()
    except FloatingPointError as error:
        return runner, schedule, log, str(error)
    return runner, schedule, log, None


def equal(a, b):
    """Compare nested states bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize('mode, layer', [
    ('forward', "'poison' (Poison)"),
    ('backward', "'first.bias'"),
    ('loss', "['loss_extra']"),
    ('detached', "['loss_extra']"),
    ('data', 'images themselves'),
])
@pytest.mark.parametrize('clip', [False, True])
def test_bad_step_is_left_out(tmp_path, mode, layer, clip):
    optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
    if clip:
        optim_wrapper['clip_grad'] = dict(max_norm=1.)
    runner, schedule, log, error = train(
        tmp_path, {2: mode}, optim_wrapper=optim_wrapper)
    assert error is None
    states = schedule.states
    for key in states[2]['model']:
        assert equal(states[2]['model'][key], states[3]['model'][key]), key
    assert equal(states[2]['optimizer'], states[3]['optimizer'])
    for before, after in ((1, 2), (3, 4), (5, 6)):
        assert not equal(states[before]['model']['last.weight'],
                         states[after]['model']['last.weight'])
    assert all(
        torch.isfinite(value).all() for value in states[-1]['model'].values())
    report = [line for line in log if 'not finite' in line]
    assert len(report) == 1
    assert 'iteration 3' in report[0] and layer in report[0]


def test_a_clean_run_is_not_changed(tmp_path):
    """The guard draws no random numbers and moves no weights."""
    with_guard = train(tmp_path / 'a', {})[1]
    handle = NonFiniteGuardHook._check_gradients
    try:
        NonFiniteGuardHook._check_gradients = lambda *args: None
        without = train(tmp_path / 'b', {})[1]
    finally:
        NonFiniteGuardHook._check_gradients = handle
    assert equal(with_guard.states[-1], without.states[-1])


def test_finite_losses_change_no_gradient():
    torch.manual_seed(0)
    model = PoisonedModel()
    batch = [torch.randn(4) for _ in range(3)]
    grads = []
    for hooked in (False, True):
        if hooked:
            model.register_forward_hook(tie_gradients_to_loss)
        torch.manual_seed(1)
        losses = model(batch, mode='loss')
        losses['loss'].backward()
        grads.append([p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    assert equal(dict(enumerate(grads[0])), dict(enumerate(grads[1])))


def test_layers_are_not_watched_in_ordinary_steps(tmp_path):
    counts = []

    class Count(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            counts.append(
                [len(m._forward_hooks) for m in runner.model.modules()])

    runner = train(tmp_path, {2: 'forward'}, custom_hooks=[Count()])[0]
    others = [0] * (len(list(runner.model.modules())) - 1)
    assert counts == [[1, *others]] * 6  # the one on the loss


def test_looking_for_the_layer_leaves_no_trace(tmp_path):
    """Dropout goes on as if the bad batch had not been run again."""
    once = train(tmp_path / 'a', {2: 'forward'})[1]
    explain = NonFiniteGuardHook._explain
    try:
        NonFiniteGuardHook._explain = lambda self, runner: ''
        never = train(tmp_path / 'b', {2: 'forward'})[1]
    finally:
        NonFiniteGuardHook._explain = explain
    assert equal(once.states[-1], never.states[-1])


def test_no_hook_is_left_on_the_model(tmp_path):
    runner = train(tmp_path, {2: 'forward', 3: 'backward'})[0]
    assert not any(m._forward_hooks for m in runner.model.modules())
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks
    assert not any(p.grad is not None for p in runner.model.parameters())


def test_stop(tmp_path):
    _, schedule, _, error = train(tmp_path, {2: 'forward'}, action='stop')
    assert 'iteration 3' in error and "'poison'" in error
    assert 'optim_wrapper.optimizer.lr' in error
    assert len(schedule.states) == 3


def test_stops_after_too_many_in_a_row(tmp_path):
    modes = {0: 'forward', 2: 'forward', 3: 'backward', 4: 'forward'}
    _, schedule, _, error = train(tmp_path, modes, max_consecutive=3)
    assert 'iteration 5' in error and '3 in a row' in error
    runner, _, _, error = train(tmp_path, modes, max_consecutive=4)
    assert error is None
    guard = next(h for h in runner.hooks if 'NonFinite' in type(h).__name__)
    assert guard.num_skipped == 4


def test_bad_weights_are_named(tmp_path):

    class Break(Hook):

        def before_train(self, runner):
            nn.init.constant_(runner.model.last.bias, float('nan'))

    error = train(tmp_path, {}, custom_hooks=[Break()], action='stop')[-1]
    assert "weight 'last.bias' was not finite before" in error


def test_gradient_accumulation_drops_the_whole_cycle(tmp_path):
    optim_wrapper = dict(
        optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=3)
    _, schedule, log, error = train(
        tmp_path, {1: 'data'}, 9, optim_wrapper=optim_wrapper)
    states = schedule.states
    assert error is None
    assert equal(states[0]['model']['last.weight'],
                 states[3]['model']['last.weight'])
    assert equal(states[0]['model'], states[3]['model'])
    assert not equal(states[3]['model']['last.weight'],
                     states[6]['model']['last.weight'])
    report = [line for line in log if 'not finite' in line]
    assert len(report) == 1 and 'images themselves' in report[0]


@pytest.fixture
def cpu_scaler(monkeypatch):
    """Let AmpOptimWrapper, made for accelerators, run on a CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available',
                        lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler',
                        functools.partial(torch.amp.GradScaler, device='cpu'))
    return dict(
        type='AmpOptimWrapper',
        dtype='bfloat16',
        loss_scale=dict(init_scale=2.**126, growth_interval=1000),
        optimizer=dict(type='AdamW', lr=0.01))


def test_loss_scaler_skips_are_its_own_business(tmp_path, cpu_scaler):
    """Overflowing scaled gradients are neither reported nor counted."""
    cpu_scaler['loss_scale']['init_scale'] = 2.**127
    _, schedule, log, error = train(
        tmp_path, {}, 12, optim_wrapper=cpu_scaler, max_consecutive=1)
    assert error is None
    states = schedule.states
    assert equal(states[0]['model']['last.weight'],
                 states[1]['model']['last.weight'])
    assert not equal(states[-1]['model']['last.weight'],
                     states[-2]['model']['last.weight'])
    assert not [line for line in log if 'not finite' in line]


@pytest.mark.parametrize('mode', ['forward', 'backward', 'detached'])
@pytest.mark.parametrize('fused', [False, True])
def test_failures_under_a_loss_scaler_are_reported(tmp_path, cpu_scaler, mode,
                                                   fused):
    cpu_scaler['loss_scale']['init_scale'] = 1.
    cpu_scaler['optimizer']['fused'] = fused
    _, schedule, log, error = train(
        tmp_path, {
            2: mode,
            3: mode
        }, optim_wrapper=cpu_scaler)
    states = schedule.states
    assert error is None
    for name in ('last.weight', 'norm.running_mean'):
        assert equal(states[2]['model'][name], states[4]['model'][name])
    assert [line for line in log if 'not finite' in line]
    saved = load_batch(str(next((tmp_path / 'non_finite').iterdir())))
    assert saved['autocast'] == 'bfloat16'
    assert all(
        torch.isfinite(value).all() for value in states[-1]['model'].values())


@pytest.mark.parametrize('kwargs', [
    dict(action='ignore'),
    dict(max_consecutive=0),
    dict(max_files=-1),
    dict(max_megabytes=0),
])
def test_refuses_bad_arguments(kwargs):
    with pytest.raises(ValueError, match='custom_hooks'):
        NonFiniteGuardHook(**kwargs)
