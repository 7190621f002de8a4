# Formulas and loops of the Cython variant; compiled once per SIMD level and computing type.
#
# A kernel works on one *run*: n elements that lie one after the other in every operand.  Three
# things are written here, each once: the formulas (on groups of 16 elements, in simd.h's words), one
# loop for everything elementwise (`sweep`) and one pair of loops for the sum behind dalpha.  Threads,
# chunks and streaming are decided elsewhere and come in as arguments; addresses never decide an order.
#
# A run has one of two forms of alpha:
#   along rows:  alpha is constant along rows of m elements; a[0] belongs to the first row (m >= 16 or one row)
#   running:     alpha changes from element to element and repeats after m elements (m >= 16 or one period).  acc has
#                room for 16 more than the next multiple of 16, and for 16 before it, whose values stay; where m < n, a
#                goes on for 16 elements past m (it begins again)

from libc.stdint cimport intptr_t

cdef extern from "simd.h" nogil:
    ctypedef double T              # float or double: the computing type
    ctypedef struct vec:           # a register of LANES elements of T
        pass
    ctypedef struct wide:          # 16 doubles
        pass
    const char* FA_LEVEL
    enum:
        LANES
        GROUP
        LINE
        FETCH_AHEAD
        FETCH_AHEAD_STREAMED
        SIDE_BY_SIDE
        STREAM_ALIGNMENT
    const T TINY
    vec vec_load(const T*)
    vec vec_load_part(const T*, Py_ssize_t)
    void vec_store(T*, vec)
    void vec_store_part(T*, vec, Py_ssize_t)
    void vec_stream(T*, vec)
    void vec_stream_part(T*, vec, Py_ssize_t)
    vec vec_splat(T)
    vec vec_mul(vec, vec)
    vec vec_add(vec, vec)
    vec vec_where_gt(vec, vec, vec, vec)
    vec vec_where_le(vec, vec, vec, vec)
    vec vec_join(vec, vec, Py_ssize_t)
    wide wide_load(const double*)
    void wide_store(double*, wide)
    wide wide_splat(double)
    wide wide_add_products_unless_gt(wide, const T*, const T*, T)
    void wide_share_products_unless_gt(wide*, wide*, const T*, const T*, T, Py_ssize_t)
    void copy_part(T*, const T*, Py_ssize_t, Py_ssize_t)
    void fetch(const T*)
    double wide_sum(wide)
    void fence()

# ---- formulas: the contract's expressions, one line each ----------------------------------------

cdef inline vec relu(vec x) noexcept nogil:
    return vec_where_le(x, vec_splat(0), vec_splat(0), x)

cdef inline vec relu_backward(vec dy, vec x) noexcept nogil:
    return vec_where_le(x, vec_splat(0), vec_splat(0), dy)

cdef inline vec prelu(vec x, vec alpha) noexcept nogil:
    return vec_where_gt(x, vec_splat(0), x, vec_mul(alpha, x))

cdef inline vec prelu_backward_dx(vec dy, vec x, vec alpha) noexcept nogil:
    return vec_where_gt(x, vec_splat(0), dy, vec_mul(alpha, dy))

cdef inline vec prelu_backward_dalpha(vec dy, vec x) noexcept nogil:
    # Where every alpha has one term only: 0.0 + that.  The product is selected, not a factor: inf * 0 would be NaN.
    cdef vec product = vec_mul(x, dy), total = vec_add(vec_splat(0), product)
    if sizeof(T) == sizeof(float):
        # As if in double: a negative product that is 0 only when rounded to float is -0.0 (found by fuzzing).
        total = vec_where_le(x, vec_splat(-TINY), vec_where_gt(dy, vec_splat(0), product, total), total)
    return vec_where_gt(x, vec_splat(0), vec_splat(0), total)

cdef inline wide prelu_backward_sum(wide total, const T* dy, const T* x) noexcept nogil:
    # total + that, for 16 elements.
    return wide_add_products_unless_gt(total, x, dy, 0)

cdef inline void prelu_backward_share(wide* total, wide* following, const T* dy, const T* x,
                                      Py_ssize_t n) noexcept nogil:
    # The same where one row ends after n elements and the next begins.
    wide_share_products_unless_gt(total, following, x, dy, 0, n)

