"""Attention scores as B and C: the algebra, and what a block then does."""
import pytest
import torch

from transmamba_mm.subclone.score_factors import (own_tap_first, repeat_groups,
                                                  score_factors, solve_inner)


def test_scores_of_low_rank_are_kept_whole():
    torch.manual_seed(0)
    q, k = torch.randn(4, 12).double(), torch.randn(4, 12).double()
    b, c, kept = score_factors(q, k, 4)
    assert b.shape == c.shape == (4, 12)
    torch.testing.assert_close(c.T @ b, q.T @ k)
    assert kept == pytest.approx(1.)
    h = torch.randn(5, 12).double()
    torch.testing.assert_close((h @ c.T) @ (h @ b.T).T,
                               (h @ q.T) @ (h @ k.T).T)


def test_no_other_factors_of_that_rank_are_nearer():
    torch.manual_seed(0)
    q, k = torch.randn(12, 12).double(), torch.randn(12, 12).double()
    b, c, kept = score_factors(q, k, 3)
    error = (c.T @ b - q.T @ k).norm()
    assert kept == pytest.approx(1 - (error / (q.T @ k).norm()).item()**2)
    for _ in range(20):
        other = b + 0.05 * torch.randn_like(b)
        assert (c.T @ other - q.T @ k).norm() > error
    # keys and queries that are cut apart do not even meet in one basis
    _, s, right = torch.linalg.svd(k)
    _, t, left = torch.linalg.svd(q)
    apart = (t[:3, None] * left[:3]).T @ (s[:3, None] * right[:3])
    assert (apart - q.T @ k).norm() > error


def test_a_map_is_read_off_the_inner_stream():
    torch.manual_seed(0)
    wanted = torch.randn(3, 8).double()
    inner = torch.randn(16, 8).double()
    x, share = solve_inner(wanted, inner)
    assert share == pytest.approx(1., abs=1e-3)
    torch.testing.assert_close(x @ inner, wanted, rtol=1e-3, atol=1e-3)
    # a kernel that only scales the own token
    kernel = torch.zeros(16, 4).double()
    kernel[:, 0] = torch.randn(16)
    x, _ = solve_inner(wanted, inner, kernel)
    torch.testing.assert_close(
        x @ (kernel[:, :1] * inner), wanted, rtol=1e-2, atol=1e-2)


def test_the_convolution_is_allowed_for():
    """White tokens through a random causal kernel: the least error."""
    torch.manual_seed(0)
    wanted, inner = torch.randn(2, 6).double(), torch.randn(12, 6).double()
    conv = torch.nn.Conv1d(12, 12, 4, groups=12, bias=False).double()
    h = torch.randn(1, 6, 4000).double()
    u = conv(inner @ h)[0].detach()  # the first full window ends at step 3
    want = wanted @ h[0, :, 3:]

    def error(x):
        return (x @ u - want).norm()

    x, share = solve_inner(wanted, inner, own_tap_first(conv.weight.detach()))
    best = torch.linalg.lstsq(u.T, want.T).solution.T
    assert error(x) < 1.02 * error(best)
    assert error(x) < 0.9 * error(solve_inner(wanted, inner)[0])
    assert share == pytest.approx(
        1 - (error(x) / want.norm()).item()**2, abs=0.05)
    assert 0.1 < share < 0.9


def test_the_own_token_has_the_last_or_the_middle_tap():
    causal = torch.arange(4.).reshape(1, 1, 4)
    assert own_tap_first(causal).tolist() == [[3., 0., 1., 2.]]
    picture = torch.arange(9.).reshape(1, 1, 3, 3)
    assert own_tap_first(picture)[0, 0] == 4.
    assert sorted(own_tap_first(picture)[0].tolist()) == list(range(9))


def test_shared_keys_are_repeated():
    weight = torch.arange(4.).unsqueeze(1)  # 2 heads of 2 channels
    rows = repeat_groups(weight, 8, 4).flatten().tolist()
    assert rows == [0., 1., 0., 1., 2., 3., 2., 3.]
    assert repeat_groups(weight, 4, 3) is weight
    with pytest.raises(ValueError, match='num_heads=3'):
        repeat_groups(weight, 8, 3)
