"""Dask arrays: from operands to a graph that computes chunk by chunk.  Nothing is computed here.

y and dx take one task for each chunk.  For dalpha, a task gives its chunk's sums in float64, a tree of tasks adds
them, and the last one rounds each sum once.  The tree follows from the chunks alone, and a chunk's own order of
summation from its shape.  So dalpha has the same bits for the same chunks, whoever computes them.

`run` computes a chunk of ndarrays (_dispatch.backward).  Backend and threads travel with the task.
"""

import math
import reprlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module  # PyInstaller shall not bring dask into a program that does without it
from typing import Any

import numpy as np

from . import _arguments
from ._arguments import Call
from ._buffered import write_sums
from ._foreign import lazy
from ._tables import Operation

# How many partial sums one task adds, at most.  dask's own number is a setting, and the order must not depend on it.
SPLIT = 16


def graph(op: Operation, run: Callable, dy, x, alpha, channel_axis, need, need_dalpha, backend, n_threads):
    """(y or dx, dalpha) as dask arrays, each None where it is not needed."""
    array = import_module("dask.array")
    x = _operand(x, "x")
    dy = _operand(dy, "dy") if op.backward else None
    alpha = _operand(alpha, "alpha") if op.alpha and lazy(alpha) is not None else alpha
    call = _check(op, dy, x, alpha, channel_axis, need, need_dalpha)
    chunks = next((a.chunks for a in (x, dy) if lazy(a) is not None), tuple((n,) for n in x.shape))
    operands = {"x": _chunked(x, chunks)}
    constants = {}
    if op.backward:
        operands["dy"] = _chunked(dy, chunks)
    if op.alpha:
        aligned = _aligned(alpha, call)
        if lazy(aligned) is None and aligned.size == 1:
            constants["alpha"] = aligned.copy()  # the caller may write into it before this is computed
        else:
            of_alpha = (c if n != 1 else (1,) for n, c in zip(aligned.shape, chunks, strict=True))
            operands["alpha"] = _chunked(aligned, tuple(of_alpha))
    axes = tuple(range(x.ndim))
    y_meta = np.empty((0,) * x.ndim, call.dtype)
    blocks = array.blockwise(
        _block,
        axes,
        *(part for operand in operands.values() for part in (operand, axes)),
        token=op.name,
        dtype=call.dtype,
        meta=y_meta,
        align_arrays=False,  # they are; and it would ask for sizes that may be unknown
        run=run,
        operation=op.name,
        names=tuple(operands),
        computing=call.computing,
        need=need,
        need_dalpha=need_dalpha,
        backend=backend,
        n_threads=int(n_threads or 1),
        **constants,
    )
    if not need_dalpha:
        return (blocks if need else None), None
    summed = tuple(axis for axis, n in enumerate(call.alpha.shape) if n == 1)
    dx = array.blockwise(
        _first, axes, blocks, axes, token=f"{op.name}-dx", dtype=call.dtype, meta=y_meta, align_arrays=False
    )
    dalpha = array.reduction(
        blocks,
        chunk=_second,
        combine=_add,
        aggregate=partial(_total, rounded_to=call.dalpha_dtype),
        axis=summed,
        dtype=call.dalpha_dtype,
        split_every=_split(blocks.numblocks, summed),
        concatenate=False,
        name=f"{op.name}-dalpha",
        meta=np.empty((0,) * (x.ndim - len(summed)), call.dalpha_dtype),
    )
    if 1 in call.alpha_shape:
        dalpha = dalpha[tuple(None if n == 1 else slice(None) for n in call.alpha_shape)]
    return (dx if need else None), dalpha


def _split(numblocks: tuple, summed: tuple) -> dict[int, int]:
    """How many chunks along each summed axis one task adds, so that all together are SPLIT where that can be."""
    cut = [axis for axis in summed if numblocks[axis] > 1]  # dask itself would count the other axes as well
    return dict.fromkeys(summed, max(2, int(SPLIT ** (1 / max(1, len(cut))))))


# ---- what is checked before a graph is made --------------------------------------------------------------------------


def _operand(value: Any, name: str) -> Any:
    """A dask array of ndarrays, or an ndarray."""
    array = lazy(value)
    if array is None:
        return _arguments.as_array(value, name)
    if _arguments.is_masked(array._meta):
        raise TypeError(f"{name} has a mask, which would be lost: pass dask.array.ma.filled({name}, ...)")
    if not isinstance(array._meta, np.ndarray):
        kind = f"{type(array._meta).__module__}.{type(array._meta).__qualname__}"
        raise TypeError(
            f"{name} is a dask array of {kind}, which is not converted unasked: pass {name}.map_blocks(np.asarray), or "
            "what makes ndarrays of these"
        )
    if array.dtype.hasobject:
        _arguments.result_dtype(np.empty(0, array.dtype), name, keep_integers=True)
    return array


def _is_unknown(array: Any) -> bool:
    """Whether dask does not know the sizes of some chunks."""
    return any(math.isnan(n) for n in array.shape)


