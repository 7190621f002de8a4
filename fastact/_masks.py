"""relu and leaky_relu that keep a mask (one bit for each element), and their backwards that read the mask in x's place.

The mask of a float array is made in the pass that makes y.  Bits are in C order of x's shape, the first one the lowest
of its byte: `np.packbits(..., bitorder="little")`.
"""

import numpy as np

from . import _backends, _dispatch, _foreign, _settings, reference
from ._arguments import as_alpha, as_array, check_out, check_overlap, computing_dtype, result_dtype
from ._launch import launch_masked
from ._tables import OPERATIONS, TYPES, Operation

NOT_LAZY = (
    "does not go with a dask array, for a mask has no chunks: relu_backward and leaky_relu_backward take x as well"
)


def mask_length(elements: int) -> int:
    """The bytes of a mask."""
    return (elements + 7) // 8


def forward(name: str, x, alpha, out, backend: str | None, n_threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(y, mask)."""
    op = OPERATIONS[name]
    if _foreign.is_lazy(x, alpha):
        raise TypeError(f"return_mask=True {NOT_LAZY}")
    backend = _dispatch.backend_for(backend, n_threads)
    x = as_array(x, "x")
    dtype = result_dtype(x, "x", op.integers)
    slope = _slope(op, alpha, x, dtype)
    if out is None:
        out = (None, None)
    if not isinstance(out, tuple) or len(out) != 2:
        given = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(
            f"with return_mask=True, out must be a tuple of two, (y, mask), each an array or None; not {given}"
        )
    y, mask = out
    names = ("out[0] (y)", "out[1] (mask)")
    if y is not None:
        y = check_out(y, names[0], x.shape, dtype)
        check_overlap(y, names[0], x, f"x of shape {x.shape}", in_place=True)
    if mask is not None:
        mask = check_out(mask, names[1], (mask_length(x.size),), np.dtype(np.uint8))
        check_overlap(mask, names[1], x, f"x of shape {x.shape}", in_place=False)
        if y is not None:
            check_overlap(y, names[0], mask, f"{names[1]} of shape {mask.shape}", in_place=False)
    y = _dispatch.empty_like(x, dtype) if y is None else y
    bits = mask if mask is not None and mask.flags.c_contiguous else np.empty(mask_length(x.size), np.uint8)
    if backend == "numpy" or dtype.name not in TYPES:
        given = x.astype(computing_dtype(dtype), copy=False)
        kept = getattr(reference, f"{op.kernel}_kept")(given)
        bits[...] = np.packbits(kept, bitorder="little")
        del kept
        _dispatch.elementwise(name, None, x, alpha, 1, y, backend, n_threads)
    else:
        _launch(op, y, bits, x, slope, backend, dtype, n_threads)
    if mask is not None and bits is not mask:
        mask[...] = bits
    return (y if out[0] is None else out[0]), (bits if mask is None else out[1])


def backward(name: str, dy, mask, alpha, out, backend: str | None, n_threads: int | None) -> np.ndarray:
    """dx from dy and a mask."""
    op = OPERATIONS[name]
    if _foreign.is_lazy(dy, mask, alpha):
        raise TypeError(f"mask {NOT_LAZY}")
    backend = _dispatch.backend_for(backend, n_threads)
    dy, mask = as_array(dy, "dy"), as_array(mask, "mask")
    dtype = result_dtype(dy, "dy", False)
    if mask.dtype != np.uint8:
        raise TypeError(f"mask has dtype {mask.dtype}, and must have dtype uint8")
    if mask.shape != (mask_length(dy.size),):
        raise ValueError(
            f"mask of shape {mask.shape} does not match dy of shape {dy.shape}: {dy.size} elements take "
            f"{mask_length(dy.size)} bytes"
        )
    slope = _slope(op, alpha, dy, dtype)
    dx = out
    if out is not None:
        dx = check_out(out, "out", dy.shape, dtype)
        check_overlap(dx, "out", dy, f"dy of shape {dy.shape}", in_place=True)
        check_overlap(dx, "out", mask, f"mask of shape {mask.shape}", in_place=False)
    dx = _dispatch.empty_like(dy, dtype) if dx is None else dx
    if backend == "numpy":
        computing = computing_dtype(dtype)
        kept = np.unpackbits(mask, count=dy.size, bitorder="little").reshape(dy.shape).astype(bool)
        slopes = () if slope is None else (computing.type(slope),)
        with np.errstate(all="ignore"):
            dx[...] = getattr(reference, op.masked)(dy.astype(computing, copy=False), kept, *slopes)
    else:
        _launch(op, dx, np.ascontiguousarray(mask), dy, slope, backend, dtype, n_threads)
    return dx if out is None else out


def _slope(op: Operation, alpha, x: np.ndarray, dtype: np.dtype) -> float | None:
    """alpha as a number of the computing type; None where the operation has none."""
    if not op.alpha:
        return None
    computing = computing_dtype(dtype)
    with np.errstate(all="ignore"):
        return float(as_alpha(alpha, x, computing, 1, one=True)[0].astype(computing).reshape(())[()])


def _launch(op: Operation, y, mask, x, slope: float | None, backend: str, dtype: np.dtype, n_threads) -> None:
    """Run the kernel with a mask; x is dy where the mask is read."""
    address = _backends.kernel_address(backend, op.masked, dtype.name)
    threads, source = _settings.explicit_threads(n_threads), _settings.explicit_source()
    launch_masked(op.masked, address, y, mask, x, 0.0 if slope is None else slope, threads, source)
