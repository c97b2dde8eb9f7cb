"""Triton kernels of the selective scan with one state a channel (VMamba).

Glossary as in ``triton_kernels``. With a single state a tile of steps is a
parallel prefix sum of pairs (a, b), h = a h' + b, so that no step waits for
the one before:

    (a1, b1) then (a2, b2)  =  (a1 a2, b1 a2 + b2)
"""
import triton
import triton.language as tl

from .triton_kernels import LN_2, slope, softplus


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
def _load_tokens(x, p, e, live, s_l, s_e):
    return tl.load(
        x + p[:, None] * s_l + e[None, :] * s_e, mask=live,
        other=0.).to(tl.float32)


@triton.jit
def _row(x, m, e, e_ok, s_m, PRESENT: tl.constexpr):
    """Load a value a channel; zero if there is no such input."""
    row = tl.zeros([e.shape[0]], tl.float32)
    if PRESENT:
        row = tl.load(x + m * s_m + e, mask=e_ok, other=0.)
    return row


@triton.jit
def _load_pairs(pairs, q, inside):
    """Load B and C of the steps."""
    both = tl.load(pairs + q, mask=inside, other=0)
    return (both.to(tl.int32).to(tl.float32, bitcast=True),
            (both >> 32).to(tl.int32).to(tl.float32, bitcast=True))


@triton.jit
def scan_forward(x, delta, A, pairs, D, bias, order, y, last, marks, steps, M,
                 E, L, s_xb, s_xm, s_xe, s_xl, s_db, s_dm, s_de, s_dl, s_Am,
                 s_Dm, s_biasm, s_sb, s_sm, HAS_D: tl.constexpr,
                 HAS_BIAS: tl.constexpr, HAS_ORDER: tl.constexpr,
                 PARAMS_IN_ORDER: tl.constexpr, SOFTPLUS: tl.constexpr,
                 KEEP: tl.constexpr, TILE: tl.constexpr, MARK: tl.constexpr,
                 N: tl.constexpr, BE: tl.constexpr):
    """Scan; arguments and grid as in ``triton_kernels``, N = 1 = TILE / MARK.
    """
    pid = tl.program_id(1).to(tl.int64)
    b, m = pid // M, pid % M
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    rows = tl.arange(0, TILE)
    e_ok = e < E
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    pairs += pid * L
    y += pid * L * E
    steps += b * s_sb + m * s_sm
    a_e = _row(A, m, e, e_ok, s_Am, True)
    skip = _row(D, m, e, e_ok, s_Dm, HAS_D)
    shift = _row(bias, m, e, e_ok, s_biasm, HAS_BIAS)
    marks += (pid * tl.num_programs(0) + tl.program_id(0)) * tl.cdiv(
        L, TILE) * BE + tl.arange(0, BE)
    carry = tl.zeros([BE], tl.float32)
    for start in range(0, L, TILE):
        if KEEP:
            tl.store(marks + start // TILE * BE, carry)
        inside, p, q = _places(order, m, start + rows, L, HAS_ORDER,
                               PARAMS_IN_ORDER)
        live = inside[:, None] & e_ok[None, :]
        xs = _load_tokens(x, p, e, live, s_xl, s_xe)
        dt = _load_tokens(delta, q, e, live, s_dl, s_de) + shift[None, :]
        if SOFTPLUS:
            dt = softplus(dt)
        dt = tl.where(live, dt, 0.)
        if KEEP:
            tl.store(steps + q[:, None] * E + e[None, :], dt, mask=live)
        b_t, c_t = _load_pairs(pairs, q, inside)
        decay, h = tl.associative_scan(
            (tl.exp2(dt * a_e[None, :]), dt * xs * b_t[:, None]), 0, _then)
        h += decay * carry[None, :]
        carry = _last_row(h, rows, TILE)
        tl.store(
            y + p[:, None] * E + e[None, :],
            h * c_t[:, None] + skip[None, :] * xs,
            mask=live)
    tl.store(last + pid * E + e, carry, mask=e_ok)


@triton.jit
def scan_backward(x, steps, A, pairs, D, order, dy, dx, ddelta, dA, dpairs, dD,
                  dbias, marks, states, M, E, L, s_xb, s_xm, s_xe, s_xl, s_sb,
                  s_sm, s_Am, s_Dm, s_yb, s_ym, s_ye, s_yl,
                  HAS_D: tl.constexpr, HAS_ORDER: tl.constexpr,
                  PARAMS_IN_ORDER: tl.constexpr, SOFTPLUS: tl.constexpr,
                  TILE: tl.constexpr, MARK: tl.constexpr, N: tl.constexpr,
                  V: tl.constexpr, BE: tl.constexpr):
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
    steps += b * s_sb + m * s_sm
    pairs += pid * L
    dy += b * s_yb + m * s_ym
    dx += pid * L * E
    ddelta += pid * L * E
    part = pid * tl.num_programs(0) + block
    tiles = tl.cdiv(L, TILE)
    marks += part * tiles * BE + tl.arange(0, BE)
    a_e = _row(A, m, e, e_ok, s_Am, True)
    skip = _row(D, m, e, e_ok, s_Dm, HAS_D)

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
        dt = _load_tokens(steps, q, e, live, E, 1)
        b_t, c_t = _load_pairs(pairs, q, inside)
        decay = tl.exp2(dt * a_e[None, :])

        # what is left of the state before: exact also where decays vanish
        first = rows == 0
        inside0, p0, q0 = _places(order, m, t - 1, L, HAS_ORDER,
                                  PARAMS_IN_ORDER)
        ok0 = inside0 & (rows > 0)
        live0 = ok0[:, None] & e_ok[None, :]
        dt0 = _load_tokens(steps, q0, e, live0, E, 1)
        b0, _ = _load_pairs(pairs, q0, ok0)
        before = dt0 * _load_tokens(x, p0, e, live0, s_xl, s_xe) * b0[:, None]
        before = tl.where(first[:, None],
                          tl.load(marks + tile * BE)[None, :], before)
        _, kept = tl.associative_scan((decay, decay * before), 0, _then)

        # gradient by the state, from the steps after
        inside1, _, q1 = _places(order, m, t + 1, L, HAS_ORDER,
                                 PARAMS_IN_ORDER)
        live1 = inside1[:, None] & e_ok[None, :]
        dt1 = _load_tokens(steps, q1, e, live1, E, 1)
        decay1 = tl.where(live1, tl.exp2(dt1 * a_e[None, :]), 0.)
        through, g = tl.associative_scan((decay1, dys * c_t[:, None]),
                                         0,
                                         _then,
                                         reverse=True)
        g += through * later[None, :]
        later = _first_row(g, rows)

        at = dpairs + (part * L + q) * 2
        dtx = dt * xs
        tl.store(at, tl.sum(g * dtx, 1), mask=inside)
        tl.store(
            at + 1, tl.sum(dys * (kept + dtx * b_t[:, None]), 1), mask=inside)
        by_dtx = g * b_t[:, None]
        by_log = g * kept
        dA_e += tl.sum(by_log * dt, 0)
        ddts = by_log * a_e[None, :] * LN_2 + by_dtx * xs
        if SOFTPLUS:
            ddts = ddts * slope(dt)
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
    tl.store(dbias + pid * E + e, dbias_e, mask=e_ok)
