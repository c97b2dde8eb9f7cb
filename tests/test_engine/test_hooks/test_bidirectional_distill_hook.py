"""Stages, measured layer maps and balances in MMEngine's runner."""
import copy
import json
from unittest import mock

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, MODELS

from tests.test_distillation_run import distill_hook, read_scalars
from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.models import CachedTeacher, MMPretrainTeacher
from transmamba_mm.models.distillers.cka import pick_layers
from transmamba_mm.utils.runner import unwrap

STAGES = [
    dict(kind='calibration', epochs=1),
    dict(kind='distillation', epochs=1),
    dict(kind='finetune')
]
LAST = dict(
    checkpoint=dict(type='transmamba_mm.ResumableCheckpointHook', interval=1))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.pth')


@HOOKS.register_module(force=True)
class EpochStatesHook(Hook):
    """Keep the student's state before and after each epoch."""
    priority = 'LOWEST'

    def before_train(self, runner):
        self.states = [copy.deepcopy(runner.model.state_dict())]
        self.has_teacher = []

    def after_train_epoch(self, runner):
        self.states.append(copy.deepcopy(runner.model.state_dict()))
        self.has_teacher.append(unwrap(runner.model)._teacher is not None)


def train(folder,
          weights,
          distiller=None,
          kind='PlainMamba',
          epochs=3,
          hooks=(),
          hook=None,
          backbone=None,
          default=None,
          **kwargs):
    """Train and return the runner."""
    model = student_cfg(
        kind, distiller=distiller or {}, drop_path_rate=0.5, **backbone or {})
    hook = dict(stages=STAGES) if hook is None else hook
    runner = make_runner(
        folder,
        model, [{
            **distill_hook(weights),
            **hook
        },
                dict(type='EpochStatesHook'), *hooks],
        epochs=epochs,
        default_hooks=default or {
            **LAST, 'logger': dict(type='LoggerHook', interval=1)
        },
        log_processor=dict(window_size=1),
        **kwargs)
    runner.train()
    return runner


def find_hook(runner, name):
    return [h for h in runner.hooks if type(h).__name__ == name][0]


def changed(old, new):
    return {k for k, v in old.items() if not torch.equal(v, new[k])}


def losses(runner):
    return [r['loss'] for r in read_scalars(runner) if 'loss' in r]


def test_three_stages(tmp_path, weights):
    runner = train(tmp_path / 'run', weights)
    hook = find_hook(runner, 'EpochStatesHook')
    moved = [changed(*pair) for pair in zip(hook.states, hook.states[1:])]
    aligner = {f'distiller.aligner.projections.{i}.weight' for i in range(3)}
    assert moved[0] == aligner, 'weights and statistics of the student stay'
    for key in ('backbone.layers.0.mamba.in_proj.weight', 'head.fc.weight',
                'backbone.patch_embed.stem.1.running_mean'):
        assert key in moved[1] and key in moved[2]
    assert hook.has_teacher == [True, True, False]
    rows = [r for r in read_scalars(runner) if 'loss' in r]
    assert all('loss_cls' not in r for r in rows[:2])
    assert all('distill.cos_mean' in r for r in rows[:4])
    assert all(r['loss'] == pytest.approx(r['loss_cls']) for r in rows[4:])
    stem = runner.model.backbone.patch_embed.stem[1]
    assert stem.track_running_stats


def test_calibration_lowers_the_distance_on_its_own(tmp_path, weights):
    runner = train(
        tmp_path / 'run',
        weights,
        dict(aligner=dict(mode='mlp')),
        hook=dict(stages=[dict(kind='calibration')]),
        epochs=6)
    first, *_, last = losses(runner)
    assert last < 0.9 * first


@pytest.mark.parametrize('stop', [1, 2])
def test_resume_in_the_middle_of_a_stage(tmp_path, weights, stop):
    """Interrupted after an epoch, in the midst of a two-epoch stage."""
    stages = [
        dict(kind='calibration', epochs=1.5),
        dict(kind='distillation', epochs=1.5, warmup_epochs=1)
    ]
    distiller = dict(balance=dict(kind='grad_norm', interval=2))
    run = dict(distiller=distiller, hook=dict(stages=stages))
    straight = train(tmp_path / 'straight', weights, **run)
    runner = train(
        tmp_path / 'resumed',
        weights,
        **run,
        hooks=[dict(type='StopHook', epoch=stop)])
    again = train(tmp_path / 'resumed', weights, **run, resume=True)
    assert losses(again) == losses(straight)[2 * stop:]
    assert not changed(straight.model.state_dict(), again.model.state_dict())
    assert len(losses(runner)) == 2 * stop


