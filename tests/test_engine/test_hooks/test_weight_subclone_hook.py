"""Subcloning through the runner: when, and what the model holds then."""
import json

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, MODELS

from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.subclone import read_teacher


@HOOKS.register_module(force=True)
class FirstWeightsHook(Hook):
    """Keep the weights right before the first iteration, and after it."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not hasattr(self, 'weights'):
            self.weights = {
                k: v.clone()
                for k, v in runner.model.state_dict().items()
            }

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        ema = [h for h in runner.hooks if hasattr(h, 'ema_model')]
        if ema and batch_idx == 0:
            self.average = ema[0].ema_model.module.state_dict()
            self.average = {k: v.clone() for k, v in self.average.items()}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    model = MODELS.build(vit_cfg(32, 3))
    for p in model.parameters():
        torch.nn.init.normal_(p)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.pth')


def run(tmp_path, weights, hooks=(), **kwargs):
    hook = dict(
        type='transmamba_mm.WeightSubcloneHook', checkpoint=weights,
        first_n=-1)
    runner = make_runner(
        tmp_path / 'run', student_cfg(),
        [hook, dict(type='FirstWeightsHook'), *hooks], **kwargs)
    runner.train()
    seen = [h for h in runner.hooks if isinstance(h, FirstWeightsHook)][0]
    return runner, seen


def is_cloned(seen, weights):
    source = read_teacher(torch.load(weights)['state_dict'])
    return torch.equal(seen.weights['backbone.layers.1.norm.weight'],
                       source['layers.1.norm1.weight'])


def test_fresh_start_holds_the_teachers_values_after_init_weights(
        tmp_path, weights):
    ema = dict(type='EMAHook', momentum=1e-6)
    runner, seen = run(tmp_path, weights, [ema])
    assert is_cloned(seen, weights)
    source = read_teacher(torch.load(weights)['state_dict'])
    assert torch.equal(seen.weights['head.fc.weight'], source['head.weight'])
    torch.testing.assert_close(
        seen.average['backbone.layers.1.norm.weight'],
        source['layers.1.norm1.weight'],
        atol=5e-3,
        rtol=0)
    report = json.loads(
        (tmp_path / 'run' / 'subclone_report.json').read_text())
    assert report['percent'] > 0


def test_skipped_when_weights_were_loaded(tmp_path, weights):
    model = MODELS.build(student_cfg())
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'own.pth')
    _, seen = run(tmp_path, weights, load_from=str(tmp_path / 'own.pth'))
    assert not is_cloned(seen, weights)
    assert torch.equal(seen.weights['head.fc.weight'],
                       model.state_dict()['head.fc.weight'])


def test_skipped_on_resume_but_not_if_there_is_nothing_to_resume(
        tmp_path, weights):
    _, seen = run(tmp_path, weights, resume=True)
    assert is_cloned(seen, weights), '--resume without a checkpoint is fresh'
    _, seen = run(tmp_path, weights, resume=True, epochs=2)
    assert not is_cloned(seen, weights)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError,
                       match='`checkpoint` of WeightSubcloneHook'):
        run(tmp_path, 'nowhere.pth')


def test_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'conv1.weight': torch.zeros(2)}, path)
    with pytest.raises(ValueError, match='no known layout'):
        run(tmp_path, str(path))


def test_plan_is_checked_before_training():
    from transmamba_mm.engine import WeightSubcloneHook
    with pytest.raises(ValueError, match="preset 'risky'"):
        WeightSubcloneHook('teacher.pth', plan='risky')
