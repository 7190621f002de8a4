"""From n-dimensional arrays to collapsed loops: what a kernel's runs are and in which order sums are made.

`make_plan` sorts the axes by x's strides, merges what lies one after the other and finds one of two row
forms: alpha constant along rows, or running along them.  Everything in a Plan follows from shape, memory
order and the form of alpha, never from threads or addresses: that is what makes dalpha reproducible.
What cannot be run directly (another dtype or byte order, no unit stride) gives None: see _staging.py.

The order of a sum: 16 lanes in a block of 1024 elements, blocks of a segment in pairs; rows by 32s, by
32s of 32s, ... (64s where alpha runs: the driver's `cascade`) into one partial sum for each column and group of rows;
groups in pairs, then copies and segments in pairs.  On the way of any term there are at most 65 + 4 + 8 + 3 * 32 + 40
additions, or 3 * 64 + 40 where alpha runs.
"""

import math
from typing import NamedTuple

import numpy as np

GROUP = 16  # lanes: a running alpha goes on for so many elements past its period
SHORTEST_ROW = 16  # rows below this are run as a running alpha with each slope repeated
SEGMENT = 16384  # elements: longer rows are summed (and shared out) in segments
PERIOD = 256  # elements: shorter periods of a running alpha are repeated up to this ...
REGISTERS = 64  # ... or, where a sum is made, up to a multiple of this many accumulators, which registers hold
SHORT_PERIOD = 2048  # elements of several short rows that are run as one with a running alpha where it repeats often
COLUMNS = 8192  # accumulators of a running alpha (64 KB) that stay in L2, as do its slopes
CHUNK = 8192, 65536  # elements that a thread takes at a time: at least 1 us of work, at most 512 KB of doubles ...
CHUNKS = 64  # ... and so many chunks where that leaves a choice: shares come out even, long runs stream better
RUN = 4096  # elements: shorter runs cost more than the folds that they save
RADIX = 32  # rows that the driver adds up before it moves their sum up a level; twice as many where alpha runs
MAX_SEGMENTS = 256
MAX_GROUPS = 64
PARTIALS = 65536  # partial sums in all (512 KB), except where 8 groups of columns need more


class Dim(NamedTuple):
    """One loop: its length, the operands' strides in bytes and alpha's stride in elements."""

    size: int
    strides: tuple[int, ...]
    alpha: int


