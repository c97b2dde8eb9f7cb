"""Triton kernels of the selective scan.

Glossary: b batch, m direction, t step of the scan, p its raster position, e
channel, n state; a = exp(dt A) decay, h state, g gradient of the loss by h.

    h_t = a_t h_{t-1} + dt_t x_t B_t        y_t = sum_n C_t h_t + D x_t

One program walks the sequence of BE channels of one (b, m), with the states
(N, BE) in registers. Steps are loaded TILE at a time, so that the card waits
once for all of them; a step is picked from a tile by comparing with its row
number, which costs nothing in a loop that is unrolled.
"""
import triton
import triton.language as tl


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
def _within(t, L, n):
    """Whether a step is one of the sequence, for each of n."""
    return tl.zeros_like(n) + t < L


@triton.jit
def _row(tile, rows, i):
    """Pick row i (BE,) of a tile (TILE, BE)."""
    return tl.sum(tl.where(rows[:, None] == i, tile, 0.), 0)


@triton.jit
def _steps(order, m, t, L, HAS_ORDER: tl.constexpr,
           PARAMS_IN_ORDER: tl.constexpr):
    """Raster positions of x and of the step's parameters."""
    if HAS_ORDER:
        p = tl.load(order + m * L + t, mask=t < L, other=0)
    else:
        p = t
    return p, (t if PARAMS_IN_ORDER else p)


@triton.jit
def _at(order, m, t, L, HAS_ORDER: tl.constexpr,
        PARAMS_IN_ORDER: tl.constexpr):
    """Where the parameters of one step are."""
    if HAS_ORDER and not PARAMS_IN_ORDER:
        return tl.load(order + m * L + t, mask=t < L, other=0)
    else:
        return t


@triton.jit
def _load_inputs(x, delta, bias, p, q, e, live, s_xl, s_xe, s_dl, s_de,
                 SOFTPLUS: tl.constexpr):
    """Load x, the raw step size and the step size, each (TILE, BE)."""
    xs = tl.load(
        x + p[:, None] * s_xl + e[None, :] * s_xe, mask=live,
        other=0.).to(tl.float32)
    raw = tl.load(
        delta + q[:, None] * s_dl + e[None, :] * s_de, mask=live, other=0.).to(
            tl.float32) + bias[None, :]
    dt = raw
    if SOFTPLUS:
        dt = softplus(raw)
    # a step past the end changes no state
    return xs, raw, tl.where(live, dt, 0.)


