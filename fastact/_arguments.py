"""The only place that raises for bad arguments: from what a user passed to checked arrays and dtypes.

`prepare` returns a Call: inputs as ndarrays, alpha ready to broadcast, what the results will be.  Nothing is
allocated for a result and nothing is written here.  Results have x's dtype in native byte order, integers compute in
float64 (relu keeps them), and an alpha that is a Python scalar has no effect on dtypes.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import _foreign
from ._tables import TYPES, Operation


class Call(NamedTuple):
    """Checked arguments of one call."""

    x: np.ndarray
    dy: np.ndarray | None
    alpha: np.ndarray | None  # with x's number of axes; still to be cast to the computing dtype
    dtype: np.dtype  # the elementwise result's
    computing: np.dtype
    out: np.ndarray | None  # the memory of the elementwise result
    need: bool  # whether that is wanted
    dalpha_out: np.ndarray | None
    need_dalpha: bool
    alpha_shape: tuple[int, ...]  # as the user gave it: dalpha's
    dalpha_dtype: np.dtype | None


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as a plain ndarray; a mask, wherever it hides, is an error, for it would be lost."""
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return value
    if value is None:
        raise TypeError(f"{name} is None, and must be an array")
    try:
        return np.asarray(_without_masks(value))
    except _Masked:
        raise TypeError(
            f"{name} has a mask, which would be lost: of a masked array pass {name}.filled(...) or {name}.data"
        ) from None
    except _foreign.Refused as error:
        raise TypeError(f"{name} {error}") from None
    except ValueError as error:  # ragged sequences
        raise ValueError(f"{name} cannot be made an array: {error}") from None


class _Masked(Exception):
    """Somewhere in a value there is a mask."""


_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), range, *np.sctypeDict.values()})
_DEEPEST = 64  # NumPy refuses deeper nesting; this also ends the search in a list that contains itself


def is_masked(array: np.ndarray) -> bool:
    """Whether an array has a mask of its own: NumPy's, or a subclass's attribute of that name."""
    return isinstance(array, np.ma.MaskedArray) or (type(array) is not np.ndarray and hasattr(array, "mask"))


def _without_masks(value: Any, depth: int = 0) -> Any:
    """`value`, ready for np.asarray.  Each object is converted at most once; a mask in any of them raises _Masked."""
    kind = type(value)
    if kind in _PLAIN or depth > _DEEPEST:
        return value
    if not isinstance(value, np.ndarray | np.generic):
        value = _foreign.read(value)
    if hasattr(value, "__array__"):  # NumPy asks this first, whatever else the object is
        array = np.asanyarray(value)
        if is_masked(array):
            raise _Masked
        for item in np.asarray(array).flat if array.dtype.hasobject else ():
            _without_masks(item, depth + 1)
        return array
    interface = getattr(value, "__array_interface__", None)
    if isinstance(interface, dict) and interface.get("mask") is not None:
        raise _Masked
    if interface is not None or not hasattr(kind, "__len__") or not hasattr(kind, "__getitem__") or _is_buffer(value):
        return value
    if isinstance(value, str | bytes | Mapping) or not set(map(type, value)) - _PLAIN:
        return value  # a million floats take 10 ms to look through
    return [_without_masks(item, depth + 1) for item in value]


def _is_buffer(value: Any) -> bool:
    """Whether NumPy reads the memory of `value` instead of its items."""
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def is_bfloat16(dtype: np.dtype) -> bool:
    """Whether this is ml_dtypes' bfloat16, which NumPy knows when ml_dtypes was imported by somebody."""
    return dtype.name == "bfloat16" and dtype.itemsize == 2


def is_float(dtype: np.dtype) -> bool:
    """Whether this is one of TYPES, of either byte order."""
    return is_bfloat16(dtype) or (dtype.kind == "f" and dtype.name in TYPES)


def computing_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype that a result of this dtype is computed in."""
    return np.dtype(TYPES[dtype.name].computing) if dtype.name in TYPES else dtype


def result_dtype(array: np.ndarray, name: str, keep_integers: bool) -> np.dtype:
    """The dtype of the result of an operation on this array."""
    if array.dtype.kind in "biu" and not keep_integers:
        return np.dtype(np.float64)
    if array.dtype.kind in "biu" or is_float(array.dtype):
        return array.dtype.newbyteorder("=")
    allowed = f"{', '.join(TYPES)}, an integer or bool"
    raise TypeError(f"{name} has dtype {array.dtype}, which is not supported: it must be {allowed}.")


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
        if alpha.dtype.kind not in "biu" and not is_float(alpha.dtype):
            raise TypeError(f"alpha has dtype {alpha.dtype}, which is not supported: it must be a float or an integer")
        # NumPy scalars and lists are numbers, like Python's own: dalpha then has the computing dtype.
        is_float_array = is_float(alpha.dtype) and not isinstance(value, np.generic | list | tuple)
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
            f"x has {x.shape[axis]} channels along channel_axis={axis}{_other_axis(alpha.size, x.shape)}"
        )
    shape = [1] * x.ndim
    shape[axis] = alpha.size
    return tuple(shape)


def _other_axis(channels: int, shape: tuple[int, ...]) -> str:
    """The axis that was most likely meant, as a hint: the last one that fits, which is channels last if it can be."""
    fitting = [axis - len(shape) if axis == len(shape) - 1 else axis for axis, n in enumerate(shape) if n == channels]
    return f"; axis {fitting[-1]} has {channels}: channel_axis={fitting[-1]}?" if fitting else ""


def check_out(out: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The memory of an `out`, which is writable and has the result's shape and dtype.

    Results are written to this memory and not by `out[...] =`, because a subclass's __setitem__ could convert units.
    """
    if isinstance(out, np.ndarray):
        if is_masked(out):
            raise TypeError(f"{name} is a masked array, whose mask would be lost: pass {name}.data")
        memory = np.asarray(out)
    else:
        try:
            memory = _foreign.memory_of(out)
        except _foreign.Refused as error:
            raise TypeError(f"{name} {error}") from None
        if memory is None:
            raise TypeError(f"{name} must be a numpy.ndarray or None, not {type(out).__name__}")
    if memory.shape != shape:
        raise ValueError(f"{name} has shape {memory.shape}, but the result has shape {shape}")
    if memory.dtype != dtype:
        raise TypeError(f"{name} has dtype {memory.dtype}, but the result has dtype {dtype}")
    if not memory.flags.writeable:
        hint = (
            ': open the file with mmap_mode="r+" (np.memmap: mode="r+")'
            if isinstance(out, np.memmap) or isinstance(getattr(out, "base", None), np.memmap)
            else ""
        )
        raise ValueError(f"{name} of shape {memory.shape} is read-only{hint}")
    if _meets_itself(memory):
        raise ValueError(
            f"{name} of shape {memory.shape} and strides {memory.strides} shares memory among its own elements"
        )
    return memory


