"""Formulas and loops of the Numba variant, compiled at the first request and cached on disk.

It is kernels.pxi in simd.py's words: the same runs, rows, blocks and order of summation, so dalpha has the same bits.
A kernel is a C function on one *run*: n elements that lie one after the other in every operand.  `op` is a constant
of a closure; everything is inlined into it, and LLVM keeps one branch of each `if op == ...`.  There is no Python
object, exception or thread in here.  Numba's cache does not look at simd.py, so its key is given both files' hash.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files

import numpy as np
from numba import cfunc, config, from_dtype, njit, types
from numba.core.caching import FunctionCache

from .. import _backends
from . import simd
from .simd import (
    FETCH_AHEAD,
    FETCH_AHEAD_STREAMED,
    GROUP,
    LINE,
    Pointer,
    Vector,
    add,
    add_products_unless_gt,
    at,
    exact_in_double,
    fence,
    fetch,
    get,
    join,
    lanes,
    like,
    load,
    load_part,
    load_wide,
    load_wide_part,
    mul,
    put,
    registers,
    scratch,
    share_products_unless_gt,
    splat,
    store,
    store_part,
    stream,
    stream_lane,
    sum_lanes,
    where_gt,
    where_le,
    zeros,
)

# Every flag of the compiler.  Numba's "numpy" error model leaves out the checks before // and %.
FLAGS = {"error_model": "numpy", "boundscheck": False, "fastmath": False, "forceinline": True}
part = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)
# The same, left as a function of its own where LLVM sees fit: a loop that is called from several others.
apart = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **{**FLAGS, "forceinline": False})

# What an operation computes and reads.  COPY and ADD are the memory limit that the benchmarks compare with.
KERNELS = ("relu", "relu_backward", "prelu", "prelu_backward", "copy", "add")
# np.intp and np.bool_, here and below: Numba compiles a function again for each plain constant that it is called with.
RELU, RELU_BACKWARD, PRELU, PRELU_BACKWARD, COPY, ADD, DALPHA = OPS = tuple(np.arange(len(KERNELS) + 1, dtype=np.intp))

ZERO = np.intp(0)
ORDINARY, STREAMING = np.bool_(False), np.bool_(True)  # stores
RUNNING = 1  # flags of a kernel: alpha runs along the row
STREAM = 2  # use streaming stores (the result is larger than the caches and not in place)
EACH = 4  # acc is not added to: dalpha, in the computing type, gets its single terms
FENCE = 8  # make what was streamed visible to the other threads: this is the last run of several
AGAIN = 32  # an elementwise run of rows that begins anywhere: acc has the three numbers of `Rows`
SLOW = 1.0  # seconds of compilation after which a message is logged
WORTH_ALIGNING = 512  # elements from which it pays to begin at a cache line
TINY = 2.0**-149  # the least float32 above 0
BLOCK = 1024  # elements that are added up in 16 lanes; 4 or 8 KB of each operand stay in L1
TILE = 8  # periods of a running alpha that are added up at once

# ---- formulas: the contract's expressions, one line each -------------------------------------------------------------


Vectors = tuple[Vector, Vector]


@part
def relu(x: Vector) -> Vector:
    """Let x through; +0.0 where x <= 0."""
    return where_le(x, 0, 0, x)


@part
def relu_backward(dy: Vector, x: Vector) -> Vector:
    """Let dy through; +0.0 where x <= 0."""
    return where_le(x, 0, 0, dy)


@part
def prelu(x: Vector, alpha: Vector) -> Vector:
    """Let x > 0 through; alpha * x elsewhere."""
    return where_gt(x, 0, x, mul(alpha, x))


@part
def prelu_backward_dx(dy: Vector, x: Vector, alpha: Vector) -> Vector:
    """Let dy through where x > 0; alpha * dy elsewhere."""
    return where_gt(x, 0, dy, mul(alpha, dy))


@part
def prelu_backward_dalpha(dy: Vector, x: Vector) -> Vector:
    """Where every alpha has one term only: 0.0 + that.  The product is selected, not a factor: inf * 0 would be NaN."""
    product = mul(x, dy)
    total = add(0, product)
    if exact_in_double(x):
        # As if in double: a negative product that is 0 only when rounded to float is -0.0 (found by fuzzing).
        total = where_le(x, -TINY, where_gt(dy, 0, product, total), total)
    return where_gt(x, 0, 0, total)


@part
def prelu_backward_sum(total: Vector, dy: Pointer, x: Pointer, i: int) -> Vector:
    """total + that, for the 16 elements from i on."""
    return add_products_unless_gt(total, x, dy, i, 0)


@part
def prelu_backward_share(total: Vector, following: Vector, dy: Pointer, x: Pointer, i: int, n: int) -> Vectors:
    """The same where one row ends after n elements and the following one begins."""
    return share_products_unless_gt(total, following, x, dy, i, 0, n)


@part
def formula(op: int, dy: Vector, x: Vector, alpha: Vector) -> Vector:
    """What `op` computes elementwise."""
    if op == RELU:
        return relu(x)
    if op == RELU_BACKWARD:
        return relu_backward(dy, x)
    if op == PRELU:
        return prelu(x, alpha)
    if op == PRELU_BACKWARD:
        return prelu_backward_dx(dy, x, alpha)
    if op == DALPHA:
        return prelu_backward_dalpha(dy, x)
    if op == ADD:
        return add(dy, x)
    return x


@part
def reads_dy(op: int) -> bool:
    """Whether `op` reads dy."""
    return op in (RELU_BACKWARD, PRELU_BACKWARD, DALPHA, ADD)


@part
def reads_alpha(op: int) -> bool:
    """Whether `op` reads alpha."""
    return op in (PRELU, PRELU_BACKWARD)


# ---- the elementwise loop --------------------------------------------------------------------------------------------


@part
def whole(op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, i: int, alpha: Vector) -> None:
    """One vector, at element i."""
    v = load(x, i)
    v = formula(op, load(dy, i) if reads_dy(op) else v, v, alpha)
    if streams:
        stream(y, i, v)
    else:
        store(y, i, v)


@part
def fetch_operands(op: int, dy: Pointer, x: Pointer, i: int) -> None:
    """What a streamed loop reads some lines later: from memory prelu takes 1.01 of a copy so, 1.05 to 1.2 without."""
    fetch(x, i + FETCH_AHEAD_STREAMED * lanes(x))
    if reads_dy(op):
        fetch(dy, i + FETCH_AHEAD_STREAMED * lanes(x))


@part
def four(op: int, y: Pointer, dy: Pointer, x: Pointer, i: int, alpha: Vector) -> None:
    """Four vectors, all read before one is written: out of L2 prelu takes 1.08 of a copy so, 1.14 one by one.

    Not for streaming, where four lines written at a time took 1.1 to 1.35 of the limit instead of 1.0.
    """
    step = lanes(x)
    p, q, r, s = load(x, i), load(x, i + step), load(x, i + 2 * step), load(x, i + 3 * step)
    p = formula(op, load(dy, i) if reads_dy(op) else p, p, alpha)
    q = formula(op, load(dy, i + step) if reads_dy(op) else q, q, alpha)
    r = formula(op, load(dy, i + 2 * step) if reads_dy(op) else r, r, alpha)
    s = formula(op, load(dy, i + 3 * step) if reads_dy(op) else s, s, alpha)
    store(y, i, p)
    store(y, i + step, q)
    store(y, i + 2 * step, r)
    store(y, i + 3 * step, s)


@part
def tail(op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, i: int, alpha: Vector, n: int) -> None:
    """The first n < LANES elements of a vector; nothing outside is read or written.

    Streamed, element by element: an ordinary store between streaming ones costs over a microsecond on a busy bus.
    """
    v = load_part(x, i, n)
    v = formula(op, load_part(dy, i, n) if reads_dy(op) else v, v, alpha)
    if streams:
        for k in range(n):
            stream_lane(y, i, v, k)
    else:
        store_part(y, i, v, n)


# The slope of a run's first row, how many there are before they begin again (0: enough), and how much of the first row
# lies before the run.
Rows = tuple[int, int, int]
ONCE = (ZERO, ZERO, ZERO)


@part
def unaligned(p: Pointer, i: int) -> int:
    """How many elements p[i] lies behind the last address that can be streamed to."""
    return (simd.address(at(p, i)) & (LINE - 1)) // (LINE // lanes(p))


@part
def constant(op: int, a: Pointer, row: int) -> Vector:
    """The alpha of a row, in every lane."""
    return splat(a, get(a, row)) if reads_alpha(op) else splat(a, 0)


@part
def after(rows: Rows, row: int) -> int:
    """The row whose slope follows."""
    return row + 1 if row + 1 != rows[1] else ZERO


@part
def joined(op: int, a: Pointer, row: int, following: int, n: int) -> Vector:
    """The alphas where a row ends after n lanes and the following one begins."""
    return join(splat(a, get(a, row)), splat(a, get(a, following)), n) if reads_alpha(op) else splat(a, 0)


@part
def sweep_rows(
    op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int, rows: Rows
) -> None:
    """Elements lo .. hi of a run whose alpha is constant along rows of m.

    Vectors run on across the ends of rows (two slopes are then joined in one vector), so rows of 49
    cost what rows of 64 do and streamed vectors stay aligned.  To stream, lo must be aligned.
    """
    step = lanes(x)
    i = lo
    row = rows[0]
    end = m - rows[2]
    if lo >= end:
        row += (lo + rows[2]) // m
        end += (lo + rows[2]) // m * m
        if rows[1]:
            row %= rows[1]
    while i + step <= hi:
        alpha = constant(op, a, row)
        stop = min(end, hi) - step
        while reads_alpha(op) and not streams and m >= 16 * step and i <= stop - 3 * step:
            four(op, y, dy, x, i, alpha)
            i += 4 * step
        while i <= stop:
            whole(op, streams, y, dy, x, i, alpha)
            if streams and reads_alpha(op):
                fetch_operands(op, dy, x, i)
            i += step
        if i < end and i + step <= hi:
            whole(op, streams, y, dy, x, i, joined(op, a, row, after(rows, row), end - i))
            i += step
        if i >= end:
            row = after(rows, row)
            end += m
    if i < hi:
        alpha = joined(op, a, row, after(rows, row), end - i) if end < hi else constant(op, a, row)
        tail(op, streams, y, dy, x, i, alpha, hi - i)


@part
def sweep_running(
    op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int
) -> None:
    """Elements lo .. hi of a run whose alpha runs along with them, with period m."""
    step = lanes(x)
    i = lo
    ahead = (lo if lo < m else lo % m) - lo  # slope i + ahead belongs to element i
    while i + step <= hi:
        stop = min(m - ahead, hi - step + 1)
        while i < stop:
            whole(op, streams, y, dy, x, i, load(a, i + ahead))
            if streams:
                fetch_operands(op, dy, x, i)
                if m >= hi:
                    fetch(a, i + ahead + FETCH_AHEAD_STREAMED * step)
            elif m < hi:
                fetch(x, i + FETCH_AHEAD * step)  # out of L2 prelu takes 1.09 of a copy with this, 1.14 to 1.3 without
            i += step
        if i + ahead >= m:
            ahead -= m
    if i < hi:
        tail(op, streams, y, dy, x, i, load_part(a, i + ahead, hi - i), hi - i)


@part
def sweep_aligned(
    op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int, rows: Rows
) -> None:
    """One of the loops above; to stream whole vectors, lo must be aligned."""
    if reads_alpha(op) and flags & RUNNING:
        if flags & STREAM:
            sweep_running(op, STREAMING, y, dy, x, a, lo, hi, m)
        else:
            sweep_running(op, ORDINARY, y, dy, x, a, lo, hi, m)
    elif flags & STREAM:
        sweep_rows(op, STREAMING, y, dy, x, a, lo, hi, m, rows)
    else:
        sweep_rows(op, ORDINARY, y, dy, x, a, lo, hi, m, rows)


@part
def alpha_at(op: int, flags: int, a: Pointer, lo: int, n: int, m: int, rows: Rows) -> Vector:
    """The alphas of the n < LANES elements from lo on."""
    if not reads_alpha(op):
        return splat(a, 0)
    if flags & RUNNING:
        return load_part(a, lo % m, n)
    past = lo + rows[2]
    row = rows[0] + past // m
    if rows[1]:
        row %= rows[1]
    end = m - past % m
    return constant(op, a, row) if end >= n else joined(op, a, row, after(rows, row), end)


@part
def sweep(
    op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int, rows: Rows
) -> None:
    """The elementwise part of `op` on elements lo .. hi of a run."""
    # Stores that cross two lines cost a fifth in L2, so what is worth it begins with less than a vector.
    head = min(hi - lo, (lanes(y) - unaligned(y, lo)) % lanes(y))
    if head and (flags & STREAM or hi - lo >= WORTH_ALIGNING):
        alpha = alpha_at(op, flags, a, lo, head, m, rows)
        if flags & STREAM:
            tail(op, STREAMING, y, dy, x, lo, alpha, head)
        else:
            tail(op, ORDINARY, y, dy, x, lo, alpha, head)
        lo += head
    sweep_aligned(op, flags, y, dy, x, a, lo, hi, m, rows)


@part
def rows_of(op: int, flags: int, acc: Pointer) -> Rows:
    """What a run says of its rows."""
    if reads_alpha(op) and flags & AGAIN:
        return np.intp(get(acc, 0)), np.intp(get(acc, 1)), np.intp(get(acc, 2))
    return ONCE


@part
def map_run(op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int) -> None:
    """An elementwise operation on a run."""
    sweep(op, flags, y, dy, x, a, ZERO, n, m, rows_of(op, flags, acc))
    if flags & FENCE:
        fence()


@part
def plain(op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, n: int) -> None:
    """`sweep` for an operation without alpha."""
    step = lanes(y)
    none = splat(x, 0)
    i = ZERO
    head = min(n, (step - unaligned(y, i)) % step)
    if head and (streams or n >= WORTH_ALIGNING):
        tail(op, streams, y, dy, x, i, none, head)
        i += head
    while i + step <= n:
        whole(op, streams, y, dy, x, i, none)
        i += step
    if i < n:
        tail(op, streams, y, dy, x, i, none, n - i)


@part
def plain_run(op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, n: int) -> None:
    """An elementwise operation without alpha on a run.

    It is what map_run comes to for such an operation, apart for Numba's sake: relu's first call takes half the time,
    because the functions that know of alpha need not be compiled.
    """
    if flags & STREAM:
        plain(op, STREAMING, y, dy, x, n)
    else:
        plain(op, ORDINARY, y, dy, x, n)
    if flags & FENCE:
        fence()


# ---- the sum behind dalpha, and the backward of PReLU in one pass over memory ----------------------------------------


@apart
def sweep_dx(
    flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int, rows: Rows
) -> None:
    """Elements lo .. hi of dx."""
    sweep(PRELU_BACKWARD, flags, dx, dy, x, a, lo, hi, m, rows)


@apart
def sweep_dalpha(flags: int, dalpha: Pointer, dy: Pointer, x: Pointer, lo: int, hi: int) -> None:
    """Elements lo .. hi of a dalpha of single terms."""
    sweep(DALPHA, flags, dalpha, dy, x, x, lo, hi, hi, ONCE)


@part
def aligned(flags: int, y: Pointer, hi: int, n: int) -> int:
    """How far y may go now: up to hi, or a little less so that the next streamed vector is aligned."""
    return hi - unaligned(y, hi) if hi < n and flags & STREAM else hi


@part
def push(pending: Pointer, count: int, total: float) -> None:
    """Blocks are added in pairs, pairs of pairs ...: pending[d] holds the sum of 2**d of the `count` before this."""
    d = 0
    while (count >> d) & 1:
        total = get(pending, d) + total
        d += 1
    put(pending, d, total)


@part
def folded(pending: Pointer, count: int, total: float) -> float:
    """The sum of `count` blocks and a last one."""
    d = 0
    while count >> d:
        if (count >> d) & 1:
            total = get(pending, d) + total
        d += 1
    return total


@part
def terms_part(total: Vector, dy: Pointer, x: Pointer, i: int, at_: int, n: int) -> Vector:
    """prelu_backward_sum for n < GROUP elements from i on, the lanes from `at_` on."""
    g = scratch(GROUP)
    v = scratch(GROUP)
    store(g, 0, load_wide_part(dy, i, at_, n))
    store(v, 0, load_wide_part(x, i, at_, n))
    return prelu_backward_sum(total, g, v, ZERO)


# What is done about dx in the loop of a sum: nothing, an ordinary or a streaming store.
ALONE, STORED, STREAMED = np.arange(3, dtype=np.intp)


@part
def dx_rows(how: int, dx: Pointer, dy: Pointer, x: Pointer, i: int, alpha: Vector, following: Vector, n: int) -> None:
    """dx of a group: one alpha for the first n elements, the following one for the others."""
    d = 0
    while how != ALONE and d < GROUP:
        given = alpha if n >= GROUP else join(alpha, following, n - d)
        whole(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, given)
        d += lanes(x)


@part
def dx_group(how: int, dx: Pointer, dy: Pointer, x: Pointer, i: int, a: Pointer, phase: int, n: int) -> None:
    """n <= GROUP elements of dx whose alpha runs along with them."""
    d = 0
    while how != ALONE and d + lanes(x) <= n:
        whole(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, load(a, phase + d))
        d += lanes(x)
    if how != ALONE and d < n:
        tail(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, load_part(a, phase + d, n - d), n - d)


@part
def fetch_group(dy: Pointer, x: Pointer, i: int) -> None:
    """Every line of a group that comes later: with half of them doubles took 1.10 to 1.20 of the limit from memory."""
    d = 0
    while d < GROUP:
        fetch(dy, i + d)
        fetch(x, i + d)
        d += lanes(x)


@part
def sum_rows(
    how: int, flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int
) -> None:
    """acc[row] += the sum of its terms, and dx.

    Element i of the run goes to lane i mod 16, whatever its address; the first 1024 elements of a row, up to a
    multiple of 16, are a block, and so on.  Vectors begin where x (streamed: dx) has a cache line (crossing lines costs
    a fifth in L2), so they hold the lanes rotated, which sum_lanes does not see; one in which a block or row ends is
    shared out.
    """
    ahead = (FETCH_AHEAD_STREAMED if how == STREAMED else FETCH_AHEAD) * lanes(x)
    pending = scratch(40)
    total = zeros()
    alpha = splat(x, 0)
    row = end = i = ZERO
    if how == STREAMED:
        i = -unaligned(dx, ZERO)
    elif n >= WORTH_ALIGNING:
        i = -unaligned(x, ZERO)
    if i:
        shift = -i
        i = min(i + GROUP, n)
        total = terms_part(total, dy, x, ZERO, shift, i)
        if how != ALONE:
            sweep_dx(flags, dx, dy, x, a, ZERO, i, m, ONCE)
    while end < n:
        block = (end + GROUP - 1) & -GROUP
        end += m
        count = ZERO
        if how != ALONE:
            alpha = splat(a, get(a, row))
        while True:
            block += BLOCK
            stop = block if block < (end & -GROUP) else end
            while i + GROUP <= stop:
                total = prelu_backward_sum(total, dy, x, i)
                fetch_group(dy, x, i + ahead)
                dx_rows(how, dx, dy, x, i, alpha, alpha, np.intp(GROUP))
                i += GROUP
            following = zeros()
            if i < stop and i + GROUP <= n:
                total, following = prelu_backward_share(total, following, dy, x, i, stop - i)
                fetch_group(dy, x, i + ahead)
                if how != ALONE:
                    next_alpha = splat(a, get(a, row + (stop == end)))
                    dx_rows(how, dx, dy, x, i, alpha, next_alpha, stop - i)
                i += GROUP
            elif i < stop:
                total = terms_part(total, dy, x, i, ZERO, n - i)
                if how != ALONE:
                    sweep_dx(flags, dx, dy, x, a, i, n, m, ONCE)
                i = n
            if stop == end:
                break
            push(pending, count, sum_lanes(total))
            count += 1
            total = following
        put(acc, row, get(acc, row) + folded(pending, count, sum_lanes(total)))
        total = following
        row += 1


@part
def running_group(
    how: int, total: Vector, dx: Pointer, dy: Pointer, x: Pointer, i: int, a: Pointer, phase: int, ahead: int
) -> Vector:
    """total + the terms of a group, and its dx."""
    total = prelu_backward_sum(total, dy, x, i)
    fetch_group(dy, x, i + ahead)
    dx_group(how, dx, dy, x, i, a, phase, np.intp(GROUP))
    return total


@part
def sum_running(how: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int) -> None:
    """acc[i mod m] += term i in the order of i, and dx.

    Several periods are added up side by side (of 64: all), so that acc and a are read once for all of them.
    """
    ahead = (FETCH_AHEAD_STREAMED if how == STREAMED else FETCH_AHEAD) * lanes(x)
    if m > 4 * GROUP and TILE * m <= BLOCK:
        ahead = TILE * m  # the next periods, where the processor does not look by itself
    i = ZERO
    while i < n:
        stop = i + m
        if n - i > m:
            periods = (n - i) // m
            stop = i + (periods if m == 4 * GROUP else min(TILE, periods)) * m
        width = min(m, n - i)
        phase = ZERO
        while registers() >= 4 and phase + 4 * GROUP <= width:
            # Four groups in registers over all periods: storing acc each time costs as much as all the rest.
            total, second = load_wide(acc, phase), load_wide(acc, phase + GROUP)
            third, fourth = load_wide(acc, phase + 2 * GROUP), load_wide(acc, phase + 3 * GROUP)
            j = i + phase
            while j < stop:
                total = running_group(how, total, dx, dy, x, j, a, phase, ahead)
                second = running_group(how, second, dx, dy, x, j + GROUP, a, phase + GROUP, ahead)
                third = running_group(how, third, dx, dy, x, j + 2 * GROUP, a, phase + 2 * GROUP, ahead)
                fourth = running_group(how, fourth, dx, dy, x, j + 3 * GROUP, a, phase + 3 * GROUP, ahead)
                j += m
            store(acc, phase, total)
            store(acc, phase + GROUP, second)
            store(acc, phase + 2 * GROUP, third)
            store(acc, phase + 3 * GROUP, fourth)
            phase += 4 * GROUP
        while phase + GROUP <= width:
            total = load_wide(acc, phase)
            j = i + phase
            while j < stop:
                total = running_group(how, total, dx, dy, x, j, a, phase, ahead)
                j += m
            store(acc, phase, total)
            phase += GROUP
        k = width - phase
        if k > 0:
            # The lanes past the period hold +0.0, and what is read there is left out (in place, it may be dx already).
            total = load_wide(acc, phase)
            j = i + phase
            while j < stop:
                if j + GROUP <= n:
                    total = prelu_backward_share(total, zeros(), dy, x, j, k)[0]
                else:
                    total = terms_part(total, dy, x, j, ZERO, k)
                dx_group(how, dx, dy, x, j, a, phase, k)
                j += m
            store(acc, phase, total)
        i = stop


@part
def sum_aligned(
    how: int, flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int
) -> None:
    """sum_running, its periods of whole groups begun where x (streamed: dx) has a cache line (see sum_rows).

    acc then goes on past its end for what lies before that, as a does.
    """
    head = (lanes(x) - unaligned(dx if how == STREAMED else x, ZERO)) % lanes(x)
    if how == STORED and (m % GROUP or n < WORTH_ALIGNING or n <= m):
        head = ZERO
    if head:
        store(acc, m, terms_part(load_wide(acc, 0), dy, x, ZERO, ZERO, head))
        sweep_dx(flags, dx, dy, x, a, ZERO, head, m, ONCE)
    sum_running(how, at(dx, head), at(dy, head), at(x, head), at(a, head), at(acc, head), n - head, m)
    for k in range(head):
        put(acc, k, get(acc, m + k))


@part
def sum_streamed(flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int) -> None:
    """The same with dx streamed, for any period: one group after the other, which begin where dx has a cache line.

    One in which a period ends is shared out between acc's end and its beginning, before which it is read and written
    unchanged.
    """
    ahead = FETCH_AHEAD_STREAMED * lanes(x)
    head = min(n, (lanes(x) - unaligned(dx, ZERO)) % lanes(x))
    i = phase = head
    if head:
        store(acc, 0, terms_part(load_wide(acc, 0), dy, x, ZERO, ZERO, head))
        sweep_dx(flags, dx, dy, x, a, ZERO, head, m, ONCE)
    while i + GROUP <= n:
        last = i + min(n - i, m - phase) - GROUP
        while i <= last:
            store(acc, phase, running_group(STREAMED, load_wide(acc, phase), dx, dy, x, i, a, phase, ahead))
            i += GROUP
            phase += GROUP
        if phase < m and i + GROUP <= n:
            total, following = load_wide(acc, phase), load_wide(acc, phase - m)
            total, following = prelu_backward_share(total, following, dy, x, i, m - phase)
            store(acc, phase, total)
            store(acc, phase - m, following)
            fetch_group(dy, x, i + ahead)
            dx_group(STREAMED, dx, dy, x, i, a, phase, np.intp(GROUP))
            i += GROUP
            phase += GROUP
        if phase >= m:
            phase -= m
    if i < n:
        sweep_dx(flags, dx, dy, x, a, i, n, m, ONCE)
    while i < n:
        k = min(n - i, m - phase)
        store(acc, phase, terms_part(load_wide(acc, phase), dy, x, i, ZERO, k))
        i += k
        phase = ZERO


@part
def each_term(flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, dalpha: Pointer, n: int, m: int) -> None:
    """Every alpha has one term: dalpha is as elementwise as dx.  The first of a block, for dx may be in place."""
    done = made = stop = ZERO
    while stop < n:
        stop = min(n, stop + BLOCK)
        hi = aligned(flags, dalpha, stop, n)
        if hi > made:
            sweep_dalpha(flags, dalpha, dy, x, made, hi)
            made = hi
        if simd.address(dx) != 0:
            hi = aligned(flags, dx, made, n)
            if hi > done:
                sweep_dx(flags, dx, dy, x, a, done, hi, m, ONCE)
                done = hi


# ---- what the driver calls: plain C functions ------------------------------------------------------------------------


def _digest() -> int:
    """What both files say.  Numba's cache looks at this file's time and size only, and not at simd.py at all."""
    folder = files(__package__)  # which may be a zip archive
    return zlib.crc32(b"".join((folder / name).read_bytes() for name in ("kernels.py", "simd.py")))


def _kernel(op: np.integer, digest: int) -> Callable:
    """The C function of `op`; Numba takes the two integers for constants, and for a part of its cache's key."""
    if op == PRELU_BACKWARD:
        return _backward_kernel(digest)

    def run(y, dy, x, a, acc, n, m, flags):
        digest  # noqa: B018 (read here, so that it is in the closure and the key)
        if op == PRELU:
            map_run(op, flags, y, dy, x, a, acc, n, m)
        else:
            plain_run(op, flags, y, dy, x, n)

    return run


