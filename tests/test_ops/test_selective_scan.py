"""The scan's back ends against a float64 oracle, and how one is chosen."""
import subprocess
import sys
import types

import pytest
import torch

from transmamba_mm.ops import (get_scan_backend, kernels, mamba_ssm,
                               reference, selective_scan, set_scan_backend)
from transmamba_mm.ops.chunked import chunk_length


def inputs(batch=2, channels=8, length=37, d_state=4, groups=1, **changes):
    """Random float64 inputs, such as a network at its start has."""
    g = torch.Generator().manual_seed(
        batch + 10 * channels + 100 * length + d_state)

    def randn(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    args = dict(
        u=randn(batch, channels, length),
        delta=randn(batch, channels, length) - 2,
        A=-torch.rand(channels, d_state, generator=g, dtype=torch.float64) * 8,
        B=randn(batch, groups, d_state, length),
        C=randn(batch, groups, d_state, length),
        D=randn(channels),
        z=randn(batch, channels, length),
        delta_bias=randn(channels))
    return {**args, **changes}


def run(args, backend, dtype=torch.float32, grad_seed=0):
    """Output and gradients of all inputs."""
    leaves = {
        k: None if v is None else v.to(dtype).clone().requires_grad_()
        for k, v in args.items()
    }
    out = selective_scan(**leaves, delta_softplus=True, backend=backend)
    g = torch.Generator().manual_seed(grad_seed)
    out.backward(
        torch.randn(out.shape, generator=g, dtype=torch.float64).to(dtype))
    grads = {k: v.grad for k, v in leaves.items() if v is not None}
    return out.detach(), grads


def error(got, want):
    """Largest error over the largest value."""
    assert got.isfinite().all()
    scale = want.abs().max()
    difference = (got.double() - want).abs().max()
    return (difference / scale if scale > 0 else difference).item()


def compare(args, forward, backward, backend='chunked'):
    want, want_grads = run(args, 'reference', torch.float64)
    got, grads = run(args, backend)
    assert got.dtype == torch.float32
    assert error(got, want) <= forward
    for name, grad in grads.items():
        assert error(grad, want_grads[name]) <= backward, name


@pytest.mark.parametrize('sizes', [
    dict(),
    dict(length=1),
    dict(length=16),
    dict(length=130, batch=1),
    dict(d_state=1, length=70),
    dict(groups=4, length=50),
    dict(batch=1, channels=48, length=197, d_state=16),
])
def test_chunked_agrees_with_the_oracle(sizes):
    compare(inputs(**sizes), 2e-6, 1e-5)


@pytest.mark.parametrize('missing', ['D', 'z', 'delta_bias'])
def test_optional_inputs(missing):
    compare(inputs(**{missing: None}), 2e-6, 1e-5)


def test_three_dimensional_weights_are_one_group():
    args = inputs()
    flat = {**args, 'B': args['B'][:, 0], 'C': args['C'][:, 0]}
    a, grads = run(args, 'chunked')
    b, flat_grads = run(flat, 'chunked')
    assert torch.equal(a, b)
    assert torch.equal(grads['B'][:, 0], flat_grads['B'])


HARD = {
    'decay underflows': lambda a: dict(delta=a['delta'] + 60),
    'some decays underflow': lambda a: dict(
        delta=torch.where(a['u'] > 0, 300., -20.).double()),
    'steps near zero': lambda a: dict(delta=torch.full_like(a['u'], -18.)),
    'decay near one': lambda a: dict(
        A=a['A'] * 1e-4, delta=torch.full_like(a['u'], -3.)),
    'zero input': lambda a: dict(u=torch.zeros_like(a['u'])),
}


@pytest.mark.parametrize('case', HARD)
def test_hard_cases_are_as_good_as_the_float32_loop(case):
    args = inputs(batch=1, channels=4, length=1024, delta_bias=None)
    args.update(HARD[case](args))
    want, want_grads = run(args, 'reference', torch.float64)
    loop, loop_grads = run(args, 'reference')
    got, grads = run(args, 'chunked')
    assert error(got, want) <= max(2e-6, 1.5 * error(loop, want))
    for name, grad in grads.items():
        bound = 1.5 * error(loop_grads[name], want_grads[name])
        assert error(grad, want_grads[name]) <= max(1e-5, bound), name


def test_gradients_by_finite_differences():
    args = inputs(batch=1, channels=2, length=5, d_state=2)
    leaves = [v.requires_grad_() for v in args.values()]
    for backend in ('reference', 'chunked'):
        assert torch.autograd.gradcheck(
            lambda *x: selective_scan(
                *x, delta_softplus=True, backend=backend), leaves)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_state_is_float32_for_half_inputs(dtype):
    args = {
        k: v.to(dtype)
        for k, v in inputs(length=197, batch=1).items()
    }
    want, _ = run({k: v.double() for k, v in args.items()}, 'reference',
                  torch.float64)
    got, grads = run(args, 'chunked', dtype)
    assert got.dtype == dtype and grads['u'].dtype == dtype
    rounding = torch.finfo(dtype).eps
    assert error(got, want) < rounding


def test_autocast_does_not_reach_into_the_scan():
    args = {k: v.float() for k, v in inputs(length=100).items()}
    want = selective_scan(**args, delta_softplus=True, backend='chunked')
    with torch.autocast('cpu', torch.bfloat16):
        got = selective_scan(**args, delta_softplus=True, backend='chunked')
    assert torch.equal(got, want)


def test_strided_views_are_taken():
    args = inputs()
    views = {
        k: v.transpose(-1, -2).contiguous().transpose(-1, -2)
        if v is not None and v.dim() > 2 else v
        for k, v in args.items()
    }
    assert torch.equal(run(args, 'chunked')[0], run(views, 'chunked')[0])


def test_activation_checkpointing():
    args = {k: v.float().requires_grad_() for k, v in inputs().items()}

    def scan(*x):
        return selective_scan(*x, delta_softplus=True, backend='chunked')

    scan(*args.values()).sum().backward()
    want = [v.grad.clone() for v in args.values()]
    for v in args.values():
        v.grad = None
    torch.utils.checkpoint.checkpoint(
        scan, *args.values(), use_reentrant=False).sum().backward()
    for v, w in zip(args.values(), want):
        assert torch.equal(v.grad, w)


def test_last_state_continues_a_sequence():
    """Decayed last state plus nothing new is what later tokens read."""
    args = inputs(length=40, z=None, D=None)
    out, state = selective_scan(
        **args, delta_softplus=True, return_last_state=True,
        backend='chunked')
    want, oracle = selective_scan(
        **args, delta_softplus=True, return_last_state=True,
        backend='reference')
    assert error(state, oracle) < 1e-12
    read = (oracle * args['C'][:, :, :, -1]).sum(-1)
    torch.testing.assert_close(read, want[..., -1])
    assert not state.requires_grad


@pytest.mark.parametrize('name, shape', [
    ('delta', (2, 8, 36)),
    ('A', (7, 4)),
    ('B', (2, 1, 5, 37)),
    ('C', (2, 1, 4, 1)),
    ('z', (1, 8, 37)),
])
def test_wrong_shapes_are_named(name, shape):
    with pytest.raises(ValueError, match=f'selective_scan: {name} has'):
        selective_scan(**inputs(**{name: torch.zeros(shape)}))


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match='8 channels .* 3 groups'):
        selective_scan(**inputs(groups=3))


