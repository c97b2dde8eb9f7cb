"""Training with a teacher through MMEngine's runner."""
import copy
import gc
import json
import math
import os.path as osp
from unittest import mock

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, MODELS

from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.models import MMPretrainTeacher


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def distill_hook(weights, **kwargs):
    return dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config=vit_cfg(),
            checkpoint=weights),
        **kwargs)


@HOOKS.register_module(force=True)
class KeepTeacherHook(Hook):
    """Look at the teacher while it is there."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        teacher = runner.model.teacher
        self.training = any(m.training for m in teacher.modules())
        state = {k: v.clone() for k, v in teacher.state_dict().items()}
        if not hasattr(self, 'first'):
            self.first = state
            self.student = copy.deepcopy(runner.model.state_dict())
        self.last = state


EMA = dict(type='EMAHook', momentum=0.1)
MIXUP = dict(augments=[dict(type='Mixup', alpha=0.8)])


@pytest.fixture
def trained(tmp_path, weights):
    """One epoch with Mixup and EMA."""
    runner = make_runner(
        tmp_path / 'run', student_cfg(distiller={}, train_cfg=MIXUP),
        [distill_hook(weights), EMA,
         dict(type='KeepTeacherHook')])
    runner.train()
    return runner


def test_teacher_is_nowhere_but_in_its_hook(trained, tmp_path):
    checkpoint = torch.load(
        tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    for part in ('state_dict', 'ema_state_dict'):
        assert not [k for k in checkpoint[part] if 'teacher' in k.lower()]
    own = {id(p) for p in trained.model.parameters()}
    held = {
        id(p)
        for g in trained.optim_wrapper.optimizer.param_groups
        for p in g['params']
    }
    assert held == own
    sizes = {tuple(v.shape) for v in checkpoint['state_dict'].values()}
    assert (144, 48) not in sizes, "the teacher's qkv is in the checkpoint"


def test_teacher_stays_the_same_and_in_eval(trained):
    seen = [h for h in trained.hooks if isinstance(h, KeepTeacherHook)][0]
    assert not seen.training
    assert all(torch.equal(seen.first[k], v) for k, v in seen.last.items())
    changed = [
        k for k, v in trained.model.state_dict().items()
        if k.startswith('backbone.layers')
        and not torch.equal(v, seen.student[k])
    ]
    assert changed


def test_checkpoint_loads_into_the_plain_classifier(trained, tmp_path):
    state = torch.load(
        tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['state_dict']
    plain = MODELS.build(student_cfg())
    result = plain.load_state_dict(state, strict=False)
    assert not result.missing_keys
    assert all(k.startswith('distiller.') for k in result.unexpected_keys)
    # after training the model holds the trained weights, the file the EMA
    trained.model.load_state_dict(state)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(plain.eval()(x), trained.model.eval()(x))


def test_no_hook_is_left_and_a_copy_has_no_teacher_of_its_own(
        tmp_path, weights):
    model = MODELS.build(student_cfg(distiller={}))
    teacher = MMPretrainTeacher(vit_cfg(), weights)
    model.attach_teacher(teacher)
    data = model.data_preprocessor(
        dict(
            inputs=[torch.zeros(3, 16, 16)] * 2,
            data_samples=[_sample(0), _sample(1)]), True)
    model(**data, mode='loss')
    for net in (model, teacher):
        assert not any(m._forward_hooks for m in net.modules())
    clone = copy.deepcopy(model)
    assert clone.teacher is teacher
    del teacher, clone, net
    gc.collect()
    with pytest.raises(RuntimeError):
        model.teacher


def _sample(label):
    from mmpretrain.structures import DataSample
    return DataSample().set_gt_label(label)


def test_logged_loss_is_the_sum_of_its_parts(tmp_path, weights):
    runner = make_runner(tmp_path,
                         student_cfg(distiller=dict(logit_weight=0.5)),
                         [distill_hook(weights)])
    runner.train()
    rows = read_scalars(runner)
    rows = [r for r in rows if 'loss' in r]
    assert len(rows) == 2
    for row in rows:
        parts = [v for k, v in row.items() if 'loss' in k and k != 'loss']
        assert len(parts) == 4  # loss_cls, forward, backward, logit
        assert row['loss'] == pytest.approx(sum(parts), rel=1e-5)
        assert {'distill.cos_mean', 'distill.cos_min',
                'distill.weight_max'} <= set(row)


def read_scalars(runner):
    path = osp.join(runner.log_dir, 'vis_data', 'scalars.json')
    with open(path) as f:
        return [json.loads(line) for line in f]


def test_teacher_and_student_see_the_same_mixed_images(tmp_path, weights):
    model = student_cfg(distiller={}, train_cfg=MIXUP)
    seen = dict(student=[], teacher=[])
    runner = make_runner(tmp_path, model, [distill_hook(weights)])
    runner.model.backbone.register_forward_pre_hook(
        lambda m, i: seen['student'].append(i[0]) if m.training else None)
    record = MMPretrainTeacher.record

    def spy(self, inputs, *args):
        seen['teacher'].append(inputs)
        return record(self, inputs, *args)

    with mock.patch.object(MMPretrainTeacher, 'record', spy):
        runner.train()
    assert len(seen['student']) == len(seen['teacher']) == 2
    for a, b in zip(seen['student'], seen['teacher']):
        assert torch.equal(a, b)
    # mixed: the four classes' images have one bright quadrant each, a mixed
    # image two of different brightness
    assert len({x.mean().item() for x in seen['student'][0]}) > 1


def test_test_never_builds_a_teacher(tmp_path, weights, monkeypatch):

    def refuse(*args, **kwargs):
        raise AssertionError('a teacher was built')

    runner = make_runner(tmp_path, student_cfg(distiller={}),
                         [distill_hook(weights)])
    monkeypatch.setattr(MMPretrainTeacher, '__init__', refuse)
    runner.val()


def test_forgotten_hook_is_named(tmp_path):
    runner = make_runner(tmp_path, student_cfg(distiller={}))
    with pytest.raises(RuntimeError, match='BidirectionalDistillHook'):
        runner.train()


def test_hook_without_a_distiller_is_named(tmp_path, weights):
    runner = make_runner(tmp_path, student_cfg(), [distill_hook(weights)])
    with pytest.raises(TypeError, match='DistillClassifier'):
        runner.train()


def test_teacher_that_does_not_fit_is_named(tmp_path, weights):
    teacher = MMPretrainTeacher(vit_cfg(), weights)
    cfg = student_cfg(distiller={})
    cfg['distiller']['teacher_dims'] = 64
    with pytest.raises(ValueError, match='teacher_dims=64.*has 48'):
        MODELS.build(cfg).attach_teacher(teacher)
    cfg = student_cfg(distiller=dict(logit_weight=1.))
    cfg['head']['num_classes'] = 9
    with pytest.raises(ValueError, match='4 classes and the student 9'):
        MODELS.build(cfg).attach_teacher(teacher)


def test_unknown_layer_is_found_before_training():
    with pytest.raises(ValueError, match=r"no layer 'backbone\.blocks\.0"):
        MODELS.build(
            student_cfg(distiller=dict(student_layers='backbone.blocks.{}')))


def test_warm_up_and_stop(tmp_path, weights):
    runner = make_runner(
        tmp_path,
        student_cfg(distiller=dict(features='block')),
        [distill_hook(weights, warmup_epochs=1, stop_epoch=2)],
        epochs=3,
        log_processor=dict(window_size=1))
    scales = []
    runner.model.distiller.register_forward_pre_hook(
        lambda m, i: scales.append(m.progress))
    runner.train()
    assert scales == [0.5, 1., 1., 1.], 'two iterations an epoch, then off'
    rows = [r for r in read_scalars(runner) if 'loss_cls' in r]
    assert rows[-1]['distill.loss_idle'] == 0
    assert rows[-1]['loss'] == pytest.approx(rows[-1]['loss_cls'])


@pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba'])
@pytest.mark.parametrize('variant', ['default', 'paper_v1', 'released_code'])
def test_distillation_lowers_its_own_loss(kind, variant, weights):
    """A few steps on one batch bring the features nearer.

    The literal formula is singular at a cosine of zero, where training
    starts, so it is only asked to stay finite.
    """
    torch.manual_seed(0)
    model = MODELS.build(
        student_cfg(kind, distiller=dict(variant=variant, features='block')))
    model.init_weights()
    teacher = MMPretrainTeacher(vit_cfg(), weights)
    model.attach_teacher(teacher)
    data = model.data_preprocessor(
        dict(
            inputs=[
                torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8)
                for _ in range(8)
            ],
            data_samples=[_sample(i % 4) for i in range(8)]), True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    history = []
    for _ in range(8):
        losses = model(**data, mode='loss')
        total = sum(v for k, v in losses.items() if 'loss' in k)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(losses['distill.loss_feat'].item())
    if variant == 'paper_v1':
        assert all(map(math.isfinite, history))
    else:
        assert history[-1] < history[0]


def test_backbone_of_another_package_is_named():
    cfg = student_cfg(distiller={})
    cfg['backbone'] = dict(type='ResNet', depth=18)
    with pytest.raises(ValueError, match='ResNet cannot be distilled'):
        MODELS.build(cfg)


def test_wrong_directions_are_named():
    with pytest.raises(ValueError, match=r"directions=\('left',\)"):
        MODELS.build(student_cfg(distiller=dict(directions=['left'])))


def test_hooks_run_in_their_order(tmp_path, weights):
    """Cloned weights first, then the teacher, checkpoints last."""
    runner = make_runner(
        tmp_path,
        student_cfg(distiller={}), [
            distill_hook(weights),
            dict(type='transmamba_mm.WeightSubcloneHook', checkpoint=weights)
        ],
        default_hooks=dict(
            checkpoint=dict(type='transmamba_mm.ResumableCheckpointHook')))
    names = [type(h).__name__ for h in runner.hooks]
    order = [
        names.index(n)
        for n in ('WeightSubcloneHook', 'BidirectionalDistillHook',
                  'ResumableCheckpointHook')
    ]
    assert order == sorted(order)
