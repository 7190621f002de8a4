"""The kernels of both variants: the formulas, and the loops over elements that lie one after the other.

Cython and Numba both compile this text.  The functions that it calls but does not define (`load`, `where_gt`, `fetch`
...) are called words, and a set of them is a vocabulary.  Cython's vocabulary is simd.h with a level.h for each SIMD
level, in C vectors; Numba's is _numba/simd.py, in LLVM vectors.  No vocabulary is imported here: setup.py makes
declarations for Cython from the annotations, and _numba/kernels.py puts its words into this module before it runs.  The
numbers (GROUP, BLOCK ...) come from _tables.py.  No Python object, exception or thread is used in here.

A kernel gets one `inner_loop` (see _tables.py): n elements, and alpha in one of two forms.  Either alpha is constant
along rows of m elements, or it changes with every element along the loop and begins again after m elements (its
period).  `op` is the number of a kernel.  It is a constant in every call, so a compiler keeps one branch of each
`if op == ...`.

Elements are stored in one type and computed in another: 16-bit floats in float32, the others in their own.  Only the
words that load and store know the storage type.

Annotations: `In` and `Out` are pointers to stored elements, `Slopes` to numbers of the computing type, `Sums` to
doubles; `vec` is a vector of the computing type, `wide` one of GROUP doubles, whatever the machine's registers are, so
sums have one order everywhere.

The order of a sum: element i goes to lane i mod GROUP, whatever its address.  The lanes of a block of BLOCK elements
are added by halves, the blocks of a row in pairs.  With alpha along the loop there is one sum for each of the m
elements, and terms are added in the order of i.
"""

from __future__ import annotations

# Functions that stay functions, because several loops call them.  All others are inlined.
OUT_OF_LINE = ("sweep_dx", "sweep_dalpha")

# ---- formulas: the contract's expressions, one line each -------------------------------------------------------------


def relu(x: vec) -> vec:
    """Let x through; +0.0 where x <= 0."""
    return where_le(x, full_like(x, 0), full_like(x, 0), x)


def relu_backward(dy: vec, x: vec) -> vec:
    """Let dy through; +0.0 where x <= 0."""
    return where_le(x, full_like(x, 0), full_like(x, 0), dy)


def prelu(x: vec, alpha: vec) -> vec:
    """Let x > 0 through; alpha * x elsewhere."""
    return where_gt(x, full_like(x, 0), x, mul(alpha, x))


def prelu_backward_dx(dy: vec, x: vec, alpha: vec) -> vec:
    """Let dy through where x > 0; alpha * dy elsewhere."""
    return where_gt(x, full_like(x, 0), dy, mul(alpha, dy))


def prelu_backward_dalpha(dy: vec, x: vec) -> vec:
    """A dalpha of one term: 0.0 + x * dy, or 0.0 where x > 0.  It is a selection: a factor of 0 makes NaN of inf."""
    zero = full_like(x, 0)
    product = mul(x, dy)
    total = add(zero, product)
    if exact_in_double(x):
        # The reference adds in double and then rounds: a tiny negative product becomes -0.0.  In float32 it would be
        # rounded first, and 0.0 + -0.0 is +0.0 (found by fuzzing).  1.4e-45 is the least float32 above 0.
        total = where_le(x, full_like(x, -1.401298464324817e-45), where_gt(dy, zero, product, total), total)
    return where_gt(x, zero, zero, total)


def prelu_backward_sum(total: wide, dy: In, x: In, i: int) -> wide:
    """total + the terms of dalpha of the GROUP elements from i on."""
    return add_products_unless_gt(total, x, dy, i, 0)


def prelu_backward_split(total: wide, following: wide, dy: In, x: In, i: int, n: int) -> (wide, wide):
    """The same where a row ends after n of the elements: the others are added to `following`, the next row's sum."""
    return split_products_unless_gt(total, following, x, dy, i, 0, n)


def prelu_backward_part(total: wide, dy: In, x: In, i: int, lane: int, n: int) -> wide:
    """The same for n < GROUP elements from i on, which go to the lanes from `lane` on."""
    return add_products_part_unless_gt(total, x, dy, i, 0, lane, n)


