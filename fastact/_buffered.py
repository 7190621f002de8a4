"""Arrays that no kernel can run as they lie: buffered, tile by tile, through a cache-sized scratch.

These are operands of another dtype or byte order, without a unit stride, or in different axis orders.  Each tile of
about BUFFER_ELEMENTS elements is copied (and cast) into dense arrays, launched like any others, and copied out.
layouts.pxi does the same in C.  This version is easier to read, and runs where there was no compiler.

Tiles follow from the shape and the axis order alone.  They are cut into groups of consecutive tiles.  The sums of a
group's tiles are added like those of rows: RADIX of them one after the other, then RADIX of those.  Then the groups are
added in pairs.  So dalpha has the same bits on every run, though not always those of a dense array.
"""

from collections.abc import Callable, Iterator
from itertools import product
from math import prod

import numpy as np

from ._arguments import is_bfloat16
from ._plan import memory_order
from ._tables import BUFFER_ELEMENTS, BUFFER_GROUPS, BUFFER_SIDE, BUFFER_SUMS, BUFFER_TURNED, RADIX, SUM_LEVELS


def tiles(shape: tuple[int, ...], operands: list[np.ndarray]) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of this shape into C-ordered tiles of about BUFFER_ELEMENTS elements.

    A tile has the last axes whole and a part of the axis before them.  Where an operand's elements lie closest together
    along another axis, a tile is larger and has BUFFER_SIDE elements along that axis, so that each cache line is read
    once.
    """
    extent, elements = [1] * len(shape), BUFFER_ELEMENTS
    last = max((axis for axis, n in enumerate(shape) if n > 1), default=0)
    for operand in operands:
        axis = fastest(operand)
        if axis is not None and axis != last:
            extent[axis], elements = min(shape[axis], BUFFER_SIDE), BUFFER_TURNED
    for axis in reversed(range(len(shape))):
        others = prod(extent) // extent[axis]
        extent[axis] = min(shape[axis], max(extent[axis], elements // others))
        if extent[axis] < shape[axis]:
            break
    starts = (range(0, n, step) for n, step in zip(shape, extent, strict=True))
    for start in product(*starts):
        yield tuple(slice(i, i + step) for i, step in zip(start, extent, strict=True))


def fastest(operand: np.ndarray) -> int | None:
    """The axis along which an operand's elements lie closest together."""
    axes = [axis for axis in range(operand.ndim) if operand.shape[axis] > 1 and operand.strides[axis]]
    return min(axes, key=lambda axis: (abs(operand.strides[axis]), -axis), default=None)


class TileSums:
    """A float64 sum of parts in which a part passes through at most 32 additions on each of three levels."""

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


def compute(run: Callable[..., bool], dtype: np.dtype, computing: np.dtype, result, dy, x, alpha, dalpha) -> None:
    """Write `result` and `dalpha` (unless None) tile by tile; `run` computes a tile from operands in the same order."""
    order = memory_order(x, result, dy)
    x, dy, alpha, result, dalpha = (None if a is None else a.transpose(order) for a in (x, dy, alpha, result, dalpha))
    given = [a for a in (result, dy, x) if a is not None]
    every = list(tiles(x.shape, given + [alpha] * (alpha is not None and alpha.size == x.size)))
    summed = dalpha is not None and dalpha.size != x.size
    groups = min(len(every), BUFFER_GROUPS, max(1, BUFFER_SUMS // alpha.size) if summed else BUFFER_GROUPS)
    totals = []
    for group in range(groups):
        sums = TileSums(alpha.shape) if summed else None
        for tile in every[len(every) * group // groups : len(every) * (group + 1) // groups]:
            tile_x = dense(x[tile], dtype)
            tile_dy = None if dy is None else dense(dy[tile], dtype)
            tile_y = None if result is None else np.empty(tile_x.shape, dtype)
            slopes = part = of_alpha = None
            if alpha is not None:
                of_alpha = tuple(s if n != 1 else slice(None) for s, n in zip(tile, alpha.shape, strict=False))
                slopes = dense(alpha[of_alpha], computing)
            if dalpha is not None:
                part = np.empty(slopes.shape)
            if not run(tile_y, tile_dy, tile_x, slopes, part):
                raise RuntimeError(f"fastact: a dense tile of shape {tile_x.shape} has no plan")
            if sums is not None:
                sums.add(of_alpha, part)
            elif dalpha is not None:
                write_sums(dalpha[(*of_alpha, ...)], part)
            if result is not None:
                result[tile] = tile_y
        if sums is not None:
            totals.append(sums.total())
    if totals:
        write_sums(dalpha, in_pairs(np.array(totals)))


def in_pairs(terms: np.ndarray) -> np.ndarray:
    """The sum along the first axis: pairs, pairs of pairs, ..."""
    pending: dict[int, np.ndarray] = {}
    for total in terms:
        level = 0
        while level in pending:
            total = pending.pop(level) + total
            level += 1
        pending[level] = total
    total = np.zeros(terms.shape[1:])
    for level in sorted(pending):
        total = pending[level] + total
    return total


def write_sums(dalpha: np.ndarray, sums: np.ndarray) -> None:
    """Write sums, which are in float64 or in dalpha's dtype, to dalpha; each is rounded once."""
    with np.errstate(all="ignore"):
        if is_bfloat16(dalpha.dtype) and sums.dtype == np.float64:
            # ml_dtypes would round twice, to float32 first.  bfloat16 has 8 binary digits, or multiples of 2**-133.
            unit = np.maximum(np.frexp(sums)[1] - 8, -133)
            rounded = np.ldexp(np.rint(np.ldexp(sums, -unit)), unit)
            sums = np.where(np.isfinite(sums), rounded, sums).astype(np.float32)
        dalpha[...] = sums


def dense(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A C-contiguous, aligned array of this dtype; the array itself where it is one."""
    return np.require(array, dtype, ["C", "A"])
