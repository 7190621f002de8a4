"""From a call's arguments to its results: which memory they get, and which backend computes them.

`elementwise` and `backward` are what the public functions call where the compiled fast path does not take a call.
Arguments are checked first (_arguments); then the checked arrays are launched (_launch).
"""

import numpy as np

from . import _arguments, _backends, _built, _foreign, _settings, reference
from ._arguments import Call
from ._buffered import write_sums
from ._launch import launch
from ._tables import OPERATIONS, Operation


def elementwise(name: str, dy, x, alpha, channel_axis, out, backend, n_threads) -> np.ndarray:
    """The result of an operation with one output."""
    if _foreign.is_lazy(dy, x, alpha):
        return _lazily(OPERATIONS[name], dy, x, alpha, channel_axis, True, False, out, backend, n_threads)[0]
    return _run(OPERATIONS[name], dy, x, alpha, channel_axis, True, False, out, None, backend, n_threads)[0]


def backward(name: str, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads):
    """(dx, dalpha), each None where it is not needed."""
    if not isinstance(out, tuple) or len(out) != 2:
        given = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out must be a tuple of two, (dx, dalpha), each an array or None; not {given}")
    need, need_dalpha = bool(need), bool(need_dalpha)
    if _foreign.is_lazy(dy, x, alpha):
        given = next((o for o in out if o is not None), None)
        return _lazily(OPERATIONS[name], dy, x, alpha, channel_axis, need, need_dalpha, given, backend, n_threads)
    return _run(OPERATIONS[name], dy, x, alpha, channel_axis, need, need_dalpha, *out, backend, n_threads)


def _lazily(op: Operation, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads):
    """(y or dx, dalpha) as dask arrays."""
    if out is not None:
        raise TypeError("out does not go with a dask array, whose result is lazy: write it with dask.array.store")
    from . import _dask

    backend = backend_for(backend, n_threads)
    return _dask.graph(op, backward, dy, x, alpha, channel_axis, need, need_dalpha, backend, n_threads)


def backend_for(backend: str | None, n_threads: int | None) -> str:
    """The backend of a call, after a check of these two arguments."""
    if backend is not None:
        _backends.require(_settings.check_backend(backend))
    if n_threads is not None:
        _settings.check_threads(n_threads)
    return backend or _settings.get_backend()


def _run(op: Operation, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out, backend, n_threads):
    backend = backend_for(backend, n_threads)
    call = _arguments.prepare(op, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out)
    result, dalpha = call.out, call.dalpha_out
    if call.need and result is None:
        result = empty_like(call.x, call.dtype)
    if call.need_dalpha and dalpha is None:  # this may fail, so it comes before dx is written, maybe in place
        dalpha = np.empty(call.alpha_shape, call.dalpha_dtype)
    if backend == "numpy":
        _reference(op, call, result, dalpha)
    elif call.need or call.need_dalpha:
        compute(op, call, result, dalpha, backend, _settings.explicit_threads(n_threads), _settings.explicit_source())
    return (result if out is None else out), (dalpha if dalpha_out is None else dalpha_out)


def empty_like(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Memory for a new result, in the axis order of np.empty_like(x)."""
    if _built.buffers is not None:
        return _built.buffers.empty_like(x, dtype)
    return np.empty_like(x, dtype=dtype, subok=False)


def _reference(op: Operation, call: Call, result: np.ndarray | None, dalpha: np.ndarray | None) -> None:
    """The NumPy backend: the contract's expressions.  dalpha comes first, because dx may overwrite dy or x."""
    sums = None
    with np.errstate(all="ignore"):
        given = (call.dy, call.x, call.alpha)
        operands = [a.astype(call.computing, copy=False) for a in given if a is not None]
        if call.need_dalpha:
            sums = getattr(reference, op.dalpha)(*operands)
        if result is not None:
            result[...] = getattr(reference, op.reference)(*operands)
        if sums is not None:
            write_sums(dalpha, sums.reshape(call.alpha_shape))


def compute(op: Operation, call: Call, result, dalpha, backend: str, threads: int, source: int) -> None:
    """Write `result` and `dalpha` (unless None) by a compiled backend.

    `threads` is the bound and `source` the source of threads that somebody asked for, or 0.
    """
    alpha = call.alpha
    sums = None
    if dalpha is not None:
        # dalpha with x's number of axes, like call.alpha.  In a foreign byte order no kernel can write it, so the sums
        # get memory of their own.
        sums = dalpha.reshape(alpha.shape) if dalpha.dtype.isnative else np.empty(alpha.shape)
    kernel = _backends.kernel_address(backend, op.kernel, kernel_dtype(op, call).name)
    launch(op.kernel, kernel, result, call.dy, call.x, alpha, sums, threads, source)
    if sums is not None and not np.may_share_memory(sums, dalpha):
        write_sums(dalpha, sums.reshape(dalpha.shape))


def kernel_dtype(op: Operation, call: Call) -> np.dtype:
    """The dtype whose kernel makes the result: the computing dtype where dy has another dtype than the result."""
    mixed = op.backward and call.dy.dtype.newbyteorder("=") != call.dtype
    return call.computing if mixed else call.dtype
