"""Further sources of a subcloning: activations, and a Mamba checkpoint."""
import json
import random

import pytest
import torch
from mmpretrain.registry import HOOKS, MODELS

from tests.test_subclone.test_ssm import mamba
from tests.toy import ToyDataset, make_runner, student_cfg, vit_cfg
from transmamba_mm.engine import WeightSubcloneHook
from transmamba_mm.subclone import activation_scores, read_teacher
from transmamba_mm.utils.training_batches import training_batches


@pytest.fixture
def teacher_file(tmp_path):
    """A teacher of 48 channels with 3 layers."""
    torch.manual_seed(5)
    model = MODELS.build(vit_cfg(48, 3))
    model.init_weights()
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.1)
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def hook_cfg(teacher_file, **kwargs):
    return dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=teacher_file,
        first_n=-1,
        **kwargs)


def teacher_cfg(teacher_file):
    return dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=vit_cfg(48, 3),
        checkpoint=teacher_file)


def train(folder, hooks, **kwargs):
    runner = make_runner(folder, student_cfg(**kwargs), hooks)
    runner.train()
    report = json.loads((folder / 'subclone_report.json').read_text())
    return runner, {r['tensor']: r for r in report['rows']}


def cloned(runner, hook):
    """What the hook would clone, without a training."""
    new, _ = HOOKS.build(hook).clone(runner.model, runner.cfg, 0)
    return new


def test_units_are_scored_on_the_training_data(tmp_path, teacher_file):
    hook = hook_cfg(
        teacher_file,
        importance='activation',
        teacher=teacher_cfg(teacher_file),
        importance_batches=2)
    runner = make_runner(tmp_path / 'run', student_cfg(), [hook])
    new = cloned(runner, hook)
    source = read_teacher(torch.load(teacher_file)['state_dict'])
    teacher = MODELS.build(teacher_cfg(teacher_file))
    loader = runner.cfg.train_dataloader
    batches = list(training_batches(runner.model, loader, 2))
    assert [len(b) for b in batches] == [8, 8]
    scores = activation_scores(teacher, batches)['residual']
    kept = scores.argsort(descending=True)[:32].sort().values
    assert torch.equal(new['cls_token'], source['cls_token'][..., kept])
    assert torch.equal(new['layers.1.norm.weight'],
                       source['layers.1.norm1.weight'][kept])
    plain = cloned(runner, hook_cfg(teacher_file))
    assert not torch.equal(new['cls_token'], plain['cls_token'])


def test_scoring_leaves_the_training_as_it_is(tmp_path, teacher_file):
    """The order of the images and all random draws are those without."""
    runner = make_runner(tmp_path / 'run', student_cfg())
    state = torch.get_rng_state()
    cfg = dict(runner.cfg.train_dataloader, num_workers=1)
    assert len(list(training_batches(runner.model, cfg, 9))) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(runner._train_dataloader, dict)


def test_scores_are_the_same_each_time(tmp_path, monkeypatch):
    """So that the dry run shows what the training does."""

    def add_noise(self, idx, plain=ToyDataset.prepare_data):
        sample = plain(self, idx)
        sample['inputs'] = sample['inputs'] // 2 + random.randint(0, 9)
        return sample

    monkeypatch.setattr(ToyDataset, 'prepare_data', add_noise)
    runner = make_runner(tmp_path / 'run', student_cfg())
    cfg = runner.cfg.train_dataloader
    first = list(training_batches(runner.model, cfg, 2))
    random.seed(7)
    again = list(training_batches(runner.model, cfg, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))


