"""Triton kernels of the selective scan with one state a channel (VMamba).

Glossary as in ``triton_kernels``. With a single state a tile of steps is a
parallel prefix sum of pairs (a, b), h = a h' + b, so that no step waits for
the one before:

    (a1, b1) then (a2, b2)  =  (a1 a2, b1 a2 + b2)
"""
import triton
import triton.language as tl

from .triton_kernels import softplus


@triton.jit
def _then(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def _last_row(tile, rows, TILE: tl.constexpr):
    return tl.sum(tl.where(rows[:, None] == TILE - 1, tile, 0.), 0)


@triton.jit
def _first_row(tile, rows):
    return tl.sum(tl.where(rows[:, None] == 0, tile, 0.), 0)


@triton.jit
def _places(order, m, t, L, HAS_ORDER: tl.constexpr,
            PARAMS_IN_ORDER: tl.constexpr):
    """Where x and the parameters of the steps are; 0 outside of [0, L)."""
    inside = (t >= 0) & (t < L)
    if HAS_ORDER:
        p = tl.load(order + m * L + t, mask=inside, other=0)
    else:
        p = tl.where(inside, t, 0)
    return inside, p, (tl.where(inside, t, 0) if PARAMS_IN_ORDER else p)


@triton.jit
def _load_step_size(delta, shift, q, e, live, s_dl, s_de,
                    SOFTPLUS: tl.constexpr):
    """Return the raw step size and the step size, 0 where nothing lives."""
    raw = tl.load(
        delta + q[:, None] * s_dl + e[None, :] * s_de, mask=live, other=0.).to(
            tl.float32) + shift[None, :]
    dt = raw
    if SOFTPLUS:
        dt = softplus(raw)
    return raw, tl.where(live, dt, 0.)


@triton.jit
def _load_tokens(x, p, e, live, s_l, s_e):
    return tl.load(
        x + p[:, None] * s_l + e[None, :] * s_e, mask=live,
        other=0.).to(tl.float32)


@triton.jit
def _channels(A, D, bias, m, e, e_ok, s_Am, s_Dm, s_biasm, HAS_D: tl.constexpr,
              HAS_BIAS: tl.constexpr):
    """Load decay rate, skip weight and bias of the channels."""
    a_e = tl.load(A + m * s_Am + e, mask=e_ok, other=0.)
    skip, shift = tl.zeros_like(a_e), tl.zeros_like(a_e)
    if HAS_D:
        skip = tl.load(D + m * s_Dm + e, mask=e_ok, other=0.)
    if HAS_BIAS:
        shift = tl.load(bias + m * s_biasm + e, mask=e_ok, other=0.)
    return a_e, skip, shift


@triton.jit
def scan_forward(x, delta, A, B, C, D, bias, order, y, last, marks, M, E, L, N,
                 s_xb, s_xm, s_xe, s_xl, s_db, s_dm, s_de, s_dl, s_Am, s_Bb,
                 s_Bm, s_Bn, s_Bl, s_Cb, s_Cm, s_Cn, s_Cl, s_Dm, s_biasm, s_yb,
                 s_ym, s_ye, s_yl, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
                 HAS_ORDER: tl.constexpr, PARAMS_IN_ORDER: tl.constexpr,
                 SOFTPLUS: tl.constexpr, TILE: tl.constexpr,
                 MARK: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr):
    """Scan; arguments and grid as in ``triton_kernels``, N = 1 = TILE / MARK.
    """
    pid = tl.program_id(1).to(tl.int64)
    b, m = pid // M, pid % M
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    rows = tl.arange(0, TILE)
    e_ok = e < E
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    B += b * s_Bb + m * s_Bm
    C += b * s_Cb + m * s_Cm
    y += b * s_yb + m * s_ym
    a_e, skip, shift = _channels(A, D, bias, m, e, e_ok, s_Am, s_Dm, s_biasm,
                                 HAS_D, HAS_BIAS)
    marks += (pid * tl.num_programs(0) + tl.program_id(0)) * tl.cdiv(
        L, TILE) * BE + tl.arange(0, BE)
    carry = tl.zeros([BE], tl.float32)
    for start in range(0, L, TILE):
        tl.store(marks + start // TILE * BE, carry)
        inside, p, q = _places(order, m, start + rows, L, HAS_ORDER,
                               PARAMS_IN_ORDER)
        live = inside[:, None] & e_ok[None, :]
        xs = _load_tokens(x, p, e, live, s_xl, s_xe)
        _, dt = _load_step_size(delta, shift, q, e, live, s_dl, s_de, SOFTPLUS)
        b_t = tl.load(B + q * s_Bl, mask=inside, other=0.)
        c_t = tl.load(C + q * s_Cl, mask=inside, other=0.)
        decay, h = tl.associative_scan(
            (tl.exp2(dt * a_e[None, :]), dt * xs * b_t[:, None]), 0, _then)
        h += decay * carry[None, :]
        carry = _last_row(h, rows, TILE)
        tl.store(
            y + p[:, None] * s_yl + e[None, :] * s_ye,
            (h * c_t[:, None] + skip[None, :] * xs).to(y.dtype.element_ty),
            mask=live)
    tl.store(last + pid * E + e, carry, mask=e_ok)


@triton.jit
def scan_backward(x, delta, A, B, C, D, bias, order, dy, dx, ddelta, dA, dB,
                  dC, dD, dbias, marks, states, M, E, L, N, s_xb, s_xm, s_xe,
                  s_xl, s_db, s_dm, s_de, s_dl, s_Am, s_Bb, s_Bm, s_Bn, s_Bl,
                  s_Cb, s_Cm, s_Cn, s_Cl, s_Dm, s_biasm, s_yb, s_ym, s_ye,
                  s_yl, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
                  HAS_ORDER: tl.constexpr, PARAMS_IN_ORDER: tl.constexpr,
                  SOFTPLUS: tl.constexpr, TILE: tl.constexpr,
                  MARK: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr):
    """Gradients; arguments and grid as in ``triton_kernels``, N = 1.

    MARK is TILE, so that nothing is computed again; ``states`` is not used.
    """
    pid = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0)
    b, m = pid // M, pid % M
    e = block * BE + tl.arange(0, BE)
    rows = tl.arange(0, TILE)
    e_ok = e < E
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    B += b * s_Bb + m * s_Bm
    C += b * s_Cb + m * s_Cm
    dy += b * s_yb + m * s_ym
    dx += pid * L * E
    ddelta += pid * L * E
    part = pid * tl.num_programs(0) + block
    tiles = tl.cdiv(L, TILE)
    marks += part * tiles * BE + tl.arange(0, BE)
    a_e, skip, shift = _channels(A, D, bias, m, e, e_ok, s_Am, s_Dm, s_biasm,
                                 HAS_D, HAS_BIAS)

    # gradient by the state after a tile, and decay of the step after it
    later = tl.zeros([BE], tl.float32)
    dA_e = tl.zeros([BE], tl.float32)
    dD_e = tl.zeros([BE], tl.float32)
    dbias_e = tl.zeros([BE], tl.float32)
    for back in range(0, tiles):
        tile = tiles - 1 - back
        t = tile * TILE + rows
        inside, p, q = _places(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
        live = inside[:, None] & e_ok[None, :]
        xs = _load_tokens(x, p, e, live, s_xl, s_xe)
        dys = _load_tokens(dy, p, e, live, s_yl, s_ye)
        raw, dt = _load_step_size(delta, shift, q, e, live, s_dl, s_de,
                                  SOFTPLUS)
        b_t = tl.load(B + q * s_Bl, mask=inside, other=0.)
        c_t = tl.load(C + q * s_Cl, mask=inside, other=0.)
        decay = tl.exp2(dt * a_e[None, :])

        # what is left of the state before: exact also where decays vanish
        first = rows == 0
        inside0, p0, q0 = _places(order, m, t - 1, L, HAS_ORDER,
                                  PARAMS_IN_ORDER)
        ok0 = inside0 & (rows > 0)
        live0 = ok0[:, None] & e_ok[None, :]
        _, dt0 = _load_step_size(delta, shift, q0, e, live0, s_dl, s_de,
                                 SOFTPLUS)
        b0 = tl.load(B + q0 * s_Bl, mask=ok0, other=0.)
        before = dt0 * _load_tokens(x, p0, e, live0, s_xl, s_xe) * b0[:, None]
        before = tl.where(first[:, None],
                          tl.load(marks + tile * BE)[None, :], before)
        _, kept = tl.associative_scan((decay, decay * before), 0, _then)

        # gradient by the state, from the steps after
        inside1, _, q1 = _places(order, m, t + 1, L, HAS_ORDER,
                                 PARAMS_IN_ORDER)
        live1 = inside1[:, None] & e_ok[None, :]
        _, dt1 = _load_step_size(delta, shift, q1, e, live1, s_dl, s_de,
                                 SOFTPLUS)
        decay1 = tl.where(live1, tl.exp2(dt1 * a_e[None, :]), 0.)
        through, g = tl.associative_scan((decay1, dys * c_t[:, None]),
                                         0,
                                         _then,
                                         reverse=True)
        g += through * later[None, :]
        later = _first_row(g, rows)

        at = part * L + q
        dtx = dt * xs
        tl.store(
            dC + at, tl.sum(dys * (kept + dtx * b_t[:, None]), 1), mask=inside)
        tl.store(dB + at, tl.sum(g * dtx, 1), mask=inside)
        by_dtx = g * b_t[:, None]
        by_log = g * kept
        dA_e += tl.sum(by_log * dt, 0)
        ddts = by_log * a_e[None, :] * 0.6931471805599453 + by_dtx * xs
        if SOFTPLUS:
            ddts = ddts * tl.where(raw > 20., 1., tl.sigmoid(raw))
        ddts = tl.where(live, ddts, 0.)
        dD_e += tl.sum(dys * xs, 0)
        dbias_e += tl.sum(ddts, 0)
        tl.store(
            dx + p[:, None] * E + e[None, :],
            (by_dtx * dt + skip[None, :] * dys).to(dx.dtype.element_ty),
            mask=live)
        tl.store(
            ddelta + q[:, None] * E + e[None, :],
            ddts.to(ddelta.dtype.element_ty),
            mask=live)
    tl.store(dA + pid * E + e, dA_e, mask=e_ok)
    if HAS_D:
        tl.store(dD + pid * E + e, dD_e, mask=e_ok)
    if HAS_BIAS:
        tl.store(dbias + pid * E + e, dbias_e, mask=e_ok)
