"""Serving by a CUDA graph; without a card, with the recording played."""
import sys
from unittest import mock

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from tests.toy import student_cfg
from transmamba_mm.deployment import graphed

MODULE = 'transmamba_mm.deployment.graphed'


class Pair(nn.Module):
    """Counts its calls and returns two tensors."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.))
        self.calls = []

    def forward(self, x):
        self.calls.append((self.training, torch.is_grad_enabled(),
                           torch.is_autocast_enabled(x.device.type)))
        return dict(twice=self.weight * x, same=x + 0)


class PlayedGraph:
    """Stands for a recorded graph: a replay rewrites the same outputs."""

    def __init__(self, call):
        self.call, self.outputs, self.replays = call, call(), 0

    def replay(self):
        self.replays += 1
        for key, value in self.call().items():
            self.outputs[key].copy_(value)


@pytest.fixture
def played():
    made = []

    def capture(call, warmup):
        made.append(PlayedGraph(call))
        return made[0], made[0].outputs

    module = sys.modules[MODULE]
    with mock.patch.object(module, 'capture', capture), \
            mock.patch.object(module, '_on_card', lambda _: True), \
            mock.patch.object(torch.cuda, 'device', mock.MagicMock()):
        yield made


def test_a_known_shape_is_replayed_and_others_are_not(played):
    model = Pair()
    run = graphed(model, torch.zeros(2, 3))
    x = torch.randn(2, 3)
    out = run(x)
    assert torch.equal(out['twice'], 2 * x) and played[0].replays == 1
    for other in (torch.randn(5, 3), torch.randn(2, 3).double()):
        assert torch.equal(run(other)['same'], other)
    assert played[0].replays == 1


def test_outputs_are_not_overwritten_by_the_next_call(played):
    run = graphed(Pair(), torch.zeros(2, 3))
    first = run(torch.ones(2, 3))
    run(torch.zeros(2, 3))
    assert torch.equal(first['twice'], torch.full((2, 3), 2.))


def test_the_example_is_left_alone(played):
    example = torch.zeros(2, 3)
    graphed(Pair(), example)(torch.ones(2, 3))
    assert example.sum() == 0


@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_on_a_cpu_the_model_is_run_eagerly(dtype):
    model = Pair().train()
    run = graphed(model, torch.zeros(2, 3), dtype=dtype)
    assert not model.calls
    out = run(torch.ones(2, 3))
    assert out['twice'].tolist() == [[2.] * 3] * 2
    assert not out['twice'].requires_grad
    assert model.calls == [(False, False, dtype is not None)]


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba', 'VMamba'])
def test_a_model_on_a_card(kind):
    model = MODELS.build(student_cfg(kind)).cuda().eval()
    images = torch.randn(3, 2, 3, 16, 16, device='cuda')
    run = graphed(model, images[0])
    with torch.no_grad():
        for batch in (*images, torch.randn(3, 3, 16, 16, device='cuda')):
            torch.testing.assert_close(
                run(batch), model(batch), rtol=1e-3, atol=1e-5)
