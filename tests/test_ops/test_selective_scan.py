import math
from importlib import import_module

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from transmamba_mm.ops import (chunked, get_scan_backend, mamba_ssm,
                               selective_scan, set_scan_backend, triton_scan)
from .utils import NAMES, cast, make_inputs, relative, run

interface = import_module('transmamba_mm.ops.selective_scan')


def plain_python_scan(inputs, groups):
    """The recurrence on Python floats, as the paper writes it."""
    u, delta, A, B, C, D, z, bias = (inputs[k].tolist() for k in NAMES)
    batch, channels, length = inputs['u'].shape
    out = torch.zeros(batch, channels, length, dtype=torch.float64)
    for b in range(batch):
        for e in range(channels):
            g = e // (channels // groups)
            h = [0.] * len(A[e])
            for t in range(length):
                d = math.log1p(math.exp(delta[b][e][t] + bias[e]))
                for n, a in enumerate(A[e]):
                    x = d * B[b][g][n][t] * u[b][e][t]
                    h[n] = math.exp(d * a) * h[n] + x
                y = sum(h[n] * C[b][g][n][t] for n in range(len(h)))
                y += D[e] * u[b][e][t]
                gate = z[b][e][t] / (1 + math.exp(-z[b][e][t]))
                out[b, e, t] = y * gate
    return out


def hard_case(name):
    """Inputs at which careless forms of the scan break down."""
    inputs = make_inputs(batch=1, channels=4, d_state=4, length=197, seed=3)
    if name == 'underflow':  # d * |A| up to hundreds
        inputs['delta_bias'] += 12.
        inputs['A'] *= 10.
    elif name == 'mixed underflow and tiny steps':
        inputs['delta'][..., ::3] = 300.
        inputs['delta'][..., 1::3] = -30.
        inputs['A'] *= 10.
    elif name == 'tiny steps':
        inputs['delta_bias'] -= 16.
    elif name == 'decay near 1':
        inputs['A'] *= 1e-6
    elif name == 'softplus threshold':  # linear above 20
        inputs['delta'] += 22.
        inputs['A'] *= 1e-2
    elif name == 'all zero':
        inputs = {k: torch.zeros_like(t) for k, t in inputs.items()}
        inputs['A'] -= 1
    return inputs


@pytest.mark.parametrize('groups', (1, 2))
def test_reference_follows_the_recurrence(groups):
    inputs = make_inputs(batch=1, channels=4, length=9, groups=groups)
    got = selective_scan(**inputs, delta_softplus=True, backend='reference')
    want = plain_python_scan(inputs, groups)
    assert torch.allclose(got, want, rtol=1e-12, atol=1e-12)


def test_worked_example():
    one = torch.ones(1, 1, 2)
    for backend in ('reference', 'chunked'):
        y, last = selective_scan(
            one,
            one,
            -torch.ones(1, 1),
            one,
            one,
            torch.tensor([10.]),
            return_last_state=True,
            backend=backend)
        want = torch.tensor([[[11., 11. + math.exp(-1)]]])
        assert torch.allclose(y, want)
        assert torch.allclose(last, want[..., 1:] - 10)


@pytest.mark.parametrize('groups, length, d_state', [(1, 1, 3), (1, 64, 1),
                                                     (3, 65, 4), (2, 130, 1),
                                                     (6, 17, 5)])
def test_chunked_in_float64(groups, length, d_state):
    inputs = make_inputs(length=length, groups=groups, d_state=d_state)
    want, want_grads = run(cast(inputs, torch.float64), 'reference')
    got, grads = run(cast(inputs, torch.float64), 'chunked')
    assert relative(got, want) < 1e-13
    for name in NAMES:
        assert relative(grads[name], want_grads[name]) < 1e-12, name


@pytest.mark.parametrize('case', [
    'ordinary', 'underflow', 'mixed underflow and tiny steps', 'tiny steps',
    'decay near 1', 'softplus threshold', 'all zero'
])
def test_chunked_in_float32_on_hard_cases(case):
    inputs = hard_case(case)
    want, want_grads = run(cast(inputs, torch.float64), 'reference')
    got, grads = run(cast(inputs, torch.float32), 'chunked')
    assert relative(got, want) <= 2e-6
    for name in NAMES:
        assert torch.isfinite(grads[name]).all(), name
        assert relative(grads[name], want_grads[name]) <= 1e-5, name