@pytest.fixture
def choice(monkeypatch):
    monkeypatch.delenv('TRANSMAMBA_SCAN_BACKEND', raising=False)
    yield monkeypatch
    set_scan_backend(None)
    kernels.load_extension.cache_clear()


def test_back_end_is_chosen_and_can_be_forced(choice):
    u = torch.zeros(1)
    assert get_scan_backend(u) == 'chunked'
    choice.setenv('TRANSMAMBA_SCAN_BACKEND', 'reference')
    assert get_scan_backend(u) == 'reference'
    set_scan_backend('chunked')
    assert get_scan_backend(u) == 'chunked'


def test_unknown_back_ends_are_refused(choice):
    with pytest.raises(ValueError, match="'fast'.*chunked"):
        set_scan_backend('fast')
    with pytest.raises(ValueError, match='the argument `backend`'):
        selective_scan(**inputs(), backend='fast')
    choice.setenv('TRANSMAMBA_SCAN_BACKEND', 'fast')
    with pytest.raises(ValueError, match='TRANSMAMBA_SCAN_BACKEND'):
        get_scan_backend(torch.zeros(1))


def test_back_end_is_reported_once():
    code = ('import torch, transmamba_mm\n'
            'from mmengine.logging import MMLogger\n'
            'MMLogger.get_instance("x")\n'
            'from transmamba_mm.ops import selective_scan\n'
            'x = torch.ones(1, 2, 3)\n'
            'for _ in range(3):\n'
            '    selective_scan(x, x, -torch.ones(2, 1), x[:, :1], x[:, :1])')
    text = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True,
                          check=True).stdout
    assert text.count("back end 'chunked' on cpu") == 1


