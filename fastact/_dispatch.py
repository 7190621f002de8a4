"""From a checked call to the results: which memory, which backend, as it lies or buffered.

`elementwise` and `backward` are what the public functions call where the compiled fast path does not take a call.
Arguments are checked first (_arguments); then operands that can be run as they lie are launched (_launch makes the
plan), and others go through a scratch tile by tile (_buffered), each tile through the same launch.
"""

import numpy as np

from . import _arguments, _backends, _buffered, _built, _settings, reference
from ._arguments import Call
from ._launch import launch
from ._plan import memory_order
from ._tables import OPERATIONS, TILE_ELEMENTS, TYPES, Operation


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
    call = _arguments.prepare(op, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out)
    backend = backend or _settings.get_backend()
    result = call.out
    if call.need and result is None:
        result = empty_like(call.x, call.dtype)
    terms, dalpha = None, call.dalpha_out
    if call.need_dalpha:  # all memory before dx is written, which may be in place
        if backend != "numpy" and call.alpha.size == call.x.size and call.dalpha_dtype == call.dtype:
            terms = _single_terms(call)
        if dalpha is None:
            dalpha = np.empty(call.alpha_shape, call.dalpha_dtype) if terms is None else terms.reshape(call.alpha_shape)
    if backend == "numpy":
        sums = _reference(op, call, result)
    elif call.need or call.need_dalpha:
        sums = compute(op, call, result, terms, backend, _settings.explicit_threads(n_threads))
    else:
        sums = None
    if sums is not None and sums is not terms:
        with np.errstate(all="ignore"):
            np.copyto(dalpha, sums.reshape(call.alpha_shape), casting="same_kind")  # rounds, where that is to be done
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


def _reference(op: Operation, call: Call, result: np.ndarray | None) -> np.ndarray | None:
    """The NumPy backend: the contract's expressions; dalpha first, for dx may be in place."""
    sums = None
    with np.errstate(all="ignore"):
        x = call.x.astype(call.dtype, copy=False)
        operands = [x] if call.dy is None else [call.dy.astype(call.dtype, copy=False), x]
        if call.alpha is not None:
            operands.append(call.alpha.astype(call.dtype, copy=False))
        if call.need_dalpha:
            sums = getattr(reference, op.dalpha)(*operands)
        if result is not None:
            result[...] = getattr(reference, op.reference)(*operands)
    return sums


def compute(op: Operation, call: Call, result, terms, backend: str, threads: int) -> np.ndarray | None:
    """Write `result` (unless None) by a compiled backend; dalpha in alpha's shape, where it is needed.

    Where every slope has one term, `terms` (of x's shape and dtype) is written and returned, if it can be.  `threads`
    is the bound that somebody asked for, or 0.
    """
    x, alpha, dtype = call.x, call.alpha, call.dtype
    if x.size == 0:
        return np.zeros(alpha.shape) if call.need_dalpha else None
    if dtype.kind in "bu":
        np.copyto(result, x)  # never below 0: relu is a copy
        return None
    if alpha is not None and alpha.size <= TILE_ELEMENTS:
        with np.errstate(all="ignore"):
            alpha = np.require(alpha, dtype, ["A"])
    operands = result, call.dy, x, alpha
    order = memory_order(x)
    kernel = _backends.kernel_address(backend, op.kernel, dtype)
    # alpha is read where it lies, or a copy of it is no more than a cache-sized scratch.
    small = alpha is None or alpha.size <= TILE_ELEMENTS or alpha.transpose(order).flags.c_contiguous
    if small and all(a is None or a.dtype == dtype for a in operands):
        slopes = None if alpha is None else np.ascontiguousarray(alpha.transpose(order))
        single = terms is not None and terms.transpose(order).flags.c_contiguous and terms.flags.aligned and x.size > 1
        sums = terms if single else None
        if call.need_dalpha and not single:
            sums = np.empty(alpha.size, call.dalpha_dtype if call.dalpha_dtype.name in TYPES else np.float64)
        if launch(kernel, *operands, slopes, sums, order, single, threads):
            if sums is None or single:
                return sums
            return sums.reshape([alpha.shape[axis] for axis in order]).transpose(np.argsort(order))
    return _buffered.compute(launch, kernel, *operands, dtype, call.need_dalpha, threads)