@pytest.mark.parametrize('case', ['decay near 1', 'tiny steps'])
def test_chunked_in_float32_on_4096_steps(case):
    inputs = make_inputs(batch=1, channels=4, d_state=4, length=4096)
    if case == 'tiny steps':
        inputs['delta_bias'] -= 16.
    else:
        inputs['A'] *= 1e-3
    want, want_grads = run(cast(inputs, torch.float64), 'reference')
    loop, loop_grads = run(cast(inputs, torch.float32), 'reference')
    got, grads = run(cast(inputs, torch.float32), 'chunked')
    assert relative(got, want) <= max(2e-6, 1.5 * relative(loop, want))
    for name in NAMES:
        allowed = max(1e-5, 1.5 * relative(loop_grads[name], want_grads[name]))
        assert relative(grads[name], want_grads[name]) <= allowed, name


def test_chunked_in_several_blocks_of_the_batch(monkeypatch):
    monkeypatch.setattr(chunked, 'CACHE_ELEMENTS', 2 * 6 * 3 * 16)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    assert chunked.chunk_sizes(5, 6, 3, torch.device('cpu')) == (2, 16)
    inputs = make_inputs(batch=5, groups=2, length=35)
    want, want_grads = run(cast(inputs, torch.float64), 'reference')
    got, grads = run(cast(inputs, torch.float64), 'chunked')
    assert relative(got, want) < 1e-13
    for name in NAMES:
        assert relative(grads[name], want_grads[name]) < 1e-12, name


def test_threads_may_change_before_the_backward(monkeypatch):
    monkeypatch.setattr(chunked, 'CACHE_ELEMENTS', 2 * 6 * 3 * 16)
    inputs = cast(make_inputs(batch=5, length=70), torch.float64)
    _, want = run(inputs, 'reference')
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    out = selective_scan(**inputs, delta_softplus=True, backend='chunked')
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 4)
    dout = torch.arange(out.numel(), dtype=torch.float64).cos()
    grads = torch.autograd.grad(out, inputs.values(), dout.view(out.shape))
    for name, grad in zip(NAMES, grads):
        assert relative(grad, want[name]) < 1e-12, name


@pytest.mark.parametrize('softplus', (True, False))
def test_optional_inputs(softplus):
    inputs = make_inputs(length=20)
    inputs['delta'] = inputs['delta'].abs()
    for kept in ((), ('D', ), ('z', ), ('delta_bias', )):
        few = {
            k: t.abs() if k == 'delta_bias' else t
            for k, t in inputs.items()
            if k in ('u', 'delta', 'A', 'B', 'C', *kept)
        }
        want, want_grads = run(
            cast(few, torch.float64), 'reference', softplus=softplus)
        got, grads = run(
            cast(few, torch.float64), 'chunked', softplus=softplus)
        assert relative(got, want) < 1e-13
        for name in few:
            assert relative(grads[name], want_grads[name]) < 1e-12, name


def test_gradcheck_of_chunked():
    inputs = cast(
        make_inputs(batch=1, channels=2, d_state=2, length=4), torch.float64)

    def call(*tensors):
        return selective_scan(*tensors, delta_softplus=True, backend='chunked')

    assert torch.autograd.gradcheck(call, tuple(inputs.values()))


@pytest.mark.parametrize('name', NAMES)
def test_gradient_only_where_needed(name):
    inputs = cast(make_inputs(), torch.float64)
    _, every = run(inputs, 'chunked')
    for other in NAMES:
        inputs[other].requires_grad_(other == name)
    _, grads = run(inputs, 'chunked')
    assert torch.allclose(grads[name], every[name])


def test_no_graph_without_gradients():
    inputs = make_inputs()
    assert not selective_scan(**inputs, backend='chunked').requires_grad
    wanted = cast(inputs, torch.float64)
    with torch.no_grad():
        assert not selective_scan(**wanted, backend='chunked').requires_grad