class Plan(NamedTuple):
    """Collapsed loops: planes (an alpha of their own) of rows (adding up in dalpha) of columns (one sum each)."""

    running: bool  # alpha runs along the row
    m: int  # elements of a row with one alpha, or the period of a running alpha
    columns: int  # sums in a row: its channels times their segments, or the period
    segments: int  # pieces of a channel's m elements (1 where alpha runs)
    segment: int  # elements of a piece
    copies: int  # how often the period repeats alpha ...
    channels: int  # ... of so many channels ...
    repeats: int  # ... each slope so many times
    planes: tuple[Dim, ...]
    rows: tuple[Dim, ...]
    joined: bool  # rows lie one after the other, so that one run takes many ...
    elements: int  # ... of so many elements in all
    chunk_columns: int
    chunk_rows: int
    n_planes: int
    n_rows: int
    order: tuple[int, ...]  # the axes from outermost to innermost in memory

    @property
    def groups(self) -> int:
        """Groups of rows that are summed apart."""
        return -(-self.n_rows // self.chunk_rows)

    @property
    def chunks(self) -> int:
        """How many pieces the work can be shared out in."""
        return self.n_planes * self.groups * -(-self.columns // self.chunk_columns)


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """The axes from the largest stride to the smallest, as np.empty_like keeps them."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def contiguous_strides(shape: tuple[int, ...], order: tuple[int, ...]) -> list[int]:
    """Strides in elements of an array that is dense in this order of its axes; 0 along axes of one."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step if shape[axis] != 1 else 0
        step *= shape[axis]
    return strides


def dense_strides(shape: tuple[int, ...]) -> list[int]:
    """Strides in elements of a C-contiguous array."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return strides


def collapse(shape, strides, alpha_strides, order) -> list[Dim]:
    """The loops from outermost to innermost, neighbours merged where every operand allows it."""
    dims: list[Dim] = []
    for axis in order:
        if shape[axis] == 1:
            continue
        inner = Dim(shape[axis], tuple(s[axis] for s in strides), alpha_strides[axis])
        if dims:
            outer = dims[-1]
            steps = all(o == i * inner.size for o, i in zip(outer.strides, inner.strides, strict=True))
            if steps and outer.alpha == inner.alpha * inner.size and (outer.alpha == 0) == (inner.alpha == 0):
                dims[-1] = Dim(outer.size * inner.size, inner.strides, inner.alpha)
                continue
        dims.append(inner)
    return dims


def make_plan(shape, strides, itemsize, alpha_shape, order, summed) -> Plan | None:
    """The plan for operands of these strides, or None where they cannot be run as they lie.

    `alpha_shape` has x's number of axes (1 where alpha is broadcast); alpha itself is dense in `order`.
    """
    chunk = min(max(CHUNK[0], math.prod(shape) // CHUNKS), CHUNK[1])
    alpha_strides = contiguous_strides(alpha_shape, order)
    dims = collapse(shape, strides, alpha_strides, order)
    if not dims:
        dims = [Dim(1, (itemsize,) * len(strides), 0)]
    if any(step != itemsize for step in dims[-1].strides) or any(s < 0 for d in dims for s in d.strides):
        return None
    row = dims.pop()
    if row.alpha == 0:
        return _constant_rows(dims, row, itemsize, order, summed, chunk)
    return _running_rows(dims, row.size, 1, row.size, itemsize, order, summed, chunk)


def _constant_rows(dims, row, itemsize, order, summed, chunk) -> Plan:
    """Alpha is constant along the innermost loop, and perhaps changes with the loop around it."""
    m, channels = row.size, 1
    if dims and dims[-1].alpha and all(step == m * itemsize for step in dims[-1].strides):
        channels = dims.pop().size
        rows = [d for d in dims if not d.alpha]
        n_rows = _product(rows)
        often = channels * m <= SHORT_PERIOD and n_rows >= 8
        # Short runs: from memory prelu in rows of 49 of 64 channels took 1.1 to 1.4 of the limit as rows, 1.05 so.
        often = often or (not summed and channels * m <= COLUMNS and m < 128 and n_rows >= 256)
        if m < SHORTEST_ROW or often:
            return _running_rows(dims, channels, m, channels * m, itemsize, order, summed, chunk)
    # A sum's segments follow from m; an elementwise row is cut for the threads only.
    segments = min(MAX_SEGMENTS, -(-m // SEGMENT)) if m > SEGMENT else 1
    segment = -(-m // segments)
    segment += -segment % GROUP
    segments = -(-m // segment)
    columns = channels * segments
    wide = 1
    if segments == 1:
        # A sum takes few rows together, all of each channel's, where that leaves it no partial sums to fold.
        together = _product(d for d in dims if not d.alpha) if summed else 1
        together = together if together <= RADIX and m * together <= chunk else 1
        wide = min(columns, max(1, chunk // (m * together), RUN // m))
    return _grid(
        dims, itemsize, order, summed, chunk, running=False, m=m, columns=columns, segments=segments, segment=segment,
        copies=1, channels=channels, repeats=segments, joined=False, elements=0, chunk_columns=wide, width=segment,
    )  # fmt: skip


def _running_rows(dims, channels, repeats, period, itemsize, order, summed, chunk) -> Plan:
    """Alpha runs along the row: `channels` slopes, each for `repeats` elements; short rows are taken together."""
    copies = 1
    innermost = dims[-1] if dims else None
    joined = innermost is not None and not innermost.alpha
    joined = joined and all(step == period * itemsize for step in innermost.strides)
    if joined and period < PERIOD:
        copies = min(_copies(period, summed), innermost.size)
    elements = innermost.size * period if joined else period
    if copies > 1:
        # Where these are all the rows the last run may be shorter; else the copies have to divide them.
        while innermost.size % copies and any(not d.alpha for d in dims[:-1]):
            copies -= 1
        period *= copies
        dims = [*dims[:-1], Dim(-(-innermost.size // copies), tuple(s * copies for s in innermost.strides), 0)]
    rows = [d for d in dims if not d.alpha]
    wide = min(period, COLUMNS if rows else chunk)
    chunk *= 2  # a chunk sets up and folds an accumulator for each column
    joined = joined and wide == period and len(rows) == 1
    return _grid(
        dims, itemsize, order, summed, chunk, running=True, m=period, columns=period, segments=1, segment=1,
        copies=copies, channels=channels, repeats=repeats, joined=joined, elements=elements,
        chunk_columns=wide, width=1,
    )  # fmt: skip


def _copies(period: int, summed: bool) -> int:
    """How often a short period is repeated."""
    whole = REGISTERS // math.gcd(period, REGISTERS)
    return whole if summed and whole * period <= PERIOD else -(-PERIOD // period)


def _grid(dims, itemsize, order, summed, chunk, *, width, **form) -> Plan:
    """Planes, rows and the chunks that the work is shared out in."""
    planes = tuple(d for d in dims if d.alpha)
    rows = tuple(d for d in dims if not d.alpha)
    n_rows = _product(rows)
    per_row = form["chunk_columns"] * (form["m"] if form["segments"] == 1 and not form["running"] else width)
    chunk_rows = min(n_rows, max(1, chunk // per_row))
    if form["chunk_columns"] < form["columns"] and form["running"]:
        chunk_rows = min(n_rows, RADIX)  # a strip of alpha is read from L2 for so many rows
    if summed:
        # Partial sums take O(channels): a bounded number of groups, more only where rows would be too many.
        groups = max(1, min(MAX_GROUPS, PARTIALS // form["columns"] or 8))
        chunk_rows = min(max(chunk_rows, -(-n_rows // groups)), RADIX**3, n_rows)
    return Plan(
        planes=planes, rows=rows, n_planes=_product(planes), n_rows=n_rows, chunk_rows=max(1, chunk_rows),
        order=order, **form,
    )  # fmt: skip


def _product(dims) -> int:
    return math.prod(d.size for d in dims)


def alpha_pattern(plan: Plan, alpha: np.ndarray) -> np.ndarray:
    """alpha as the kernels read it: slopes repeated along short rows, and 16 more where the period wraps."""
    if not plan.running or (plan.repeats == 1 and plan.copies == 1 and not plan.joined):
        return alpha
    period = np.tile(np.repeat(alpha.reshape(plan.n_planes, plan.channels), plan.repeats, axis=1), plan.copies)
    return np.take(period, np.arange(plan.m + GROUP) % plan.m, axis=1) if plan.joined else period
