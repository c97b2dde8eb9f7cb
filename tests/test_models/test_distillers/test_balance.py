"""The distillation is weighed by itself."""
import pytest
import torch

from transmamba_mm.models import GradNormBalance, UncertaintyBalance
from transmamba_mm.models.distillers.balance import build_balance


def losses(scale=1.):
    x = torch.ones(3, requires_grad=True)
    shared = 2 * x
    terms = dict(
        loss_feat=scale * 6 * shared[0],
        loss_logit=scale * 8 * shared[1],
        cos=torch.tensor(0.5))
    return 5 * shared[2], terms, x, shared


def pull(loss, x):
    return torch.autograd.grad(loss, x, retain_graph=True)[0].norm()


@pytest.mark.parametrize('progress', [1., 0.25])
@pytest.mark.parametrize('scale', [1., 1e-4, 1e4])
def test_gradients_get_the_ratio(scale, progress):
    balance = GradNormBalance(ratio=0.5)
    task, terms, x, shared = losses(scale * progress)
    same, scaled = balance(task, terms, progress, [shared])
    assert same is task and scaled['cos'] == 0.5
    total = scaled['loss_feat'] + scaled['loss_logit']
    torch.testing.assert_close(pull(total, x), 0.5 * progress * pull(task, x))
    # the parts keep their ratio
    torch.testing.assert_close(scaled['loss_logit'] / scaled['loss_feat'],
                               torch.tensor(8 / 6))
    assert x.grad is None


def test_factor_is_smooth_and_kept_in_the_state():
    balance = GradNormBalance(momentum=0.5)
    task, terms, _, shared = losses()
    first = balance(task, terms, 1., [shared])[1]['balance_factor']
    task, terms, _, shared = losses(1 / 16)
    second = balance(task, terms, 1., [shared])[1]['balance_factor']
    torch.testing.assert_close(second, 4 * first)
    third = balance(task, terms, 1., [])[1]['balance_factor']
    torch.testing.assert_close(second, third)
    again = GradNormBalance(momentum=0.5)
    again.load_state_dict(balance.state_dict())
    assert again(task, terms, 1., [])[1]['balance_factor'] == second


@pytest.mark.parametrize('bad', [0., float('nan'), float('inf')])
def test_a_useless_measurement_changes_nothing(bad):
    balance = GradNormBalance()
    task, terms, _, shared = losses()
    good = balance(task, terms, 1., [shared])[1]['balance_factor']
    task, terms, _, shared = losses()
    terms = dict(loss_feat=terms['loss_feat'] * bad)
    factor = balance(task, terms, 1., [shared])[1]['balance_factor']
    assert factor == good


def test_without_a_measurement_nothing_is_scaled():
    task, terms, _, _ = losses()
    scaled = GradNormBalance()(task, terms, 1., [])[1]
    assert scaled['loss_feat'] == terms['loss_feat']


def test_it_is_due_every_so_often():
    balance = GradNormBalance(interval=3)
    assert [balance.is_due(i) for i in range(7)] == [1, 0, 0, 1, 0, 0, 1]


def test_uncertainty_starts_neutral_and_finds_the_optimum():
    """At the optimum exp(-s) = 1 / (2 L), so that each loss counts 1/2."""
    balance = UncertaintyBalance(with_logits=True)
    terms = dict(
        loss_forward=torch.tensor(0.2),
        loss_backward=torch.tensor(0.3),
        loss_logit=torch.tensor(2.),
        cos_mean=torch.tensor(0.9))
    task, scaled = balance(torch.tensor(4.), terms, 1., ())
    assert task == 4 and scaled['loss_logit'] == 2
    assert scaled['loss_balance'] == 0
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(300):
        task, scaled = balance(torch.tensor(4.), terms, 1., ())
        total = task + sum(v for k, v in scaled.items() if 'loss' in k)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    parts = [
        task, scaled['loss_forward'] + scaled['loss_backward'],
        scaled['loss_logit']
    ]
    torch.testing.assert_close(
        torch.stack(parts), torch.full((3, ), 0.5), atol=1e-3, rtol=0)
    assert scaled['balance_task'] == pytest.approx(1 / 8, abs=1e-3)
    assert scaled['cos_mean'] == 0.9


def test_a_vanishing_loss_has_a_bounded_weight():
    balance = UncertaintyBalance(False, limit=1.)
    with torch.no_grad():
        balance.log_variances.fill_(-9)
    _, scaled = balance(
        torch.tensor(0.), dict(loss_feat=torch.tensor(1.)), 1., ())
    assert scaled['loss_feat'].item() == pytest.approx(2.71828, rel=1e-4)


@pytest.mark.parametrize('balance, message', [
    ('gradnorm', "'gradnorm' is unknown"),
    (dict(ratio=1), "'None' is unknown"),
    (dict(kind='grad_norm', rate=1), 'does not take'),
    (dict(kind='grad_norm', ratio=0), 'ratio=0'),
    (dict(kind='uncertainty', limit=0), 'limit'),
    (dict(kind='constant', ratio=1), 'no arguments'),
])
def test_wrong_balances(balance, message):
    with pytest.raises(ValueError, match=message):
        build_balance(balance, False)