def _backward_kernel(digest: int) -> Callable:
    """PReLU's backward: write dx (unless null) and acc += sums of terms (unless null), per row or phase of alpha.

    One pass over memory: dx is made in the loop of the sum, which shares its comparison, its loads and half the loop.
    These lines are not a function that `run` calls: Numba would compile all that they contain twice (1 s of 7).
    """

    def run(dx, dy, x, a, acc, n, m, flags):
        digest  # noqa: B018 (as above)
        if simd.address(acc) == 0 or flags & AGAIN:
            sweep_dx(flags, dx, dy, x, a, ZERO, n, m, rows_of(PRELU_BACKWARD, flags, acc))
        elif flags & EACH:
            each_term(flags, dx, dy, x, a, like(acc, x), n, m)
        elif simd.address(dx) == 0:
            if flags & RUNNING:
                sum_running(ALONE, dx, dy, x, a, acc, n, m)
            else:
                sum_rows(ALONE, flags, dx, dy, x, a, acc, n, m)
        elif flags & STREAM:
            if flags & RUNNING and m == 4 * GROUP and n > 2 * m:
                sum_aligned(STREAMED, flags, dx, dy, x, a, acc, n, m)
            elif flags & RUNNING:
                sum_streamed(flags, dx, dy, x, a, acc, n, m)
            else:
                sum_rows(STREAMED, flags, dx, dy, x, a, acc, n, m)
        elif flags & RUNNING:
            sum_aligned(STORED, flags, dx, dy, x, a, acc, n, m)
        else:
            sum_rows(STORED, flags, dx, dy, x, a, acc, n, m)
        if flags & FENCE:
            fence()

    return run


