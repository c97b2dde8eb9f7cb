"""Several directions at once against one scan after the other."""
import pytest
import torch
import torch.nn.functional as F

from transmamba_mm.ops import (bidirectional_orders, causal_conv1d,
                               count_scan_flops, multi_direction_scan,
                               record_operations, selective_scan, snake_orders)


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


@pytest.mark.parametrize('reverse', [False, True])
def test_causal_convolution(reverse):
    x, weight, bias = randn(2, 3, 7), randn(3, 4), randn(3)
    source = x.flip(-1) if reverse else x
    want = torch.zeros_like(x)
    for t in range(7):
        for k in range(4):
            if t - k >= 0:
                want[..., t] += weight[:, 3 - k] * source[..., t - k]
    want = F.silu(want + bias[:, None])
    want = want.flip(-1) if reverse else want
    torch.testing.assert_close(
        causal_conv1d(x, weight, bias, reverse=reverse), want)


def test_convolution_without_activation():
    x, weight = randn(1, 2, 5), randn(2, 3)
    plain = causal_conv1d(x, weight, activation=None)
    torch.testing.assert_close(causal_conv1d(x, weight), F.silu(plain))
    with pytest.raises(ValueError, match="activation='relu'"):
        causal_conv1d(x, weight, activation='relu')


def test_operations_are_counted_by_the_rule():
    # 9 B L E N a direction, E L for the skip, E L for the gate
    assert count_scan_flops(2, 6, 12, 3, directions=4) == \
        4 * (9 * 2 * 6 * 12 * 3 + 2 * 6 * 12) + 2 * 6 * 12
    with record_operations('scan') as calls:
        multi_direction_scan(
            **make(4, 12, True), orders=snake_orders(3, 4)[0])
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