def formula(op: int, dy: vec, x: vec, alpha: vec) -> vec:
    """What a kernel computes elementwise."""
    if op == RELU:
        return relu(x)
    if op == RELU_BACKWARD:
        return relu_backward(dy, x)
    if op == PRELU:
        return prelu(x, alpha)
    if op == PRELU_BACKWARD:
        return prelu_backward_dx(dy, x, alpha)
    if op == DALPHA:
        return prelu_backward_dalpha(dy, x)
    if op == ADD:
        return add(dy, x)
    return x


def relu_kept(x: vec) -> int:
    """The lanes that relu lets through, as bits: those where x <= 0 is false, NaN among them."""
    return ~bits_le(x, full_like(x, 0))


def prelu_kept(x: vec) -> int:
    """The same for prelu: those where x > 0."""
    return bits_gt(x, full_like(x, 0))


def relu_from_mask(kept: int, dy: vec) -> vec:
    """relu_backward where the lanes that were let through are known."""
    return where_bits(kept, dy, full_like(dy, 0))


def prelu_from_mask(kept: int, dy: vec, alpha: vec) -> vec:
    """The same for prelu_backward_dx."""
    return where_bits(kept, dy, mul(alpha, dy))


def reads_dy(op: int) -> bool:
    """Whether a kernel reads dy."""
    return (READS_DY >> op) & 1 != 0


# ---- one vector, and less --------------------------------------------------------------------------------------------


def whole(op: int, streams: bool, y: Out, dy: In, x: In, i: int, alpha: vec) -> None:
    """One vector, at element i."""
    v = load(x, i)
    v = formula(op, load(dy, i) if reads_dy(op) else v, v, alpha)
    if streams:
        stream(y, i, v)
    else:
        store(y, i, v)


def four(op: int, y: Out, dy: In, x: In, i: int, alpha: vec) -> None:
    """Four vectors, all read before one is written.

    From L2 prelu takes 1.08 of a copy's time this way, and 1.14 to 1.19 one vector at a time.  Streaming does not use
    it: four lines at a time took 1.1 to 1.35 of the bandwidth bound instead of 1.0.  Rows of a few vectors do not use
    it either: rows of 196 floats took 1.12 to 1.15 this way, and 1.04 to 1.08 one vector at a time.
    """
    step = lanes(x)
    p = load(x, i)
    q = load(x, i + step)
    r = load(x, i + 2 * step)
    s = load(x, i + 3 * step)
    p = formula(op, load(dy, i) if reads_dy(op) else p, p, alpha)
    q = formula(op, load(dy, i + step) if reads_dy(op) else q, q, alpha)
    r = formula(op, load(dy, i + 2 * step) if reads_dy(op) else r, r, alpha)
    s = formula(op, load(dy, i + 3 * step) if reads_dy(op) else s, s, alpha)
    store(y, i, p)
    store(y, i + step, q)
    store(y, i + 2 * step, r)
    store(y, i + 3 * step, s)


def tail(op: int, streams: bool, y: Out, dy: In, x: In, i: int, alpha: vec, n: int) -> None:
    """The first n < lanes elements of a vector; nothing outside is read or written.

    Where the rest is streamed, these are streamed too, element by element: an ordinary store between streaming ones
    costs over a microsecond on a busy bus.
    """
    v = load_part(x, i, n)
    v = formula(op, load_part(dy, i, n) if reads_dy(op) else v, v, alpha)
    if streams:
        stream_part(y, i, v, n)
    else:
        store_part(y, i, v, n)


def fetch_operands(op: int, dy: In, x: In, i: int) -> None:
    """Prefetch for a streamed loop.  From memory prelu takes 1.01 of a copy's time with this, 1.05 to 1.2 without."""
    fetch(x, i + fetch_distance(x, STREAMING))
    if reads_dy(op):
        fetch(dy, i + fetch_distance(x, STREAMING))


def head_of(y: Out, lo: int, hi: int, streams: bool) -> int:
    """How many of the elements lo .. hi lie before the next cache line of y begins, or 0 where aligning does not pay.

    Stores that cross two lines take a fifth longer in L2.  The number is less than a vector, because `tail` takes no
    more.  Where vectors are shorter than lines, the caller asks again until the answer is 0.
    """
    if unaligned(y, lo) and (streams or hi - lo >= WORTH_ALIGNING):
        return min(min(hi - lo, line(y) - unaligned(y, lo)), max(1, lanes(y) - 1))
    return ZERO