def test_second_derivative_is_refused():
    inputs = cast(make_inputs(), torch.float64)
    out = selective_scan(**inputs, backend='chunked')
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(out.sum(), inputs['u'], create_graph=True)


@pytest.mark.parametrize('backend', ('reference', 'chunked'))
@pytest.mark.parametrize('dtype', (torch.bfloat16, torch.float16))
def test_half_precision_inputs(backend, dtype):
    inputs = make_inputs(length=70)
    half = ('u', 'delta', 'B', 'C', 'z')
    given = cast({k: t.float() for k, t in inputs.items()}, dtype, half)
    exact = cast({
        k: t.detach().double()
        for k, t in given.items()
    }, torch.float64)
    want, want_grads = run(exact, 'reference')
    got, grads = run(given, backend)
    # computed in float32: only the last rounding shows
    rounding = torch.finfo(dtype).eps
    assert got.dtype == dtype
    assert relative(got, want) <= rounding
    for name in NAMES:
        assert grads[name].dtype == given[name].dtype, name
        assert relative(grads[name], want_grads[name]) <= 2 * rounding, name


@pytest.mark.parametrize('backend', ('reference', 'chunked'))
def test_autocast_does_not_touch_the_scan(backend):
    inputs = make_inputs(length=70)
    want, want_grads = run(cast(inputs, torch.float32), backend)
    with torch.autocast('cpu', torch.bfloat16):
        got, grads = run(cast(inputs, torch.float32), backend)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)
    for name in NAMES:
        assert torch.equal(grads[name], want_grads[name]), name


def test_activation_checkpointing():
    inputs = cast(make_inputs(), torch.float64)
    want, want_grads = run(inputs, 'chunked')
    out = checkpoint(
        lambda *x: selective_scan(*x, delta_softplus=True, backend='chunked'),
        *inputs.values(),
        use_reentrant=False)
    dout = torch.arange(out.numel(), dtype=torch.float64).cos()
    grads = torch.autograd.grad(out, inputs.values(), dout.view(out.shape))
    assert torch.equal(out, want)
    for name, grad in zip(NAMES, grads):
        assert torch.equal(grad, want_grads[name]), name


def test_strided_inputs():
    inputs = make_inputs(length=20, groups=2)
    want, want_grads = run(cast(inputs, torch.float64), 'chunked')
    views = {
        k: t.mT.contiguous().mT if t.dim() > 1 else t.repeat_interleave(2)[::2]
        for k, t in inputs.items()
    }
    assert not any(t.is_contiguous() for t in views.values())
    out, grads = run({
        k: t.requires_grad_()
        for k, t in views.items()
    }, 'chunked')
    assert torch.allclose(out, want)
    for name in NAMES:
        assert torch.allclose(grads[name], want_grads[name]), name


def test_expanded_inputs():
    inputs = make_inputs()
    for name in ('u', 'delta', 'z'):
        inputs[name] = inputs[name][:, :1].expand(-1, 6, -1)
    want, _ = run(cast(inputs, torch.float64), 'reference')
    out = selective_scan(**inputs, delta_softplus=True, backend='chunked')
    assert torch.allclose(out, want)


@pytest.mark.parametrize('length', (1, 64, 70))
def test_last_state(length):
    inputs = cast(make_inputs(length=length, groups=2), torch.float32)
    kwargs = dict(delta_softplus=True, return_last_state=True)
    _, want = selective_scan(**inputs, **kwargs, backend='reference')
    out, last = selective_scan(**inputs, **kwargs, backend='chunked')
    assert last.shape == (2, 6, 3)
    assert last.dtype == torch.float32
    assert relative(last, want.double()) < 1e-5
    assert out.requires_grad
    assert not last.requires_grad and not want.requires_grad


@pytest.mark.parametrize('name, shape', [('delta', (2, 6, 36)), ('A', (5, 3)),
                                         ('B', (2, 1, 4, 37)),
                                         ('C', (1, 1, 3, 37)), ('D', (1, )),
                                         ('z', (2, 5, 37)),
                                         ('delta_bias', (6, 1))])
