"""The only policy: which backend, SIMD level and kernel, how many threads, streaming or not, staged or not.

`elementwise` and `backward` are what the public functions call.  Arguments are checked first (_arguments),
then a plan is looked up or made (_layout), then the driver runs it.  Thresholds are stated here with the
measurement behind them; formulas and strides are other rooms' business.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from . import _backends, _built, _cpu, _layout, _settings, _staging
from ._arguments import Call, prepare
from ._operations import OPERATIONS, Operation

# A second thread costs 1.6 us: its start, the wait for it, lines that change hands.  A core moves 50 to 100 GB/s out of
# its L2.  Measured, two threads against one, by the bytes of a call: relu 1.62 at 128 KB, 0.82 at 256 KB;
# prelu_backward 1.0 at 192 KB, 0.76 at 384 KB.
BYTES_PER_THREAD = 128 << 10
BYTES_PER_SUMMING_THREAD = 192 << 10
# Streaming stores leave the result out of the caches, and do not read its lines first.  They pay as soon as what a
# call reads and writes is more than the caches that are a core's own: measured (copy, add; streamed against
# ordinary) 1.8 and 1.5 at 1.5 MB for each thread, 0.81 and 0.84 at 3 MB on a core with 2 MB of L2, 0.6 for 200 MB.
# A last-level cache that is ours holds a result for its next reader, so there they wait until three quarters of it are
# used; one that is reported at more than 32 MB a core belongs to a socket whose other cores this machine does not show.
_L3 = _cpu.caches()["L3"]
STREAM_BYTES = 3 * _L3 // 4 if _cpu.sharing() * (32 << 20) >= _L3 else 0
STREAM_BYTES_PER_THREAD = 5 * _cpu.caches()["L2"] // 4

_STREAM, _EACH = 2, 4  # flags of a kernel


def elementwise(name: str, dy, x, alpha, channel_axis, out, backend, n_threads) -> np.ndarray:
    """The result of an operation with one output."""
    return _run(OPERATIONS[name], dy, x, alpha, channel_axis, True, False, out, None, backend, n_threads)[0]


def backward(name: str, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads):
    """(dx, dalpha), each None where it is not needed."""
    if not isinstance(out, tuple) or len(out) != 2:
        given = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out must be a tuple of two, (dx, dalpha), each an array or None; not {given}")
    return _run(OPERATIONS[name], dy, x, alpha, channel_axis, bool(need), bool(need_dalpha), *out, backend, n_threads)


def _run(op: Operation, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out, backend, n_threads):
    if backend is not None:
        _backends.require(_settings.check_backend(backend))
    if n_threads is not None:
        n_threads = _settings.check_threads(n_threads)
    call = prepare(op, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out)
    backend = backend or _settings.get_backend()
    result = call.out
    if call.need and result is None:
        result = empty_like(call.x, call.dtype)
    sums, into, dalpha = None, None, call.dalpha_out
    if call.need_dalpha:  # all memory before dx is written, which may be in place
        if backend != "numpy" and call.alpha.size == call.x.size and call.dalpha_dtype == call.dtype:
            into = _single_terms(call)
        if dalpha is None and into is None:
            dalpha = np.empty(call.alpha_shape, call.dalpha_dtype)
    if backend == "numpy":
        sums = _reference(op, call, result)
    elif call.need or call.need_dalpha:
        sums = compute(op, call.dy, call.x, call.alpha, call.dtype, result, call.need_dalpha, backend, n_threads, into)
    dalpha = _rounded(call, sums, into, dalpha)
    return (result if out is None else out), (dalpha if dalpha_out is None else dalpha_out)


def _single_terms(call: Call) -> np.ndarray | None:
    """Memory in x's shape for a dalpha of single terms, which a kernel may write as it writes dx."""
    if call.dalpha_out is None:
        return empty_like(call.alpha, call.dtype)
    if call.dalpha_out.ndim < call.x.ndim and not call.dalpha_out.flags.c_contiguous:
        return None
    return call.dalpha_out.reshape(call.x.shape)


