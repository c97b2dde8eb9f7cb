"""On a CUDA card: back ends against the oracle, models against the CPU."""
import copy

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import student_cfg
from transmamba_mm.ops import mamba_ssm, selective_scan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason='needs a CUDA device')
]

BACKENDS = ['mamba_ssm', 'chunked']


def inputs(dtype, batch=4, channels=64, length=197, states=16, groups=2):
    g = torch.Generator().manual_seed(torch.seed() % 2**31)

    def randn(*shape, dtype=dtype):
        return torch.randn(*shape, generator=g).to('cuda', dtype)

    return [
        randn(batch, channels, length),
        randn(batch, channels, length) - 3,
        -randn(channels, states, dtype=torch.float32).abs() * 4 - 0.1,
        randn(batch, groups, states, length),
        randn(batch, groups, states, length),
        randn(channels, dtype=torch.float32),
        randn(batch, channels, length),
        randn(channels, dtype=torch.float32)
    ]


def run(args, backend, dtype=None):
    leaves = [(t if dtype is None else t.to(dtype)).clone().requires_grad_()
              for t in args]
    out = selective_scan(*leaves, delta_softplus=True, backend=backend)
    out.backward(torch.ones_like(out))
    return [out.detach()] + [t.grad for t in leaves]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == 'mamba_ssm':
        if reason := mamba_ssm.why_not(torch.device('cuda')):
            pytest.skip(reason)
    return request.param


@pytest.mark.parametrize('dtype, forward, backward', [
    (torch.float32, 2e-6, 1e-4),
    (torch.bfloat16, 3e-3, 1e-2),
])
def test_back_end_agrees_with_float64(backend, dtype, forward, backward):
    args = inputs(dtype)
    want = run(args, 'reference', torch.float64)
    got = run(args, backend)
    for i, (a, b) in enumerate(zip(got, want)):
        assert a.isfinite().all()
        difference = ((a.double() - b).norm() / b.norm()).item()
        assert difference < (backward if i else forward), i


@pytest.mark.parametrize('kind', ['PlainMamba', 'VisionMamba'])
def test_model_agrees_with_the_cpu(backend, kind, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    torch.manual_seed(0)
    model = MODELS.build(student_cfg(kind))
    model.init_weights()
    images = torch.randn(4, 3, 16, 16)
    grads = []
    for device in ('cpu', 'cuda'):
        if device == 'cuda':
            monkeypatch.setenv('TRANSMAMBA_SCAN_BACKEND', backend)
        net = copy.deepcopy(model).to(device)
        out = net(images.to(device))
        out.square().sum().backward()
        grads.append([out.detach().cpu()] +
                     [p.grad.cpu() for p in net.parameters()])
    for a, b in zip(*grads):
        assert (a - b).norm() <= 1e-3 * a.norm() + 1e-6