def before_line(y: Out, n: int) -> int:
    """How many of n elements come before y's first address that can be streamed to: less than GROUP."""
    return min(n, (line(y) - unaligned(y, ZERO)) % line(y))


# ---- elementwise loops -----------------------------------------------------------------------------------------------


def sweep_plain(op: int, streams: bool, y: Out, dy: In, x: In, n: int) -> None:
    """A kernel without alpha.

    It is apart from the loops with alpha: without their functions Numba compiles relu in half the time.
    """
    step = lanes(y)
    none = full(x, 0)
    i = ZERO
    head = head_of(y, i, n, streams)
    while head:
        tail(op, streams, y, dy, x, i, none, head)
        i += head
        head = head_of(y, i, n, streams)
    while i + step <= n:
        whole(op, streams, y, dy, x, i, none)
        i += step
    if i < n:
        tail(op, streams, y, dy, x, i, none, n - i)


# `rows` says where an elementwise loop over rows begins.  Its three numbers are: which slope is the first row's; how
# many slopes there are before the first one follows again (0: each row has its own); and how many elements of the first
# row lie before the loop.


def no_rows() -> (int, int, int):
    """The loop begins with a row, and each row has a slope of its own."""
    return ZERO, ZERO, ZERO


def next_row(rows: (int, int, int), row: int) -> int:
    """The index of the slope after this row's."""
    return row + 1 if row + 1 != rows[1] else ZERO


def join_rows(a: Slopes, rows: (int, int, int), row: int, n: int) -> vec:
    """The slopes where a row ends after n lanes and the next one begins."""
    return join(load_slope(a, row), load_slope(a, next_row(rows, row)), n)


def sweep_rows(
    op: int, streams: bool, y: Out, dy: In, x: In, a: Slopes, lo: int, hi: int, m: int, rows: (int, int, int)
) -> None:
    """Elements lo .. hi, alpha constant along rows of m.  To stream, lo must be aligned.

    A vector may cross the end of a row: the slopes of two rows are then joined in one vector.  Thus rows of 49 elements
    cost what rows of 64 do, and streamed vectors stay aligned.
    """
    step = lanes(x)
    i = lo
    row = rows[0]
    end = m - rows[2]
    if lo >= end:
        row += (lo + rows[2]) // m
        end += (lo + rows[2]) // m * m
        if rows[1]:
            row %= rows[1]
    while i + step <= hi:
        alpha = load_slope(a, row)
        stop = min(end, hi) - step
        while not streams and m >= 16 * step and i <= stop - 3 * step:
            four(op, y, dy, x, i, alpha)
            i += 4 * step
        while i <= stop:
            whole(op, streams, y, dy, x, i, alpha)
            if streams:
                fetch_operands(op, dy, x, i)
            i += step
        if i < end and i + step <= hi:
            whole(op, streams, y, dy, x, i, join_rows(a, rows, row, end - i))
            i += step
        if i >= end:
            row = next_row(rows, row)
            end += m
    if i < hi:
        alpha = join_rows(a, rows, row, end - i) if end < hi else load_slope(a, row)
        tail(op, streams, y, dy, x, i, alpha, hi - i)


def sweep_along(op: int, streams: bool, y: Out, dy: In, x: In, a: Slopes, lo: int, hi: int, m: int) -> None:
    """Elements lo .. hi, alpha along the loop with period m.  To stream, lo must be aligned."""
    step = lanes(x)
    i = lo
    ahead = (lo if lo < m else lo % m) - lo  # slope i + ahead belongs to element i
    while i + step <= hi:
        stop = min(m - ahead, hi - step + 1)
        while i < stop:
            whole(op, streams, y, dy, x, i, load_slopes(a, i + ahead))
            if streams:
                fetch_operands(op, dy, x, i)
                if m >= hi:
                    fetch_slopes(a, i + ahead + fetch_distance(x, STREAMING))
            elif m < hi:
                # From L2 prelu takes 1.09 of a copy's time with this, 1.14 to 1.3 without.
                fetch(x, i + fetch_distance(x, ORDINARY))
            i += step
        if i + ahead >= m:
            ahead -= m
    if i < hi:
        tail(op, streams, y, dy, x, i, load_slopes_part(a, i + ahead, hi - i), hi - i)