# What an operation computes and reads; `op` is a constant wherever it is used, so that the compiler
# keeps one branch.  COPY and ADD are the memory limit that the benchmarks compare with.
cdef enum Op:
    RELU, RELU_BACKWARD, PRELU, PRELU_BACKWARD, DALPHA, COPY, ADD

cdef inline vec formula(Op op, vec dy, vec x, vec alpha) noexcept nogil:
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
        return vec_add(dy, x)
    return x

cdef inline bint reads_dy(Op op) noexcept nogil:
    return op == RELU_BACKWARD or op == PRELU_BACKWARD or op == DALPHA or op == ADD

cdef inline bint reads_alpha(Op op) noexcept nogil:
    return op == PRELU or op == PRELU_BACKWARD

# ---- the elementwise loop ------------------------------------------------------------------------

cdef inline void one(Op op, bint stream, T* y, const T* dy, const T* x, vec alpha) noexcept nogil:
    """One register."""
    cdef vec v = vec_load(x)
    cdef vec g = vec_load(dy) if reads_dy(op) else v
    v = formula(op, g, v, alpha)
    if stream:
        vec_stream(y, v)
    else:
        vec_store(y, v)

cdef inline void fetch_operands(Op op, const T* dy, const T* x) noexcept nogil:
    """What a streamed loop reads later: from memory prelu takes 1.01 of a copy so, 1.05 to 1.2 without."""
    fetch(x + FETCH_AHEAD_STREAMED)
    if reads_dy(op):
        fetch(dy + FETCH_AHEAD_STREAMED)

cdef inline void four(Op op, T* y, const T* dy, const T* x, vec alpha) noexcept nogil:
    """Four registers, all read before one is written: out of L2 prelu takes 1.08 of a copy so, 1.19 one by one.

    Not for streaming, where four lines written at a time took 1.1 to 1.35 of the limit instead of 1.0, nor in rows of
    a few registers: 196 floats took 1.12 to 1.15 so and 1.04 to 1.08 one by one.
    """
    cdef vec p = vec_load(x), q = vec_load(x + LANES), r = vec_load(x + 2 * LANES), s = vec_load(x + 3 * LANES)
    p = formula(op, vec_load(dy) if reads_dy(op) else p, p, alpha)
    q = formula(op, vec_load(dy + LANES) if reads_dy(op) else q, q, alpha)
    r = formula(op, vec_load(dy + 2 * LANES) if reads_dy(op) else r, r, alpha)
    s = formula(op, vec_load(dy + 3 * LANES) if reads_dy(op) else s, s, alpha)
    vec_store(y, p)
    vec_store(y + LANES, q)
    vec_store(y + 2 * LANES, r)
    vec_store(y + 3 * LANES, s)

cdef inline void part(Op op, bint stream, T* y, const T* dy, const T* x, vec alpha, Py_ssize_t n) noexcept nogil:
    """The first n < LANES elements of a register; nothing outside is read or written."""
    cdef vec v = vec_load_part(x, n)
    cdef vec g = vec_load_part(dy, n) if reads_dy(op) else v
    v = formula(op, g, v, alpha)
    if stream:
        vec_stream_part(y, v, n)
    else:
        vec_store_part(y, v, n)

cdef inline Py_ssize_t unaligned(const T* p) noexcept nogil:
    """How many elements p lies behind the last address that can be streamed to."""
    return (<intptr_t>p % STREAM_ALIGNMENT) // <Py_ssize_t>sizeof(T)

cdef struct Rows:
    Py_ssize_t first        # the slope of a run's first row
    Py_ssize_t channels     # how many slopes there are before they begin again; 0: enough
    Py_ssize_t offset       # how much of its first row lies before the run

cdef inline Rows once() noexcept nogil:
    """The rows of a run have a slope each."""
    cdef Rows rows
    rows.first = rows.channels = rows.offset = 0
    return rows

cdef inline Py_ssize_t after(Rows rows, Py_ssize_t row) noexcept nogil:
    """The row whose slope follows."""
    return row + 1 if row + 1 != rows.channels else 0

