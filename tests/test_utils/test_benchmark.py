import time

import pytest
import torch
from torch import nn

from transmamba_mm.utils.benchmark import measure_speed


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
