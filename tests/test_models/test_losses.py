"""Losses against numbers computed by hand."""
import math

import pytest
import torch

from transmamba_mm.models import (AdaptiveCosineLoss, ReleasedCodeLoss,
                                  logit_distillation_loss)
from transmamba_mm.models.losses.adaptive_cosine_loss import (adaptive_weights,
                                                              token_cosine)


def with_cosines(cosines):
    """Unit vectors at the given cosines, one layer each."""
    teacher = [torch.tensor([[[1., 0.]]]) for _ in cosines]
    student = [torch.tensor([[[c, math.sqrt(1 - c * c)]]]) for c in cosines]
    return student, teacher


def test_default_by_hand():
    loss, cosines, weights = AdaptiveCosineLoss()(*with_cosines([0.8, 0.4]))
    torch.testing.assert_close(cosines, torch.tensor([0.8, 0.4]))
    # mean 0.6: weights 0.75 and 1.5; (0.75 * 0.2 + 1.5 * 0.6) / 2
    torch.testing.assert_close(weights, torch.tensor([0.75, 1.5]))
    torch.testing.assert_close(loss, torch.tensor(0.525))


def test_clamp_keeps_weights_at_one_at_a_random_start():
    loss, _, weights = AdaptiveCosineLoss(eps=0.1)(*with_cosines([0.05, -0.3]))
    torch.testing.assert_close(weights, torch.ones(2))
    torch.testing.assert_close(loss, torch.tensor((0.95 + 1.3) / 2))


def test_paper_v1_by_hand():
    loss, _, _ = AdaptiveCosineLoss('paper_v1')(*with_cosines([0.8, 0.4]))
    # sum_ij c_j / c_i (1 - c_i) = 1.2 / 0.8 * 0.2 + 1.2 / 0.4 * 0.6 = 2.1
    torch.testing.assert_close(loss, torch.tensor(2.1))


def test_paper_v1_is_finite_at_zero():
    loss, _, _ = AdaptiveCosineLoss('paper_v1')(*with_cosines([0., 0.5]))
    assert loss.isfinite()


def test_not_adaptive_is_the_plain_mean():
    loss, _, weights = AdaptiveCosineLoss(adaptive=False)(
        *with_cosines([0.8, 0.4]))
    torch.testing.assert_close(loss, torch.tensor(0.4))
    assert weights.eq(1).all()


def test_weights_carry_no_gradient_and_no_layer_is_pushed_away():
    student, teacher = with_cosines([0.9, 0.3, 0.3])
    angles = torch.tensor([math.acos(c) for c in (0.9, 0.3, 0.3)],
                          requires_grad=True)
    student = [
        torch.stack([a.cos(), a.sin()]).reshape(1, 1, 2) for a in angles
    ]
    AdaptiveCosineLoss()(student, teacher)[0].backward()
    assert (angles.grad > 0).all(), 'a step would enlarge an angle'
    angles.grad = None
    AdaptiveCosineLoss('paper_v1')(
        [torch.stack([a.cos(), a.sin()]).reshape(1, 1, 2) for a in angles],
        teacher)[0].backward()
    assert angles.grad[0] < 0, 'the literal formula pushes the good layer'
    assert not adaptive_weights(torch.tensor([0.5], requires_grad=True),
                                0.1).requires_grad


def test_cosine_is_float32_under_autocast():
    x = torch.randn(2, 5, 64)
    with torch.autocast('cpu', torch.bfloat16):
        half = torch.nn.functional.linear(x, torch.eye(64))
        assert half.dtype == torch.bfloat16
        got = token_cosine(half, half)
    assert got.dtype == torch.float32
    assert abs(got.item() - 1) < 1e-6


@pytest.mark.parametrize('kwargs', [dict(variant='v9'), dict(eps=0.)])
def test_wrong_arguments(kwargs):
    with pytest.raises(ValueError):
        AdaptiveCosineLoss(**kwargs)


def test_released_code_by_hand():
    g = torch.tensor([[2. * math.log(3.), 0.]])  # softened: 3/4, 1/4
    h = torch.zeros(1, 2)  # softened: 1/2, 1/2
    log2 = math.log(2.)
    got = ReleasedCodeLoss()(h, [h, h, h], g)
    # every cross-entropy is log 2: 120 + (1 + 2 + 3)
    torch.testing.assert_close(got, torch.tensor(126 * log2))
    layer = torch.tensor([[0., 2. * math.log(3.)]])  # softened: 1/4, 3/4
    entropy = -(0.75 * math.log(0.25) + 0.25 * math.log(0.75))
    got = ReleasedCodeLoss()(h, [h, layer], g)
    torch.testing.assert_close(got,
                               torch.tensor(120 * log2 + log2 + 2 * entropy))


def test_logit_loss_by_hand():
    teacher = torch.tensor([[2. * math.log(3.), 0.]])
    student = torch.zeros(1, 2)
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    got = logit_distillation_loss(student, teacher, 2.)
    torch.testing.assert_close(got, torch.tensor(4 * kl))
    assert logit_distillation_loss(teacher, teacher, 2.) == 0
