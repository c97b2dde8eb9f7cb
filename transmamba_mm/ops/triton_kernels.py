"""Triton kernels of the selective scan.

Glossary: b batch, m direction, t step of the scan, p its raster position, q
the place of its parameters, e channel, n state; a = exp(dt A) decay, h state,
g gradient of the loss by h.

    h_t = a_t h_{t-1} + dt_t x_t B_t        y_t = sum_n C_t h_t + D x_t

One program is one warp that walks the sequence of BE = 32 channels of one
(b, m). A thread owns a channel with all its states, which are tuples of N
rows (BE,), so that sums over the states are sums of registers. B and C of a
state are the same for all threads; they come as one 64-bit word. TILE steps
are unrolled. A step past the end has the step size 0 and changes nothing.
"""
import triton
import triton.language as tl

LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), exact for small exp(x) too; x itself above 20."""
    y = tl.exp(tl.minimum(x, 20.))
    u = 1. + y
    # log(u) / (u - 1) is smooth, so that the rounding of u cancels
    log1p = tl.where(u == 1., y,
                     tl.log(u) * (y / tl.where(u == 1., 1., u - 1.)))
    return tl.where(x > 20., x, log1p)


@triton.jit
def slope(dt):
    """Derivative of softplus at the place where it is dt: 1 - exp(-dt)."""
    near = dt * (1. - dt * (0.5 - dt * (0.16666667 - dt * 0.041666668)))
    return tl.where(dt < 0.1, near, 1. - tl.exp(-dt))


@triton.jit
def _places(order, m, t, L, HAS_ORDER: tl.constexpr,
            PARAMS_IN_ORDER: tl.constexpr):
    """Raster position p of a step, and the place q of its parameters."""
    t = tl.minimum(t, L - 1)
    p = t
    if HAS_ORDER:
        p = tl.load(order + m * L + t).to(tl.int32)
    return p, (t if PARAMS_IN_ORDER else p)


@triton.jit
def _row(x, e, ok):
    """Load a value a channel (BE,)."""
    return tl.load(x + e, mask=ok, other=0.).to(tl.float32)


@triton.jit
def _rows(x, e, ok, stride, N: tl.constexpr):
    """Load a row a state."""
    out = ()
    for n in tl.static_range(N):
        out = out + (_row(x + n * stride, e, ok), )
    return out


@triton.jit
def _store_rows(x, rows, e, ok, stride, N: tl.constexpr):
    for n in tl.static_range(N):
        tl.store(x + n * stride + e, rows[n], mask=ok)


@triton.jit
def _zeros(N: tl.constexpr, BE: tl.constexpr):
    out = ()
    for n in tl.static_range(N):
        out = out + (tl.zeros([BE], tl.float32), )
    return out


@triton.jit
def _low(both):
    """B of a pair."""
    return both.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _high(both):
    """C of a pair."""
    return (both >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _decays(dt_e, a, N: tl.constexpr):
    out = ()
    for n in tl.static_range(N):
        out = out + (tl.exp2(dt_e * a[n]), )
    return out


@triton.jit
def _load_pairs(pairs, N: tl.constexpr):
    out = ()
    for n in tl.static_range(N):
        out = out + (tl.load(pairs + n), )
    return out


@triton.jit
def _next_states(h, decay, dtx_e, pairs, N: tl.constexpr):
    out = ()
    for n in tl.static_range(N):
        out = out + (decay[n] * h[n] + dtx_e * _low(pairs[n]), )
    return out


@triton.jit
def scan_forward(x, delta, A, pairs, D, bias, order, y, last, marks, steps, M,
                 E, L, s_xb, s_xm, s_xe, s_xl, s_db, s_dm, s_de, s_dl, s_Am,
                 s_Dm, s_biasm, s_sb, s_sm, HAS_D: tl.constexpr,
                 HAS_BIAS: tl.constexpr, HAS_ORDER: tl.constexpr,
                 PARAMS_IN_ORDER: tl.constexpr, SOFTPLUS: tl.constexpr,
                 KEEP: tl.constexpr, TILE: tl.constexpr, MARK: tl.constexpr,
                 N: tl.constexpr, BE: tl.constexpr):
    """Scan; grid (ceil(E / BE), batch * M).

    A (M or 1, N, E) comes times log2(e), the pairs of B and C as int64
    (batch, M, L, N). Output y (batch, M, L, E), last state (batch, M, N, E).
    With KEEP, the state before every MARK steps goes to ``marks`` (programs,
    ceil(L / MARK), N, BE), and the step sizes to ``steps``
    (batch, M or 1, L, E).
    """
    pid = tl.program_id(1).to(tl.int64)
    b, m = pid // M, pid % M
    lane = tl.arange(0, BE)
    e = tl.program_id(0) * BE + lane
    ok = e < E
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    steps += b * s_sb + m * s_sm
    pairs += pid * L * N
    y += pid * L * E
    marks += (pid * tl.num_programs(0) + tl.program_id(0)) * tl.cdiv(
        L, MARK) * N * BE
    a = _rows(A + m * s_Am, e, ok, E, N)
    skip = tl.zeros([BE], tl.float32)
    if HAS_D:
        skip = _row(D + m * s_Dm, e, ok)
    shift = tl.zeros([BE], tl.float32)
    if HAS_BIAS:
        shift = _row(bias + m * s_biasm, e, ok)
    h = _zeros(N, BE)
    for start in range(0, L, TILE):
        if KEEP:
            if start % MARK == 0:
                _store_rows(marks + start // MARK * N * BE, h, lane, lane < BE,
                            BE, N)
        ys = ()
        dts = ()
        for i in tl.static_range(TILE):
            p, q = _places(order, m, start + i, L, HAS_ORDER, PARAMS_IN_ORDER)
            x_e = _row(x + p * s_xl, e * s_xe, ok)
            dt_e = _row(delta + q * s_dl, e * s_de, ok) + shift
            if SOFTPLUS:
                dt_e = softplus(dt_e)
            dt_e = tl.where(start + i < L, dt_e, 0.)
            both = _load_pairs(pairs + q * N, N)
            h = _next_states(h, _decays(dt_e, a, N), dt_e * x_e, both, N)
            y_e = skip * x_e
            for n in tl.static_range(N):
                y_e += h[n] * _high(both[n])
            ys = ys + (y_e, )
            dts = dts + (dt_e, )
        for i in tl.static_range(TILE):
            p, q = _places(order, m, start + i, L, HAS_ORDER, PARAMS_IN_ORDER)
            live = ok & (start + i < L)
            tl.store(y + p * E + e, ys[i], mask=live)
            if KEEP:
                tl.store(steps + q * E + e, dts[i], mask=live)
    _store_rows(last + pid * N * E, h, e, ok, E, N)


@triton.jit
def _fold(rows, lane, V: tl.constexpr, FAR: tl.constexpr):
    """Add the rows of threads that are FAR apart; each keeps a half of them.
    """
    upper = (lane & FAR) != 0
    other = lane ^ FAR
    out = ()
    if V == 1:
        out = (rows[0] + tl.gather(rows[0], other, 0), )
    else:
        for j in tl.static_range(V // 2):
            low, high = rows[j], rows[j + V // 2]
            given = tl.gather(tl.where(upper, low, high), other, 0)
            out = out + (tl.where(upper, high, low) + given, )
    return out


@triton.jit
def _store_sums(to, rows, lane, ok, V: tl.constexpr):
    """Store the sum over the channels of each of V rows, V a power of two.

    In five steps a thread hands half of its rows to another one and adds up
    the other half, so that no sum is made twice.
    """
    V1: tl.constexpr = V // 2 if V > 1 else 1
    V2: tl.constexpr = V1 // 2 if V1 > 1 else 1
    V3: tl.constexpr = V2 // 2 if V2 > 1 else 1
    V4: tl.constexpr = V3 // 2 if V3 > 1 else 1
    V5: tl.constexpr = V4 // 2 if V4 > 1 else 1
    rows = _fold(rows, lane, V, 16)
    rows = _fold(rows, lane, V1, 8)
    rows = _fold(rows, lane, V2, 4)
    rows = _fold(rows, lane, V3, 2)
    rows = _fold(rows, lane, V4, 1)
    SHARE: tl.constexpr = 32 // V if V < 32 else 1
    for j in tl.static_range(V5):
        tl.store(
            to + lane // SHARE * V5 + j,
            rows[j],
            mask=ok & (lane % SHARE == 0))


@triton.jit
def _replay(h, x, steps, pairs, a, order, m, t, L, E, e, ok, s_xe, s_xl,
            HAS_ORDER: tl.constexpr, PARAMS_IN_ORDER: tl.constexpr,
            N: tl.constexpr):
    """Decays of step t and the states after it, from those before."""
    p, q = _places(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
    live = ok & (t < L)
    dt_e = _row(steps + q * E, e, live)
    dtx_e = dt_e * _row(x + p * s_xl, e * s_xe, live)
    decay = _decays(dt_e, a, N)
    return decay, _next_states(h, decay, dtx_e, _load_pairs(pairs + q * N, N),
                               N)


@triton.jit
def _turn_back(g, dA_n, decay, before, after, pairs, a, dt_e, x_e, dy_e,
               N: tl.constexpr, V: tl.constexpr, BE: tl.constexpr):
    """Take g over one step; give what the step adds to the gradients.

    Returns g and dA_n, the V rows whose sums over the channels belong to B
    and C, and the gradients by dt x and by dt in the exponent.
    """
    by_dtx = tl.zeros([BE], tl.float32)
    by_dt = tl.zeros([BE], tl.float32)
    dB = ()
    dC = ()
    new_g = ()
    new_dA = ()
    for n in tl.static_range(N):
        both = tl.load(pairs + n)
        g_n = g[n] + dy_e * _high(both)
        dB = dB + (g_n * (dt_e * x_e), )
        dC = dC + (dy_e * after[n], )
        by_dtx += g_n * _low(both)
        by_log = g_n * (decay[n] * before[n])
        by_dt += by_log * a[n]
        new_dA = new_dA + (dA_n[n] + by_log * dt_e, )
        new_g = new_g + (g_n * decay[n], )
    # A comes times log2(e): (dt A) / log2(e) is what is in exp
    return (new_g, new_dA, dB + dC + _zeros(V - 2 * N, BE), by_dtx,
            by_dt * LN_2)


@triton.jit
def scan_backward(x, steps, A, pairs, D, order, dy, dx, ddelta, dA, dpairs, dD,
                  dbias, marks, states, M, E, L, s_xb, s_xm, s_xe, s_xl, s_sb,
                  s_sm, s_Am, s_Dm, s_yb, s_ym, s_ye, s_yl,
                  HAS_D: tl.constexpr, HAS_ORDER: tl.constexpr,
                  PARAMS_IN_ORDER: tl.constexpr, SOFTPLUS: tl.constexpr,
                  TILE: tl.constexpr, MARK: tl.constexpr, N: tl.constexpr,
                  V: tl.constexpr, BE: tl.constexpr):
    """Gradients of a scan; grid (ceil(E / BE), batch * M).

    The states before each tile are computed again from the last of the
    ``marks`` and kept in ``states`` (programs, MARK / TILE, N, BE); those
    inside a tile stay in registers.
    dx and ddelta (batch, M, L, E) are indexed as their inputs are, and so
    are the parts dA (batch, M, N, E), dD and dbias (batch, M, E), and
    dpairs (batch, M, ceil(E / BE), L, V), V the power of two from 2 N on:
    those of B, then of C. The caller adds the parts up in a fixed order.
    """
    pid = tl.program_id(1).to(tl.int64)
    part = pid * tl.num_programs(0) + tl.program_id(0)
    b, m = pid // M, pid % M
    lane = tl.arange(0, BE)
    all_ok = lane < BE
    e = tl.program_id(0) * BE + lane
    ok = e < E
    x += b * s_xb + m * s_xm
    steps += b * s_sb + m * s_sm
    dy += b * s_yb + m * s_ym
    pairs += pid * L * N
    dx += pid * L * E
    ddelta += pid * L * E
    dpairs += part * L * V
    sections = tl.cdiv(L, MARK)
    marks += part * sections * N * BE
    states += part * (MARK // TILE) * N * BE
    a = _rows(A + m * s_Am, e, ok, E, N)
    skip = tl.zeros([BE], tl.float32)
    if HAS_D:
        skip = _row(D + m * s_Dm, e, ok)

    g = _zeros(N, BE)
    dA_n = _zeros(N, BE)
    dD_e = tl.zeros([BE], tl.float32)
    dbias_e = tl.zeros([BE], tl.float32)
    for back in range(0, sections):
        section = sections - 1 - back
        first = section * (MARK // TILE)
        tiles = tl.minimum(MARK // TILE, tl.cdiv(L, TILE) - first)
        h = _rows(marks + section * N * BE, lane, all_ok, BE, N)
        for k in range(0, tiles):
            _store_rows(states + k * N * BE, h, lane, all_ok, BE, N)
            for i in tl.static_range(TILE):
                _, h = _replay(h, x, steps, pairs, a, order, m,
                               (first + k) * TILE + i, L, E, e, ok, s_xe, s_xl,
                               HAS_ORDER, PARAMS_IN_ORDER, N)
        for further in range(0, tiles):
            k = tiles - 1 - further
            h = _rows(states + k * N * BE, lane, all_ok, BE, N)
            before = (h, )
            decays = ()
            for i in tl.static_range(TILE):
                decay, h = _replay(h, x, steps, pairs, a, order, m,
                                   (first + k) * TILE + i, L, E, e, ok, s_xe,
                                   s_xl, HAS_ORDER, PARAMS_IN_ORDER, N)
                before = before + (h, )
                decays = decays + (decay, )
            for i in tl.static_range(TILE - 1, -1, -1):
                t = (first + k) * TILE + i
                p, q = _places(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
                live = ok & (t < L)
                dt_e = _row(steps + q * E, e, live)
                x_e = _row(x + p * s_xl, e * s_xe, live)
                dy_e = _row(dy + p * s_yl, e * s_ye, live)
                g, dA_n, sums, by_dtx, by_dt = _turn_back(
                    g, dA_n, decays[i], before[i], before[i + 1],
                    pairs + q * N, a, dt_e, x_e, dy_e, N, V, BE)
                by_dt += by_dtx * x_e
                if SOFTPLUS:
                    by_dt = by_dt * slope(dt_e)
                dD_e += dy_e * x_e
                dbias_e += by_dt
                by_x = by_dtx * dt_e + skip * dy_e
                tl.store(
                    dx + p * E + e, by_x.to(dx.dtype.element_ty), mask=live)
                tl.store(
                    ddelta + q * E + e,
                    by_dt.to(ddelta.dtype.element_ty),
                    mask=live)
                _store_sums(dpairs + q * V, sums, lane, all_ok & (t < L), V)
    _store_rows(dA + pid * N * E, dA_n, e, ok, E, N)
    if HAS_D:
        tl.store(dD + pid * E + e, dD_e, mask=ok)
    tl.store(dbias + pid * E + e, dbias_e, mask=ok)


@triton.jit
def merge_forward(y, z, merged, out, size, width, s_zb, s_ze, s_zl, L, E,
                  scale, M: tl.constexpr, HAS_Z: tl.constexpr,
                  BLOCK: tl.constexpr):
    """Sum the directions and gate; everything token by token but z."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < size
    b, inside = at // width, at % width
    total = tl.zeros([BLOCK], tl.float32)
    for m in tl.static_range(M):
        total += tl.load(y + (b * M + m) * width + inside, mask=ok, other=0.)
    total = total * scale
    if HAS_Z:
        tl.store(merged + at, total.to(merged.dtype.element_ty), mask=ok)
        gate = tl.load(
            z + b * s_zb + (inside % E) * s_ze + (inside // E) * s_zl,
            mask=ok,
            other=0.).to(tl.float32)
        total = total * gate * tl.sigmoid(gate)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=ok)


@triton.jit
def merge_backward(dout, merged, z, dy, dz, size, width, s_ob, s_oe, s_ol,
                   s_zb, s_ze, s_zl, L, E, scale, HAS_Z: tl.constexpr,
                   BLOCK: tl.constexpr):
    """Gradients of the sum, the same for each direction, and of the gate."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < size
    b, inside = at // width, at % width
    e, t = inside % E, inside // E
    g = tl.load(
        dout + b * s_ob + e * s_oe + t * s_ol, mask=ok,
        other=0.).to(tl.float32)
    if HAS_Z:
        gate = tl.load(
            z + b * s_zb + e * s_ze + t * s_zl, mask=ok,
            other=0.).to(tl.float32)
        total = tl.load(merged + at, mask=ok, other=0.).to(tl.float32)
        s = tl.sigmoid(gate)
        tl.store(
            dz + at,
            (g * total * s * (1. + gate * (1. - s))).to(dz.dtype.element_ty),
            mask=ok)
        g = g * gate * s
    tl.store(dy + at, (g * scale).to(dy.dtype.element_ty), mask=ok)