def slopes_at(along: bool, a: Slopes, lo: int, n: int, m: int, rows: (int, int, int)) -> vec:
    """The slopes of the n < lanes elements from lo on."""
    if along:
        return load_slopes_part(a, lo % m, n)
    row = rows[0] + (lo + rows[2]) // m
    if rows[1]:
        row %= rows[1]
    end = m - (lo + rows[2]) % m
    return load_slope(a, row) if end >= n else join_rows(a, rows, row, end)


def sweep(
    op: int,
    along: bool,
    streams: bool,
    y: Out,
    dy: In,
    x: In,
    a: Slopes,
    lo: int,
    hi: int,
    m: int,
    rows: (int, int, int),
) -> None:
    """Elements lo .. hi of a kernel with alpha."""
    head = head_of(y, lo, hi, streams)
    while head:
        slopes = slopes_at(along, a, lo, head, m, rows)
        if streams:
            tail(op, STREAMING, y, dy, x, lo, slopes, head)
        else:
            tail(op, ORDINARY, y, dy, x, lo, slopes, head)
        lo += head
        head = head_of(y, lo, hi, streams)
    if along:
        if streams:
            sweep_along(op, STREAMING, y, dy, x, a, lo, hi, m)
        else:
            sweep_along(op, ORDINARY, y, dy, x, a, lo, hi, m)
    elif streams:
        sweep_rows(op, STREAMING, y, dy, x, a, lo, hi, m, rows)
    else:
        sweep_rows(op, ORDINARY, y, dy, x, a, lo, hi, m, rows)


def sweep_dx(
    along: bool, streams: bool, dx: Out, dy: In, x: In, a: Slopes, lo: int, hi: int, m: int, rows: (int, int, int)
) -> None:
    """Elements lo .. hi of prelu_backward's dx."""
    sweep(PRELU_BACKWARD, along, streams, dx, dy, x, a, lo, hi, m, rows)


def sweep_dalpha(streams: bool, dalpha: Out, dy: In, x: In, lo: int, hi: int) -> None:
    """Elements lo .. hi of a dalpha of single terms."""
    if streams:
        sweep_plain(DALPHA, STREAMING, at(dalpha, lo), at(dy, lo), at(x, lo), hi - lo)
    else:
        sweep_plain(DALPHA, ORDINARY, at(dalpha, lo), at(dy, lo), at(x, lo), hi - lo)


# ---- the sum behind dalpha, and the backward of PReLU in one pass over memory ----------------------------------------
# dx is computed in the loop of the sum, because both need the same loads and the same comparison.  `how` says what is
# done about dx: nothing (NO_DX), an ordinary store (STORED) or a streaming store (STREAMED).


def push(pending: Sums, count: int, total: float) -> None:
    """Add a block's sum in pairs, pairs of pairs ...  pending[d] is the sum of 2**d of the `count` earlier blocks."""
    d = ZERO
    while (count >> d) & 1:
        total = sum_at(pending, d) + total
        d += 1
    put_sum(pending, d, total)


def total_of(pending: Sums, count: int, total: float) -> float:
    """The sum of the `count` blocks that were pushed and of a last one, `total`."""
    d = ZERO
    while count >> d:
        if (count >> d) & 1:
            total = sum_at(pending, d) + total
        d += 1
    return total


def dx_rows(how: int, dx: Out, dy: In, x: In, i: int, alpha: vec, following: vec, n: int) -> None:
    """dx of a group: one slope for the first n elements, the following one for the others."""
    d = ZERO
    while how != NO_DX and d < GROUP:
        slopes = alpha if n >= GROUP else join(alpha, following, n - d)
        whole(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, slopes)
        d += lanes(x)


def dx_along(how: int, dx: Out, dy: In, x: In, i: int, a: Slopes, phase: int, n: int) -> None:
    """dx of n <= GROUP elements with alpha along the loop; a[phase] is the first slope."""
    d = ZERO
    while how != NO_DX and d + lanes(x) <= n:
        whole(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, load_slopes(a, phase + d))
        d += lanes(x)
    if how != NO_DX and d < n:
        tail(PRELU_BACKWARD, how == STREAMED, dx, dy, x, i + d, load_slopes_part(a, phase + d, n - d), n - d)


