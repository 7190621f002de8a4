# cython: infer_types=True
"""From n-dimensional arrays to collapsed loops: what the inner loops are, and in which order sums are made.

`make_plan` sorts the axes by x's strides, merges what lies one after the other, and finds one of two forms of alpha.
Alpha is constant along rows, or it is "along the inner loop": it changes with every element, and begins again after a
period.  Everything in a plan follows from shape, memory order and the form of alpha, never from threads or addresses:
that is what makes dalpha reproducible.  The loops around the inner loop may have any strides.  Operands without a unit
stride in the inner loop have no plan: see _buffered.py.

Cython compiles this text (plan.pxd has the types, and says what each field of a plan is): a plan is then a C struct,
made without the GIL.  Uncompiled, it is an object with the same fields.

The order of a sum: GROUP lanes in a block of BLOCK elements, blocks of a segment in pairs.  The sums of rows are added
one after the other, RADIX of them, then RADIX of those, and so on (twice as many where alpha is along the loop), to
one partial sum for each column and group of rows.  Then groups, copies and segments are added in pairs.  A term
passes through at most 65 additions in a block, 4 of its lanes, 8 of blocks in pairs, 3 * RADIX of rows and PAIRS at the
end.  Where alpha is along the loop there are 3 * 2 * RADIX of rows and PAIRS at the end.
"""

from fastact._tables import GROUP, LINE, RADIX, SUM_LEVELS

SHORTEST_ROW = 16  # rows below this are run as if alpha ran along the loop, each slope repeated
SEGMENT = 16384  # elements: longer rows are summed (and shared out) in segments
PERIOD = 256  # elements: a shorter period of an alpha along the loop is repeated up to this length
REGISTERS = 64  # elements: for a sum, periods are repeated to a multiple of this; 64 accumulators stay in registers
SHORT_PERIOD = 2048  # elements of several short rows that are run as one period where it repeats often
COLUMNS = 8192  # accumulators of an alpha along the loop (64 KB) that stay in L2, as do its slopes
# Elements of a chunk, which a thread takes at a time: at least 1 us of work, at most 512 KB of doubles.
LEAST_CHUNK = 8192
MOST_CHUNK = 65536
CHUNKS = 64  # chunks of a call, within these two bounds: threads get equal ranges, and long loops stream better
SHORT_LOOP = 4096  # elements: shorter inner loops cost more than the reductions that they save
MAX_SEGMENTS = 256
MAX_GROUPS = 64
# The most partial sums of a plane (512 KB).  There are more where the columns alone are more (they get 8 groups), or
# where a group would have more than RADIX**3 rows.
PARTIALS = 65536


def set_sizes(least_chunk, most_chunk, max_groups):
    """Set three of the sizes, for tests of the order of a sum; return the three as they were before."""
    global LEAST_CHUNK, MOST_CHUNK, MAX_GROUPS
    before = LEAST_CHUNK, MOST_CHUNK, MAX_GROUPS
    LEAST_CHUNK, MOST_CHUNK, MAX_GROUPS = least_chunk, most_chunk, max_groups
    return before


def memory_order(x, y=None, dy=None) -> tuple[int, ...]:
    """The axes from x's largest stride to its smallest, as np.empty_like keeps them.

    Along an axis where x is expanded (stride 0) another operand says how far apart the elements are.  Axes of one
    stride are sorted by y's.
    """

    def step(axis):
        return next((abs(a.strides[axis]) for a in (x, y, dy) if a is not None and a.strides[axis]), 0)

    of_y = (0,) * x.ndim if y is None else y.strides
    return tuple(sorted(range(x.ndim), key=lambda axis: (-step(axis), -abs(of_y[axis]))))


def make_plan(plan, ndim, shape, ys, dys, xs, alpha_shape, order, itemsize, summed):
    """Fill in a plan for operands of these strides (in bytes); False where they cannot be run as they lie.

    `alpha_shape` has x's number of axes (1 where alpha is broadcast); alpha itself is dense in `order`, which has the
    axes from outermost to innermost in memory.
    """
    plan.itemsize = itemsize
    plan.slope_size = max(itemsize, 4)
    plan.elements = 1
    plan.y_low = plan.dy_low = plan.x_low = 0
    plan.y_high = plan.dy_high = plan.x_high = itemsize
    for axis in range(ndim):
        last = shape[axis] - 1
        plan.elements *= shape[axis]
        plan.y_low += min(0, last * ys[axis])
        plan.dy_low += min(0, last * dys[axis])
        plan.x_low += min(0, last * xs[axis])
        plan.y_high += max(0, last * ys[axis])
        plan.dy_high += max(0, last * dys[axis])
        plan.x_high += max(0, last * xs[axis])
    count = collapse(plan, ndim, shape, ys, dys, xs, alpha_shape, order)
    m = 1
    if count:
        count -= 1
        row = plan.loops[count]
        if row.y != itemsize or row.dy != itemsize or row.x != itemsize:
            return False
        m = row.size
        if row.alpha:
            use_alpha_along(plan, count, m, 1, m, summed)
            return True
    use_rows(plan, count, m, summed)
    return True


