"""Formulas and loops of the Numba variant, compiled at the first request and cached on disk.

It is kernels.pxi in simd.py's words: the same runs, rows, blocks and order of summation, so dalpha has the same bits.
A kernel is a C function on one *run*: n elements that lie one after the other in every operand.  `op` is a constant
of a closure; everything is inlined into it, and LLVM keeps one branch of each `if op == ...`.  There is no Python
object, exception or thread in here.  Numba's cache does not look at simd.py, so its key is given both files' hash.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numba import cfunc, config, from_dtype, njit, types
from numba.core.caching import FunctionCache

from . import simd
from .simd import (
    GROUP,
    LINE,
    Pointer,
    Vector,
    add,
    at,
    fence,
    get,
    join,
    lanes,
    load,
    load_part,
    load_wide,
    load_wide_part,
    mul,
    put,
    scratch,
    splat,
    store,
    store_part,
    stream,
    sum_lanes,
    where_gt,
    where_le,
    zeros,
)

# Every flag of the compiler.  Numba's "numpy" error model leaves out the checks before // and %.
FLAGS = {"error_model": "numpy", "boundscheck": False, "fastmath": False, "forceinline": True}
part = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)

# What an operation computes and reads.  COPY and ADD are the memory limit that the benchmarks compare with.
KERNELS = ("relu", "relu_backward", "prelu", "prelu_backward", "copy", "add")
# np.intp, here and below: Numba compiles a function again for each plain integer that it is called with.
RELU, RELU_BACKWARD, PRELU, PRELU_BACKWARD, COPY, ADD = OPS = tuple(np.arange(len(KERNELS), dtype=np.intp))

RUNNING = 1  # flags of a kernel: alpha runs along the row
STREAM = 2  # use streaming stores (the result is larger than the caches and not in place)
BLOCK = 1024  # elements: 4 or 8 KB of each operand stay in L1 between the two loops of the backward

# ---- formulas: the contract's expressions, one line each -------------------------------------------------------------


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
    """The terms of the sum.  The product is selected, not a factor: inf * 0 would be NaN."""
    return where_gt(x, 0, 0, mul(x, dy))


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
    if op == ADD:
        return add(dy, x)
    return x


@part
def reads_dy(op: int) -> bool:
    """Whether `op` reads dy."""
    return op in (RELU_BACKWARD, PRELU_BACKWARD, ADD)


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
def tail(op: int, y: Pointer, dy: Pointer, x: Pointer, i: int, alpha: Vector, n: int) -> None:
    """The first n < LANES elements of a vector; nothing outside is read or written."""
    v = load_part(x, i, n)
    store_part(y, i, formula(op, load_part(dy, i, n) if reads_dy(op) else v, v, alpha), n)


@part
def unaligned(p: Pointer, i: int) -> int:
    """How many elements p[i] lies behind the last address that can be streamed to."""
    return (simd.address(at(p, i)) & (LINE - 1)) // (LINE // lanes(p))


@part
def constant(op: int, a: Pointer, row: int) -> Vector:
    """The alpha of a row, in every lane."""
    return splat(a, get(a, row)) if reads_alpha(op) else splat(a, 0)


@part
def joined(op: int, a: Pointer, row: int, n: int) -> Vector:
    """The alphas where a row ends after n lanes and the next one begins."""
    return join(splat(a, get(a, row)), splat(a, get(a, row + 1)), n) if reads_alpha(op) else splat(a, 0)


@part
def sweep_rows(
    op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int
) -> None:
    """Elements lo .. hi of a run whose alpha is constant along rows of m.

    Vectors run on across the ends of rows (two slopes are then joined in one vector), so rows of 49
    cost what rows of 64 do and streamed vectors stay aligned.  To stream, lo must be aligned.
    """
    step = lanes(x)
    i = lo
    row = 0
    end = m
    if lo >= m:
        row = lo // m
        end = (row + 1) * m
    while i + step <= hi:
        alpha = constant(op, a, row)
        stop = min(end, hi) - step
        while i <= stop:
            whole(op, streams, y, dy, x, i, alpha)
            i += step
        if i < end and i + step <= hi:
            whole(op, streams, y, dy, x, i, joined(op, a, row, end - i))
            i += step
        if i >= end:
            row += 1
            end += m
    if i < hi:
        alpha = joined(op, a, row, end - i) if end < hi else constant(op, a, row)
        tail(op, y, dy, x, i, alpha, hi - i)


@part
def sweep_running(
    op: int, streams: bool, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int
) -> None:
    """Elements lo .. hi of a run whose alpha runs along with them, with period m."""
    step = lanes(x)
    i = lo
    phase = lo if lo < m else lo % m
    while i + step <= hi:
        whole(op, streams, y, dy, x, i, load(a, phase))
        i += step
        phase += step
        if phase >= m:
            phase -= m
    if i < hi:
        tail(op, y, dy, x, i, load_part(a, phase, hi - i), hi - i)


@part
def sweep(op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, m: int) -> None:
    """The elementwise part of `op` on elements lo .. hi of a run."""
    head = hi
    if flags & STREAM:
        head = min(hi, lo + (lanes(y) - unaligned(y, lo)) % lanes(y))
    if reads_alpha(op) and flags & RUNNING:
        sweep_running(op, False, y, dy, x, a, lo, head, m)
        if head < hi:
            sweep_running(op, True, y, dy, x, a, head, hi, m)
    else:
        sweep_rows(op, False, y, dy, x, a, lo, head, m)
        if head < hi:
            sweep_rows(op, True, y, dy, x, a, head, hi, m)


@part
def map_run(op: int, flags: int, y: Pointer, dy: Pointer, x: Pointer, a: Pointer, n: int, m: int) -> None:
    """An elementwise operation on a run."""
    sweep(op, flags, y, dy, x, a, np.intp(0), n, m)
    if flags & STREAM:
        fence()


# ---- the sum behind dalpha, and the backward of PReLU in one pass over memory ----------------------------------------


@part
def block_sum(dy: Pointer, x: Pointer, lo: int, n: int) -> float:
    """The sum of n <= BLOCK terms: element i goes to lane i mod 16, the last ones as a group that ends at n."""
    total = zeros()
    hi = lo + n
    i = lo
    while i + GROUP <= hi:
        total = add(total, prelu_backward_dalpha(load_wide(dy, i), load_wide(x, i)))
        i += GROUP
    if i < hi:
        if n >= GROUP:
            last = hi - GROUP
            term = prelu_backward_dalpha(load_wide(dy, last), load_wide(x, last))
            term = join(zeros(), term, i - last)
        else:
            term = prelu_backward_dalpha(load_wide_part(dy, lo, n), load_wide_part(x, lo, n))
        total = add(total, term)
    return sum_lanes(total)


@part
def running_sum(acc: Pointer, dy: Pointer, x: Pointer, lo: int, hi: int, m: int) -> None:
    """acc[i mod m] += term i for lo <= i < hi."""
    i = lo
    phase = lo if lo < m else lo % m
    while i + GROUP <= hi:
        term = prelu_backward_dalpha(load_wide(dy, i), load_wide(x, i))
        store(acc, phase, add(load_wide(acc, phase), term))
        i += GROUP
        phase += GROUP
        if phase >= m:
            phase -= m
    if i < hi:
        k = hi - i
        term = prelu_backward_dalpha(load_wide_part(dy, i, k), load_wide_part(x, i, k))
        store_part(acc, phase, add(load_wide_part(acc, phase, k), term), k)


@part
def advance(flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, lo: int, hi: int, n: int, m: int) -> int:
    """Write dx from lo up to hi, or a little less so that the next streamed vector is aligned; where it stopped.

    It never runs ahead of the sum: in place, what the sum has not read yet must still be there.
    """
    if simd.address(dx) == 0:
        return lo
    if hi < n and flags & STREAM:
        hi -= unaligned(dx, hi)
        if hi <= lo:
            return lo
    sweep(PRELU_BACKWARD, flags, dx, dy, x, a, lo, hi, m)
    return hi


@part
def fold(pending: Pointer, count: int, total: float, all_of_them: bool) -> float:
    """`total` after the pending sums that it completes (or after all): pending[q] holds the sum of 2**q blocks."""
    q = 0
    while count >> q:
        if (count >> q) & 1:
            total = get(pending, q) + total
        elif not all_of_them:
            break
        q += 1
    if not all_of_them:
        put(pending, q, total)
    return total


@part
def backward_run(flags: int, dx: Pointer, dy: Pointer, x: Pointer, a: Pointer, acc: Pointer, n: int, m: int) -> None:
    """Write dx (unless null) and acc += sums of terms (unless null): per row, or per phase of a running alpha.

    One pass over memory: a block is summed and, while it is in L1, turned into dx.  Two loops on a
    block cost no more instructions than one (the sum wants its operands widened by converting loads, dx
    as they are) and leave the order of the sum free of what streaming asks of addresses.
    """
    i = done = row = np.intp(0)
    if simd.address(acc) == 0:
        map_run(PRELU_BACKWARD, flags, dx, dy, x, a, n, m)
        return
    if flags & RUNNING:
        while i < n:
            stop = min(n, i + BLOCK)
            running_sum(acc, dy, x, i, stop, m)
            done = advance(flags, dx, dy, x, a, done, stop, n, m)
            i = stop
    elif m <= BLOCK:
        rows = BLOCK // m
        while i < n:
            stop = min(n, i + rows * m)
            while i < stop:
                put(acc, row, get(acc, row) + block_sum(dy, x, i, min(m, n - i)))
                row += 1
                i += m
            done = advance(flags, dx, dy, x, a, done, stop, n, m)
    else:
        pending = scratch(40)
        while i < n:
            stop = min(n, i + m)
            count = 0
            while i < stop:
                k = min(BLOCK, stop - i)
                total = block_sum(dy, x, i, k)
                i += k
                done = advance(flags, dx, dy, x, a, done, i, n, m)
                # Blocks are added in pairs, pairs of pairs ...
                fold(pending, count, total, False)
                count += 1
            put(acc, row, get(acc, row) + fold(pending, count, 0.0, True))
            row += 1
    if simd.address(dx) != 0 and flags & STREAM:
        fence()


# ---- what the driver calls: plain C functions ------------------------------------------------------------------------


def _digest() -> int:
    """What both files say.  Numba's cache looks at this file's time and size only, and not at simd.py at all."""
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in (__file__, simd.__file__)))


def _kernel(op: np.integer, digest: int) -> Callable:
    """The C function of `op`; Numba takes the two integers for constants, and for a part of its cache's key."""

    def run(y, dy, x, a, acc, n, m, flags):
        digest  # noqa: B018 (read here, so that it is in the closure and the key)
        if op == PRELU_BACKWARD:
            backward_run(flags, y, dy, x, a, acc, n, m)
        else:
            map_run(op, flags, y, dy, x, a, n, m)

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
_lock = threading.Lock()


def address(kernel: str, dtype: np.dtype) -> int:
    """The C address of a kernel for float32 or float64 ("relu": also the signed integers), compiled if need be.

    void f(T *y, const T *dy, const T *x, const T *a, double *acc, intptr_t n, intptr_t m, intptr_t flags)
    """
    key = kernel, np.dtype(dtype)
    with _lock:
        if key not in _compiled:
            _compiled[key] = _compile(OPS[KERNELS.index(kernel)], key[1])
        return _compiled[key].address


def cache_folder() -> str | None:
    """Where the machine code is cached, or None where no folder can be written to."""
    try:
        return FunctionCache(_kernel(RELU, 0)).cache_path
    except Exception:
        return None