@HOOKS.register_module(force=True)
class StopHook(Hook):
    """End the training after some epochs or iterations, as a kill would."""
    priority = 'LOWEST'

    def __init__(self, epoch=None, iteration=None):
        self.epoch, self.iteration = epoch, iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            runner.train_loop._max_iters = self.iteration

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            runner.train_loop._max_epochs = self.epoch


def test_a_run_resumed_for_finetuning_builds_no_teacher(tmp_path, weights):
    train(tmp_path, weights, hooks=[dict(type='StopHook', epoch=2)])
    with mock.patch.object(
            MMPretrainTeacher, '__init__', side_effect=AssertionError):
        runner = train(tmp_path, weights, resume=True)
    assert len(losses(runner)) == 2


@pytest.mark.parametrize('hook, distiller, message', [
    (dict(stages=STAGES[:2]), {}, 'cover 2 epochs'),
    (dict(stages=[dict(kind='calibration', epochs=3), STAGES[2]]), {},
     r'stages\[1\]'),
    (dict(stages=STAGES), dict(aligner=dict(mode='zero_pad')),
     "mode='zero_pad' learns nothing"),
])
def test_wrong_stages_are_named_before_training(tmp_path, weights, hook,
                                                distiller, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, weights, distiller, hook=hook)


@pytest.mark.parametrize('mode', ['zero_pad', 'interpolate'])
def test_aligners_without_parameters_train_and_stop(tmp_path, weights, mode):
    distiller = dict(aligner=dict(mode=mode))
    runner = train(
        tmp_path / 'run', weights, distiller, hook=dict(stop_epoch=2))
    assert len(losses(runner)) == 6


CKA = dict(layer_map='cka')


@pytest.mark.parametrize('kind, features', [
    ('VisionMamba', 'block'),
    ('PlainMamba', 'directions'),
    ('VMamba', 'directions'),
    ('VideoMamba', 'directions'),
])
def test_cka_chooses_and_saves_the_layers(tmp_path, weights, kind, features):
    distiller = dict(layer_map='cka', features=features)
    runner = train(
        tmp_path / 'run', weights, distiller, kind, epochs=1, hook={})
    report = json.loads((tmp_path / 'run/layer_cka.json').read_text())
    matrix = torch.tensor(report['cka'])
    assert matrix.shape == (3, 6) and matrix.max() < 1.01
    assert matrix.std() > 0
    assert report['layer_map'] == matrix.argmax(1).tolist()
    found = runner.model.distiller
    assert list(found.layer_map) == report['layer_map']
    assert found.measured_map.tolist() == report['layer_map']
    picture = (tmp_path / 'run/layer_cka.png').read_bytes()
    assert picture[:4] == b'\x89PNG'
    hook = find_hook(runner, 'EpochStatesHook')
    start = {
        k
        for k in changed(runner_start(kind, distiller), hook.states[0])
        if k != 'distiller.measured_map'
    }
    assert not start, 'the look at the data must leave the student alone'


def runner_start(kind, distiller):
    """The student's state as the runner of the same seed starts with."""
    model = student_cfg(kind, distiller=distiller, drop_path_rate=0.5)
    from mmengine.runner import set_random_seed
    set_random_seed(0)
    model = MODELS.build(model)
    model.init_weights()
    return model.state_dict()


def test_a_measured_map_trains_like_the_same_map_told(tmp_path, weights):
    measured = train(tmp_path / 'a', weights, CKA, hook={}, epochs=2)
    layers = list(measured.model.distiller.layer_map)
    told = train(
        tmp_path / 'b', weights, dict(layer_map=layers), hook={}, epochs=2)
    assert losses(measured) == losses(told)


@pytest.mark.parametrize('matrix, warned', [
    (torch.eye(3, 6), False),
    (torch.eye(3, 6)[[1, 1, 1]], True),
])
def test_a_map_to_one_layer_is_mentioned(tmp_path, weights, matrix, warned):
    path = 'transmamba_mm.engine.hooks.bidirectional_distill_hook.'
    with mock.patch(path + 'measure_cka', return_value=matrix):
        runner = train(tmp_path / 'run', weights, CKA, hook={}, epochs=1)
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert ('the same teacher layer' in log) == warned
    assert runner.model.distiller.layer_map == pick_layers(matrix)


def test_a_resumed_run_keeps_its_map(tmp_path, weights):
    straight = train(tmp_path / 'straight', weights, CKA, hook={})
    path = 'transmamba_mm.engine.hooks.bidirectional_distill_hook.'
    train(
        tmp_path / 'resumed',
        weights,
        CKA,
        hook={},
        hooks=[dict(type='StopHook', epoch=1)])
    with mock.patch(path + 'measure_cka', side_effect=AssertionError):
        again = train(tmp_path / 'resumed', weights, CKA, hook={}, resume=True)
    assert losses(again) == losses(straight)[2:]
    assert again.model.distiller.layer_map == \
        straight.model.distiller.layer_map


