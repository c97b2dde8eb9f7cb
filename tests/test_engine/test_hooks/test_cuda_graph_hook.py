"""The training step as one CUDA graph."""
from unittest import mock

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmpretrain.registry import HOOKS, MODELS
from mmpretrain.structures import DataSample

from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.engine import CUDAGraphHook
from transmamba_mm.engine.graphed_train_step import GraphedTrainStep

needs_card = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason='needs a CUDA device')
]
FUSED = dict(
    optimizer=dict(type='AdamW', lr=1e-3, fused=True),
    clip_grad=dict(max_norm=1.0))
GRAPH = dict(type='transmamba_mm.CUDAGraphHook', warmup=2)


@HOOKS.register_module(force=True)
class SpoilBatchHook(Hook):
    """Give one batch labels that make its loss infinite."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = [p.detach().clone() for p in runner.model.parameters()]
        head = runner.model.head.fc.bias
        self.bias = head.detach().clone()
        if runner.iter == 6:
            head.data.fill_(float('nan'))

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter == 6:
            runner.model.head.fc.bias.data.copy_(self.bias)
            self.same = all(
                torch.equal(a, b)
                for a, b in zip(self.before, runner.model.parameters()))
            self.skipped = outputs['skipped']


def train(tmp_path, hooks, model=None, **kwargs):
    runner = make_runner(
        tmp_path,
        model or student_cfg(),
        hooks,
        epochs=4,
        optim_wrapper=FUSED,
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=8)
        ],
        **kwargs)
    runner.train()
    return runner


def test_without_a_card_training_goes_on(tmp_path):
    if torch.cuda.is_available():
        pytest.skip('there is a card')
    runner = train(tmp_path / 'a', [GRAPH])
    plain = train(tmp_path / 'b', [])
    for a, b in zip(runner.model.parameters(), plain.model.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize('change, message', [
    (dict(optimizer=dict(type='AdamW', lr=1e-3)), 'fused=True'),
    (dict(accumulative_counts=2), 'accumulative_counts=1'),
])
def test_what_a_graph_cannot_hold_is_refused(tmp_path, change, message):
    model = MODELS.build(student_cfg())
    runner = make_runner(
        tmp_path, student_cfg(), optim_wrapper={
            **FUSED,
            **change
        })
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    with pytest.raises(ValueError, match=message):
        GraphedTrainStep(model, wrapper)


def test_features_from_the_disk_cannot_be_recorded(tmp_path):
    torch.save(MODELS.build(vit_cfg()).state_dict(), tmp_path / 'teacher.pth')
    teacher = dict(
        type='transmamba_mm.CachedTeacher',
        cache_dir=str(tmp_path / 'features'),
        teacher=dict(
            type='transmamba_mm.MMPretrainTeacher',
            config=vit_cfg(),
            checkpoint=str(tmp_path / 'teacher.pth')))
    loader = dict(
        batch_size=8,
        dataset=dict(
            type='transmamba_mm.FixedAugmentation',
            dataset=dict(type='ToyDataset')),
        sampler=dict(type='DefaultSampler', shuffle=True))
    hook = dict(
        type='transmamba_mm.BidirectionalDistillHook',
        teacher=teacher,
        stages=[dict(kind='distillation', epochs=1),
                dict(kind='finetune')])
    train(
        tmp_path / 'run', [GRAPH, hook],
        student_cfg(distiller={}),
        train_dataloader=loader)
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'no graph with features from the disk (CachedTeacher)' in log


def test_warmup_must_be_positive():
    with pytest.raises(ValueError, match='CUDAGraphHook.warmup=0'):
        CUDAGraphHook(warmup=0)


def test_stages_and_measurements_get_no_graph_of_another_step():
    """Which steps are run op by op (e), recorded (c) and replayed (r)."""
    model = MODELS.build(
        student_cfg(
            distiller=dict(balance=dict(kind='grad_norm', interval=5))))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    step = GraphedTrainStep(model, OptimWrapper(optimizer), warmup=2)
    seen = []

    def capture(batch, wrapper):
        seen.append('c')
        step.graph = mock.Mock(replay=lambda: seen.append('r'))
        step.values, step.names = torch.zeros(1), ['loss']

    patches = dict(
        _run_eagerly=lambda *_: seen.append('e'),
        _capture=capture,
        _fill=lambda *_: None)
    batch = dict(
        inputs=[torch.zeros(3, 16, 16)] * 2,
        data_samples=[DataSample().set_gt_label(0)] * 2)
    with mock.patch.multiple(step, **patches):
        for i in range(15):
            model.distiller.calibrating = i < 4
            model.distiller.iteration = i if i < 4 else i - 4
            step(batch, None)
    # calibration; then measured, warm-up, graph, measured again
    assert ''.join(seen) == 'eecrr' + 'eecrrrerrrre'


class TestOnACard:
    pytestmark = needs_card

    @pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba', 'VMamba'])
    def test_the_weights_are_those_of_single_steps(self, tmp_path, kind):
        graph = train(tmp_path / 'a', [GRAPH], student_cfg(kind))
        plain = train(tmp_path / 'b', [], student_cfg(kind))
        assert 'train_step' not in vars(graph.model)
        for a, b in zip(graph.model.parameters(), plain.model.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)

    @pytest.mark.parametrize('distiller, stages', [
        (dict(logit_weight=1.), None),
        (dict(balance='uncertainty'), None),
        (dict(balance=dict(kind='grad_norm', interval=5)), None),
        (dict(),
         [dict(kind='calibration', epochs=2),
          dict(kind='distillation')]),
    ])
    def test_a_taught_student(self, tmp_path, distiller, stages):
        teacher = MODELS.build(vit_cfg())
        path = tmp_path / 'teacher.pth'
        torch.save(dict(state_dict=teacher.state_dict()), path)
        hook = dict(
            type='transmamba_mm.BidirectionalDistillHook',
            teacher=dict(
                type='transmamba_mm.MMPretrainTeacher',
                config=vit_cfg(),
                checkpoint=str(path)),
            stages=stages)
        model = student_cfg(distiller=distiller)
        graph = train(tmp_path / 'a', [hook, GRAPH], model)
        plain = train(tmp_path / 'b', [hook], model)
        for a, b in zip(graph.model.parameters(), plain.model.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)

    def test_a_step_that_is_not_finite_changes_nothing(self, tmp_path):
        guard = dict(type='transmamba_mm.NonFiniteGuardHook')
        runner = train(tmp_path, [dict(type='SpoilBatchHook'), guard, GRAPH])
        hooks = {type(h).__name__: h for h in runner.hooks}
        assert hooks['SpoilBatchHook'].skipped == 1
        assert hooks['SpoilBatchHook'].same
        assert hooks['NonFiniteGuardHook'].num_skipped == 1
        assert all(p.isfinite().all() for p in runner.model.parameters())