def collapse(plan, ndim, shape, ys, dys, xs, alpha_shape, order):
    """The loops from outermost to innermost, neighbours merged where every operand allows it; how many there are."""
    step = 1
    for axis in range(ndim):
        step *= alpha_shape[axis]
    count = 0
    for d in range(ndim):
        axis = order[d]
        size = shape[axis]
        alpha = 0
        if alpha_shape[axis] != 1:
            step //= alpha_shape[axis]
            alpha = step
        if size == 1:
            continue
        merged = False
        if count:
            outer = plan.loops[count - 1]
            merged = outer.y == ys[axis] * size and outer.dy == dys[axis] * size and outer.x == xs[axis] * size
            merged = merged and outer.alpha == alpha * size and (outer.alpha == 0) == (alpha == 0)
        if merged:
            size *= plan.loops[count - 1].size
        else:
            count += 1
        plan.loops[count - 1].size = size
        plan.loops[count - 1].y = ys[axis]
        plan.loops[count - 1].dy = dys[axis]
        plan.loops[count - 1].x = xs[axis]
        plan.loops[count - 1].alpha = alpha
    return count


def turns_of(plan, count, with_alpha):
    """The iterations of the loops of one kind: those that change alpha (planes), or those that do not (rows)."""
    turns = 1
    for d in range(count):
        if (plan.loops[d].alpha != 0) == with_alpha:
            turns *= plan.loops[d].size
    return turns


def row_loops(plan, count):
    """How many of the loops do not change alpha."""
    number = 0
    for d in range(count):
        if plan.loops[d].alpha == 0:
            number += 1
    return number


def is_step(loop, step):
    """Whether a loop goes on where the loops within it end, `step` bytes later, in every operand."""
    return loop.y == step and loop.dy == step and loop.x == step


