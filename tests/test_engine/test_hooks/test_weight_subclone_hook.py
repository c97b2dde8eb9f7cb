"""Subcloning through the runner: when, and what the model holds then."""
import json

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODEL_WRAPPERS
from mmpretrain.registry import HOOKS, MODELS
from torch import nn

from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.subclone import read_teacher


@HOOKS.register_module(force=True)
class FirstWeightsHook(Hook):
    """Keep the weights right before the first iteration, and after it."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if hasattr(self, 'weights'):
            return
        self.weights = copy_state(runner.model)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                self.average = copy_state(hook.ema_model.module)
        params = runner.optim_wrapper.optimizer.param_groups
        self.optimised = {id(p) for group in params for p in group['params']}


def copy_state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    model = MODELS.build(vit_cfg(32, 3))
    for p in model.parameters():
        torch.nn.init.normal_(p)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.pth')


def run(tmp_path, weights, hooks=(), student=None, options=None, **kwargs):
    hook = dict(
        type='transmamba_mm.WeightSubcloneHook',
        checkpoint=weights,
        **(options or dict(first_n=-1)))
    runner = make_runner(tmp_path / 'run', student or student_cfg(),
                         [hook, dict(type='FirstWeightsHook'), *hooks],
                         **kwargs)
    runner.train()
    seen = [h for h in runner.hooks if isinstance(h, FirstWeightsHook)][0]
    return runner, seen


def read(weights):
    return read_teacher(torch.load(weights)['state_dict'])


def is_cloned(seen, weights):
    return torch.equal(seen.weights['backbone.layers.1.norm.weight'],
                       read(weights)['layers.1.norm1.weight'])


@pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba'])
def test_fresh_start_holds_the_teachers_values_after_init_weights(
        tmp_path, weights, kind):
    runner, seen = run(
        tmp_path,
        weights, [dict(type='EMAHook')],
        student_cfg(kind),
        options=dict(plan='linear', first_n=-1))
    source, norm = read(weights), 'norm_f' if kind == 'VisionMamba' else 'ln1'
    mixer = 'mixer' if kind == 'VisionMamba' else 'mamba'
    for state in (seen.weights, seen.average):
        for i in range(3):
            block = f'backbone.layers.{i}'
            assert torch.equal(state[f'{block}.norm.weight'],
                               source[f'layers.{i}.norm1.weight'])
            assert torch.equal(state[f'{block}.{mixer}.in_proj.weight'][:32],
                               source[f'layers.{i}.v.weight'])
            assert torch.equal(
                state[f'{block}.{mixer}.out_proj.weight'][:, :32],
                source[f'layers.{i}.o.weight'])
        assert torch.equal(state['head.fc.weight'], source['head.weight'])
        assert torch.equal(state[f'backbone.{norm}.weight'],
                           source['final_norm.weight'])
    # initialised by init_weights, and left alone
    assert seen.weights[f'backbone.layers.0.{mixer}.D'].eq(1).all()
    assert {id(p) for p in runner.model.parameters()} == seen.optimised
    report = json.loads(
        (tmp_path / 'run' / 'subclone_report.json').read_text())
    assert 0 < report['percent'] < 100
    assert report['total'] == sum(p.numel() for p in runner.model.parameters())
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'layers.1.norm1.weight' in log and 'come from the teacher' in log


def test_average_that_starts_late_follows(tmp_path, weights):
    """The average is saved before its first update, too."""
    _, seen = run(tmp_path, weights, [dict(type='EMAHook', begin_iter=2)])
    assert torch.equal(seen.average['head.fc.weight'],
                       read(weights)['head.weight'])


def test_skipped_when_weights_were_loaded(tmp_path, weights):
    model = MODELS.build(student_cfg())
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'own.pth')
    _, seen = run(tmp_path, weights, load_from=str(tmp_path / 'own.pth'))
    assert not is_cloned(seen, weights)
    assert torch.equal(seen.weights['head.fc.weight'],
                       model.state_dict()['head.fc.weight'])


@pytest.mark.parametrize('part', ['model', 'backbone'])
def test_skipped_when_init_cfg_loads_weights(tmp_path, weights, part):
    cfg = student_cfg()
    model = MODELS.build(cfg)
    own = getattr(model, part, model)
    torch.save(dict(state_dict=own.state_dict()), tmp_path / 'own.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'own.pth'))
    cfg.get(part, cfg)['init_cfg'] = init
    _, seen = run(tmp_path, weights, student=cfg)
    name = 'layers.1.norm.weight'
    assert torch.equal(seen.weights['backbone.' + name],
                       model.backbone.state_dict()[name])
    assert not is_cloned(seen, weights)


def test_skipped_on_resume_but_not_if_there_is_nothing_to_resume(
        tmp_path, weights):
    _, seen = run(tmp_path, weights, resume=True)
    assert is_cloned(seen, weights), '--resume without a checkpoint is fresh'
    _, seen = run(tmp_path, weights, resume=True, epochs=2)
    assert not is_cloned(seen, weights)


@MODEL_WRAPPERS.register_module(force=True)
class ToyWrapper(nn.Module):
    """Wrap a model as a distributed wrapper does."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def clone_into(runner, weights, **kwargs):
    """Call the hook alone, without a training."""
    hook = HOOKS.build(
        dict(
            type='transmamba_mm.WeightSubcloneHook',
            checkpoint=str(weights),
            **kwargs))
    hook.before_train(runner)


