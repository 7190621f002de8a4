"""Arrays that no kernel can run as they lie: taken tile by tile through a cache-sized scratch.

Another dtype or byte order, unaligned elements, no unit stride, operands in different axis orders: each
tile of at most TILE elements is copied (and cast) by NumPy into dense arrays, computed like any others, and
copied out.  Tiles follow from the shape and x's axis order alone, and their sums go through a cascade by 32s like
the driver's, so dalpha has the same bits on every run; the order is not the one of a dense array.
"""

from collections.abc import Iterator

import numpy as np

from . import _dispatch, _layout

TILE = 32768  # elements: 128 or 256 KB for each operand, which an L2 cache holds
RADIX = 32
LEVELS = 3


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of this shape into C-ordered tiles of at most TILE elements."""
    inner, axis = 1, len(shape)
    while axis and inner * shape[axis - 1] <= TILE:
        axis -= 1
        inner *= shape[axis]
    if not axis:
        yield (slice(None),) * len(shape)
        return
    step = max(1, TILE // inner)
    for outer in np.ndindex(*shape[: axis - 1]):
        for start in range(0, shape[axis - 1], step):
            yield (*(slice(i, i + 1) for i in outer), slice(start, start + step))


class Cascade:
    """A float64 sum in which a term passes through at most 32 additions on each of three levels."""

    def __init__(self, shape: tuple[int, ...]):
        self.levels = [np.zeros(shape) for _ in range(LEVELS)]
        self.count = 0

    def add(self, where: tuple[slice, ...], part: np.ndarray) -> None:
        """Add a part; every 32 parts move up a level, every 32 of those the next."""
        self.levels[0][where] += part
        self.count += 1
        for level in range(LEVELS - 1):
            if self.count % RADIX ** (level + 1) == 0:
                self._move_up(level)

    def _move_up(self, level: int) -> None:
        self.levels[level + 1] += self.levels[level]
        self.levels[level][...] = 0

    def total(self) -> np.ndarray:
        """The sum of all levels."""
        for level in range(LEVELS - 1):
            self._move_up(level)
        return self.levels[-1]


def compute(op, dy, x, alpha, dtype, result, need_dalpha, backend, n_threads) -> np.ndarray | None:
    """As _dispatch.compute, for any arrays of x's shape."""
    order = _layout.memory_order(x)
    x, dy, alpha, result = (None if a is None else a.transpose(order) for a in (x, dy, alpha, result))
    sums = Cascade(alpha.shape) if need_dalpha else None
    with np.errstate(all="ignore"):
        for tile in tiles(x.shape):
            tile_x = _dense(x[tile], dtype)
            tile_dy = None if dy is None else _dense(dy[tile], dtype)
            of_alpha = None
            if alpha is not None:
                of_alpha = tuple(s if n != 1 else slice(None) for s, n in zip(tile, alpha.shape, strict=False))
            tile_alpha = None if alpha is None else _dense(alpha[of_alpha], dtype)
            tile_out = None if result is None else np.empty(tile_x.shape, dtype)
            part = _dispatch.compute(op, tile_dy, tile_x, tile_alpha, dtype, tile_out, need_dalpha, backend, n_threads)
            if sums is not None:
                sums.add(of_alpha, part)
            if result is not None:
                result[tile] = tile_out
    return None if sums is None else sums.total().transpose(np.argsort(order))


def _dense(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A C-contiguous, aligned array of this dtype; the array itself where it is one."""
    return np.require(array, dtype, ["C", "A"])
