"""Any teacher in a run: it teaches, and it is nowhere but in its hook."""
import copy

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, MODELS

from tests.test_models.test_teachers import hf_models, test_open_clip_teacher
from tests.test_models.test_teachers.test_timm_teacher import classifier, make
from tests.toy import make_runner, student_cfg, vit_cfg


def mmpretrain(folder):
    torch.manual_seed(0)
    torch.save(MODELS.build(vit_cfg()).state_dict(), folder / 't.pth')
    return dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=vit_cfg(),
        checkpoint=str(folder / 't.pth'))


def timm(folder):
    name = 'deit_small_distilled_patch16_224'
    torch.save(make(name).state_dict(), folder / 't.pth')
    return dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=classifier(name),
        checkpoint=str(folder / 't.pth'))


def hf(kind):

    def write(folder):
        hf_models.save(kind, folder)
        return dict(
            type='transmamba_mm.HFTeacher',
            pretrained=str(folder),
            tower=hf_models.MODELS[kind][1])

    return write


def clip(folder):
    test_open_clip_teacher.make(folder)
    return dict(
        type='transmamba_mm.OpenCLIPTeacher',
        model_name=str(folder),
        dtype='bfloat16')


def cached(folder):
    return dict(
        type='transmamba_mm.CachedTeacher',
        cache_dir=str(folder / 'cache'),
        teacher=mmpretrain(folder))


#: Maker of the config, width and depth, whether it has four classes.
TEACHERS = {
    'mmpretrain': (mmpretrain, 48, 6, True),
    'timm': (timm, 48, 3, True),
    'hf vit': (hf('vit'), 48, 3, True),
    'hf deit': (hf('deit'), 48, 3, True),
    'hf clip vision': (hf('clip vision'), 48, 3, False),
    'llava vision': (hf('llava vision'), 48, 3, False),
    'open_clip': (clip, 64, 3, False),
    'cached': (cached, 48, 6, True),
}


@HOOKS.register_module(force=True)
class LookAtTeacherHook(Hook):
    """Keep what the teacher was before and after."""
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        teacher = runner.model.teacher
        self.teacher = teacher
        self.training = any(m.training for m in teacher.modules())
        self.learns = any(p.requires_grad for p in teacher.parameters())
        self.last = copy.deepcopy(teacher.state_dict())
        self.first = getattr(self, 'first', self.last)


@pytest.mark.parametrize('kind', TEACHERS)
def test_teacher_stays_apart(kind, tmp_path):
    write, width, depth, has_classes = TEACHERS[kind]
    (tmp_path / 'teacher').mkdir()
    teacher = write(tmp_path / 'teacher')
    model = student_cfg(distiller=dict(logit_weight=0.1 * has_classes))
    model['distiller'].update(teacher_dims=width, teacher_depth=depth)
    dataset = dict(type='ToyDataset')
    if kind == 'cached':
        dataset = dict(type='transmamba_mm.FixedAugmentation', dataset=dataset)
    runner = make_runner(
        tmp_path / 'run',
        model, [
            dict(
                type='transmamba_mm.BidirectionalDistillHook',
                teacher=teacher),
            dict(type='EMAHook', momentum=0.1),
            dict(type='LookAtTeacherHook')
        ],
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=True)))
    runner.train()
    seen = [h for h in runner.hooks if isinstance(h, LookAtTeacherHook)][0]
    assert not seen.training and not seen.learns
    assert all(torch.equal(seen.first[k], v) for k, v in seen.last.items())

    own = {id(p) for p in runner.model.parameters()}
    assert own.isdisjoint(id(p) for p in seen.teacher.parameters())
    held = {
        id(p)
        for g in runner.optim_wrapper.optimizer.param_groups
        for p in g['params']
    }
    assert held == own
    file = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)
    kept = {*file['state_dict'], *file['ema_state_dict']}
    names = {*runner.model.state_dict(), 'steps'}
    assert {
        k[len('module.'):] if k.startswith('module.') else k
        for k in kept
    } <= names
    log = (tmp_path / 'run').rglob('*.log')
    text = next(iter(log)).read_text()
    assert 'Teacher: ' in text and f'of width {width} and {depth}' in text
    assert 'distill.loss_forward' in text
