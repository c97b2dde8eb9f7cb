"""Checkpoints and the guard on a distilled student with Mixup and EMA."""
import json

import pytest
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import MODELS

from tests.toy import make_runner, student_cfg, vit_cfg


class Losses(Hook):
    """Keep the losses of a run; spoil a layer at one iteration."""

    def __init__(self, poisoned_iter=None, stop_after=None):
        self.losses = {}
        self.poisoned_iter, self.stop_after = poisoned_iter, stop_after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        bias = runner.model.backbone.layers[1].mixer.out_proj.weight
        if runner.iter == self.poisoned_iter:
            self.handle = runner.model.backbone.layers[1].mixer.out_proj. \
                register_forward_hook(lambda *args: args[-1] * float('nan'))
            self.weight = bias.detach().clone()
        elif self.poisoned_iter is not None and \
                runner.iter == self.poisoned_iter + 1:
            self.handle.remove()
            assert torch.equal(self.weight, bias)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.losses[runner.iter] = {
            key: value.item()
            for key, value in outputs.items()
        }

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    teacher = tmp_path / 'teacher.pth'
    torch.save(MODELS.build(vit_cfg()).state_dict(), teacher)

    def train(name, resume=False, **kwargs):
        losses = Losses(**kwargs)
        losses.priority = 'LOWEST'
        runner = make_runner(
            tmp_path / name,
            student_cfg(
                distiller=dict(logit_weight=0.1),
                drop_path_rate=0.2,
                train_cfg=dict(augments=dict(type='Mixup', alpha=0.8))),
            custom_hooks=[
                dict(
                    type='transmamba_mm.BidirectionalDistillHook',
                    teacher=dict(
                        type='transmamba_mm.MMPretrainTeacher',
                        config=vit_cfg(),
                        checkpoint=str(teacher))),
                dict(type='EMAHook', momentum=0.1),
                dict(type='transmamba_mm.NonFiniteGuardHook'),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='transmamba_mm.ResumableCheckpointHook',
                    interval=1,
                    save_best='auto')),
            epochs=3,
            resume=resume)
        runner.register_hook(losses)
        messages = []
        runner.logger.addFilter(
            lambda record: messages.append(record.getMessage()) or True)
        try:
            runner.train()
        except KeyboardInterrupt:
            pass
        return losses.losses, messages

    return train


def test_resumes_exactly(run):
    straight, _ = run('straight')
    first, _ = run('resumed', stop_after=2)
    rest, _ = run('resumed', resume=True)
    assert len(straight) == 6 and list(rest) == [4, 5]
    assert json.dumps({**first, **rest}) == json.dumps(straight)


def test_spoilt_layer_is_named(run):
    losses, messages = run('spoilt', poisoned_iter=2)
    report = [m for m in messages if 'gradients are not finite' in m]
    assert len(report) == 1 and 'iteration 3' in report[0]
    assert "'backbone.layers.1.mixer.out_proj'" in report[0]
    assert all(
        torch.isfinite(torch.tensor(losses[i]['loss'])) for i in (1, 3, 4, 5))