def _compile(op: np.integer, dtype: np.dtype):
    """The C callback of `op`, from the disk cache where there is one that works."""
    data = Pointer(from_dtype(dtype))
    signature = types.void(data, data, data, data, Pointer(types.float64), types.intp, types.intp, types.intp)
    if config.DISABLE_JIT:
        raise RuntimeError('NUMBA_DISABLE_JIT is set: without compilation there is no backend "numba"')
    try:
        return cfunc(signature, cache=True, **FLAGS)(_kernel(op, _digest()))
    except Exception:
        # No folder to write to, a full disk, a damaged cache: none of them is a reason not to compute.  A fault of
        # our own comes up again here.
        compiled = cfunc(signature, **FLAGS)(_kernel(op, 0))
    with suppress(Exception):
        FunctionCache(compiled.__wrapped__).flush()  # if the cache is damaged, the next process fills it afresh
    return compiled


_compiled: dict[tuple[str, np.dtype], object] = {}  # keeps the machine code alive


def address(kernel: str, dtype: np.dtype) -> int:
    """The C address of a kernel for float32 or float64 ("relu": also the signed integers), compiled if need be.

    void f(T *y, const T *dy, const T *x, const T *a, double *acc, intptr_t n, intptr_t m, intptr_t flags)
    """
    key = kernel, np.dtype(dtype)
    with _backends.forks.lock:
        if key not in _compiled:
            with _told_if_slow(kernel, key[1]):
                _compiled[key] = _compile(OPS[KERNELS.index(kernel)], key[1])
        return _compiled[key].address


@contextmanager
def _told_if_slow(kernel: str, dtype: np.dtype) -> Iterator[None]:
    """Log what is going on after a second of compilation: nobody expects a first call to take long."""
    folder = cache_folder()

    def tell() -> None:
        kept = (
            f"once; it is cached in {folder}" if folder else "in every process, for no cache folder can be written to"
        )
        logging.getLogger("fastact").warning(
            "fastact is compiling %s for %s with Numba, which takes some seconds, %s. "
            "fastact.warmup() does it ahead of time; the Cython backend needs no compilation.", kernel, dtype, kept
        )  # fmt: skip

    timer = threading.Timer(SLOW, tell)
    timer.daemon = True
    with suppress(RuntimeError):  # no thread can be had: no message
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()  # no fork may come while it holds a lock


def cache_folder() -> str | None:
    """Where the machine code is cached, or None where no folder can be written to."""
    try:
        return FunctionCache(_kernel(RELU, 0)).cache_path
    except Exception:
        return None
