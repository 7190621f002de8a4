"""The driver where nothing was compiled: one thread, ctypes, NumPy; and the order of a sum as a program to read.

It takes the same decisions as _cython/layouts.pxi, walks the same chunks of the same plans as _cython/driver.pyx and
adds up in the same order, so dalpha has the same bits with and without a C compiler.  A call costs some 60 us and an
inner loop 3 us.
"""

import ctypes

import numpy as np

from . import _buffered, _plan
from ._arguments import computing_dtype
from ._built import policy
from ._tables import GROUP, INNER_LOOP, KERNELS, RADIX, SHORTEST_LOOP, SHORTEST_ROWS, SUM_LEVELS, TILE_ELEMENTS


class InnerLoop(ctypes.Structure):
    """struct inner_loop."""

    _fields_ = [(name, ctypes.c_ssize_t) for name in INNER_LOOP]


Kernel = ctypes.CFUNCTYPE(None, ctypes.POINTER(InnerLoop))


class Loop:
    """One loop of a plan: size, y, dy, x, alpha."""


class Plan:
    """What _plan.py fills in; plan.pxd says what each field is."""

    def __init__(self, ndim: int) -> None:
        self.loops = [Loop() for _ in range(ndim + 1)]


def make_plan(y, dy, x, alpha, order, summed: bool) -> Plan | None:
    """The plan for arrays of one shape, or None where there is no plan.  An operand that is missing is None."""
    plan = Plan(x.ndim)
    strides = ((x if a is None else a).strides for a in (y, dy, x))
    shape = (1,) * x.ndim if alpha is None else alpha.shape
    made = _plan.make_plan(plan, x.ndim, x.shape, *strides, shape, order, x.itemsize, summed)
    return plan if made else None


def launch_arrays(name, kernel, y, dy, x, alpha, dalpha, threads, source) -> None:
    """The same as entry.pyx's function, but on the calling thread: `threads` and `source` have no effect."""
    dtype = np.dtype(np.float64) if x.dtype.kind in "biu" and name != "relu" else x.dtype.newbyteorder("=")
    computing = computing_dtype(dtype)
    if dy is not None and dtype != computing and dy.dtype.newbyteorder("=") != dtype:
        dtype = computing  # the kernel's dtype, as kernel_dtype() in entry.pxd finds it

    def run_one(*operands) -> bool:
        return run_as_they_lie(kernel, dtype, computing, *operands)

    forward = tuple(slice(None, None, -1 if is_backward(y, dy, x, dalpha, axis) else 1) for axis in range(x.ndim))
    y, dy, x = (None if a is None else a[(..., *forward)] for a in (y, dy, x))
    if alpha is not None:
        of_alpha = tuple(s if n > 1 else slice(None) for s, n in zip(forward, alpha.shape, strict=True))
        alpha, dalpha = alpha[(..., *of_alpha)], None if dalpha is None else dalpha[(..., *of_alpha)]
    with np.errstate(all="ignore"):
        if x.size == 0:
            if dalpha is not None:
                dalpha[...] = 0
        elif not run_one(y, dy, x, alpha, dalpha):
            _buffered.compute(run_one, dtype, computing, y, dy, x, alpha, dalpha)


def launch_masked(name, kernel, y, mask, x, alpha, threads, source) -> None:
    """The same for a kernel with a mask.  Where the kernel reads the mask, `x` is dy."""
    if not x.size:
        return
    dtype = np.dtype(np.float64) if x.dtype.kind in "biu" else x.dtype.newbyteorder("=")
    slope = np.asarray(alpha, computing_dtype(dtype))
    dense, result = _buffered.dense(x, dtype), np.empty(x.shape, dtype)
    loop = InnerLoop(y=address(result), alpha=address(slope), mask=address(mask), n=x.size)
    setattr(loop, "dy" if "dy" in KERNELS[name] else "x", address(dense))
    Kernel(kernel)(loop)
    y[...] = result


