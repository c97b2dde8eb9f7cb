"""Several directions at once against one scan after the other."""
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from transmamba_mm.ops import (bidirectional_orders, count_scan_flops,
                               cross_orders, multi_direction_scan,
                               record_operations, selective_scan, snake_orders)

module = import_module('transmamba_mm.ops.multi_direction_scan')


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def make(m, length, shared):
    """Inputs with or without an axis of directions."""
    torch.manual_seed(m + length)
    lead = () if shared else (m, )
    return dict(
        x=randn(2, *lead, 6, length),
        delta=randn(2, *lead, 6, length),
        A=-torch.rand(*lead, 6, 3, dtype=torch.float64) * 4,
        B=randn(2, *lead, 3, length),
        C=randn(2, *lead, 3, length),
        D=randn(*lead, 6),
        delta_bias=randn(*lead, 6))


def one_by_one(args, orders, z, permute_params):
    """The definition, direction by direction."""
    outs = []
    for m, index in enumerate(orders.index):

        def pick(name, dims):
            value = args[name]
            return value if value.dim() == dims else value.select(
                1 if dims == 3 else 0, m)

        x, delta, b, c = (pick(n, 3) for n in ('x', 'delta', 'B', 'C'))
        x = x[..., index]
        if permute_params:
            delta, b, c = (t[..., index] for t in (delta, b, c))
        y = selective_scan(
            x,
            delta,
            pick('A', 2),
            b,
            c,
            pick('D', 1),
            delta_bias=pick('delta_bias', 1),
            delta_softplus=True,
            backend='reference')
        out = torch.empty_like(y)
        out[..., index] = y
        outs.append(out * F.silu(z))
    return torch.stack(outs)


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('merge', ['sum', 'mean'])
@pytest.mark.parametrize('in_scan_order', [False, True])
def test_equals_one_scan_after_the_other(shared, merge, in_scan_order):
    orders, _ = snake_orders(3, 4)
    args, z = make(4, 12, shared), randn(2, 6, 12)
    want = one_by_one(args, orders, z, not in_scan_order)
    merged, directions = multi_direction_scan(
        **args,
        orders=orders,
        z=z,
        merge=merge,
        params_in_scan_order=in_scan_order,
        record=True)
    torch.testing.assert_close(directions, want)
    torch.testing.assert_close(merged, getattr(want, merge)(0))


def test_unrecorded_gives_no_directions():
    args = make(2, 5, True)
    merged, directions = multi_direction_scan(
        **args, orders=bidirectional_orders(5))
    assert directions is None
    want, _ = multi_direction_scan(
        **args, orders=bidirectional_orders(5), record=True)
    assert torch.equal(merged, want)


def test_gradients_by_finite_differences():
    args = make(2, 4, False)
    leaves = [v.requires_grad_() for v in args.values()]

    def run(*values):
        return multi_direction_scan(
            **dict(zip(args, values)), orders=bidirectional_orders(4))[0]

    assert torch.autograd.gradcheck(run, leaves)


def test_backward_direction_sees_only_later_tokens():
    args = make(2, 6, False)
    changed = {k: v.clone() for k, v in args.items()}
    changed['x'][..., 3] += 1.
    orders = bidirectional_orders(6)
    a, b = (
        multi_direction_scan(**x, orders=orders, record=True)[1]
        for x in (args, changed))
    moved = (a - b).abs().sum((1, 2)) > 0
    assert moved.tolist() == [[False] * 3 + [True] * 3,
                              [True] * 4 + [False] * 2]


def test_unknown_merge():
    with pytest.raises(ValueError, match="merge='max'"):
        multi_direction_scan(
            **make(2, 4, True), orders=bidirectional_orders(4), merge='max')


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('in_scan_order', [False, True])
@pytest.mark.parametrize('backend', ['reference', 'chunked'])
def test_gradients_of_all_inputs(shared, in_scan_order, backend):
    orders, _ = snake_orders(3, 3)
    args = make(4, 9, shared)
    args['z'] = randn(2, 6, 9)
    leaves = [v.requires_grad_() for v in args.values()]
    want = one_by_one(args, orders, args['z'], not in_scan_order)
    dout, dirs = torch.randn_like(want[0]), torch.randn_like(want)
    merged, directions = multi_direction_scan(
        **args,
        orders=orders,
        params_in_scan_order=in_scan_order,
        record=True,
        backend=backend)
    got = torch.autograd.grad([merged, directions], leaves, [dout, dirs])
    want = torch.autograd.grad([want.sum(0), want], leaves, [dout, dirs])
    for name, a, b in zip(args, got, want):
        torch.testing.assert_close(a, b, msg=lambda m: f'{name}: {m}')


