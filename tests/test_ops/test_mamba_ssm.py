"""The mamba-ssm back end on a stand-in for its CUDA extension."""
import runpy
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from transmamba_mm.ops import (get_scan_backend, kernels, mamba_ssm,
                               selective_scan)
from .utils import NAMES, cast, make_inputs, relative, run

INSTALL = ('MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation '
           'mamba-ssm causal-conv1d')


@pytest.fixture
def card(monkeypatch):
    """Let CPU tensors pass for CUDA tensors, and forget earlier probes."""
    monkeypatch.setattr(mamba_ssm, '_is_cuda', lambda device: True)
    for cached in (kernels.load_extension, mamba_ssm._extension):
        cached.cache_clear()
    yield monkeypatch
    for cached in (kernels.load_extension, mamba_ssm._extension):
        cached.cache_clear()


@pytest.fixture
def warnings(card):
    """The warnings given from here on."""
    lines = []
    card.setattr(kernels, 'print_log',
                 lambda text, **kwargs: lines.append(text))
    return lines


def scan_flat(u, delta, A, B, C, D, delta_bias, softplus):
    """A loop on mamba-ssm's layout, without the gate."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if softplus:
        delta = F.softplus(delta)
    B, C = (t.repeat_interleave(u.shape[1] // t.shape[1], 1) for t in (B, C))
    h, ys = 0, []
    for t in range(u.shape[2]):
        h = (delta[..., t, None] * A).exp() * h + (
            delta[..., t, None] * u[..., t, None] * B[..., t])
        ys.append((h * C[..., t]).sum(-1))
    y = torch.stack(ys, -1)
    return (y if D is None else y + u * D[:, None]), h


def check_like_the_kernel(u, delta, A, B, C, D, z, delta_bias, dout=None):
    """The conditions under which the extension refuses to run."""
    rows = [t for t in (u, delta, B, C, z, dout) if t is not None]
    assert all(t.dtype == u.dtype for t in rows)
    assert all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in rows)
    assert u.dtype in (torch.float32, torch.float16, torch.bfloat16)
    channels = [t for t in (A, D, delta_bias) if t is not None]
    assert all(t.dtype == torch.float32 for t in channels)
    assert delta.shape == u.shape
    assert B.dim() == C.dim() == 4
    assert A.shape == (u.shape[1], B.shape[2])


def fwd(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    check_like_the_kernel(u, delta, A, B, C, D, z, delta_bias)
    y, h = scan_flat(u.float(), delta.float(), A, B.float(), C.float(), D,
                     delta_bias, delta_softplus)
    y = y.to(u.dtype)
    states = torch.full((*u.shape[:2], 1, 2 * A.shape[1]), float('nan'))
    states[:, :, -1, 1::2] = h
    return [y, states] + ([] if z is None else [y * F.silu(z)])


def bwd(u, delta, A, B, C, D, z, delta_bias, dout, states, out, dz,
        delta_softplus, recompute_out_z):
    check_like_the_kernel(u, delta, A, B, C, D, z, delta_bias, dout)
    assert states.shape[2:] == (1, 2 * A.shape[1])
    assert (z is None) == (out is None)
    assert dz is None and recompute_out_z is False
    names = ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias', 'z')
    given = dict(zip(names, (u, delta, A, B, C, D, delta_bias, z)))
    given = {k: t for k, t in given.items() if t is not None}
    leaves = {k: t.detach().float().requires_grad_() for k, t in given.items()}
    with torch.enable_grad():
        y, _ = scan_flat(*(leaves.get(k) for k in names[:7]), delta_softplus)
        y = y if z is None else y * F.silu(leaves['z'])
    grads = torch.autograd.grad(y, leaves.values(), dout.float())
    grads = {k: g.to(given[k].dtype) for k, g in zip(given, grads)}
    # as the extension: undefined tensors for what is missing, dz only with z
    return [grads.get(k) for k in names if k != 'z' or z is not None]


@pytest.fixture
def extension(card):
    module = types.ModuleType('selective_scan_cuda')
    module.fwd, module.bwd = fwd, bwd
    card.setitem(sys.modules, 'selective_scan_cuda', module)
    return module


@pytest.mark.parametrize('missing', [None, 'D', 'z', 'delta_bias'])
@pytest.mark.parametrize('groups', [1, 3])
def test_arguments_and_gradients(extension, missing, groups):
    inputs = make_inputs(groups=groups)
    inputs.pop(missing, None)
    want, want_grads = run(cast(inputs, torch.float64), 'reference')
    got, grads = run(cast(inputs, torch.float32), 'mamba_ssm')
    assert got.dtype == torch.float32
    assert relative(got, want) <= 2e-6
    for name in inputs:
        assert relative(grads[name], want_grads[name]) <= 1e-5, name


@pytest.mark.parametrize('three_dimensional', [True, False])
def test_weights_without_groups(extension, three_dimensional):
    inputs = cast(make_inputs(), torch.float32)
    want, want_grads = run(inputs, 'chunked')
    if three_dimensional:
        for k in ('B', 'C'):
            inputs[k] = inputs[k].detach()[:, 0].requires_grad_()
    got, grads = run(inputs, 'mamba_ssm')
    assert torch.allclose(got, want, atol=1e-5)
    assert grads['B'].shape == inputs['B'].shape
    assert torch.allclose(
        grads['C'].flatten(), want_grads['C'].flatten(), atol=1e-4)


def test_strided_inputs(extension):
    inputs = cast(make_inputs(groups=2), torch.float32)
    want, want_grads = run(inputs, 'chunked')
    views = {
        k: t.detach().mT.contiguous().mT.requires_grad_() if t.dim() > 1 else t
        for k, t in inputs.items()
    }
    got, grads = run(views, 'mamba_ssm')
    assert torch.allclose(got, want, atol=1e-5)
    for name in NAMES:
        assert torch.allclose(grads[name], want_grads[name], atol=1e-3), name


def test_mixed_dtypes_meet_in_the_widest(extension):
    inputs = {k: t.float() for k, t in make_inputs().items()}
    inputs = cast(inputs, torch.bfloat16, ('u', 'B', 'D'))
    _, want = run(inputs, 'chunked')
    got, grads = run(inputs, 'mamba_ssm')
    assert got.dtype == torch.bfloat16
    for name in NAMES:
        assert grads[name].dtype == inputs[name].dtype, name
    # the step size has lost no digits
    assert relative(grads['delta'], want['delta'].double()) < 1e-5


def test_half_precision(extension):
    given = cast({
        k: t.float()
        for k, t in make_inputs().items()
    }, torch.bfloat16, ('u', 'delta', 'B', 'C', 'z'))
    want, _ = run(given, 'chunked')
    got, grads = run(given, 'mamba_ssm')
    assert got.dtype == grads['B'].dtype == torch.bfloat16
    assert grads['A'].dtype == torch.float32
    assert relative(got, want.double()) < 0.02


def test_last_state(extension):
    inputs = cast(make_inputs(), torch.float32)
    kwargs = dict(delta_softplus=True, return_last_state=True)
    _, want = selective_scan(**inputs, **kwargs, backend='reference')
    _, last = selective_scan(**inputs, **kwargs, backend='mamba_ssm')
    assert torch.allclose(last, want, atol=1e-4)
    assert last.dtype == torch.float32 and not last.requires_grad


def test_chosen_where_it_works(extension):
    x = torch.zeros(1, device='cpu')
    assert get_scan_backend(x) == 'mamba_ssm'
    assert get_scan_backend(x.double()) == 'chunked'
    wide = make_inputs(d_state=257, length=2)
    wide = {k: t.float() for k, t in wide.items()}
    selective_scan(**wide)  # more states than the kernel takes
    with pytest.raises(RuntimeError, match='at most 256 states, got 257'):
        selective_scan(**wide, backend='mamba_ssm')


def test_second_derivative_is_refused(extension):
    inputs = cast(make_inputs(), torch.float32)
    out = selective_scan(**inputs, backend='mamba_ssm')
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(out.sum(), inputs['u'], create_graph=True)


def raise_in_fwd(*args):
    raise RuntimeError('no kernel image is available for execution')


def take_more_arguments(u, delta, A, B, C, D, z, delta_bias, softplus, more):
    return u, u


BROKEN = {
    'missing': (ImportError("No module named 'selective_scan_cuda'"), ),
    'other torch': (ImportError('undefined symbol: _ZN3c105ErrorC2E'), ),
    'other CUDA': (OSError('libcudart.so.13: cannot open'), ),
    'no function': (None, None),
    'other card': (None, raise_in_fwd),
    'other arguments': (None, take_more_arguments),
}


@pytest.mark.parametrize('case', BROKEN)
def test_broken_extension_gives_one_warning(card, warnings, case):
    error, *function = BROKEN[case]
    module = types.ModuleType('selective_scan_cuda')
    if function and function[0]:
        module.fwd, module.bwd = function[0], bwd

    def load(name):
        if error:
            raise error
        return module

    card.setattr(kernels, 'import_module', load)
    inputs = {k: t.float() for k, t in make_inputs().items()}
    want = selective_scan(**inputs, delta_softplus=True, backend='chunked')
    for _ in range(3):
        got = selective_scan(**inputs, delta_softplus=True)
        assert torch.equal(got, want)
    assert len(warnings) == 1
    assert INSTALL in warnings[0]
    with pytest.raises(RuntimeError, match='does not work here'):
        selective_scan(**inputs, backend='mamba_ssm')


def test_cpu_run_probes_nothing(monkeypatch):
    monkeypatch.setattr(kernels, 'import_module', lambda name: 1 / 0)
    kernels.load_extension.cache_clear()
    selective_scan(**make_inputs())


@pytest.mark.filterwarnings('ignore:.*found in sys.modules')
def test_module_path_is_free_of_mamba_ssm(extension, monkeypatch):
    """Nobody asks for the package, only for its extension."""
    asked = []

    class Watch:

        def find_spec(self, name, *args):
            asked.append(name)

    monkeypatch.setattr(sys, 'meta_path', [Watch(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, 'selective_scan_cuda')
    kernels.load_extension.cache_clear()
    for name in ('kernels', 'mamba_ssm'):
        runpy.run_module(f'transmamba_mm.ops.{name}')
    get_scan_backend(torch.zeros(1))
    assert 'selective_scan_cuda' in asked
    assert 'mamba_ssm' not in asked