def is_backward(y, dy, x, dalpha, axis: int) -> bool:
    """Whether all operands are reversed along an axis before the call: see layouts.pxi."""
    sign_y, sign_dy, sign_x = (0 if a is None else int(np.sign(a.strides[axis])) for a in (y, dy, x))
    signs = sign_x if dalpha is not None else 2 * (sign_x + sign_dy) + 3 * sign_y
    return x.shape[axis] > 1 and signs < 0


def run_as_they_lie(kernel, dtype, computing, y, dy, x, alpha, dalpha) -> bool:
    """Run operands of the kernel's dtype in one plan.  Where there is no plan, do nothing and return False."""
    order = _plan.memory_order(x, y, dy)
    if dy is not None and x.size and not any(s for s, n in zip(dy.strides, dy.shape, strict=True) if n > 1):
        # dy is one number.  Here it becomes a whole array; layouts.pxi repeats it for one inner loop only.
        dy = np.full([x.shape[axis] for axis in order], dy.flat[0], dtype).transpose(np.argsort(order))
    if any(a is not None and a.dtype != dtype for a in (dy, x)):
        return False
    slopes = None
    if alpha is not None:
        dense = alpha.dtype == computing and alpha.transpose(order).flags.c_contiguous
        if alpha.size > TILE_ELEMENTS and not dense:
            return False
        slopes = np.require(alpha.transpose(order), computing, ["C", "A"])
    single_terms = (
        dalpha is not None
        and dalpha.size == x.size > 1
        and dalpha.dtype == dtype == computing
        and dalpha.transpose(order).flags.c_contiguous
        and dalpha.flags.aligned
    )
    plan = make_plan(y, dy, x, alpha, order, dalpha is not None and not single_terms)
    if plan is None:
        return False
    # Short loops with gaps between them, as in a crop of an image, cost more than a copy of their elements.
    operands = [a for a in (y, dy, x) if a is not None]
    whole = all(a.transpose(order).flags.c_contiguous for a in operands)
    if plan.longest < (SHORTEST_ROWS if alpha is None else SHORTEST_LOOP) and x.size > SHORTEST_LOOP and not whole:
        return False
    # Either alpha is read where it lies, or its repeated pattern fits a cache-sized scratch.
    if (
        alpha is not None
        and plan.alphas * plan.repeats * plan.copies > TILE_ELEMENTS
        and (not dense or (plan.along and plan.repeats > 1))
    ):
        return False
    traffic = x.nbytes * (len(operands) + single_terms + (alpha is not None and alpha.size == x.size))
    stream = y is not None and policy.streams(traffic, 1) and y.flags.aligned
    stream = stream and not any(np.may_share_memory(y, a) for a in (dy, x) if a is not None)
    addresses = [address(a) for a in (y, dy, x)]
    partial = run(kernel, addresses, plan, stream, slopes, dalpha, single_terms)
    if partial is not None:
        sums = reduce_sums(plan, partial).reshape([alpha.shape[axis] for axis in order])
        _buffered.write_sums(dalpha, sums.transpose(np.argsort(order)))
    return True


def address(array: np.ndarray | None) -> int:
    """Where an array or None has its first element."""
    return 0 if array is None else array.ctypes.data


def pattern_of(plan: Plan, slopes: np.ndarray) -> np.ndarray:
    """A plane's slopes as a kernel reads them along the loop: repeated, in copies, and if joined GROUP at the end."""
    period = np.tile(np.repeat(slopes, plan.repeats), plan.copies)
    return np.take(period, np.arange(plan.pattern) % plan.m)


def run(kernel, addresses, plan: Plan, stream: bool, slopes, dalpha, single_terms: bool) -> np.ndarray | None:
    """Run all chunks; return the partial sums [plane, group, column], or None where there are none."""
    function = Kernel(kernel)
    terms = address(dalpha) if single_terms else 0
    partial = None
    if dalpha is not None and not single_terms:
        partial = np.empty((plan.planes, plan.groups, plan.columns))
    for chunk in range(plan.chunks):
        if slopes is not None and chunk % (plan.strips * plan.groups) == 0:
            plane = chunk // (plan.strips * plan.groups)
            read = slopes.reshape(plan.planes, plan.channels)[plane]
            read = pattern_of(plan, read) if plan.repeated else read
        alpha = address(None if slopes is None else read)
        run_chunk(function, addresses, plan, stream, chunk, alpha, partial, terms)
    return partial


