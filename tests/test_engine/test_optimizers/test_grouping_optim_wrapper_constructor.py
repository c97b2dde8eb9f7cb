"""One optimizer group for all equal settings."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS

from tests.toy import student_cfg

PLAIN = 'DefaultOptimWrapperConstructor'
SCHEDULE = 'configs/_base_/schedules/adamw_8xb128-300e.py'


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(student_cfg())


def build(model, **changes):
    cfg = Config.fromfile(SCHEDULE)
    cfg.merge_from_dict({f'optim_wrapper.{k}': v for k, v in changes.items()})
    return build_optim_wrapper(model, cfg.optim_wrapper)


def settings(wrapper):
    """Learning rate and weight decay of each parameter."""
    return {
        id(p): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }


def test_each_parameter_keeps_its_settings(model):
    ours, theirs = build(model), build(model, constructor=PLAIN)
    assert settings(ours) == settings(theirs)
    assert len(theirs.optimizer.param_groups) > 20
    assert len(ours.optimizer.param_groups) <= 3


def test_frozen_and_special_parameters(model):
    frozen = model.backbone.patch_embed.proj.weight.requires_grad_(False)
    wrapper = build(
        model, **{'paramwise_cfg.custom_keys': {
            'head': dict(lr_mult=10.)
        }})
    rates = settings(wrapper)
    assert rates[id(model.head.fc.weight)][0] == pytest.approx(1e-2)
    assert rates[id(
        model.backbone.layers[0].mixer.in_proj.weight)][0] == pytest.approx(
            1e-3)
    before = frozen.clone()
    model(torch.randn(2, 3, 16, 16))[0].sum().backward()
    wrapper.optimizer.step()
    assert torch.equal(frozen, before)


def test_the_same_training(model):
    results = []
    for constructor in (PLAIN,
                        'transmamba_mm.GroupingOptimWrapperConstructor'):
        torch.manual_seed(0)
        model = MODELS.build(student_cfg())
        wrapper = build(model, constructor=constructor)
        for _ in range(2):
            torch.manual_seed(1)
            loss = model(torch.randn(2, 3, 16, 16))[0].square().mean()
            wrapper.update_params(loss)
        results.append(model.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=0, atol=0)