def fetch_group(dy: In, x: In, i: int) -> None:
    """Prefetch every line of a later group.  With half of them float64 from memory took 1.10 to 1.20 of the bound."""
    d = ZERO
    while d < GROUP:
        fetch(dy, i + d)
        fetch(x, i + d)
        d += line(x)


def sum_rows(how: int, dx: Out, dy: In, x: In, a: Slopes, sums: Sums, n: int, m: int) -> None:
    """sums[row] += the sum of the row's terms, and dx.

    Vectors begin at cache lines of x (of dx, where that is streamed), because accesses across two lines take a fifth
    longer in L2.  A vector then holds the lanes in a rotated order, for which sum_lanes gives the same bits.  A vector
    in which a block or a row ends is split: its first lanes are added to this sum, the others to the next.
    """
    ahead = fetch_distance(x, how == STREAMED)
    pending = scratch()
    total = zeros()
    row = ZERO
    end = ZERO
    i = ZERO
    if how == STREAMED:
        i = -unaligned(dx, ZERO)
    elif n >= WORTH_ALIGNING:
        i = -unaligned(x, ZERO)
    if i:
        lane = -i
        i = min(i + GROUP, n)
        total = prelu_backward_part(total, dy, x, ZERO, lane, i)
        if how != NO_DX:
            sweep_dx(ROWS, how == STREAMED, dx, dy, x, a, ZERO, i, m, no_rows())
    while end < n:
        block = (end + GROUP - 1) & -GROUP  # the first block of a row ends at a multiple of GROUP
        end += m
        count = ZERO
        alpha = load_slope(a, row) if how != NO_DX else full(x, 0)
        while True:
            block += BLOCK
            stop = block if block < (end & -GROUP) else end
            while i + GROUP <= stop:
                total = prelu_backward_sum(total, dy, x, i)
                fetch_group(dy, x, i + ahead)
                dx_rows(how, dx, dy, x, i, alpha, alpha, GROUP)
                i += GROUP
            following = zeros()
            if i < stop and i + GROUP <= n:
                total, following = prelu_backward_split(total, following, dy, x, i, stop - i)
                fetch_group(dy, x, i + ahead)
                if how != NO_DX:
                    dx_rows(how, dx, dy, x, i, alpha, load_slope(a, row + (stop == end)), stop - i)
                i += GROUP
            elif i < stop:
                total = prelu_backward_part(total, dy, x, i, ZERO, n - i)
                if how != NO_DX:
                    sweep_dx(ROWS, how == STREAMED, dx, dy, x, a, i, n, m, no_rows())
                i = n
            if stop == end:
                break
            push(pending, count, sum_lanes(total))
            count += 1
            total = following
        put_sum(sums, row, sum_at(sums, row) + total_of(pending, count, sum_lanes(total)))
        total = following
        row += 1


def add_group(how: int, total: wide, dx: Out, dy: In, x: In, i: int, a: Slopes, phase: int, ahead: int) -> wide:
    """total + the terms of a group with alpha along the loop; also writes the group's dx."""
    total = prelu_backward_sum(total, dy, x, i)
    fetch_group(dy, x, i + ahead)
    dx_along(how, dx, dy, x, i, a, phase, GROUP)
    return total