def _stand_in(value: Any) -> Any:
    """An ndarray of a dask array's shape and dtype, of one element's memory; unknown sizes count as 1."""
    if lazy(value) is None:
        return value
    return np.broadcast_to(np.zeros((), value.dtype), [1 if math.isnan(n) else n for n in value.shape])


def _check(op: Operation, dy, x, alpha, channel_axis, need: bool, need_dalpha: bool) -> Call:
    """As _arguments.prepare, and what concerns chunks."""
    needed = {"x": x, "dy": dy} if op.backward else {}
    if lazy(alpha) is not None:
        needed["alpha"] = alpha
    for name, operand in needed.items():
        if _is_unknown(operand):
            raise ValueError(
                f"{name} of shape {operand.shape} has chunks of unknown size, and its shape is needed: call "
                f"{name}.compute_chunk_sizes() first"
            )
    try:
        call = _arguments.prepare(
            op, _stand_in(dy), _stand_in(x), _stand_in(alpha), channel_axis, need, need_dalpha, None, None
        )
    except ValueError as error:
        if _is_unknown(x):
            raise ValueError(f"{error} (unknown sizes count as 1: call x.compute_chunk_sizes() first)") from None
        raise
    if lazy(x) is not None and lazy(dy) is not None:
        for axis, (of_dy, of_x) in enumerate(zip(dy.chunks, x.chunks, strict=True)):
            if of_dy != of_x:
                raise ValueError(
                    f"dy and x of shape {x.shape} are chunked differently along axis {axis}, {reprlib.repr(of_dy)} and "
                    f"{reprlib.repr(of_x)}: rechunk one of them, as in dy.rechunk(x.chunks)"
                )
    return call


def _aligned(alpha: Any, call: Call) -> Any:
    """alpha with x's number of axes."""
    if lazy(alpha) is None:
        return call.alpha
    shape = call.alpha.shape
    if alpha.size == 1:
        return alpha.reshape(shape)
    if alpha.ndim == 1:
        return alpha[tuple(None if n == 1 else slice(None) for n in shape)]
    return alpha[(None,) * (len(shape) - alpha.ndim) + (...,)]


def _chunked(operand: Any, chunks: tuple) -> Any:
    """An operand as a dask array in these chunks."""
    if lazy(operand) is None:
        return import_module("dask.array").from_array(operand, chunks=chunks)
    return operand if operand.chunks == chunks else operand.rechunk(chunks)


# ---- what a task computes --------------------------------------------------------------------------------------------


def _block(
    *arrays, names, run, operation, computing, need, need_dalpha, backend, n_threads, alpha=None
):  # fmt: skip
    """y or dx of a chunk; with need_dalpha the pair of dx (or None) and the chunk's sums in float64."""
    # A chunk may have a mask although its array does not say so.
    operands = {name: _arguments.as_array(a, name) for name, a in zip(names, arrays, strict=True)}
    x, dy, alpha = operands["x"], operands.get("dy"), operands.get("alpha", alpha)
    if alpha is not None:
        with np.errstate(all="ignore"):
            alpha = alpha.astype(computing)
    if need_dalpha:
        # Another process gets a chunk without its strides and byte order, which the order of a sum would follow from.
        x = _in_c_order(x)
        if dy.dtype != x.dtype or any(dy.strides):  # one number everywhere is added up like an array of x's dtype
            dy = _in_c_order(dy)
        alpha = alpha.astype(np.float64, order="C")
    # alpha has x's number of axes, so channel_axis says something for one axis only.
    pair = run(operation, dy, x, alpha, 0, need, need_dalpha, (None, None), backend, n_threads)
    return pair if need_dalpha else pair[0]


def _in_c_order(array: np.ndarray) -> np.ndarray:
    """In C order and the machine's own byte order."""
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _first(pair: tuple) -> np.ndarray:
    return pair[0]


def _second(pair: tuple, axis: tuple, keepdims: bool) -> np.ndarray:
    return pair[1]


def _leaves(parts: Any) -> Iterator[np.ndarray]:
    """The arrays in nested lists, from left to right."""
    if isinstance(parts, np.ndarray):
        yield parts
        return
    for part in parts:
        yield from _leaves(part)


def _add(parts: Any, axis: tuple, keepdims: bool) -> np.ndarray:
    """The sum of partial sums, in pairs, pairs of pairs, and so on."""
    sums = list(_leaves(parts))
    with np.errstate(all="ignore"):
        while len(sums) > 1:
            sums = [sums[i] + sums[i + 1] if i + 1 < len(sums) else sums[i] for i in range(0, len(sums), 2)]
    return sums[0] if keepdims else sums[0].squeeze(axis)


def _total(parts: Any, axis: tuple, keepdims: bool, rounded_to: np.dtype) -> np.ndarray:
    """The sum, rounded once."""
    sums = _add(parts, axis, keepdims)
    dalpha = np.empty(sums.shape, rounded_to)
    write_sums(dalpha, sums)
    return dalpha
