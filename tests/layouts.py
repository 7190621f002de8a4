"""The one place where the tests lay arrays out in memory: in any order, direction, step, start and byte order.

`lay` makes one layout from its description, LAYOUTS names those that are worth a test each, and `random_layout` draws
one.  The memory around an array's elements holds FILL, so that `nothing_beside` sees whatever was written there.
"""

import numpy as np

FILL = 0x63


class Sub(np.ndarray):
    """An ndarray of a class of its own."""


def lay(a, order=None, steps=None, margin=0, offset=0, swapped=False, in_record=False, writeable=True, kind=np.ndarray):
    """A copy of `a` in a memory of its own.

    `order` names the axes as memory has them, outermost first.  `steps` says for each axis how many elements apart its
    elements lie, negative: backwards; 0: the first stands for all, and the array is read-only as NumPy's own broadcast
    views are.  `margin` is how many more elements lie before and behind in every axis, `offset` how many bytes after a
    64-byte boundary the memory begins.  With `in_record` each element is behind another byte, as a field of a packed
    record is: strided and unaligned.
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
    laid[...] = a[tuple(slice(None) if step else slice(1) for step in steps)]
    laid.flags.writeable = writeable and all(steps)
    return laid.view(kind)


def placed(a, offset):
    """A copy of `a` (in C order) that starts `offset` bytes after a 64-byte boundary."""
    return lay(a, offset=offset)


def nothing_beside(laid):
    """Whether the memory around the elements of what `lay` made is as it was; the elements are lost."""
    laid[...] = np.frombuffer(bytes([FILL]) * laid.itemsize, laid.dtype)
    raw = laid
    while raw.base is not None:
        raw = raw.base
    return bool((raw == FILL).all())


# Names of layouts, from the number of dimensions (and the bytes of an element) to what `lay` wants to know.
LAYOUTS = {
    "c": lambda n, size: {},
    "fortran": lambda n, size: {"order": range(n)[::-1]},
    "permuted": lambda n, size: {"order": (*range(n)[:1], *range(n)[2:], *range(n)[1:2])},  # channels last
    "axes swapped": lambda n, size: {"order": (n - 1, *range(1, n - 1), 0) if n > 1 else range(n)},
    "sliced": lambda n, size: {"margin": 1},
    "strided": lambda n, size: {"steps": (2,) * n},
    "last axis strided": lambda n, size: {"steps": _last(n, 3)},
    "last axis reversed": lambda n, size: {"steps": _last(n, -1)},
    "first axis reversed": lambda n, size: {"steps": _last(n, -1)[::-1]},
    "all reversed": lambda n, size: {"steps": (-1,) * n},
    "all reversed in steps": lambda n, size: {"steps": (-2,) * n},
    "off by a byte": lambda n, size: {"offset": 1},
    "off by half an element": lambda n, size: {"offset": size // 2},
    "field of a record": lambda n, size: {"in_record": True},
    "read-only": lambda n, size: {"writeable": False},
    "byte-swapped": lambda n, size: {"swapped": True},
    "byte-swapped and strided": lambda n, size: {"swapped": True, "steps": _last(n, 2)},
    "byte-swapped and permuted": lambda n, size: LAYOUTS["permuted"](n, size) | {"swapped": True},
    "subclass": lambda n, size: {"kind": Sub},
}
WRITABLE = [name for name in LAYOUTS if name not in ("read-only", "subclass") and not name.startswith("byte-swapped")]


def _last(n, step):
    return ((1,) * n + (step,))[-n:] if n else ()


def laid_out(a, name):
    """A copy of `a` in the layout of that name; what is no array stays as it is."""
    return lay(a, **LAYOUTS[name](a.ndim, a.itemsize)) if isinstance(a, np.ndarray) else a


def random_layout(rng, n):
    """What `lay` wants to know about some layout of n dimensions: mostly one thing out of the ordinary, or two."""
    drawn = {}
    for what in rng.choice(
        ["order", "steps", "broadcast", "margin", "offset", "swapped", "in_record"], rng.integers(3)
    ):
        if what == "order":
            drawn["order"] = rng.permutation(n).tolist()
        elif what == "steps" and n < 7:
            drawn["steps"] = rng.choice([1, 2, -1, -2, 3], n).tolist()
        elif what == "broadcast" and n:
            drawn["steps"] = (np.arange(n) != rng.integers(n)).astype(int).tolist()
        elif what == "margin":
            drawn["margin"] = int(n < 7)  # else it would need gigabytes
        elif what == "offset":
            drawn["offset"] = int(rng.integers(64))
        elif what in ("swapped", "in_record"):
            drawn[what] = True
    return drawn