def test_wrapped_model_is_unwrapped(tmp_path, weights):
    runner = make_runner(tmp_path, student_cfg())
    params = list(runner.model.parameters())
    model = runner.model
    runner.model = ToyWrapper(model)
    clone_into(runner, weights, first_n=-1)
    assert torch.equal(model.backbone.layers[1].norm.weight,
                       read(weights)['layers.1.norm1.weight'])
    assert all(a is b for a, b in zip(params, model.parameters()))


def test_same_values_in_every_process(tmp_path, weights):
    """There is no broadcast after before_train: two runs have to agree."""
    states = []
    for seed in (0, 1):
        runner = make_runner(
            tmp_path / str(seed), student_cfg(), randomness=dict(seed=seed))
        clone_into(runner, weights, first_n=-1)
        states.append(copy_state(runner.model))
    report = json.loads((tmp_path / '1' / 'subclone_report.json').read_text())
    whole = [r['tensor'] for r in report['rows'] if r['action'] == 'copied']
    assert len(whole) == 10
    for name in whole:
        name = name if name.startswith('head') else 'backbone.' + name
        assert torch.equal(states[0][name], states[1][name])


def test_distilled_student_with_a_vision_transformer_head(tmp_path, weights):
    cfg = student_cfg(distiller=dict())
    cfg['distiller'].update(teacher_dims=32, teacher_depth=3)
    cfg['head'] = dict(
        type='VisionTransformerClsHead', num_classes=4, in_channels=32)
    runner = make_runner(tmp_path, cfg)
    clone_into(runner, weights)
    assert torch.equal(runner.model.head.layers.head.weight,
                       read(weights)['head.weight'])


def test_importance_from_two_files(tmp_path, weights):
    """A teacher of 48 channels, 16 of which its fine-tuning moved."""
    torch.manual_seed(5)
    model = MODELS.build(vit_cfg(48, 3))
    for p in model.parameters():
        nn.init.normal_(p)
    torch.save(model.state_dict(), tmp_path / 'before.pth')
    model.backbone.cls_token.data[..., 32:] += 50.
    model.backbone.pos_embed.data[..., 32:] += 50.
    torch.save(model.state_dict(), tmp_path / 'after.pth')
    runner = make_runner(tmp_path, student_cfg())
    clone_into(
        runner,
        tmp_path / 'after.pth',
        pretrained_checkpoint=str(tmp_path / 'before.pth'))
    assert torch.equal(runner.model.backbone.cls_token,
                       model.backbone.cls_token[..., :32])
    with pytest.raises(
            ValueError, match='`pretrained_checkpoint` of .* of another arch'):
        clone_into(
            runner, tmp_path / 'after.pth', pretrained_checkpoint=weights)


HOOK = '`checkpoint` of WeightSubcloneHook in custom_hooks'


def test_wrong_files_are_named(tmp_path, weights):
    runner = make_runner(tmp_path, student_cfg())
    before = copy_state(runner.model)
    with pytest.raises(FileNotFoundError, match=f'nowhere.pth.*{HOOK}'):
        clone_into(runner, 'nowhere.pth')
    path = tmp_path / 'resnet.pth'
    torch.save({'conv1.weight': torch.zeros(2)}, path)
    with pytest.raises(
            ValueError, match=f'resnet.pth.*{HOOK}.*no known layout.*conv1'):
        clone_into(runner, path)
    path = tmp_path / 'short.pth'
    content = open(weights, 'rb').read()
    path.write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match=f'short.pth.*{HOOK}.*truncated'):
        clone_into(runner, path)
    path = tmp_path / 'list.pth'
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=f'list.pth.*{HOOK}.*0 tensors'):
        clone_into(runner, path)
    state = torch.load(weights)['state_dict']
    state['backbone.cls_token'].fill_(float('nan'))
    path = tmp_path / 'nan.pth'
    torch.save(state, path)
    with pytest.raises(ValueError, match=f'NaN.*cls_token.*{HOOK}'):
        clone_into(runner, path)
    after = runner.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_wrong_students_are_named(tmp_path, weights):
    runner = make_runner(tmp_path, student_cfg())
    with pytest.raises(ValueError, match="'encoder'.*`prefix`.*'backbone'"):
        clone_into(runner, weights, prefix='encoder.')
    runner = make_runner(tmp_path, vit_cfg())
    with pytest.raises(TypeError, match='`model.backbone`'):
        clone_into(runner, weights)
    with pytest.raises(TypeError, match='VisionTransformer'):
        clone_into(runner, weights)


def test_prefix_needs_no_dot(tmp_path, weights):
    runner = make_runner(tmp_path, student_cfg())
    clone_into(runner, weights, prefix='backbone')
    assert torch.equal(runner.model.head.fc.weight,
                       read(weights)['head.weight'])


def test_plan_is_checked_before_training():
    from transmamba_mm.engine import WeightSubcloneHook
    with pytest.raises(ValueError, match="preset 'risky'"):
        WeightSubcloneHook('teacher.pth', plan='risky')