def test_stages_and_map_with_kept_features(tmp_path, weights):
    """The cache is not asked while layers are compared, and is closed."""
    plain = distill_hook(weights)['teacher']
    kept = dict(
        type='transmamba_mm.CachedTeacher',
        teacher=plain,
        cache_dir=str(tmp_path / 'cache'))
    loader = dict(
        batch_size=8,
        num_workers=0,
        dataset=dict(
            type='transmamba_mm.FixedAugmentation',
            dataset=dict(type='ToyDataset')),
        sampler=dict(type='DefaultSampler', shuffle=True))
    rows = []
    for i, teacher in enumerate((plain, kept, kept)):
        with mock.patch.object(CachedTeacher, 'close') as close:
            runner = train(
                tmp_path / str(i),
                weights,
                CKA,
                hook=dict(stages=STAGES, teacher=teacher),
                train_dataloader=loader)
        assert close.call_count == (i > 0)
        rows.append(losses(runner))
    assert rows[1] == pytest.approx(rows[0]) and rows[2] == rows[1]


@pytest.mark.parametrize('balance', ['grad_norm', 'uncertainty'])
@pytest.mark.parametrize('variant', ['default', 'released_code'])
def test_balances_are_logged_and_move(tmp_path, weights, balance, variant):
    distiller = dict(
        balance=balance, logit_weight=0.5, variant=variant, alpha=30.)
    runner = train(tmp_path / 'run', weights, distiller, hook={})
    rows = [r for r in read_scalars(runner) if 'loss' in r]
    key = dict(grad_norm='factor', uncertainty='feat')[balance]
    values = [r[f'distill.balance_{key}'] for r in rows]
    assert values[-1] != 1
    assert values[0] == 1 if balance == 'uncertainty' else values[0] < 1
    for row in rows:
        parts = [v for k, v in row.items() if 'loss' in k and k != 'loss']
        assert row['loss'] == pytest.approx(sum(parts), rel=1e-5)


def test_grad_norm_makes_alpha_needless(tmp_path, weights):
    runs = [
        train(
            tmp_path / str(alpha),
            weights,
            dict(alpha=alpha, balance='grad_norm'),
            hook={}) for alpha in (0.01, 100.)
    ]
    a, b = map(losses, runs)
    assert a == pytest.approx(b, rel=1e-3)


def test_gradients_are_measured_through_activation_checkpoints(
        tmp_path, weights):
    """And where the first block is frozen."""
    distiller = dict(balance='grad_norm')
    for name, backbone in (('cp', dict(with_cp=True)),
                           ('frozen', dict(frozen_stages=1))):
        runs = [
            train(
                tmp_path / name / str(alpha),
                weights,
                dict(distiller, alpha=alpha),
                hook={},
                epochs=1,
                backbone=backbone) for alpha in (1., 100.)
        ]
        assert runs[1].model.distiller.balance.factor.item() == pytest.approx(
            runs[0].model.distiller.balance.factor.item() / 100, rel=1e-3)


def test_training_by_iterations(tmp_path, weights):
    """Stages and map are those of the epochs; a resumed run is in its stage.

    An epoch has two iterations.
    """
    run = dict(
        distiller=CKA,
        hook=dict(stages=STAGES),
        train_cfg=dict(by_epoch=False, max_iters=6, val_interval=100))
    saved = dict(
        checkpoint=dict(
            type='transmamba_mm.ResumableCheckpointHook',
            by_epoch=False,
            interval=1),
        logger=dict(type='LoggerHook', interval=1))
    loader = dict(
        batch_size=8,
        num_workers=0,
        dataset=dict(type='ToyDataset'),
        sampler=dict(type='InfiniteSampler', shuffle=True))
    run.update(train_dataloader=loader)
    straight = train(tmp_path / 'straight', weights, default=saved, **run)
    rows = losses(straight)
    assert len(rows) == 6
    kinds = [
        'loss_cls' in r and r['distill.loss_idle'] == 0
        if 'distill.loss_idle' in r else 'loss_cls' in r
        for r in read_scalars(straight) if 'loss' in r
    ]
    assert kinds == [False, False, True, True, True, True]
    train(
        tmp_path / 'resumed',
        weights,
        default=saved,
        hooks=[dict(type='StopHook', iteration=3)],
        **run)
    again = train(
        tmp_path / 'resumed', weights, default=saved, resume=True, **run)
    assert losses(again) == rows[3:]