def chunk_of(plan):
    """How many elements a thread should take at a time."""
    return min(max(LEAST_CHUNK, plan.elements // CHUNKS), MOST_CHUNK)


def use_rows(plan, count, m, summed):
    """Alpha is constant along the inner loop of m elements, and perhaps changes with the loop around it."""
    channels = 1
    if count and plan.loops[count - 1].alpha and is_step(plan.loops[count - 1], m * plan.itemsize):
        count -= 1
        channels = plan.loops[count].size
        rows = turns_of(plan, count, False)
        often = channels * m <= SHORT_PERIOD and rows >= 8
        # Short rows: prelu from memory, 64 channels in rows of 49, took 1.1 to 1.4 of a copy's time as rows, 1.05 here.
        often = often or (not summed and channels * m <= COLUMNS and m < 128 and rows >= 256)
        if m < SHORTEST_ROW or often:
            use_alpha_along(plan, count, channels, m, channels * m, summed)
            return
    chunk = chunk_of(plan)
    # A sum's segments follow from m; an elementwise row is cut for the threads only.
    segments = 1
    if m > SEGMENT:
        segments = min(MAX_SEGMENTS, (m + SEGMENT - 1) // SEGMENT)
    segment = (m + segments - 1) // segments
    segment = (segment + GROUP - 1) // GROUP * GROUP
    segments = (m + segment - 1) // segment
    wide = 1
    if segments == 1:
        # A sum takes all rows of a channel in one chunk where they are few, so that there are no partial sums to add.
        together = turns_of(plan, count, False) if summed else 1
        if together > RADIX or m * together > chunk:
            together = 1
        wide = min(channels * segments, max(1, chunk // (m * together), SHORT_LOOP // m))
    plan.along = False
    plan.joined = False
    plan.joined_elements = 0
    plan.m = m
    plan.channels = channels
    plan.segments = segments
    plan.segment = segment
    plan.copies = 1
    plan.repeats = segments
    plan.columns = channels * segments
    plan.chunk_columns = wide
    make_grid(plan, count, chunk, wide * (m if segments == 1 else segment), summed)


def use_alpha_along(plan, count, channels, repeats, period, summed):
    """Alpha is along the loop: `channels` slopes, each for `repeats` elements; short rows are taken together."""
    copies = 1
    joined = False
    elements = period
    size = 1
    if count and not plan.loops[count - 1].alpha:
        joined = is_step(plan.loops[count - 1], period * plan.itemsize)
    if joined:
        size = plan.loops[count - 1].size
        elements = size * period
        if period < PERIOD:
            copies = min(copies_of(period, summed), size)
    if copies > 1:
        # If there are no other rows, the last inner loop may be shorter.  Else the copies have to divide the rows.
        while size % copies and row_loops(plan, count - 1):
            copies -= 1
        period *= copies
        plan.loops[count - 1].size = (size + copies - 1) // copies
        plan.loops[count - 1].y *= copies
        plan.loops[count - 1].dy *= copies
        plan.loops[count - 1].x *= copies
    chunk = chunk_of(plan)
    rows = row_loops(plan, count)
    wide = min(period, COLUMNS if rows else chunk)
    plan.along = True
    plan.joined = joined and wide == period and rows == 1
    plan.joined_elements = elements
    plan.m = period
    plan.channels = channels
    plan.segments = 1
    plan.segment = 1
    plan.copies = copies
    plan.repeats = repeats
    plan.columns = period
    plan.chunk_columns = wide
    make_grid(plan, count, 2 * chunk, wide, summed)  # a chunk sets up and reduces an accumulator for each column


def copies_of(period, summed):
    """How often a short period is repeated."""
    common = REGISTERS
    rest = period % REGISTERS
    while rest:
        common, rest = rest, common % rest
    whole = REGISTERS // common
    if summed and whole * period <= PERIOD:
        return whole
    return (PERIOD + period - 1) // period


def make_grid(plan, count, chunk, per_row, summed):
    """Planes, rows, the chunks that the work is cut into, and every number that follows from the others."""
    # Planes first, then rows, each in their order.
    plan.plane_loops = 0
    for d in range(count):
        loop = plan.loops[d]
        if loop.alpha:
            k = d
            while k > plan.plane_loops:
                plan.loops[k] = plan.loops[k - 1]
                k -= 1
            plan.loops[k] = loop
            plan.plane_loops += 1
    plan.row_loops = count - plan.plane_loops
    plan.planes = turns_of(plan, count, True)
    plan.rows = turns_of(plan, count, False)
    chunk_rows = min(plan.rows, max(1, chunk // per_row))
    if plan.along and plan.chunk_columns < plan.columns:
        chunk_rows = min(plan.rows, RADIX)  # for this many rows, a strip of alpha is read from L2
    if summed:
        # Partial sums take O(channels) of memory: groups are bounded in number, unless each would have too many rows.
        groups = PARTIALS // plan.columns
        groups = max(1, min(MAX_GROUPS, groups if groups else 8))
        chunk_rows = min(max(chunk_rows, (plan.rows + groups - 1) // groups), RADIX * RADIX * RADIX, plan.rows)
    plan.chunk_rows = max(1, chunk_rows)
    plan.groups = (plan.rows + plan.chunk_rows - 1) // plan.chunk_rows
    plan.strips = (plan.columns + plan.chunk_columns - 1) // plan.chunk_columns
    plan.chunks = plan.planes * plan.groups * plan.strips
    if plan.joined:
        together = min(plan.chunk_rows, 2 * RADIX) if summed else plan.chunk_rows
        plan.longest = min(together * plan.m, plan.joined_elements)
    elif plan.along:
        plan.longest = plan.chunk_columns
        if plan.strips > 1:
            plan.longest += LINE  # strips end at the result's cache lines
    else:
        plan.longest = plan.chunk_columns * plan.m if plan.segments == 1 else plan.segment
    plan.alphas = plan.planes * plan.channels
    plan.reduces = plan.groups * plan.copies * plan.repeats > 1
    plan.repeated = plan.along and (plan.repeats > 1 or plan.copies > 1 or plan.joined)
    plan.pattern = plan.m + (GROUP if plan.joined else 0)
    plan.scratch = SUM_LEVELS * (plan.chunk_columns + 3 * GROUP) + GROUP
    if plan.planes > 1:
        plan.dense = False
    elif plan.along:
        plan.dense = plan.rows == 1 and plan.copies == 1 and plan.repeats == 1
    else:
        plan.dense = plan.rows == 1 or (
            plan.row_loops == 1 and is_step(plan.loops[0], plan.channels * plan.m * plan.itemsize)
        )