def sum_along(how: int, dx: Out, dy: In, x: In, a: Slopes, sums: Sums, n: int, m: int) -> None:
    """sums[i mod m] += term i, and dx, with alpha along the loop.

    Several periods are added up in one pass over the sums, so that sums and slopes are read once for all of them.  With
    a period of 4 * GROUP elements one pass takes all periods, because the sums then stay in registers.
    """
    ahead = fetch_distance(x, how == STREAMED)
    if m > 4 * GROUP and TILE * m <= BLOCK:
        ahead = TILE * m  # the next periods, where the processor does not look by itself
    i = ZERO
    while i < n:
        stop = i + m
        if n - i > m:
            periods = (n - i) // m
            stop = i + (periods if m == 4 * GROUP else min(TILE, periods)) * m
        width = min(m, n - i)
        phase = ZERO
        while registers() >= 4 and phase + 4 * GROUP <= width:
            # Four groups in registers over all periods: storing sums each time costs as much as all the rest.
            total = load_wide(sums, phase)
            second = load_wide(sums, phase + GROUP)
            third = load_wide(sums, phase + 2 * GROUP)
            fourth = load_wide(sums, phase + 3 * GROUP)
            j = i + phase
            while j < stop:
                total = add_group(how, total, dx, dy, x, j, a, phase, ahead)
                second = add_group(how, second, dx, dy, x, j + GROUP, a, phase + GROUP, ahead)
                third = add_group(how, third, dx, dy, x, j + 2 * GROUP, a, phase + 2 * GROUP, ahead)
                fourth = add_group(how, fourth, dx, dy, x, j + 3 * GROUP, a, phase + 3 * GROUP, ahead)
                j += m
            store_wide(sums, phase, total)
            store_wide(sums, phase + GROUP, second)
            store_wide(sums, phase + 2 * GROUP, third)
            store_wide(sums, phase + 3 * GROUP, fourth)
            phase += 4 * GROUP
        while phase + GROUP <= width:
            total = load_wide(sums, phase)
            j = i + phase
            while j < stop:
                total = add_group(how, total, dx, dy, x, j, a, phase, ahead)
                j += m
            store_wide(sums, phase, total)
            phase += GROUP
        k = width - phase
        if k > 0:
            # The lanes past the period are not added to: in place, dx may have been written there already.
            total = load_wide(sums, phase)
            j = i + phase
            while j < stop:
                if j + GROUP <= n:
                    total = prelu_backward_split(total, zeros(), dy, x, j, k)[0]
                else:
                    total = prelu_backward_part(total, dy, x, j, ZERO, k)
                dx_along(how, dx, dy, x, j, a, phase, k)
                j += m
            store_wide(sums, phase, total)
        i = stop


def sum_along_aligned(how: int, dx: Out, dy: In, x: In, a: Slopes, sums: Sums, n: int, m: int) -> None:
    """sum_along from the first cache line of x (of dx, where that is streamed) on, for periods of whole groups.

    The `head` elements before that line are added up first, in the doubles after the end of `sums`.  sum_along then
    begins `head` elements later in all operands and in `sums`, so its period ends with these doubles.  They are copied
    to the beginning of `sums` at the end.
    """
    head = (line(x) - (unaligned(dx, ZERO) if how == STREAMED else unaligned(x, ZERO))) % line(x)
    if how == STORED and (m % GROUP or n < WORTH_ALIGNING or n <= m):
        head = ZERO
    if head:
        store_wide(sums, m, prelu_backward_part(load_wide(sums, ZERO), dy, x, ZERO, ZERO, head))
        sweep_dx(ALONG, how == STREAMED, dx, dy, x, a, ZERO, head, m, no_rows())
    sum_along(how, at(dx, head), at(dy, head), at(x, head), at_slopes(a, head), at_sums(sums, head), n - head, m)
    for k in range(head):
        put_sum(sums, k, sum_at(sums, m + k))


def sum_along_streamed(dx: Out, dy: In, x: In, a: Slopes, sums: Sums, n: int, m: int) -> None:
    """The same with dx streamed, for any period: one group after the other, each at a cache line of dx.

    A group in which a period ends is split: some lanes are added at the end of `sums`, the others at its beginning.
    """
    ahead = fetch_distance(x, STREAMING)
    head = before_line(dx, n)
    i = head
    phase = head
    if head:
        store_wide(sums, ZERO, prelu_backward_part(load_wide(sums, ZERO), dy, x, ZERO, ZERO, head))
        sweep_dx(ALONG, STREAMING, dx, dy, x, a, ZERO, head, m, no_rows())
    while i + GROUP <= n:
        last = i + min(n - i, m - phase) - GROUP
        while i <= last:
            store_wide(sums, phase, add_group(STREAMED, load_wide(sums, phase), dx, dy, x, i, a, phase, ahead))
            i += GROUP
            phase += GROUP
        if phase < m and i + GROUP <= n:
            total = load_wide(sums, phase)
            following = load_wide(sums, phase - m)
            total, following = prelu_backward_split(total, following, dy, x, i, m - phase)
            store_wide(sums, phase, total)
            store_wide(sums, phase - m, following)
            fetch_group(dy, x, i + ahead)
            dx_along(STREAMED, dx, dy, x, i, a, phase, GROUP)
            i += GROUP
            phase += GROUP
        if phase >= m:
            phase -= m
    if i < n:
        sweep_dx(ALONG, STREAMING, dx, dy, x, a, i, n, m, no_rows())
    while i < n:
        k = min(n - i, m - phase)
        store_wide(sums, phase, prelu_backward_part(load_wide(sums, phase), dy, x, i, ZERO, k))
        i += k
        phase = ZERO