def test_wrong_shape_is_named(name, shape):
    inputs = make_inputs()
    inputs[name] = torch.zeros(shape, dtype=torch.float64)
    name = 'bias' if name == 'delta_bias' else name
    with pytest.raises(ValueError, match=f'selective_scan: {name} has the'):
        selective_scan(**inputs)


def test_bad_inputs():
    inputs = make_inputs()
    with pytest.raises(ValueError, match='6 channels of u cannot be cut'):
        selective_scan(**{
            **inputs,
            **make_inputs(channels=4, groups=4), 'u': inputs['u']
        })
    with pytest.raises(ValueError, match='no time steps'):
        selective_scan(**make_inputs(length=0))
    with pytest.raises(ValueError, match='u has the shape'):
        selective_scan(**{**inputs, 'u': inputs['u'][0]})
    with pytest.raises(TypeError, match='A is torch.complex128'):
        selective_scan(**{**inputs, 'A': inputs['A'] + 0j})
    with pytest.raises(ValueError, match='B is on meta'):
        selective_scan(**{**inputs, 'B': inputs['B'].to('meta')})


@pytest.fixture
def used(monkeypatch):
    """The names of the back ends called so far."""
    names = []
    for name, function in list(interface.BACKENDS.items()):
        monkeypatch.setitem(
            interface.BACKENDS,
            name,
            lambda *args, _name=name, _run=function: names.append(_name) or
            _run(*args))
    return names


def test_backend_on_a_cpu(used):
    assert get_scan_backend() == 'chunked'
    selective_scan(**make_inputs())
    assert used == ['chunked']


def test_next_backend_where_kernels_are_missing(monkeypatch):
    card = torch.device('cuda')
    monkeypatch.setattr(mamba_ssm, '_extension', lambda device: None)
    monkeypatch.setattr(triton_scan, 'kernels', lambda: object())
    assert get_scan_backend(card) == 'triton'
    monkeypatch.setattr(triton_scan, 'kernels', lambda: None)
    assert get_scan_backend(card) == 'chunked'
    monkeypatch.setattr(mamba_ssm, '_extension', lambda device: object())
    assert get_scan_backend(card) == 'mamba_ssm'


def test_forced_backend(monkeypatch, used):
    monkeypatch.setenv('TRANSMAMBA_SCAN_BACKEND', 'reference')
    assert get_scan_backend(torch.zeros(1)) == 'reference'
    selective_scan(**make_inputs())
    assert set_scan_backend('chunked') is None
    assert get_scan_backend('cpu') == 'chunked'
    selective_scan(**make_inputs(), backend='reference')
    assert used == ['reference', 'chunked']
    assert set_scan_backend(None) == 'chunked'
    assert get_scan_backend() == 'reference'
    # the environment comes before the call's own wish
    selective_scan(**make_inputs(), backend='chunked')
    monkeypatch.delenv('TRANSMAMBA_SCAN_BACKEND')
    selective_scan(**make_inputs(), backend='reference')
    assert used[2:] == ['reference', 'reference']


def test_unknown_backend(monkeypatch):
    names = r"\['chunked', 'mamba_ssm', 'reference', 'triton'\]"
    with pytest.raises(ValueError, match=f"'cuda' .*{names}"):
        selective_scan(**make_inputs(), backend='cuda')
    with pytest.raises(ValueError, match=f"'cuda' .*{names}"):
        set_scan_backend('cuda')
    monkeypatch.setenv('TRANSMAMBA_SCAN_BACKEND', 'cuda')
    with pytest.raises(ValueError, match='TRANSMAMBA_SCAN_BACKEND'):
        selective_scan(**make_inputs())


def test_forced_mamba_ssm_needs_a_card():
    set_scan_backend('mamba_ssm')
    with pytest.raises(RuntimeError, match='forced, but it needs CUDA'):
        selective_scan(**make_inputs())


def test_backend_is_reported_once(monkeypatch):
    lines = []
    monkeypatch.setattr(interface, 'print_log',
                        lambda line, **kwargs: lines.append(line))
    interface._report.cache_clear()
    for _ in range(3):
        selective_scan(**make_inputs())
    assert lines == ["Selective scan: back end 'chunked' on cpu."]
