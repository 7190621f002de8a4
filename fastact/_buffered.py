"""Arrays that no kernel can run as they lie: buffered, tile by tile, through a cache-sized scratch.

Another dtype or byte order, unaligned elements, no unit stride, operands in different axis orders: each tile of at most
TILE_ELEMENTS elements is copied (and cast) by NumPy into dense arrays, launched like any others, and copied out.  Tiles
follow from the shape and x's axis order alone.  Their sums are added like those of rows: RADIX of them one after the
other, then RADIX of those.  So dalpha has the same bits on every run; the order is not the one of a dense array.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ._plan import memory_order
from ._tables import RADIX, SUM_LEVELS, TILE_ELEMENTS


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of this shape into C-ordered tiles of at most TILE_ELEMENTS elements."""
    inner, axis = 1, len(shape)
    while axis and inner * shape[axis - 1] <= TILE_ELEMENTS:
        axis -= 1
        inner *= shape[axis]
    if not axis:
        yield (slice(None),) * len(shape)
        return
    step = max(1, TILE_ELEMENTS // inner)
    for outer in np.ndindex(*shape[: axis - 1]):
        for start in range(0, shape[axis - 1], step):
            yield (*(slice(i, i + 1) for i in outer), slice(start, start + step))


class TileSums:
    """A float64 sum in which a term passes through at most 32 additions on each of three levels."""

    def __init__(self, shape: tuple[int, ...]):
        self.levels = [np.zeros(shape) for _ in range(SUM_LEVELS)]
        self.count = 0

    def add(self, where: tuple[slice, ...], part: np.ndarray) -> None:
        """Add a part; every 32 parts move up a level, every 32 of those the next."""
        self.levels[0][where] += part
        self.count += 1
        for level in range(SUM_LEVELS - 1):
            if self.count % RADIX ** (level + 1) == 0:
                self._move_up(level)

    def _move_up(self, level: int) -> None:
        self.levels[level + 1] += self.levels[level]
        self.levels[level][...] = 0

    def total(self) -> np.ndarray:
        """The sum of all levels."""
        for level in range(SUM_LEVELS - 1):
            self._move_up(level)
        return self.levels[-1]


def compute(
    launch: Callable, kernel: int, result, dy, x, alpha, dtype, need_dalpha: bool, threads: int
) -> np.ndarray | None:
    """Write `result` (unless None), each tile by `launch`; dalpha's sums in alpha's shape, where they are needed."""
    order = memory_order(x)
    x, dy, alpha, result = (None if a is None else a.transpose(order) for a in (x, dy, alpha, result))
    sums = TileSums(alpha.shape) if need_dalpha else None
    axes = tuple(range(x.ndim))
    with np.errstate(all="ignore"):
        for tile in tiles(x.shape):
            tile_x = _dense(x[tile], dtype)
            tile_dy = None if dy is None else _dense(dy[tile], dtype)
            tile_y = None if result is None else np.empty(tile_x.shape, dtype)
            slopes = part = of_alpha = None
            if alpha is not None:
                of_alpha = tuple(s if n != 1 else slice(None) for s, n in zip(tile, alpha.shape, strict=False))
                slopes = _dense(alpha[of_alpha], dtype)
            if need_dalpha:
                part = np.empty(slopes.shape)
            if not launch(kernel, tile_y, tile_dy, tile_x, slopes, slopes, part, axes, False, threads):
                raise RuntimeError(f"fastact: a dense tile of shape {tile_x.shape} has no plan")
            if sums is not None:
                sums.add(of_alpha, part)
            if result is not None:
                result[tile] = tile_y
    return None if sums is None else sums.total().transpose(np.argsort(order))


def _dense(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A C-contiguous, aligned array of this dtype; the array itself where it is one."""
    return np.require(array, dtype, ["C", "A"])
