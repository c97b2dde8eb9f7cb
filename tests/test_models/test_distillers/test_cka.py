"""Similarity of layers against its definition."""
import pytest
import torch

from transmamba_mm.models import TokenLayout, linear_cka
from transmamba_mm.models.distillers.cka import (CKAMeter, pick_layers,
                                                 unbiased_hsic)

VIT = TokenLayout((2, 2), 1, 0)


def features(n=200, dims=6, seed=0):
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))


def test_equals_the_form_with_gram_matrices():
    x, y = features(), features(dims=3, seed=1) + features()[:, :3]
    centre = torch.eye(200) - 1 / 200
    k, m = (centre @ (t @ t.T) @ centre for t in (x, y))
    want = (k * m).sum() / (k.norm() * m.norm())
    torch.testing.assert_close(linear_cka(x, y).float(), want)


def test_is_blind_to_rotation_scale_and_shift_but_not_to_more():
    x = features()
    turn, _ = torch.linalg.qr(torch.randn(6, 6))
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert linear_cka(x, features(seed=2)) < 0.2
    assert linear_cka(x, x * torch.tensor([9, 1, 1, 1, 1, 1.])) < 0.9
    assert linear_cka(x, torch.ones(200, 2)) == 0


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r'\(200, 6\) and \(9, 6\)'):
        linear_cka(features(), features(9))


def test_hsic_has_no_bias():
    """Of independent features it is 0 on average, unlike the plain one."""
    values = []
    for seed in range(300):
        k, m = (
            t @ t.T
            for t in (features(8, 4, seed), features(8, 4, 1000 + seed)))
        values.append(
            unbiased_hsic(k.fill_diagonal_(0), m.fill_diagonal_(0)).item())
    values = torch.tensor(values)
    assert values.mean().abs() < 3 * values.std() / 300**0.5
    with pytest.raises(ValueError, match='at least 4'):
        unbiased_hsic(torch.eye(3), torch.eye(3))


def run(batches, **kwargs):
    student, teacher = (2, 3)
    generator = torch.Generator().manual_seed(3)
    meter = CKAMeter(student, teacher, **kwargs)
    mix = torch.randn(6, 8, generator=generator)
    for _ in range(batches):
        deep = [
            torch.randn(16, 5, 6, generator=generator) for _ in range(teacher)
        ]
        noise = torch.randn(16, 5, 8, generator=generator)
        shallow = [deep[2] @ mix + 0.3 * noise, deep[0] @ mix + noise]
        meter.update(shallow, deep, [VIT] * student, [VIT] * teacher)
    return meter.matrix()


def test_finds_the_layers_that_belong_together():
    matrix = run(4)
    assert matrix.shape == (2, 3)
    assert pick_layers(matrix) == (2, 0)
    assert matrix[0, 2] > 0.5 and matrix[0, 0].abs() < 0.1
    assert pick_layers(torch.zeros(2, 3)) == (0, 0)


def test_batches_add_up_to_the_whole():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(512, 5, 6, generator=generator)
    y = x[..., :4] + torch.randn(512, 5, 4, generator=generator)
    meter = CKAMeter(1, 1)
    for a, b in zip(x.split(64), y.split(64)):
        meter.update([a], [b], [VIT], [VIT])
    want = linear_cka(x.flatten(0, 1), y.flatten(0, 1))
    torch.testing.assert_close(meter.matrix()[0, 0], want, atol=0.02, rtol=0)


def test_tokens_are_matched_first():
    """The class token of ViM stands in the middle, the teacher's first."""
    vim = TokenLayout((2, 2), 1, 2)
    teacher = features(80).reshape(16, 5, 6)
    order = [1, 2, 0, 3, 4]
    meter = CKAMeter(1, 1)
    meter.update([teacher[:, order]], [teacher], [vim], [VIT])
    assert meter.matrix()[0, 0] == pytest.approx(1)


def test_few_tokens_are_enough():
    assert pick_layers(run(4, max_tokens=40)) == (2, 0)