@pytest.mark.parametrize('failure', [
    ImportError("No module named 'selective_scan_cuda'"),
    ImportError('undefined symbol: _ZN3c105ErrorC2E'),
    OSError('libcudart.so.13: cannot open shared object file'),
    types.ModuleType('selective_scan_cuda'),
])
def test_broken_extension_gives_one_warning_with_the_fix(
        choice, failure):

    def load(name):
        if isinstance(failure, Exception):
            raise failure
        return failure

    choice.setattr(kernels, 'import_module', load)
    kernels.load_extension.cache_clear()
    lines = []
    choice.setattr(kernels, 'print_log',
                   lambda text, **kwargs: lines.append((text, kwargs)))
    for _ in range(3):
        assert mamba_ssm._extension() is None
    assert len(lines) == 1
    assert 'MAMBA_KEEP_CUDA_BUILD=TRUE pip install' in lines[0][0]


def fake_extension():
    """What ``selective_scan_cuda`` computes, by the reference scan."""
    module = types.ModuleType('selective_scan_cuda')

    def fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
        for t in (u, delta, B, C):
            assert t.stride(-1) == 1 and t.dtype == u.dtype
        assert A.dtype == torch.float32 and B.dim() == 4
        y, last = reference.scan(u, delta, A, B, C, D, None, delta_bias,
                                 delta_softplus)
        states = torch.zeros(*u.shape[:2], 1, 2 * A.shape[1])
        states[:, :, -1, 1::2] = last
        gated = [] if z is None else [y * torch.nn.functional.silu(z)]
        return y, states, *gated

    def bwd(u, delta, A, B, C, D, z, delta_bias, dout, states, out, dz,
            delta_softplus, recompute):
        leaves = [
            None if t is None else t.detach().requires_grad_()
            for t in (u, delta, A, B, C, D, z, delta_bias)
        ]
        with torch.enable_grad():
            y, _ = reference.scan(*leaves, delta_softplus)
        grads = iter(
            torch.autograd.grad(y, [t for t in leaves if t is not None],
                                dout))
        grads = [None if t is None else next(grads) for t in leaves]
        du, dd, dA, dB, dC, dD, dz, dbias = grads
        return du, dd, dA, dB, dC, dD, dbias, *([] if z is None else [dz])

    module.fwd, module.bwd = fwd, bwd
    return module


@pytest.mark.parametrize('missing', [None, 'D', 'z', 'delta_bias'])
def test_mamba_ssm_back_end_passes_its_arguments_right(choice, missing):
    choice.setattr(mamba_ssm, '_extension', fake_extension)
    args = inputs(groups=2)
    if missing:
        args[missing] = None
    compare(args, 2e-6, 1e-5, backend='mamba_ssm')


def test_mamba_ssm_back_end_is_for_cuda_only(choice):
    choice.setattr(mamba_ssm, '_extension', fake_extension)
    assert not mamba_ssm.is_available(torch.zeros(1))


@pytest.mark.parametrize('sizes, want', [
    ((8, 384, 16), 16),
    ((1, 16, 1), 64),
    ((4, 256, 16), 32),
])
def test_chunk_length(sizes, want):
    assert chunk_length(*sizes) == want