def empty_like(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Memory for a fresh result, in the axis order of np.empty_like(x)."""
    if _built.buffers is not None:
        return _built.buffers.empty_like(x, dtype)
    return np.empty_like(x, dtype=dtype, subok=False)


def _rounded(call: Call, sums, into, dalpha) -> np.ndarray | None:
    """dalpha as the user gets it: rounded once from float64, in alpha's shape."""
    if sums is None:
        return None
    if sums is into:
        return into.reshape(call.alpha_shape) if dalpha is None else dalpha
    if dalpha is None:  # `into` could not be used
        dalpha = np.empty(call.alpha_shape, call.dalpha_dtype)
    with np.errstate(all="ignore"):
        np.copyto(dalpha, sums.reshape(call.alpha_shape), casting="same_kind")
    return dalpha


def _reference(op: Operation, call: Call, result: np.ndarray | None) -> np.ndarray | None:
    """The NumPy backend: the contract's expressions; dalpha first, for dx may be in place."""
    sums = None
    with np.errstate(all="ignore"):
        x = call.x.astype(call.dtype, copy=False)
        operands = [x] if call.dy is None else [call.dy.astype(call.dtype, copy=False), x]
        if call.alpha is not None:
            operands.append(call.alpha.astype(call.dtype, copy=False))
        if call.need_dalpha:
            sums = op.dalpha(*operands)
        if result is not None:
            result[...] = op.reference(*operands)
    return sums


_make_plan = lru_cache(maxsize=4096)(_layout.make_plan)
_NO_ALPHA: dict[int, tuple[int, ...]] = {n: (1,) * n for n in range(65)}


def compute(
    op: Operation, dy, x, alpha, dtype, result, need_dalpha, backend, n_threads, into=None
) -> np.ndarray | None:
    """Write `result` (unless None) by a compiled backend; return dalpha's float64 sums in alpha's shape.

    Where every alpha has one term, `into` (of x's shape and dtype) is written and returned instead, if it can be.
    """
    if x.size == 0:
        return np.zeros(alpha.shape) if need_dalpha else None
    if dtype.kind in "bu":
        np.copyto(result, x)  # never below 0: relu is a copy
        return None
    if alpha is not None and alpha.size <= _staging.TILE:
        with np.errstate(all="ignore"):
            alpha = np.require(alpha, dtype, ["A"])
    arrays = [a for a in (result, dy, x, alpha) if a is not None]
    direct = all(a.dtype == dtype and a.dtype.isnative for a in arrays)
    plan = None
    if direct:
        order = _layout.memory_order(x)
        alpha_shape = _NO_ALPHA[x.ndim] if alpha is None else alpha.shape
        strides = tuple((x if a is None else a).strides for a in (result, dy, x))
        if into is not None and (not into.transpose(order).flags.c_contiguous or not into.flags.aligned or x.size == 1):
            into = None
        plan = _make_plan(x.shape, strides, dtype.itemsize, alpha_shape, order, need_dalpha and into is None)
        if plan is not None and alpha is not None and not _cheap_alpha(plan, alpha):
            plan = None
    if plan is None:
        return _staging.compute(op, dy, x, alpha, dtype, result, need_dalpha, backend, n_threads)
    return _execute(op, plan, dy, x, alpha, dtype, result, need_dalpha, backend, n_threads, into)


def _cheap_alpha(plan: _layout.Plan, alpha: np.ndarray) -> bool:
    """Whether alpha can be read where it lies, or its pattern is no more than a cache-sized scratch."""
    if alpha.size * plan.repeats * plan.copies <= _staging.TILE:
        return True
    return (not plan.running or plan.repeats == 1) and alpha.transpose(plan.order).flags.c_contiguous


def _execute(op, plan, dy, x, alpha, dtype, result, need_dalpha, backend, n_threads, into) -> np.ndarray | None:
    """Run a plan through the driver."""
    pattern = sums = None
    if alpha is not None:
        dense = np.ascontiguousarray(alpha.transpose(plan.order))
        pattern = _layout.alpha_pattern(plan, dense)
    if need_dalpha:
        sums = np.empty(alpha.size) if into is None else into
    flags = 0 if into is None else _EACH
    traffic = x.nbytes * (1 + (result is not None) + (dy is not None) + (into is not None))
    if alpha is not None and alpha.size == x.size:
        traffic += x.nbytes
    threads, share = 1, BYTES_PER_SUMMING_THREAD if need_dalpha else BYTES_PER_THREAD
    if traffic >= 2 * share:
        threads = min(_settings.thread_bound(n_threads), traffic // share)
    large = traffic >= max(STREAM_BYTES, threads * STREAM_BYTES_PER_THREAD) and result is not None and dtype.kind == "f"
    # What starts in the middle of an element can be run, but never reaches an address that can be streamed to.
    large = large and result.flags.aligned
    if large and not any(a is not None and np.may_share_memory(result, a) for a in (x, dy)):
        flags |= _STREAM
    address = _backends.kernel_address(backend, op.kernel, dtype)
    addresses = tuple(0 if a is None else a.ctypes.data for a in (result, dy, x, pattern))
    _backends.execute(address, addresses, plan, dtype.itemsize, flags, threads, sums)
    if sums is into:
        return into
    # From alpha's memory order back to its axes.
    shape = tuple(alpha.shape[axis] for axis in plan.order)
    return sums.reshape(shape).transpose(np.argsort(plan.order)) if alpha.ndim else sums.reshape(())


def bind_traffic(kernel: str, out: np.ndarray, dy: np.ndarray | None, x: np.ndarray, stream: bool, threads: int):
    """A kernel of the limit (copy, add) bound to dense arrays of one dtype: see _limit.py."""
    strides = (out.strides, out.strides, x.strides)
    plan = _make_plan(x.shape, strides, x.itemsize, _NO_ALPHA[x.ndim], _layout.memory_order(x), False)
    backend = "cython" if not _backends.missing("cython") else "numba"
    address = _backends.kernel_address(backend, kernel, x.dtype)
    addresses = tuple(0 if a is None else a.ctypes.data for a in (out, dy, x, None))
    return _backends.Bound(address, addresses, plan, x.itemsize, _STREAM if stream else 0, threads)


def describe_policy() -> dict[str, Any]:
    """The thresholds in force, for config()."""
    return {
        "stream_bytes": STREAM_BYTES,
        "stream_bytes_per_thread": STREAM_BYTES_PER_THREAD,
        "bytes_per_thread": BYTES_PER_THREAD,
        "bytes_per_summing_thread": BYTES_PER_SUMMING_THREAD,
    }