# Steps of NumPy's exact test for shared memory, at most some 20 ms.  The test's time is exponential in the number of
# axes.  Memory that it has not decided on after these steps counts as shared.
MOST_WORK = 100_000


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether some element of one shares memory with some element of the other."""
    try:
        return np.shares_memory(a, b, max_work=MOST_WORK)
    except np.exceptions.TooHardError:
        return True


def _meets_itself(array: np.ndarray) -> bool:
    """Whether two elements share memory; elements that interleave without meeting do not."""
    reach = array.itemsize
    for step, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step < reach:
            break
        reach += step * (size - 1)
    else:
        return False  # each stride steps over all that lies inside it
    # Take two elements that meet, and the first axis along which their indices differ.  Both can be shifted so that all
    # indices before it and the smaller one along it are 0.  Then one is in `first`, the other in `others`.
    for axis, size in enumerate(array.shape):
        if size > 1 and array.size:
            first, others = (array[(0,) * axis + (part,)] for part in (slice(0, 1), slice(1, None)))
            if _meet(first, others):
                return True
    return False


def _same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are element by element in the same place."""
    same = a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.dtype == b.dtype
    return same and a.shape == b.shape and all(
        s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1
    )  # fmt: skip


def check_overlap(out: np.ndarray, name: str, other: np.ndarray | None, text: str, in_place: bool) -> None:
    """`out` shares no memory with another operand, except that it may be exactly x or dy."""
    if other is None or not np.may_share_memory(out, other):
        return
    if (in_place and _same_memory(out, other)) or not _meet(out, other):
        return
    allowed = f": it may be exactly {text.split()[0]} (in place), or apart from it" if in_place else ""
    raise ValueError(f"{name} of shape {out.shape} shares memory with {text}{allowed}")


def prepare(op: Operation, dy, x, alpha, channel_axis, need, need_dalpha, out, dalpha_out) -> Call:
    """Check everything and convert what is cheap to convert; names in messages are the user's."""
    x = as_array(x, "x")
    dtype = result_dtype(x, "x", op.integers)
    computing = computing_dtype(dtype)
    if op.backward:
        dy = as_array(dy, "dy")
        if dy.shape != x.shape:
            raise ValueError(f"dy of shape {dy.shape} does not match x of shape {x.shape}")
        # The rule 'same_kind' allows every cast between floats, and every cast from an integer to a float.
        if dy.dtype.kind not in "biu" and not is_float(dy.dtype):
            raise TypeError(f"dy has dtype {dy.dtype}, which cannot be cast to {computing} by the rule 'same_kind'")
    shape, dalpha_dtype = (), None
    if op.alpha:
        alpha, shape, dalpha_dtype = as_alpha(alpha, x, computing, channel_axis, op.alpha == "number")
    names = ("out[0] (dx)", "out[1] (dalpha)") if op.summed else ("out", "")
    for given, needed, name, argument in (
        (out, need, names[0], "need_dx"),
        (dalpha_out, need_dalpha, names[1], "need_dalpha"),
    ):
        if given is not None and not needed:
            raise ValueError(f"{name} was given for a gradient that is not needed ({argument}=False)")
    if out is not None:
        out = check_out(out, names[0], x.shape, dtype)
    if dalpha_out is not None:
        dalpha_out = check_out(dalpha_out, names[1], shape, dalpha_dtype)
    inputs = [
        (array, f"{name} of shape {array.shape}", True) for name, array in (("x", x), ("dy", dy)) if array is not None
    ]
    if op.alpha:
        inputs.append((alpha, f"alpha of shape {shape}", False))
    for result, name in ((out, names[0]), (dalpha_out, names[1])):
        if result is not None:
            for array, text, in_place in inputs:
                check_overlap(result, name, array, text, in_place and result is out)
    if out is not None and dalpha_out is not None:
        check_overlap(out, names[0], dalpha_out, f"{names[1]} of shape {dalpha_out.shape}", in_place=False)
    return Call(x, dy, alpha, dtype, computing, out, need, dalpha_out, need_dalpha, shape, dalpha_dtype)