def locate(loops, index: int) -> list[int]:
    """Byte offsets (y, dy, x) of the index-th iteration of these loops."""
    at = [0, 0, 0]
    for loop in reversed(loops):
        index, k = divmod(index, loop.size)
        at = [at[0] + k * loop.y, at[1] + k * loop.dy, at[2] + k * loop.x]
    return at


def run_chunk(kernel, addresses, plan: Plan, stream: bool, chunk: int, alpha: int, partial, terms: int) -> None:
    """Run one chunk: a strip of columns in a group of rows of a plane.  `alpha` points to the plane's first slope."""
    strip, group, plane = chunk % plan.strips, chunk // plan.strips % plan.groups, chunk // (plan.strips * plan.groups)
    first = strip * plan.chunk_columns
    width = min(plan.chunk_columns, plan.columns - first)
    m, slope = plan.m, first
    if plan.along:
        start, n = first, width
    elif plan.segments == 1:
        start, n = first * m, width * m
    else:
        slope, k = divmod(first, plan.segments)
        start = slope * m + k * plan.segment
        n = m = min(plan.segment, m - k * plan.segment)
    planes, rows = plan.loops[: plan.plane_loops], plan.loops[plan.plane_loops : plan.plane_loops + plan.row_loops]
    base = [a + start * plan.itemsize + b for a, b in zip(addresses, locate(planes, plane), strict=True)]
    alpha += slope * plan.slope_size
    terms = terms and terms + (plane * plan.channels + slope) * plan.itemsize
    # A kernel with alpha along the loop reads and writes whole groups, and also the group before the first.
    lanes = width + -width % GROUP + GROUP
    sums = [np.zeros(GROUP + lanes)[GROUP:] for _ in range(SUM_LEVELS)] if partial is not None else []
    row, stop = group * plan.chunk_rows, min((group + 1) * plan.chunk_rows, plan.rows)
    radix = 2 * RADIX if plan.along else RADIX
    left, turns = radix, 0
    while row < stop:
        take = 1
        if plan.joined:
            take = min(stop - row, left) if sums else stop - row
            n = min(take * plan.m, plan.joined_elements - row * plan.m)
        at = [a + b if given else 0 for a, b, given in zip(base, locate(rows, row), addresses, strict=True)]
        loop = InnerLoop(
            *at, alpha, sums[0].ctypes.data if sums else 0, terms=terms, n=n, m=m, along=plan.along, stream=stream,
            fence=True,
        )  # fmt: skip
        kernel(loop)
        row += take
        left -= take
        if sums and left == 0 and row < stop:
            move_up(sums, 0)
            left, turns = radix, turns + 1
            if turns % radix == 0:
                move_up(sums, 1)
    if sums:
        move_up(sums, 0)
        move_up(sums, 1)
        partial[plane, group, first : first + width] = sums[2][:width]


def move_up(sums: list[np.ndarray], level: int) -> None:
    """Add the sums of one level to those of the next."""
    sums[level + 1] += sums[level]
    sums[level][:] = 0


def reduce_sums(plan: Plan, partial: np.ndarray) -> np.ndarray:
    """The partial sums of each slope, added in pairs: groups, then copies and repeats."""
    columns = _buffered.in_pairs(partial.transpose(1, 0, 2)).reshape(
        plan.planes, plan.copies, plan.channels, plan.repeats
    )
    return _buffered.in_pairs(columns.transpose(1, 3, 0, 2).reshape(-1, plan.alphas))


class Bound:
    """The same as driver.pyx's class, on one thread."""

    def __init__(self, kernel, y, dy, x, threads: int, stream: bool) -> None:
        plan = make_plan(y, dy, x, None, tuple(range(x.ndim)), False)
        if plan is None:
            raise ValueError("these arrays cannot be run as they lie")
        self.arrays = y, dy, x
        self.run = kernel, [address(a) for a in (y, dy, x)], plan, stream, None, None, False

    def __call__(self) -> None:
        run(*self.run)
