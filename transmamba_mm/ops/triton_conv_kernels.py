"""Triton kernels of the short convolution along several scans.

Glossary: b batch, m direction, t step, p raster position, e channel, k tap.

    y_m[p_t] = silu(bias_m + sum_k w_m[k] x[p_{t-(K-1-k)}]),  p_t = order_m[t]
"""
import triton
import triton.language as tl


@triton.jit
def _convolve(x, w, bias, order, t, e, L, s_xe, s_xl, e_ok, m, E,
              HAS_BIAS: tl.constexpr, K: tl.constexpr):
    """The sum before SiLU, for steps t (BL,) and channels e (BE,)."""
    total = tl.zeros([t.shape[0], e.shape[0]], tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + m * E + e, mask=e_ok, other=0.)[None, :]
    for k in tl.static_range(K):
        tap = tl.load(w + (m * E + e) * K + k, mask=e_ok, other=0.)
        total += tap[None, :] * _shifted(x, order, t -
                                         (K - 1 - k), e, L, s_xe, s_xl, e_ok)
    return total


@triton.jit
def _shifted(x, order, t, e, L, s_xe, s_xl, e_ok):
    """x at the steps t; zero before the first and after the last."""
    ok = (t >= 0) & (t < L)
    p = tl.load(order + t, mask=ok, other=0)
    return tl.load(
        x + p[:, None] * s_xl + e[None, :] * s_xe,
        mask=ok[:, None] & e_ok[None, :],
        other=0.).to(tl.float32)


@triton.jit
def conv_forward(x, w, bias, order, y, M, E, L, s_xb, s_xe, s_xl, s_yb, s_ym,
                 HAS_BIAS: tl.constexpr, SILU: tl.constexpr, K: tl.constexpr,
                 BL: tl.constexpr, BE: tl.constexpr):
    """Convolve; grid (ceil(E / BE), ceil(L / BL), batch * M)."""
    pid = tl.program_id(2).to(tl.int64)
    b, m = pid // M, pid % M
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    t = tl.program_id(1) * BL + tl.arange(0, BL)
    e_ok = e < E
    order += m * L
    total = _convolve(x + b * s_xb, w, bias, order, t, e, L, s_xe, s_xl, e_ok,
                      m, E, HAS_BIAS, K)
    if SILU:
        total = total * tl.sigmoid(total)
    p = tl.load(order + t, mask=t < L, other=0)
    tl.store(
        y + b * s_yb + m * s_ym + p[:, None] * E + e[None, :],
        total.to(y.dtype.element_ty),
        mask=(t < L)[:, None] & e_ok[None, :])


@triton.jit
def conv_backward_sum(x, w, bias, order, dy, g, dw, M, E, L, s_xb, s_xe, s_xl,
                      s_db, s_dm, s_de, s_dl, s_gb, s_gm,
                      HAS_BIAS: tl.constexpr, SILU: tl.constexpr,
                      K: tl.constexpr, KP: tl.constexpr, BL: tl.constexpr,
                      BE: tl.constexpr):
    """Gradient g before SiLU, and of the taps; grid (ceil(E / BE), batch * M).

    ``dw`` (batch, M, K + 1, E) is a part for each image, that of the bias in
    its last row.
    """
    pid = tl.program_id(1).to(tl.int64)
    b, m = pid // M, pid % M
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    e_ok = e < E
    row = tl.arange(0, KP)[:, None]
    order += m * L
    x += b * s_xb
    taps = tl.zeros([KP, BE], tl.float32)
    for start in range(0, L, BL):
        t = start + tl.arange(0, BL)
        ok = (t < L)[:, None] & e_ok[None, :]
        p = tl.load(order + t, mask=t < L, other=0)
        d = tl.load(
            dy + b * s_db + m * s_dm + p[:, None] * s_dl + e[None, :] * s_de,
            mask=ok,
            other=0.).to(tl.float32)
        if SILU:
            total = _convolve(x, w, bias, order, t, e, L, s_xe, s_xl, e_ok, m,
                              E, HAS_BIAS, K)
            s = tl.sigmoid(total)
            d = d * s * (1. + total * (1. - s))
        tl.store(
            g + b * s_gb + m * s_gm + p[:, None] * E + e[None, :],
            d.to(g.dtype.element_ty),
            mask=ok)
        for k in tl.static_range(K):
            seen = _shifted(x, order, t - (K - 1 - k), e, L, s_xe, s_xl, e_ok)
            taps += tl.where(row == k, tl.sum(d * seen, 0)[None, :], 0.)
        taps += tl.where(row == K, tl.sum(d, 0)[None, :], 0.)
    tl.store(
        dw + (pid * (K + 1) + row) * E + e[None, :],
        taps,
        mask=(row <= K) & e_ok[None, :])


@triton.jit
def conv_backward_input(g, w, order, inverse, dx, M, E, L, s_gb, s_gm,
                        K: tl.constexpr, BL: tl.constexpr, BE: tl.constexpr):
    """Gradient of x, dx (batch, L, E); grid (E blocks, L blocks, batch)."""
    b = tl.program_id(2).to(tl.int64)
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    p = tl.program_id(1) * BL + tl.arange(0, BL)
    e_ok = e < E
    total = tl.zeros([BL, BE], tl.float32)
    for m in range(M):
        t = tl.load(inverse + m * L + p, mask=p < L, other=L)
        for k in tl.static_range(K):
            tap = tl.load(w + (m * E + e) * K + k, mask=e_ok, other=0.)
            total += tap[None, :] * _shifted(g + b * s_gb + m * s_gm,
                                             order + m * L, t +
                                             (K - 1 - k), e, L, 1, E, e_ok)
    tl.store(
        dx + (b * L + p[:, None]) * E + e[None, :],
        total.to(dx.dtype.element_ty),
        mask=(p < L)[:, None] & e_ok[None, :])
