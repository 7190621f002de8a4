"""Where the tests lay arrays out in memory: in any order, direction, step, start and byte order.

`bench.layouts` has the generator, `lay`, and the layouts that are timed as well.  LAYOUTS adds those that are worth a
test only, and `random_layout` draws one.  The memory around an array's elements holds FILL, so that `nothing_beside`
sees whatever was written there.
"""

import numpy as np

from bench.layouts import FILL, LAYOUTS, last, lay


class Sub(np.ndarray):
    """An ndarray of a class of its own."""


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


LAYOUTS = LAYOUTS | {
    "axes swapped": lambda n, size: {"order": (n - 1, *range(1, n - 1), 0) if n > 1 else range(n)},
    "strided": lambda n, size: {"steps": (2,) * n},
    "last axis strided": lambda n, size: {"steps": last(n, 3)},
    "all reversed": lambda n, size: {"steps": (-1,) * n},
    "all reversed in steps": lambda n, size: {"steps": (-2,) * n},
    "off by half an element": lambda n, size: {"offset": size // 2},
    "field of a record": lambda n, size: {"in_record": True},
    "read-only": lambda n, size: {"writeable": False},
    "byte-swapped and strided": lambda n, size: {"swapped": True, "steps": last(n, 2)},
    "byte-swapped and permuted": lambda n, size: LAYOUTS["permuted"](n, size) | {"swapped": True},
    "subclass": lambda n, size: {"kind": Sub},
}
WRITABLE = [name for name in LAYOUTS if name not in ("read-only", "subclass") and not name.startswith("byte-swapped")]


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