@pytest.mark.parametrize('per_direction',
                         ['x', 'delta', 'A', 'B', 'C', 'D', 'delta_bias'])
def test_any_input_may_have_directions(per_direction):
    orders = cross_orders(2, 3)
    args = make(4, 6, True)
    args[per_direction] = make(4, 6, False)[per_direction]
    for in_scan_order in (False, True):
        want = one_by_one(args, orders, randn(1) * 0 + 1, not in_scan_order)
        got, _ = multi_direction_scan(
            **args, orders=orders, params_in_scan_order=in_scan_order)
        torch.testing.assert_close(got * F.silu(torch.ones(1)), want.sum(0))


def test_both_ways_of_gathering_agree():
    orders = cross_orders(3, 4)
    for given in (1, 4):
        x = randn(2, given, 6, 12)
        rows = module._gather_rows(x, orders.index)
        along = module._gather(x, orders.index)
        assert torch.equal(rows, along)
        for m, index in enumerate(orders.index):
            assert torch.equal(rows[:, m], x[:, m % given][..., index])
        # contiguous where the scan of each device wants it
        assert rows.stride(2) == 1 and along.is_contiguous()


def test_half_precision_under_autocast():
    args = {
        k: v.bfloat16() if k in ('x', 'delta', 'B', 'C') else v.float()
        for k, v in make(4, 12, True).items()
    }
    args['x'].requires_grad_()
    z = randn(2, 6, 12).bfloat16()
    orders, _ = snake_orders(3, 4)
    exact, _ = multi_direction_scan(
        **{
            k: v.detach().double()
            for k, v in args.items()
        },
        orders=orders,
        z=z.double())
    with torch.autocast('cpu', torch.bfloat16):
        merged, directions = multi_direction_scan(
            **args, orders=orders, z=z, record=True)
    assert merged.dtype == directions.dtype == torch.bfloat16
    assert (merged - exact).abs().max() < 0.03 * exact.abs().max()
    merged.sum().backward()
    assert args['x'].grad.isfinite().all()


def test_orders_follow_the_input():
    args = {k: v.to('meta') for k, v in make(2, 5, True).items()}
    merged, _ = multi_direction_scan(**args, orders=bidirectional_orders(5))
    assert merged.device.type == 'meta' and merged.shape == (2, 6, 5)


@pytest.mark.parametrize('name, shape, message', [
    ('x', (2, 6, 4), 'x has 4 tokens, the orders 5'),
    ('B', (2, 3, 3, 5), r'B has the shape \(2, 3, 3, 5\)'),
    ('delta', (6, 5), r'delta has the shape \(6, 5\)'),
    ('A', (6, ), r'A has the shape \(6,\)'),
    ('C', (2, 4, 5), r'selective_scan: C has the shape \(2, 2, 4, 5\)'),
    ('D', (5, ), 'selective_scan: D'),
    ('z', (1, 6, 5), r'z has the shape \(1, 6, 5\)'),
])
def test_wrong_shape_is_named(name, shape, message):
    args = make(2, 5, True)
    args[name] = randn(*shape)
    with pytest.raises(ValueError, match=message):
        multi_direction_scan(**args, orders=bidirectional_orders(5))


def test_operations_are_counted_by_the_rule():
    # 9 B L E N a direction, E L for the skip, E L for the gate
    assert count_scan_flops(2, 6, 12, 3, directions=4) == \
        4 * (9 * 2 * 6 * 12 * 3 + 2 * 6 * 12) + 2 * 6 * 12
    with record_operations('scan') as calls:
        multi_direction_scan(**make(4, 12, True), orders=snake_orders(3, 4)[0])
    assert calls == [
        dict(
            batch=2,
            channels=6,
            length=12,
            d_state=3,
            directions=4,
            with_skip=True,
            with_gate=False)
    ]
