"""Arrays in any memory layout: the generator that benchmarks and tests share, and the layouts that are timed.

`lay` makes an array from the description of a layout.  LAYOUTS names the layouts that are tested and timed.  CASES says
which of them are timed, on which operands, and how many times a plain call's time a call may take.
"""

from typing import Any, NamedTuple

import numpy as np

from fastact._tables import Operation

FILL = 0x63  # what `lay` puts around an array's elements


def lay(a, order=None, steps=None, margin=0, offset=0, swapped=False, in_record=False, writeable=True, kind=np.ndarray):
    """A copy of `a` in memory of its own, with this layout.

    `order` names the axes as memory has them, outermost first.  `steps` says for each axis how many elements apart its
    elements lie.  A negative step goes backwards.  With a step of 0 the first element stands for all, and the array is
    read-only like NumPy's broadcast views.  `margin` is how many more elements lie before and after those of every
    axis, `offset` how many bytes after a 64-byte boundary the memory begins.  With `in_record` each element follows
    another byte, like a field of a packed record: it is strided and unaligned.
    """
    a = np.asarray(a)
    order = range(a.ndim) if order is None else order
    steps = (1,) * a.ndim if steps is None else steps
    dtype = a.dtype.newbyteorder() if swapped else a.dtype
    strides, start, stride = [0] * a.ndim, int(in_record), dtype.itemsize + in_record
    for axis in reversed(order):
        length, step = a.shape[axis], steps[axis]
        strides[axis] = step * stride
        extent = max(length, 1) * abs(step) if step else 1
        start += (margin + (extent - 1 if step < 0 else 0)) * stride
        stride *= extent + 2 * margin
    raw = np.full(stride + offset + 64, FILL, np.uint8)
    boundary = -raw.ctypes.data % 64 + offset
    laid = np.ndarray(a.shape, dtype, raw[boundary : boundary + stride], start, strides)
    target, given = laid, a[tuple(slice(None) if step else slice(1) for step in steps)]
    if a.dtype.name == "bfloat16":  # ml_dtypes does not swap the bytes where the target is an array without axes
        integers = np.dtype(np.uint16)
        target, given = laid.view(integers.newbyteorder() if swapped else integers), given.view(integers)
    target[...] = given
    laid.flags.writeable = writeable and all(steps)
    return laid.view(kind)


# By the names of layouts: functions of the number of dimensions (and the bytes of an element) to arguments of `lay`.
LAYOUTS = {
    "c": lambda n, size: {},
    "fortran": lambda n, size: {"order": range(n)[::-1]},
    "permuted": lambda n, size: {"order": (*range(n)[:1], *range(n)[2:], *range(n)[1:2])},  # channels last
    "sliced": lambda n, size: {"margin": 2},
    "second axis strided": lambda n, size: {"steps": (1, 2, *(1,) * n)[:n]},
    "last axis in twos": lambda n, size: {"steps": last(n, 2)},
    "last axis reversed": lambda n, size: {"steps": last(n, -1)},
    "first axis reversed": lambda n, size: {"steps": last(n, -1)[::-1]},
    "off by a byte": lambda n, size: {"offset": 1},
    "byte-swapped": lambda n, size: {"swapped": True},
}
EXPANDED = {  # layouts with other values than the original array's
    "first axis expanded": lambda n, size: {"steps": last(n, 0)[::-1]},
    "expanded": lambda n, size: {"steps": (0,) * n},
}


def last(n, step):
    """Steps of 1 and, along the last of n axes, this one."""
    return ((1,) * n + (step,))[-n:] if n else ()


def described(a, name):
    """The arguments of `lay` for the layout of that name, for an array."""
    return (LAYOUTS | EXPANDED)[name](a.ndim, a.itemsize)


class Layout(NamedTuple):
    """A layout that is timed: how each operand lies, and how many times a plain call's time a call may take."""

    name: str
    target: float
    x: str = "c"
    dy: str = "c"
    out: str = ""  # empty: results are new arrays
    dy_dtype: str = ""  # empty: x's
    slopes: bool = False  # timed only with a slope per channel, where the layout matters
    matrix: bool = False  # x has two axes, channels last
    torch: bool = True  # whether torch has such tensors: no negative strides, native bytes, aligned, one dtype

    def concerns(self, op: Operation) -> bool:
        """Whether the operation has what this layout is about."""
        about_dy = (self.dy, bool(self.dy_dtype)) != (self.x, False)
        return (op.backward or not about_dy) and (op.alpha == "array" or not self.slopes) and op.alpha != "number"

    def laid(self, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the operands in this layout."""
        dy = dy.astype(self.dy_dtype or dy.dtype)
        return lay(x, **described(x, self.x)), lay(dy, **described(dy, self.dy))


def _both(name: str, target: float, layout: str, **more: Any) -> Layout:
    return Layout(name, target, layout, layout, **more)


PLAIN = Layout("plain", 1.0)
CASES = (
    _both("outer_reversed", 1.15, "first axis reversed", torch=False),
    _both("outer_skipped", 1.15, "second axis strided"),
    _both("outer_expanded", 1.15, "first axis expanded", out="c"),
    _both("outer_expanded_new", 3.0, "first axis expanded"),  # np.empty_like(x) has another axis order than x
    Layout("dy_expanded", 1.15, dy="expanded"),
    _both("cropped", 1.3, "sliced"),
    _both("unaligned", 1.3, "off by a byte", torch=False),
    _both("rows_reversed", 1.5, "last axis reversed", torch=False),
    _both("swapped_bytes", 1.5, "byte-swapped", torch=False),
    _both("fortran", 1.5, "fortran", slopes=True),
    _both("nhwc", 1.5, "permuted", slopes=True),
    Layout("dy_float64", 1.8, dy_dtype="float64", torch=False),
    _both("second_columns", 2.2, "last axis in twos"),
    Layout("x_nchw_dy_nhwc", 3.0, dy="permuted"),
    Layout("x_fortran_dy_c", 3.0, "fortran", matrix=True),
    Layout("out_nhwc", 3.0, out="permuted"),
)
