"""The only place that raises for bad arguments: from what a user passed to checked arrays and dtypes.

`prepare` returns a Call: inputs as ndarrays, alpha ready to broadcast, what the results will be.  Nothing is
allocated for a result and nothing is written here.  The rules are the design's: results have x's dtype in
native byte order, integers compute in float64 (relu keeps them), a Python scalar alpha is weak.
"""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._operations import Operation


@dataclass(frozen=True)
class Call:
    """Checked arguments of one call."""

    x: np.ndarray
    dy: np.ndarray | None
    alpha: np.ndarray | None  # with x's number of axes; still to be cast to the computing dtype
    dtype: np.dtype  # the computing dtype, which is the results' as well
    out: np.ndarray | None  # of the elementwise result
    need: bool  # whether that is wanted
    dalpha_out: np.ndarray | None
    need_dalpha: bool
    alpha_shape: tuple[int, ...]  # as the user gave it: dalpha's
    dalpha_dtype: np.dtype | None


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as a plain ndarray; a masked array would lose its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: pass {name}.filled(...) or {name}.data")
    try:
        return np.asarray(value)
    except ValueError as error:  # ragged sequences
        raise ValueError(f"{name} cannot be made an array: {error}") from None


def computing_dtype(array: np.ndarray, name: str, keep_integers: bool) -> np.dtype:
    """The dtype that a computation on this array is made in."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "biu":
        return array.dtype.newbyteorder("=") if keep_integers else np.dtype(np.float64)
    if kind == "f" and size in (4, 8) and array.dtype.char != "g":
        return array.dtype.newbyteorder("=")
    allowed = "float32, float64, an integer or bool"
    raise TypeError(f"{name} has dtype {array.dtype}, which is not supported: it must be {allowed}")


def as_alpha(value: Any, x: np.ndarray, dtype: np.dtype, channel_axis: Any, one: bool):
    """alpha with x's number of axes (to be cast where it is used), its own shape, and dalpha's dtype."""
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        try:
            alpha = np.asarray(float(value))
        except OverflowError:
            raise ValueError("alpha is too large for a float") from None
        own = dtype
    else:
        alpha = as_array(value, "alpha")
        if alpha.dtype.kind not in "biuf" or alpha.dtype.char == "g":
            raise TypeError(f"alpha has dtype {alpha.dtype}, which is not supported: it must be a float or an integer")
        is_float_array = alpha.dtype.kind == "f" and not isinstance(value, np.generic)
        own = alpha.dtype.newbyteorder("=") if is_float_array else dtype
    shape = alpha.shape
    if alpha.size == 1:
        alpha = alpha.reshape((1,) * x.ndim)
    elif one:
        raise ValueError(f"alpha must be one number, not an array of shape {shape}: prelu takes arrays")
    elif alpha.ndim == 1:
        alpha = alpha.reshape(_channel_shape(alpha, x, channel_axis))
    else:
        padded = (1,) * (x.ndim - alpha.ndim) + shape
        if len(padded) != x.ndim or any(a not in (1, n) for a, n in zip(padded, x.shape, strict=True)):
            raise ValueError(f"alpha of shape {shape} does not broadcast to x of shape {x.shape}")
        alpha = alpha.reshape(padded)
    return alpha, shape, own


def _channel_shape(alpha: np.ndarray, x: np.ndarray, channel_axis: Any) -> tuple[int, ...]:
    """The shape in which a per-channel alpha broadcasts to x."""
    try:
        axis = operator.index(channel_axis)
    except TypeError:
        raise TypeError(f"channel_axis must be an integer, not {type(channel_axis).__name__}") from None
    if not -x.ndim <= axis < x.ndim:
        hint = "; for a 1-D x pass channel_axis=-1" if x.ndim == 1 else ""
        raise ValueError(
            f"channel_axis={axis} is out of range for x of shape {x.shape} with alpha of shape {alpha.shape}{hint}"
        )
    if alpha.size != x.shape[axis]:
        raise ValueError(
            f"alpha of shape {alpha.shape} does not match x of shape {x.shape}: "
            f"x has {x.shape[axis]} channels along channel_axis={axis}"
        )
    shape = [1] * x.ndim
    shape[axis] = alpha.size
    return tuple(shape)


def check_out(out: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """An `out` is a writable ndarray of the result's shape and dtype."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a numpy.ndarray or None, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}, but the result has shape {shape}")
    if out.dtype != dtype:
        raise TypeError(f"{name} has dtype {out.dtype}, but the result has dtype {dtype}")
    if not out.flags.writeable:
        raise ValueError(f"{name} of shape {out.shape} is read-only")
    if _overlaps_itself(out):
        raise ValueError(f"{name} of shape {out.shape} and strides {out.strides} shares memory among its own elements")


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether two elements may share memory: some stride does not step over all that lies inside it."""
    reach = array.itemsize
    for step, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step < reach:
            return array.size > 0
        reach += step * (size - 1)
    return False


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are element by element in the same place."""
    same = a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.dtype == b.dtype
    return same and a.shape == b.shape and all(
        s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1
    )  # fmt: skip


