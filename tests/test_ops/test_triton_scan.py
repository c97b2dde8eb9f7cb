"""Triton kernels, run by Triton's interpreter where there is no card."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from tests.toy import student_cfg
from transmamba_mm.ops import (bidirectional_orders, clip_orders, cross_orders,
                               direction_conv1d, multi_direction_scan,
                               snake_orders)
from .test_selective_scan import hard_case
from .utils import cast, make_inputs, relative, run

pytest.importorskip('triton')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
ORDERS = dict(
    bidirectional=lambda: bidirectional_orders(15, DEVICE),
    cross=lambda: cross_orders(3, 5, DEVICE),
    snake=lambda: snake_orders(3, 5, DEVICE)[0],
    clip=lambda: clip_orders(5, 3, 'temporal-first', 0, DEVICE))


def to_device(inputs):
    return {k: t.to(DEVICE) for k, t in inputs.items()}


@pytest.mark.parametrize('groups', [1, 2])
def test_scan_and_gradients_agree_with_float64(groups):
    inputs = to_device(
        make_inputs(batch=1, channels=4, length=37, groups=groups))
    want, grads = run(cast(inputs, torch.float64), 'reference')
    got, mine = run(cast(inputs, torch.float32), 'triton')
    assert relative(got, want) <= 2e-6
    for name in inputs:
        assert relative(mine[name], grads[name]) <= 1e-5, name


@pytest.mark.parametrize('states', [4, 1])
@pytest.mark.parametrize('name', [
    'underflow', 'mixed underflow and tiny steps', 'tiny steps',
    'decay near 1', 'softplus threshold', 'all zero'
])
def test_hard_cases(name, states):
    inputs = {
        k: t[..., :24] if t.dim() > 2 else t
        for k, t in to_device(hard_case(name)).items()
    }
    inputs['A'] = inputs['A'][:, :states]
    for key in ('B', 'C'):
        inputs[key] = inputs[key][:, :, :states]
    want, grads = run(cast(inputs, torch.float64), 'reference')
    got, mine = run(cast(inputs, torch.float32), 'triton')
    assert relative(got, want) <= 2e-6
    for key in inputs:
        assert mine[key].isfinite().all(), key
        assert relative(mine[key], grads[key]) <= 1e-4, key


def draw(kind, dtype=torch.float64, states=3):
    """Inputs of a multi-direction scan as the families give them."""
    orders = ORDERS[kind]()
    m = len(orders.names)
    generator = torch.Generator().manual_seed(0)

    def tokens(*shape):
        x = torch.randn(*shape[:-2], 15, shape[-2], generator=generator)
        return x.to(DEVICE, dtype).transpose(-1, -2)

    def params(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    own = () if kind == 'snake' else (m, )
    shared_x = () if kind in ('snake', 'cross') else (m, )
    return orders, dict(
        x=tokens(2, *shared_x, 5, 15),
        delta=tokens(2, *own, 5, 15),
        A=-params(*own, 5, states).abs() - 0.1,
        B=tokens(2, m, states, 15),
        C=tokens(2, *own, states, 15),
        D=params(*own, 5),
        z=tokens(2, 5, 15),
        delta_bias=params(*own, 5))


@pytest.mark.parametrize('merge, states', [('sum', 3), ('mean', 1)])
@pytest.mark.parametrize('kind', list(ORDERS))
def test_directions_merged_and_one_by_one(kind, merge, states):
    orders, inputs = draw(kind, states=states)
    results = []
    for backend, dtype in (('reference', torch.float64), ('triton',
                                                          torch.float32)):
        given = {
            k: t.to(dtype).clone().requires_grad_()
            for k, t in inputs.items()
        }
        merged, directions = multi_direction_scan(
            **given,
            orders=orders,
            merge=merge,
            params_in_scan_order=kind == 'snake',
            record=True,
            backend=backend)
        assert merged.dtype == dtype
        weight = torch.arange(merged.numel(), device=DEVICE).cos()
        loss = (merged.flatten() * weight).sum() + directions.square().sum()
        grads = torch.autograd.grad(loss, given.values())
        results.append([merged, directions, *grads])
    for name, want, got in zip(['merged', 'directions', *inputs], *results):
        assert relative(got.detach(), want.detach()) <= 1e-5, name


def test_bfloat16_is_rounded_at_the_ends_only():
    orders, inputs = draw('bidirectional', torch.bfloat16)
    kept = ('A', 'D', 'delta_bias')
    given = {k: t.float() if k in kept else t for k, t in inputs.items()}
    want, _ = multi_direction_scan(
        **{
            k: t.double()
            for k, t in given.items()
        },
        orders=orders,
        backend='reference')
    got, _ = multi_direction_scan(**given, orders=orders, backend='triton')
    assert got.dtype == torch.bfloat16
    assert (got.double() - want).norm() / want.norm() <= 3e-3


@pytest.mark.parametrize('activation', ['silu', None])
@pytest.mark.parametrize('kind', ['bidirectional', 'clip'])
def test_convolution_along_the_scans(kind, activation):
    orders = ORDERS[kind]()
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, device=DEVICE)
        for shape in ((2, 5, 15), (2, 5, 4), (2, 5)))
    results = []
    for backend, dtype in (('reference', torch.float64), ('triton',
                                                          torch.float32)):
        given = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
        y = direction_conv1d(
            *given, orders=orders, activation=activation, backend=backend)
        weights = torch.arange(y.numel(), device=DEVICE).cos()
        grads = torch.autograd.grad((y.flatten() * weights).sum(), given)
        results.append([y, *grads])
    # by hand, at one place
    position = orders.index[1, 6]
    seen = x[0, 2, orders.index[1, 3:7]]
    by_hand = bias[1, 2] + (weight[1, 2] * seen).sum()
    by_hand = F.silu(by_hand) if activation else by_hand
    torch.testing.assert_close(results[0][0][0, 1, 2, position], by_hand)
    for want, got in zip(*results):
        assert relative(got.detach(), want.detach()) <= 1e-5


def test_a_model_on_the_kernels():
    outs = []
    for backend in ('chunked', 'triton'):
        torch.manual_seed(0)
        model = MODELS.build(student_cfg()).to(DEVICE)
        model.init_weights()
        for module in model.modules():
            module.scan_backend = backend
        images = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
        out = model(images.to(DEVICE))
        out[0].sum().backward()
        outs.append([out[0], model.backbone.layers[0].mixer.A_log.grad])
    for want, got in zip(*outs):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_the_same_gradients_at_each_run():
    orders, inputs = draw('bidirectional', torch.float32)
    given = {k: t.clone().requires_grad_() for k, t in inputs.items()}
    first, second = (
        torch.autograd.grad(
            multi_direction_scan(**given, orders=orders,
                                 backend='triton')[0].square().sum(),
            given.values()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_a_compiled_scan_is_one_graph():
    orders, inputs = draw('bidirectional', torch.float32)

    def loss(*values):
        merged, _ = multi_direction_scan(
            **dict(zip(inputs, values)), orders=orders, backend='triton')
        return merged.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend='aot_eager')
    results = []
    for function in (loss, compiled):
        given = [t.clone().requires_grad_() for t in inputs.values()]
        results.append(torch.autograd.grad(function(*given), given))
    for want, got in zip(*results):
        torch.testing.assert_close(got, want)


def test_the_operators_keep_their_promises():
    orders, inputs = draw('bidirectional', torch.float32, states=2)
    args = [
        inputs[k].requires_grad_()
        for k in ('x', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')
    ]
    torch.library.opcheck(torch.ops.transmamba_mm.scan_directions.default,
                          (*args, orders.index, False, True, True))
