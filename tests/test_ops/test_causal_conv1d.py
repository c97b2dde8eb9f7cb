import sys
import types
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from transmamba_mm.ops import causal_conv1d, kernels

convolution = import_module('transmamba_mm.ops.causal_conv1d')


def make(batch=2, channels=5, length=9, width=4, dtype=torch.float64):
    torch.manual_seed(length)
    return [
        torch.randn(*shape, dtype=dtype).requires_grad_()
        for shape in ((batch, channels, length), (channels, width),
                      (channels, ))
    ]


def by_hand(x, weight, bias, activation='silu', reverse=False):
    """torch's convolution on padded tokens."""
    x = x.flip(-1) if reverse else x
    y = F.conv1d(
        F.pad(x, (weight.shape[1] - 1, 0)),
        weight.unsqueeze(1),
        bias,
        groups=len(weight))
    y = F.silu(y) if activation else y
    return y.flip(-1) if reverse else y


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize('length, width', [(9, 4), (2, 4), (1, 4), (5, 1),
                                           (3, 3), (12, 7)])
@pytest.mark.parametrize('activation', ['silu', None])
def test_output_and_gradients(length, width, reverse, activation):
    inputs = make(length=length, width=width)
    want = by_hand(*inputs, activation, reverse)
    got = causal_conv1d(*inputs, activation, reverse)
    assert torch.allclose(got, want)
    dout = torch.randn_like(want)
    for a, b in zip(
            torch.autograd.grad(got, inputs, dout),
            torch.autograd.grad(want, inputs, dout)):
        assert torch.allclose(a, b)


def test_no_bias():
    x, weight, _ = make()
    got = causal_conv1d(x, weight)
    assert torch.allclose(got, by_hand(x, weight, None))
    got.sum().backward()
    assert x.grad is not None and weight.grad is not None


def test_gradcheck():
    assert torch.autograd.gradcheck(causal_conv1d, make(batch=1, channels=2))


def test_token_major_input_and_output():
    x, weight, bias = make()
    view = x.detach().mT.contiguous().mT.requires_grad_()
    got = causal_conv1d(view, weight, bias)
    assert torch.allclose(got, by_hand(x, weight, bias))
    # what the projections and the scan that follow read without a copy
    assert got.mT.is_contiguous()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x, weight, bias = (t.detach().to(dtype) for t in make())
    x.requires_grad_()
    want = by_hand(*(t.double() for t in (x, weight, bias)))
    got = causal_conv1d(x, weight.float(), bias.float())
    assert got.dtype == dtype
    rounding = want.abs().max() * torch.finfo(dtype).eps
    assert (got - want).abs().max() <= rounding
    got.sum().backward()
    assert x.grad.dtype == dtype


def test_only_needed_gradients():
    x, weight, bias = make()
    weight.requires_grad_(False)
    causal_conv1d(x, weight, bias).sum().backward()
    assert weight.grad is None
    assert x.grad is not None and bias.grad is not None


def test_second_derivative_is_refused():
    x, weight, bias = make()
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(
            causal_conv1d(x, weight, bias).sum(), x, create_graph=True)


def test_bad_arguments():
    x, weight, bias = make()
    with pytest.raises(ValueError, match="activation='relu'"):
        causal_conv1d(x, weight, bias, activation='relu')
    with pytest.raises(ValueError, match=r'got \(2, 5, 9\), \(4, 4\)'):
        causal_conv1d(x, weight[1:], bias)


@pytest.fixture
def card(monkeypatch):
    """Let CPU tensors pass for CUDA tensors, and forget earlier probes."""

    def forget():
        kernels.load_extension.cache_clear()
        convolution._package.cache_clear()

    monkeypatch.setattr(convolution, '_is_cuda', lambda x: True)
    forget()
    yield monkeypatch
    forget()


def install(card, function):
    module = types.ModuleType('causal_conv1d')
    module.causal_conv1d_fn = function
    card.setitem(sys.modules, 'causal_conv1d', module)


@pytest.mark.parametrize('reverse', [False, True])
def test_package_is_used_on_a_card(card, reverse):
    calls = []

    def causal_conv1d_fn(x, weight, bias=None, seq_idx=None, activation=None):
        assert x.is_contiguous()
        calls.append(x.shape)
        return by_hand(x, weight, bias, activation)

    install(card, causal_conv1d_fn)
    inputs = make(dtype=torch.float32)
    got = causal_conv1d(*inputs, reverse=reverse)
    assert torch.allclose(got, by_hand(*inputs, reverse=reverse))
    assert calls[-1] == (2, 5, 9)
    calls.clear()
    causal_conv1d(*make(width=7, dtype=torch.float32))
    causal_conv1d(*make(dtype=torch.float64))
    assert not calls  # beyond what the package supports


def old_arguments(x, weight, bias, activation):
    raise TypeError('causal_conv1d_fwd(): incompatible function arguments')


def other_card(*args, **kwargs):
    raise RuntimeError('no kernel image is available for execution')


@pytest.mark.parametrize('function', [None, old_arguments, other_card])
def test_broken_package_gives_one_warning(card, function):
    lines = []
    card.setattr(kernels, 'print_log',
                 lambda text, **kwargs: lines.append(text))
    if function:
        install(card, function)
    else:
        card.setitem(sys.modules, 'causal_conv1d', None)  # ImportError
    inputs = make(dtype=torch.float32)
    for _ in range(3):
        assert torch.allclose(
            causal_conv1d(*inputs), by_hand(*inputs), atol=1e-6)
    assert len(lines) == 1
    assert 'MAMBA_KEEP_CUDA_BUILD=TRUE pip install' in lines[0]