def aligned(streams: bool, y: Out, hi: int, n: int) -> int:
    """How far y is written now: to hi, or, where streaming goes on after hi, to the last start of a line before hi."""
    return hi - unaligned(y, hi) if streams and hi < n else hi


def single_terms(along: bool, streams: bool, dx: Out, dy: In, x: In, a: Slopes, dalpha: Out, n: int, m: int) -> None:
    """Every slope has one term, so dalpha is elementwise.  Of each block dalpha comes first, as dx may be in place."""
    done = ZERO
    made = ZERO
    stop = ZERO
    while stop < n:
        stop = min(n, stop + BLOCK)
        hi = aligned(streams, dalpha, stop, n)
        if hi > made:
            sweep_dalpha(streams, dalpha, dy, x, made, hi)
            made = hi
        if wanted(dx):
            hi = aligned(streams, dx, made, n)
            if hi > done:
                sweep_dx(along, streams, dx, dy, x, a, done, hi, m, no_rows())
                done = hi


# ---- the kernels: one function for each family of signatures (see FAMILIES in _tables.py) ----------------------------


def plain_row(op: int, streams: bool, loop: InnerLoop, row: int) -> None:
    """One of the loops of a kernel without alpha."""
    y = loop.y
    dy = loop.dy
    x = loop.x
    y = at(y, row * loop.y_step)
    sweep_plain(op, streams, y, at(dy, row * loop.dy_step), at(x, row * loop.x_step), loop.n)


def run_plain(op: int, loop: InnerLoop) -> None:
    """A kernel without alpha.  It takes `more` loops after the first one, for crops of images, whose loops are short.

    In the kernels with alpha this made crops little faster, and a small call had 3 % more instructions.
    """
    row = ZERO
    while row <= loop.more:
        if loop.stream:
            plain_row(op, STREAMING, loop, row)
        else:
            plain_row(op, ORDINARY, loop, row)
        row += 1
    if loop.fence:
        fence()


def fetch_span(x: In, i: int) -> None:
    """Prefetch SPAN elements some lines ahead of i."""
    d = ZERO
    while d < SPAN:
        fetch(x, i + d + fetch_distance(x, STREAMING))
        d += LINE // item_size(x)


def to_mask(op: int, streams: bool, y: Out, x: In, i: int, n: int, alpha: vec) -> int:
    """y of n <= SPAN elements from i on, and their bits."""
    step = lanes(x)
    bits = ZERO
    d = ZERO
    while d < n:
        part = min(step, n - d)
        v = load(x, i + d) if part == step else load_part(x, i + d, part)
        kept = prelu_kept(v) if op == PRELU_TO_MASK else relu_kept(v)
        bits |= (kept & ((1 << part) - 1)) << d
        v = prelu(v, alpha) if op == PRELU_TO_MASK else relu(v)
        if part < step:
            store_part(y, i + d, v, part)
        elif streams:
            stream(y, i + d, v)
        else:
            store(y, i + d, v)
        d += step
    return bits


def run_to_mask(op: int, loop: InnerLoop) -> None:
    """y and a mask; there is one slope.

    Streaming begins at a cache line, after `head` elements.  The bits of a span then go to two spans of the mask, and
    the last `head` of these bits are kept for the second one.
    """
    y = loop.y
    x = loop.x
    a = loop.alpha
    mask = loop.mask
    n = loop.n
    streams = loop.stream
    alpha = load_slope(a, ZERO) if op == PRELU_TO_MASK else full(x, 0)
    head = before_line(y, n) if streams else ZERO
    bits = to_mask(op, ORDINARY, y, x, ZERO, head, alpha)
    i = head
    while streams and i + SPAN <= n:
        bits |= to_mask(op, STREAMING, y, x, i, SPAN, alpha) << head
        put_bits(mask, i - head, bits, SPAN)
        bits >>= SPAN
        fetch_span(x, i)
        i += SPAN
    while not streams and i + GROUP <= n:
        put_bits(mask, i, to_mask(op, ORDINARY, y, x, i, GROUP, alpha), GROUP)
        i += GROUP
    bits |= to_mask(op, ORDINARY, y, x, i, n - i, alpha) << head
    put_bits(mask, i - head, bits, n - i + head)
    if loop.fence:
        fence()