cdef inline vec joined(Op op, const T* a, Py_ssize_t row, Py_ssize_t following, Py_ssize_t n) noexcept nogil:
    """alpha where a row ends after n lanes and the following one begins."""
    return vec_join(vec_splat(a[row]), vec_splat(a[following]), n) if reads_alpha(op) else vec_splat(0)

cdef inline void sweep_rows(Op op, bint stream, T* y, const T* dy, const T* x, const T* a,
                            Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m, Rows rows) noexcept nogil:
    """Elements lo .. hi of a run whose alpha is constant along rows of m.

    Registers run on across the ends of rows (two slopes are then joined in one register), so rows of 49
    cost what rows of 64 do and streamed registers stay aligned.  To stream, lo must be aligned.
    """
    cdef Py_ssize_t i = lo, row = rows.first, end = m - rows.offset, stop
    cdef vec alpha
    if lo >= end:
        row += (lo + rows.offset) // m
        end += (lo + rows.offset) // m * m
        if rows.channels:
            row %= rows.channels
    while i + LANES <= hi:
        alpha = vec_splat(a[row]) if reads_alpha(op) else vec_splat(0)
        stop = min(end, hi) - LANES
        while reads_alpha(op) and not stream and m >= 16 * LANES and i <= stop - 3 * LANES:
            four(op, y + i, dy + i, x + i, alpha)
            i += 4 * LANES
        while i <= stop:
            one(op, stream, y + i, dy + i, x + i, alpha)
            if stream and reads_alpha(op):
                fetch_operands(op, dy + i, x + i)
            i += LANES
        if i < end and i + LANES <= hi:
            one(op, stream, y + i, dy + i, x + i, joined(op, a, row, after(rows, row), end - i))
            i += LANES
        if i >= end:
            row = after(rows, row)
            end += m
    if i < hi:
        if end < hi:
            alpha = joined(op, a, row, after(rows, row), end - i)
        else:
            alpha = vec_splat(a[row]) if reads_alpha(op) else vec_splat(0)
        part(op, stream, y + i, dy + i, x + i, alpha, hi - i)

cdef inline void sweep_running(Op op, bint stream, T* y, const T* dy, const T* x, const T* a,
                               Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m) noexcept nogil:
    """Elements lo .. hi of a run whose alpha runs along with them, with period m."""
    cdef Py_ssize_t i = lo, ahead = (lo if lo < m else lo % m) - lo, stop    # slope i + ahead belongs to element i
    while i + LANES <= hi:
        stop = min(m - ahead, hi - LANES + 1)
        while i < stop:
            one(op, stream, y + i, dy + i, x + i, vec_load(a + (i + ahead)))
            if stream:
                fetch_operands(op, dy + i, x + i)
                if m >= hi:
                    fetch(a + (i + ahead) + FETCH_AHEAD_STREAMED)
            elif m < hi:
                fetch(x + i + FETCH_AHEAD)  # out of L2 prelu takes 1.09 of a copy with this, 1.14 to 1.3 without
            i += LANES
        if i + ahead >= m:
            ahead -= m
    if i < hi:
        part(op, stream, y + i, dy + i, x + i, vec_load_part(a + (i + ahead), hi - i), hi - i)

cdef enum:
    RUNNING = 1     # flags of a kernel: alpha runs along the row
    STREAM = 2      # use streaming stores (the result is larger than the caches and not in place)
    EACH = 4        # acc is not added to: dalpha, in the computing type, gets its single terms
    WORTH_ALIGNING = 512    # elements from which it pays to begin at a cache line
    FENCE = 8       # make what was streamed visible to the other threads: this is the last run of several
    AGAIN = 32      # an elementwise run of rows that begins anywhere: acc has the three numbers of `Rows`

cdef inline void sweep_aligned(Op op, int flags, T* y, const T* dy, const T* x, const T* a,
                               Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m, Rows rows) noexcept nogil:
    """One of the loops above; to stream whole registers, lo must be aligned."""
    if reads_alpha(op) and flags & RUNNING:
        if flags & STREAM:
            sweep_running(op, True, y, dy, x, a, lo, hi, m)
        else:
            sweep_running(op, False, y, dy, x, a, lo, hi, m)
    elif flags & STREAM:
        sweep_rows(op, True, y, dy, x, a, lo, hi, m, rows)
    else:
        sweep_rows(op, False, y, dy, x, a, lo, hi, m, rows)