def test_the_teacher_of_the_distillation_is_found(tmp_path, teacher_file):
    hooks = [
        hook_cfg(teacher_file, importance='activation'),
        dict(
            type='transmamba_mm.BidirectionalDistillHook',
            teacher=teacher_cfg(teacher_file))
    ]
    cfg = dict(distiller=dict())
    model = student_cfg(**cfg)
    model['distiller'].update(teacher_dims=48, teacher_depth=3)
    runner = make_runner(tmp_path / 'run', model, hooks)
    runner.train()
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'scored by mean activation over 4 batches' in log
    assert '6 sets of attention channels' in log
    runner = make_runner(tmp_path / 'other', student_cfg(), hooks[:1])
    with pytest.raises(ValueError, match='set `teacher` of the hook'):
        cloned(runner, hooks[0])
    cache = dict(type='Cache', teacher=teacher_cfg(teacher_file))
    runner = make_runner(tmp_path / 'cached', student_cfg(),
                         [dict(type='IterTimerHook'), hooks[0]])
    cfg = dict(runner.cfg, custom_hooks=[dict(type='Any', teacher=cache)])
    new, _ = HOOKS.build(hooks[0]).clone(runner.model, cfg)
    assert new


def test_state_space_parameters_start_from_a_mamba(tmp_path, teacher_file):
    torch.save(mamba(), tmp_path / 'mamba.pth')
    hook = hook_cfg(
        teacher_file,
        ssm_checkpoint=str(tmp_path / 'mamba.pth'),
        plan='qkv_to_ssm')
    runner, rows = train(tmp_path / 'run', [hook])
    name = 'layers.2.mixer.'
    assert rows[name + 'A_log']['from_mamba'] == 64 * 4
    assert rows[name + 'x_proj.weight']['action'] == 'factorised'
    new = cloned(runner, hook)
    state = mamba()
    assert torch.equal(new[name + 'A_log'], state[f'backbone.{name}A_log'])
    assert torch.equal(new[name + 'A_b_log'], new[name + 'A_log'])
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'from the Mamba checkpoint' in log
    first = cloned(runner, {**hook, 'ssm_directions': 'first'})
    assert name + 'A_log' in first and name + 'A_b_log' not in first


def test_wrong_mambas_are_named(tmp_path, teacher_file):
    runner = make_runner(tmp_path / 'run', student_cfg())
    where = '`ssm_checkpoint` of WeightSubcloneHook'
    with pytest.raises(FileNotFoundError, match=f'nowhere.pth.*{where}'):
        cloned(runner, hook_cfg(teacher_file, ssm_checkpoint='nowhere.pth'))
    with pytest.raises(ValueError, match=f'{where}.*no Mamba in it'):
        cloned(runner, hook_cfg(teacher_file, ssm_checkpoint=teacher_file))
    state = mamba()
    state['backbone.layers.0.mixer.D'][3] = float('nan')
    torch.save(state, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=f'NaN.*layers.0.D.*{where}'):
        cloned(
            runner,
            hook_cfg(teacher_file, ssm_checkpoint=str(tmp_path / 'nan.pth')))


def test_importance_and_files_have_to_agree():
    with pytest.raises(ValueError, match="importance='size'.*'activation'"):
        WeightSubcloneHook('a.pth', importance='size')
    for importance, before in (('change', None), ('magnitude', 'b.pth'),
                               ('activation', 'b.pth')):
        with pytest.raises(ValueError, match='both or neither'):
            WeightSubcloneHook(
                'a.pth', importance=importance, pretrained_checkpoint=before)
    assert WeightSubcloneHook('a.pth').importance == 'magnitude'
    hook = WeightSubcloneHook('a.pth', pretrained_checkpoint='b.pth')
    assert hook.importance == 'change'


def test_no_data_to_score_on(tmp_path, teacher_file):
    hook = hook_cfg(
        teacher_file,
        importance='activation',
        teacher=teacher_cfg(teacher_file))
    model = MODELS.build(student_cfg())
    with pytest.raises(ValueError, match='`train_dataloader`.*None'):
        HOOKS.build(hook).clone(model)


def test_another_teacher_cannot_score(tmp_path, teacher_file):
    model = MODELS.build(vit_cfg(48, 2))
    torch.save(model.state_dict(), tmp_path / 'short.pth')
    hook = hook_cfg(
        str(tmp_path / 'short.pth'),
        importance='activation',
        teacher=teacher_cfg(teacher_file))
    with pytest.raises(ValueError, match='2 layers of width 48.*3 of width'):
        HOOKS.build(hook).clone(MODELS.build(student_cfg()))
