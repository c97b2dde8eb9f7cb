import time

import pytest
import torch
from torch import nn

from transmamba_mm.utils.benchmark import measure_speed, time_calls


class Sleeper(nn.Module):
    """Takes 20 ms, but long for the first calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append((x.shape, self.training, torch.is_grad_enabled(),
                           torch.is_autocast_enabled('cpu')))
        time.sleep(0.3 if len(self.calls) <= 2 else 0.02)


def test_median_is_taken_after_the_warm_up():
    model = Sleeper()
    result = measure_speed(model, (4, 3, 8, 8), warmup=2, repeats=5)
    assert model.calls == [((4, 3, 8, 8), False, False, False)] * 7
    assert 20 <= result['latency_ms'] < 150
    assert result['images_per_s'] == pytest.approx(4e3 / result['latency_ms'])
    assert result['peak_mib'] == 0


def test_lower_precision_is_autocast():
    model = Sleeper()
    measure_speed(
        model, (1, 3, 8, 8), dtype=torch.bfloat16, warmup=2, repeats=2)
    assert [call[3] for call in model.calls] == [True] * 4


class Learner(nn.Module):
    """Tells, in each call, its mode and whether it holds gradients."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.calls, self.grads = [], []
        self.weight.register_hook(self.grads.append)

    def forward(self, x):
        self.calls.append((self.training, self.weight.grad is None))
        return x, x.mean((2, 3)) * self.weight


def test_a_training_step_goes_forward_and_backward():
    model = Learner()
    measure_speed(model, (2, 3, 8, 8), warmup=1, repeats=3, train=True)
    assert model.calls == [(True, True)] * 4
    assert len(model.grads) == 4 and all(g.any() for g in model.grads)
    measure_speed(model, (2, 3, 8, 8), warmup=1, repeats=2)
    assert not model.training and len(model.grads) == 4


def test_slow_calls_are_repeated_less_often():
    calls = []

    def call():
        calls.append(1)
        time.sleep(0.05)

    assert len(time_calls(call, 2, 20, False, max_seconds=0.25)) in (3, 4, 5)
    assert len(time_calls(call, 1, 4, False, max_seconds=10)) == 4
    assert len(time_calls(call, 1, 20, False, max_seconds=1e-9)) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a card')
def test_no_graph_without_a_card():
    with pytest.raises(RuntimeError, match='needs a CUDA device'):
        measure_speed(Learner(), (2, 3, 8, 8), cuda_graph=True)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('train', [False, True])
def test_a_graph_on_a_card(train):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    result = measure_speed(
        model, (2, 3, 8, 8),
        'cuda',
        torch.bfloat16,
        train=train,
        cuda_graph=True)
    assert result['latency_ms'] > 0 and result['peak_mib'] > 0
    assert all(p.grad is None for p in model.parameters())