def check_overlap(out: np.ndarray, name: str, other: np.ndarray | None, other_name: str, in_place: bool) -> None:
    """`out` shares no memory with another operand, except that it may be exactly x or dy."""
    if other is None or not np.may_share_memory(out, other) or not np.shares_memory(out, other):
        return
    if in_place and _same_memory(out, other):
        return
    allowed = f": it may be exactly {other_name} (in place), or apart from it" if in_place else ""
    raise ValueError(f"{name} of shape {out.shape} shares memory with {other_name} of shape {other.shape}{allowed}")


def prepare(op: Operation, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out) -> Call:
    """Check everything and convert what is cheap to convert; names in messages are the user's."""
    x = as_array(x, "x")
    dtype = computing_dtype(x, "x", op.integers)
    if op.backward:
        dy = as_array(dy, "dy")
        if dy.shape != x.shape:
            raise ValueError(f"dy of shape {dy.shape} does not match x of shape {x.shape}")
        if dy.dtype.kind not in "biuf" or dy.dtype.char == "g" or not np.can_cast(dy.dtype, dtype, "same_kind"):
            raise TypeError(f"dy has dtype {dy.dtype}, which cannot be cast to {dtype} by the rule 'same_kind'")
    shape, dalpha_dtype = (), None
    if op.alpha:
        alpha, shape, dalpha_dtype = as_alpha(alpha, x, dtype, channel_axis, op.alpha == "number")
    names = ("out[0] (dx)", "out[1] (dalpha)") if op.summed else ("out", "")
    if out is not None:
        if not need:
            raise ValueError(f"{names[0]} was given for a gradient that is not needed (need_dx=False)")
        check_out(out, names[0], x.shape, dtype)
        check_overlap(out, names[0], x, "x", in_place=True)
        check_overlap(out, names[0], dy, "dy", in_place=True)
    if dalpha_out is not None:
        if not need_dalpha:
            raise ValueError(f"{names[1]} was given for a gradient that is not needed (need_dalpha=False)")
        check_out(dalpha_out, names[1], shape, dalpha_dtype)
        check_overlap(dalpha_out, names[1], x, "x", in_place=False)
        check_overlap(dalpha_out, names[1], dy, "dy", in_place=False)
    for result, name in ((out, names[0]), (dalpha_out, names[1])):
        if result is not None:
            check_overlap(result, name, alpha, "alpha", in_place=False)
    if out is not None and dalpha_out is not None:
        check_overlap(out, names[0], dalpha_out, names[1], in_place=False)
    return Call(x, dy, alpha, dtype, out, need, dalpha_out, need_dalpha, shape, dalpha_dtype)