@triton.jit
def scan_forward(x, delta, A, B, C, D, bias, order, y, last, marks, M, E, L, N,
                 s_xb, s_xm, s_xe, s_xl, s_db, s_dm, s_de, s_dl, s_Am, s_Bb,
                 s_Bm, s_Bn, s_Bl, s_Cb, s_Cm, s_Cn, s_Cl, s_Dm, s_biasm, s_yb,
                 s_ym, s_ye, s_yl, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
                 HAS_ORDER: tl.constexpr, PARAMS_IN_ORDER: tl.constexpr,
                 SOFTPLUS: tl.constexpr, TILE: tl.constexpr,
                 MARK: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr):
    """Scan; grid (ceil(E / BE), batch * M).

    A (M or 1, E, N) comes times log2(e), the last state goes to ``last``
    (batch, M, E, N), and the state before every MARK steps to ``marks``
    (programs, ceil(L / MARK), N, BE).
    """
    pid = tl.program_id(1).to(tl.int64)
    b, m = pid // M, pid % M
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    n = tl.arange(0, BN)
    rows = tl.arange(0, TILE)
    e_ok, n_ok = e < E, n < N
    ne_ok = n_ok[:, None] & e_ok[None, :]
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    B += b * s_Bb + m * s_Bm
    C += b * s_Cb + m * s_Cm
    y += b * s_yb + m * s_ym
    a_ne = tl.load(
        A + m * s_Am + e[None, :] * N + n[:, None], mask=ne_ok, other=0.)
    d_skip = tl.zeros([BE], tl.float32)
    if HAS_D:
        d_skip = tl.load(D + m * s_Dm + e, mask=e_ok, other=0.)
    shift = tl.zeros([BE], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + m * s_biasm + e, mask=e_ok, other=0.)
    marks += (pid * tl.num_programs(0) + tl.program_id(0)) * tl.cdiv(
        L, MARK) * BN * BE
    place = n[:, None] * BE + tl.arange(0, BE)[None, :]
    h = tl.zeros([BN, BE], tl.float32)
    for start in range(0, L, TILE):
        if start % MARK == 0:
            tl.store(marks + start // MARK * BN * BE + place, h)
        t = start + rows
        p, q = _steps(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
        live = (t < L)[:, None] & e_ok[None, :]
        xs, _, dt = _load_inputs(x, delta, shift, p, q, e, live, s_xl, s_xe,
                                 s_dl, s_de, SOFTPLUS)
        ys = d_skip[None, :] * xs
        for i in tl.static_range(TILE):
            # the few B and C of a step come from L1 where they are used
            ok = n_ok & _within(start + i, L, n)
            qi = _at(order, m, start + i, L, HAS_ORDER, PARAMS_IN_ORDER)
            b_n = tl.load(B + qi * s_Bl + n * s_Bn, mask=ok, other=0.)
            c_n = tl.load(C + qi * s_Cl + n * s_Cn, mask=ok, other=0.)
            dt_e = _row(dt, rows, i)
            dtx_e = dt_e * _row(xs, rows, i)
            h = tl.exp2(dt_e[None, :] * a_ne) * h + dtx_e[None, :] * b_n[:,
                                                                         None]
            y_e = tl.sum(h * c_n[:, None], 0)
            ys += tl.where(rows[:, None] == i, y_e[None, :], 0.)
        tl.store(
            y + p[:, None] * s_yl + e[None, :] * s_ye,
            ys.to(y.dtype.element_ty),
            mask=live)
    tl.store(last + pid * E * N + e[None, :] * N + n[:, None], h, mask=ne_ok)


@triton.jit
def scan_backward(x, delta, A, B, C, D, bias, order, dy, dx, ddelta, dA, dB,
                  dC, dD, dbias, marks, states, M, E, L, N, s_xb, s_xm, s_xe,
                  s_xl, s_db, s_dm, s_de, s_dl, s_Am, s_Bb, s_Bm, s_Bn, s_Bl,
                  s_Cb, s_Cm, s_Cn, s_Cl, s_Dm, s_biasm, s_yb, s_ym, s_ye,
                  s_yl, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
                  HAS_ORDER: tl.constexpr, PARAMS_IN_ORDER: tl.constexpr,
                  SOFTPLUS: tl.constexpr, TILE: tl.constexpr,
                  MARK: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr):
    """Gradients of a scan; grid (ceil(E / BE), batch * M).

    The states before each tile are computed again from the last of the
    ``marks`` and kept in ``states`` (programs, MARK / TILE, N, BE); those
    inside a tile stay in registers.
    dx and ddelta (batch, M, L, E) are indexed as their inputs are, and so
    are the parts dA (batch, M, E, N), dB and
    dC (batch, M, ceil(E / BE), L, N), dD and dbias (batch, M, E), which the
    caller adds up in a fixed order.
    """
    pid = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    b, m = pid // M, pid % M
    e = block * BE + tl.arange(0, BE)
    n = tl.arange(0, BN)
    rows = tl.arange(0, TILE)
    e_ok, n_ok = e < E, n < N
    ne_ok = n_ok[:, None] & e_ok[None, :]
    x += b * s_xb + m * s_xm
    delta += b * s_db + m * s_dm
    B += b * s_Bb + m * s_Bm
    C += b * s_Cb + m * s_Cm
    dy += b * s_yb + m * s_ym
    dx += pid * L * E
    ddelta += pid * L * E
    dB += (pid * blocks + block) * L * N
    dC += (pid * blocks + block) * L * N
    sections = tl.cdiv(L, MARK)
    marks += (pid * blocks + block) * sections * BN * BE
    states += (pid * blocks + block) * (MARK // TILE) * BN * BE
    place = n[:, None] * BE + tl.arange(0, BE)[None, :]
    a_ne = tl.load(
        A + m * s_Am + e[None, :] * N + n[:, None], mask=ne_ok, other=0.)
    d_skip = tl.zeros([BE], tl.float32)
    if HAS_D:
        d_skip = tl.load(D + m * s_Dm + e, mask=e_ok, other=0.)
    shift = tl.zeros([BE], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + m * s_biasm + e, mask=e_ok, other=0.)

    g = tl.zeros([BN, BE], tl.float32)
    dA_ne = tl.zeros([BN, BE], tl.float32)
    dD_e = tl.zeros([BE], tl.float32)
    dbias_e = tl.zeros([BE], tl.float32)
    for last in range(0, sections):
        section = sections - 1 - last
        first = section * (MARK // TILE)
        tiles = tl.minimum(MARK // TILE, tl.cdiv(L, TILE) - first)
        h = tl.load(marks + section * BN * BE + place)
        for k in range(0, tiles):
            tl.store(states + k * BN * BE + place, h)
            tile = first + k
            t = tile * TILE + rows
            p, q = _steps(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
            live = (t < L)[:, None] & e_ok[None, :]
            xs, _, dt = _load_inputs(x, delta, shift, p, q, e, live, s_xl,
                                     s_xe, s_dl, s_de, SOFTPLUS)
            for i in tl.static_range(TILE):
                qi = _at(order, m, tile * TILE + i, L, HAS_ORDER,
                         PARAMS_IN_ORDER)
                b_n = tl.load(
                    B + qi * s_Bl + n * s_Bn,
                    mask=n_ok & _within(tile * TILE + i, L, n),
                    other=0.)
                dt_e = _row(dt, rows, i)
                dtx_e = dt_e * _row(xs, rows, i)
                h = tl.exp2(
                    dt_e[None, :] * a_ne) * h + dtx_e[None, :] * b_n[:, None]
        tl.debug_barrier()
        for back in range(0, tiles):
            k = tiles - 1 - back
            tile = first + k
            t = tile * TILE + rows
            p, q = _steps(order, m, t, L, HAS_ORDER, PARAMS_IN_ORDER)
            live = (t < L)[:, None] & e_ok[None, :]
            xs, raw, dt = _load_inputs(x, delta, shift, p, q, e, live, s_xl,
                                       s_xe, s_dl, s_de, SOFTPLUS)
            dys = tl.load(
                dy + p[:, None] * s_yl + e[None, :] * s_ye,
                mask=live,
                other=0.).to(tl.float32)
            h = tl.load(states + k * BN * BE + place)
            before = (h, )
            for i in tl.static_range(TILE):
                qi = _at(order, m, tile * TILE + i, L, HAS_ORDER,
                         PARAMS_IN_ORDER)
                b_n = tl.load(
                    B + qi * s_Bl + n * s_Bn,
                    mask=n_ok & _within(tile * TILE + i, L, n),
                    other=0.)
                dt_e = _row(dt, rows, i)
                dtx_e = dt_e * _row(xs, rows, i)
                h = tl.exp2(
                    dt_e[None, :] * a_ne) * h + dtx_e[None, :] * b_n[:, None]
                before = before + (h, )
            dxs = d_skip[None, :] * dys
            ddts = tl.zeros([TILE, BE], tl.float32)
            for i in tl.static_range(TILE - 1, -1, -1):
                qi = _at(order, m, tile * TILE + i, L, HAS_ORDER,
                         PARAMS_IN_ORDER)
                ok = n_ok & _within(tile * TILE + i, L, n)
                b_n = tl.load(B + qi * s_Bl + n * s_Bn, mask=ok, other=0.)
                c_n = tl.load(C + qi * s_Cl + n * s_Cn, mask=ok, other=0.)
                dt_e, x_e = _row(dt, rows, i), _row(xs, rows, i)
                dy_e, dtx_e = _row(dys, rows, i), dt_e * x_e
                decay = tl.exp2(dt_e[None, :] * a_ne)
                kept = decay * before[i]
                g += dy_e[None, :] * c_n[:, None]
                dC_n = tl.sum(dy_e[None, :] * before[i + 1], 1)
                dB_n = tl.sum(g * dtx_e[None, :], 1)
                by_dtx = tl.sum(g * b_n[:, None], 0)
                by_log = g * kept
                # A comes times log2(e): (dt A) / log2(e) is what is in exp
                by_dt = tl.sum(by_log * a_ne, 0) * 0.6931471805599453
                by_dt += by_dtx * x_e
                dA_ne += by_log * dt_e[None, :]
                dxs += tl.where(rows[:, None] == i, (by_dtx * dt_e)[None, :],
                                0.)
                ddts += tl.where(rows[:, None] == i, by_dt[None, :], 0.)
                g = g * decay
                to = qi * N + n
                tl.store(dB + to, dB_n, mask=ok)
                tl.store(dC + to, dC_n, mask=ok)
            if SOFTPLUS:
                ddts = ddts * tl.where(raw > 20., 1., tl.sigmoid(raw))
            ddts = tl.where(live, ddts, 0.)
            dD_e += tl.sum(tl.where(live, dys * xs, 0.), 0)
            dbias_e += tl.sum(ddts, 0)
            at = p[:, None] * E + e[None, :]
            tl.store(dx + at, dxs.to(dx.dtype.element_ty), mask=live)
            at = q[:, None] * E + e[None, :]
            tl.store(ddelta + at, ddts.to(ddelta.dtype.element_ty), mask=live)
        tl.debug_barrier()
    tl.store(dA + pid * E * N + e[None, :] * N + n[:, None], dA_ne, mask=ne_ok)
    if HAS_D:
        tl.store(dD + pid * E + e, dD_e, mask=e_ok)
    if HAS_BIAS:
        tl.store(dbias + pid * E + e, dbias_e, mask=e_ok)


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