def from_mask(op: int, streams: bool, dx: Out, dy: In, i: int, n: int, bits: int, alpha: vec) -> None:
    """dx of n elements from i on, whose bits these are."""
    step = lanes(dy)
    d = ZERO
    while d < n:
        part = min(step, n - d)
        v = load(dy, i + d) if part == step else load_part(dy, i + d, part)
        v = prelu_from_mask(bits >> d, v, alpha) if op == PRELU_FROM_MASK else relu_from_mask(bits >> d, v)
        if part < step:
            store_part(dx, i + d, v, part)
        elif streams:
            stream(dx, i + d, v)
        else:
            store(dx, i + d, v)
        d += step


def run_from_mask(op: int, loop: InnerLoop) -> None:
    """dx from dy and a mask; there is one slope.

    Streaming begins at a cache line, so the bits of a span may begin within a byte.  Hence 64 bits are read at once
    and shifted.
    """
    dx = loop.y
    dy = loop.dy
    a = loop.alpha
    mask = loop.mask
    n = loop.n
    streams = loop.stream
    alpha = load_slope(a, ZERO) if op == PRELU_FROM_MASK else full(dy, 0)
    head = before_line(dx, n) if streams else ZERO
    if head:
        from_mask(op, ORDINARY, dx, dy, ZERO, head, get_bits(mask, ZERO, head), alpha)
    i = head
    while streams and i + 64 <= n:
        from_mask(op, STREAMING, dx, dy, i, SPAN, get_bits(mask, i, 64) >> (i & 7), alpha)
        fetch_span(dy, i)
        i += SPAN
    while not streams and i + GROUP <= n:
        from_mask(op, ORDINARY, dx, dy, i, GROUP, get_bits(mask, i, GROUP), alpha)
        i += GROUP
    while i < n:
        part = min(GROUP, n - i)
        from_mask(op, ORDINARY, dx, dy, i, part, get_bits(mask, i, (i & 7) + part) >> (i & 7), alpha)
        i += part
    if loop.fence:
        fence()


def run_with_alpha(op: int, loop: InnerLoop) -> None:
    """An elementwise kernel with alpha."""
    rows = (loop.first, loop.channels, loop.offset)
    sweep(op, loop.along, loop.stream, loop.y, loop.dy, loop.x, loop.alpha, ZERO, loop.n, loop.m, rows)
    if loop.fence:
        fence()


def run_backward(op: int, loop: InnerLoop) -> None:
    """PReLU's backward, the only kernel with a sum.  It computes those of y (dx), sums and terms that are not NULL."""
    dx = loop.y
    dy = loop.dy
    x = loop.x
    a = loop.alpha
    sums = loop.sums
    n = loop.n
    m = loop.m
    along = loop.along
    streams = loop.stream
    if wanted(loop.terms):
        single_terms(along, streams, dx, dy, x, a, loop.terms, n, m)
    elif not wanted(sums):
        sweep_dx(along, streams, dx, dy, x, a, ZERO, n, m, (loop.first, loop.channels, loop.offset))
    elif not wanted(dx):
        if along:
            sum_along(NO_DX, dx, dy, x, a, sums, n, m)
        else:
            sum_rows(NO_DX, dx, dy, x, a, sums, n, m)
    elif streams:
        if along and m == 4 * GROUP and n > 2 * m:
            sum_along_aligned(STREAMED, dx, dy, x, a, sums, n, m)
        elif along:
            sum_along_streamed(dx, dy, x, a, sums, n, m)
        else:
            sum_rows(STREAMED, dx, dy, x, a, sums, n, m)
    elif along:
        sum_along_aligned(STORED, dx, dy, x, a, sums, n, m)
    else:
        sum_rows(STORED, dx, dy, x, a, sums, n, m)
    if loop.fence:
        fence()