cdef inline void sweep(Op op, int flags, T* y, const T* dy, const T* x, const T* a,
                       Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m, Rows rows) noexcept nogil:
    """The elementwise part of `op` on elements lo .. hi of a run."""
    cdef Py_ssize_t k
    # Stores that cross two lines cost a fifth in L2, so what is worth it begins with less than a register.
    while lo < hi and unaligned(y + lo) and (flags & STREAM or hi - lo >= WORTH_ALIGNING):
        k = min(min(hi - lo, LINE - unaligned(y + lo)), max(1, LANES - 1))
        sweep_aligned(op, flags, y, dy, x, a, lo, lo + k, m, rows)
        lo += k
    sweep_aligned(op, flags, y, dy, x, a, lo, hi, m, rows)

cdef inline void map_run(Op op, int flags, T* y, const T* dy, const T* x, const T* a, const double* acc,
                         Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    cdef Rows rows = once()
    if reads_alpha(op) and flags & AGAIN:
        rows.first, rows.channels, rows.offset = <Py_ssize_t>acc[0], <Py_ssize_t>acc[1], <Py_ssize_t>acc[2]
    sweep(op, flags, y, dy, x, a, 0, n, m, rows)
    if flags & FENCE:
        fence()

# ---- the sum behind dalpha, and the backward of PReLU in one pass over memory -------------------------

cdef enum:
    BLOCK = 1024    # elements that are added up in 16 lanes; 4 or 8 KB of each operand stay in L1
    TILE = 8        # periods of a running alpha that are added up at once

cdef inline void push(double* pending, Py_ssize_t count, double total) noexcept nogil:
    """Blocks are added in pairs, pairs of pairs ...: pending[d] holds the sum of 2**d of the `count` before this."""
    cdef int d = 0
    while (count >> d) & 1:
        total = pending[d] + total
        d += 1
    pending[d] = total

cdef inline double folded(const double* pending, Py_ssize_t count, double total) noexcept nogil:
    """The sum of `count` blocks and a last one."""
    cdef int d = 0
    while count >> d:
        if (count >> d) & 1:
            total = pending[d] + total
        d += 1
    return total

cdef inline wide terms_part(wide total, const T* dy, const T* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """prelu_backward_sum for n < GROUP elements, the lanes from `at` on."""
    cdef T[GROUP] g
    cdef T[GROUP] v
    copy_part(g, dy, at, n)
    copy_part(v, x, at, n)
    return prelu_backward_sum(total, g, v)

cdef inline void follow(Op op, int flags, T* y, const T* dy, const T* x, const T* a,
                        Py_ssize_t* done, Py_ssize_t hi, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """y from done up to hi, or a little less so that the next streamed group is aligned."""
    if hi < n and flags & STREAM:
        hi -= unaligned(y + hi)
    if hi > done[0]:
        sweep(op, flags, y, dy, x, a, done[0], hi, m, once())
        done[0] = hi

cdef enum How:
    ALONE, STORED, STREAMED     # what is done about dx in the loop of a sum: nothing, an ordinary or a streaming store

cdef inline void dx_rows(How how, T* dx, const T* dy, const T* x, vec alpha, vec following,
                         Py_ssize_t n) noexcept nogil:
    """dx of a group: one alpha for the first n elements, the following one for the others."""
    cdef Py_ssize_t d = 0
    while how != ALONE and d < GROUP:
        one(PRELU_BACKWARD, how == STREAMED, dx + d, dy + d, x + d,
            alpha if n >= GROUP else vec_join(alpha, following, n - d))
        d += LANES

cdef inline void dx_group(How how, T* dx, const T* dy, const T* x, const T* a, Py_ssize_t n) noexcept nogil:
    """dx of n <= GROUP elements whose alpha runs along with them."""
    cdef Py_ssize_t d = 0
    while how != ALONE and d + LANES <= n:
        one(PRELU_BACKWARD, how == STREAMED, dx + d, dy + d, x + d, vec_load(a + d))
        d += LANES
    if how != ALONE and d < n:
        part(PRELU_BACKWARD, how == STREAMED, dx + d, dy + d, x + d, vec_load_part(a + d, n - d), n - d)

cdef inline void fetch_group(const T* dy, const T* x) noexcept nogil:
    """Every line of a group that comes later: with half of them doubles took 1.10 to 1.20 of the limit from memory."""
    cdef Py_ssize_t d = 0
    while d < GROUP:
        fetch(dy + d)
        fetch(x + d)
        d += LINE

cdef inline void sum_rows(How how, int flags, T* dx, const T* dy, const T* x, const T* a, double* acc,
                          Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """acc[row] += the sum of its terms, and dx.

    Element i of the run goes to lane i mod 16, whatever its address; the first 1024 elements of a row, up to a
    multiple of 16, are a block, and so on.  Registers begin where x (streamed: dx) has a cache line (crossing lines
    costs a fifth in L2), so they hold the lanes rotated, which wide_sum does not see; one in which a block or row ends
    is shared out.
    """
    cdef Py_ssize_t shift = unaligned(<const T*>dx if how == STREAMED else x)
    cdef Py_ssize_t ahead = FETCH_AHEAD_STREAMED if how == STREAMED else FETCH_AHEAD
    cdef Py_ssize_t i, row = 0, end = 0, block, stop, count
    cdef wide total = wide_splat(0), following, zero = wide_splat(0)
    cdef vec alpha = vec_splat(0)
    cdef double[40] pending
    if n < WORTH_ALIGNING and how != STREAMED:
        shift = 0
    i = -shift
    if shift:
        i = min(i + GROUP, n)
        total = terms_part(total, dy, x, shift, i)
        if how != ALONE:
            sweep(PRELU_BACKWARD, flags, dx, dy, x, a, 0, i, m, once())
    while end < n:
        block = (end + GROUP - 1) & -GROUP
        end += m
        count = 0
        alpha = vec_splat(a[row]) if how != ALONE else alpha
        while True:
            block += BLOCK
            stop = block if block < (end & -GROUP) else end
            while i + GROUP <= stop:
                total = prelu_backward_sum(total, dy + i, x + i)
                fetch_group(dy + i + ahead, x + i + ahead)
                dx_rows(how, dx + i, dy + i, x + i, alpha, alpha, GROUP)
                i += GROUP
            following = zero
            if i < stop and i + GROUP <= n:
                prelu_backward_share(&total, &following, dy + i, x + i, stop - i)
                fetch_group(dy + i + ahead, x + i + ahead)
                dx_rows(how, dx + i, dy + i, x + i, alpha, vec_splat(a[row + (stop == end)]), stop - i)
                i += GROUP
            elif i < stop:
                total = terms_part(total, dy + i, x + i, 0, n - i)
                if how != ALONE:
                    sweep_aligned(PRELU_BACKWARD, flags, dx, dy, x, a, i, n, m, once())
                i = n
            if stop == end:
                break
            push(pending, count, wide_sum(total))
            count += 1
            total = following
        acc[row] += folded(pending, count, wide_sum(total)) if count else wide_sum(total)
        total = following
        row += 1

cdef inline wide running_group(How how, wide total, T* dx, const T* dy, const T* x, const T* a,
                               Py_ssize_t ahead) noexcept nogil:
    """total + the terms of a group, and its dx."""
    total = prelu_backward_sum(total, dy, x)
    fetch_group(dy + ahead, x + ahead)
    dx_group(how, dx, dy, x, a, GROUP)
    return total

cdef inline void sum_running(How how, T* dx, const T* dy, const T* x, const T* a, double* acc,
                             Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """acc[i mod m] += term i in the order of i, and dx.

    Several periods are added up side by side (of 64: all), so that acc and a are read once for all of them.
    """
    cdef Py_ssize_t i = 0, phase, stop, width, j, k
    cdef Py_ssize_t ahead = FETCH_AHEAD_STREAMED if how == STREAMED else FETCH_AHEAD
    cdef wide total, second, third, fourth, others = wide_splat(0)
    if m > 4 * GROUP and TILE * m <= BLOCK:
        ahead = TILE * m        # the next periods, where the processor does not look by itself
    while i < n:
        stop = i + m
        if n - i > m:
            stop = i + ((n - i) // m if m == 4 * GROUP else min(TILE, (n - i) // m)) * m
        width = min(m, n - i)
        phase = 0
        while SIDE_BY_SIDE == 4 and phase + 4 * GROUP <= width:
            # Four groups in registers over all periods: storing acc each time costs as much as all the rest.
            total, second = wide_load(acc + phase), wide_load(acc + phase + GROUP)
            third, fourth = wide_load(acc + phase + 2 * GROUP), wide_load(acc + phase + 3 * GROUP)
            j = i + phase
            while j < stop:
                total = running_group(how, total, dx + j, dy + j, x + j, a + phase, ahead)
                second = running_group(how, second, dx + j + GROUP, dy + j + GROUP, x + j + GROUP,
                                       a + phase + GROUP, ahead)
                third = running_group(how, third, dx + j + 2 * GROUP, dy + j + 2 * GROUP, x + j + 2 * GROUP,
                                      a + phase + 2 * GROUP, ahead)
                fourth = running_group(how, fourth, dx + j + 3 * GROUP, dy + j + 3 * GROUP, x + j + 3 * GROUP,
                                       a + phase + 3 * GROUP, ahead)
                j += m
            wide_store(acc + phase, total)
            wide_store(acc + phase + GROUP, second)
            wide_store(acc + phase + 2 * GROUP, third)
            wide_store(acc + phase + 3 * GROUP, fourth)
            phase += 4 * GROUP
        while phase + GROUP <= width:
            total = wide_load(acc + phase)
            j = i + phase
            while j < stop:
                total = running_group(how, total, dx + j, dy + j, x + j, a + phase, ahead)
                j += m
            wide_store(acc + phase, total)
            phase += GROUP
        k = width - phase
        if k > 0:
            # The lanes past the period hold +0.0, and what is read there is left out (in place, it may be dx already).
            total = wide_load(acc + phase)
            j = i + phase
            while j < stop:
                if j + GROUP <= n:
                    prelu_backward_share(&total, &others, dy + j, x + j, k)
                else:
                    total = terms_part(total, dy + j, x + j, 0, k)
                dx_group(how, dx + j, dy + j, x + j, a + phase, k)
                j += m
            wide_store(acc + phase, total)
        i = stop

cdef inline void sum_aligned(How how, int flags, T* dx, const T* dy, const T* x, const T* a, double* acc,
                             Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """sum_running, its periods of whole groups begun where x (streamed: dx) has a cache line (see sum_rows).

    acc then goes on past its end for what lies before that, as a does.
    """
    cdef Py_ssize_t head = (LINE - unaligned(<const T*>dx if how == STREAMED else x)) % LINE, k
    if not head or how == STORED and (m % GROUP or n < WORTH_ALIGNING or n <= m):
        sum_running(how, dx, dy, x, a, acc, n, m)
        return
    wide_store(acc + m, terms_part(wide_load(acc), dy, x, 0, head))
    sweep(PRELU_BACKWARD, flags, dx, dy, x, a, 0, head, m, once())
    sum_running(how, dx + head, dy + head, x + head, a + head, acc + head, n - head, m)
    for k in range(head):
        acc[k] = acc[m + k]

cdef inline void sum_streamed(int flags, T* dx, const T* dy, const T* x, const T* a, double* acc,
                              Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """The same with dx streamed, for any period: one group after the other, which begin where dx has a cache line.

    One in which a period ends is shared out between acc's end and its beginning, before which it is read and written
    unchanged.
    """
    cdef Py_ssize_t head = min(n, (LINE - unaligned(dx)) % LINE), i = head, phase = head, k
    cdef wide total, following
    if head:
        wide_store(acc, terms_part(wide_load(acc), dy, x, 0, head))
        sweep(PRELU_BACKWARD, flags, dx, dy, x, a, 0, head, m, once())
    while i + GROUP <= n:
        k = i + min(n - i, m - phase) - GROUP
        while i <= k:
            wide_store(acc + phase, running_group(STREAMED, wide_load(acc + phase), dx + i, dy + i, x + i, a + phase,
                                                  FETCH_AHEAD_STREAMED))
            i += GROUP
            phase += GROUP
        k = m - phase
        if 0 < k and i + GROUP <= n:
            total, following = wide_load(acc + phase), wide_load(acc + phase - m)
            prelu_backward_share(&total, &following, dy + i, x + i, k)
            wide_store(acc + phase, total)
            wide_store(acc + phase - m, following)
            fetch_group(dy + i + FETCH_AHEAD_STREAMED, x + i + FETCH_AHEAD_STREAMED)
            dx_group(STREAMED, dx + i, dy + i, x + i, a + phase, GROUP)
            i += GROUP
            phase += GROUP
        if phase >= m:
            phase -= m
    if i < n:
        sweep_aligned(PRELU_BACKWARD, flags, dx, dy, x, a, i, n, m, once())
    while i < n:
        k = min(n - i, m - phase)
        wide_store(acc + phase, terms_part(wide_load(acc + phase), dy + i, x + i, 0, k))
        i += k
        phase = 0

cdef inline void each_term(int flags, T* dx, const T* dy, const T* x, const T* a, T* dalpha,
                           Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """Every alpha has one term: dalpha is as elementwise as dx.  The first of a block, for dx may be in place."""
    cdef Py_ssize_t done = 0, made = 0, stop = 0
    while stop < n:
        stop = min(n, stop + BLOCK)
        follow(DALPHA, flags, dalpha, dy, x, a, &made, stop, n, n)
        if dx != NULL:
            follow(PRELU_BACKWARD, flags, dx, dy, x, a, &done, min(stop, made), n, m)

cdef void backward_run(int flags, T* dx, const T* dy, const T* x, const T* a, double* acc,
                       Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """dx (unless NULL) and acc += sums of terms (unless NULL): per row, or per phase of a running alpha.

    One pass over memory: dx is made in the loop of the sum, which shares its comparison, its loads and half the loop.
    """
    if acc == NULL or flags & AGAIN:
        map_run(PRELU_BACKWARD, flags, dx, dy, x, a, acc, n, m)
        return
    if flags & EACH:
        each_term(flags, dx, dy, x, a, <T*>acc, n, m)
    elif dx == NULL:
        if flags & RUNNING:
            sum_running(ALONE, dx, dy, x, a, acc, n, m)
        else:
            sum_rows(ALONE, flags, dx, dy, x, a, acc, n, m)
    elif flags & STREAM:
        if flags & RUNNING and m == 4 * GROUP and n > 2 * m:
            sum_aligned(STREAMED, flags, dx, dy, x, a, acc, n, m)
        elif flags & RUNNING:
            sum_streamed(flags, dx, dy, x, a, acc, n, m)
        else:
            sum_rows(STREAMED, flags, dx, dy, x, a, acc, n, m)
    elif flags & RUNNING:
        sum_aligned(STORED, flags, dx, dy, x, a, acc, n, m)
    else:
        sum_rows(STORED, flags, dx, dy, x, a, acc, n, m)
    if flags & FENCE:
        fence()

# ---- what the driver calls: plain C functions, addresses as integers ---------------------------------

cdef void k_relu(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                 Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(RELU, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <const double*>acc, n, m)

cdef void k_relu_backward(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                          Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(RELU_BACKWARD, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <const double*>acc, n, m)

cdef void k_prelu(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                  Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(PRELU, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <const double*>acc, n, m)

cdef void k_prelu_backward(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                           Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    backward_run(<int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <double*>acc, n, m)

cdef void k_copy(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                 Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(COPY, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <const double*>acc, n, m)

cdef void k_add(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(ADD, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <const double*>acc, n, m)

ADDRESSES = {
    "relu": <intptr_t>&k_relu,
    "relu_backward": <intptr_t>&k_relu_backward,
    "prelu": <intptr_t>&k_prelu,
    "prelu_backward": <intptr_t>&k_prelu_backward,
    "copy": <intptr_t>&k_copy,
    "add": <intptr_t>&k_add,
}
LEVEL = FA_LEVEL.decode()
