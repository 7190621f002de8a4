# Formulas and loops of the Cython variant; compiled once per SIMD level and computing type.
#
# A kernel works on one *run*: n elements that lie one after the other in every operand.  Three
# things are written here, each once: the formulas (on groups of 16 elements, in simd.h's words), one
# loop for everything elementwise (`sweep`) and one pair of loops for the sum behind dalpha.  Threads,
# chunks and streaming are decided elsewhere and come in as arguments; addresses never decide an order.
#
# A run has one of two forms of alpha:
#   along rows:  alpha is constant along rows of m elements; a[0] belongs to the first row (m >= 16 or one row)
#   running:     alpha changes from element to element and repeats after m elements.  acc goes on for 16 elements
#                past m, and so does a where m < n (a wraps around; acc's are added back by the caller)

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
        STREAM_ALIGNMENT
    vec vec_load(const T*)
    vec vec_load_part(const T*, Py_ssize_t)
    void vec_store(T*, vec)
    void vec_store_part(T*, vec, Py_ssize_t)
    void vec_stream(T*, vec)
    vec vec_splat(T)
    vec vec_mul(vec, vec)
    vec vec_add(vec, vec)
    vec vec_where_gt(vec, vec, vec, vec)
    vec vec_where_le(vec, vec, vec, vec)
    vec vec_join(vec, vec, Py_ssize_t)
    wide wide_from(const T*)
    wide wide_from_part(const T*, Py_ssize_t)
    wide wide_load(const double*)
    void wide_store(double*, wide)
    wide wide_splat(double)
    wide wide_mul(wide, wide)
    wide wide_add(wide, wide)
    wide wide_where_gt(wide, wide, wide, wide)
    wide wide_join(wide, wide, Py_ssize_t)
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

cdef inline wide prelu_backward_dalpha(wide dy, wide x) noexcept nogil:
    # The product is selected, not a factor: inf * 0 would be NaN.
    return wide_where_gt(x, wide_splat(0), wide_splat(0), wide_mul(x, dy))

# What an operation computes and reads; `op` is a constant wherever it is used, so that the compiler
# keeps one branch.  COPY and ADD are the memory limit that the benchmarks compare with.
cdef enum Op:
    RELU, RELU_BACKWARD, PRELU, PRELU_BACKWARD, COPY, ADD

cdef inline vec formula(Op op, vec dy, vec x, vec alpha) noexcept nogil:
    if op == RELU:
        return relu(x)
    if op == RELU_BACKWARD:
        return relu_backward(dy, x)
    if op == PRELU:
        return prelu(x, alpha)
    if op == PRELU_BACKWARD:
        return prelu_backward_dx(dy, x, alpha)
    if op == ADD:
        return vec_add(dy, x)
    return x

cdef inline bint reads_dy(Op op) noexcept nogil:
    return op == RELU_BACKWARD or op == PRELU_BACKWARD or op == ADD

cdef inline bint reads_alpha(Op op) noexcept nogil:
    return op == PRELU or op == PRELU_BACKWARD

# ---- the elementwise loop ------------------------------------------------------------------------

cdef inline void whole(Op op, bint stream, T* y, const T* dy, const T* x, vec alpha) noexcept nogil:
    """One register."""
    cdef vec v = vec_load(x)
    cdef vec g = vec_load(dy) if reads_dy(op) else v
    v = formula(op, g, v, alpha)
    if stream:
        vec_stream(y, v)
    else:
        vec_store(y, v)

cdef inline void part(Op op, T* y, const T* dy, const T* x, vec alpha, Py_ssize_t n) noexcept nogil:
    """The first n < LANES elements of a register; nothing outside is read or written."""
    cdef vec v = vec_load_part(x, n)
    cdef vec g = vec_load_part(dy, n) if reads_dy(op) else v
    vec_store_part(y, formula(op, g, v, alpha), n)

cdef inline Py_ssize_t unaligned(const T* p) noexcept nogil:
    """How many elements p lies behind the last address that can be streamed to."""
    return (<intptr_t>p % STREAM_ALIGNMENT) // <Py_ssize_t>sizeof(T)

cdef inline vec joined(Op op, const T* a, Py_ssize_t row, Py_ssize_t n) noexcept nogil:
    """alpha where a row ends after n lanes and the next one begins."""
    return vec_join(vec_splat(a[row]), vec_splat(a[row + 1]), n) if reads_alpha(op) else vec_splat(0)

cdef inline void sweep_rows(Op op, bint stream, T* y, const T* dy, const T* x, const T* a,
                            Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m) noexcept nogil:
    """Elements lo .. hi of a run whose alpha is constant along rows of m.

    Registers run on across the ends of rows (two slopes are then joined in one register), so rows of 49
    cost what rows of 64 do and streamed registers stay aligned.  To stream, lo must be aligned.
    """
    cdef Py_ssize_t i = lo, row = 0, end = m, stop
    cdef vec alpha
    if lo >= m:
        row = lo // m
        end = (row + 1) * m
    while i + LANES <= hi:
        alpha = vec_splat(a[row]) if reads_alpha(op) else vec_splat(0)
        stop = min(end, hi) - LANES
        while i <= stop:
            whole(op, stream, y + i, dy + i, x + i, alpha)
            i += LANES
        if i < end and i + LANES <= hi:
            whole(op, stream, y + i, dy + i, x + i, joined(op, a, row, end - i))
            i += LANES
        if i >= end:
            row += 1
            end += m
    if i < hi:
        if end < hi:
            alpha = joined(op, a, row, end - i)
        else:
            alpha = vec_splat(a[row]) if reads_alpha(op) else vec_splat(0)
        part(op, y + i, dy + i, x + i, alpha, hi - i)

cdef inline void sweep_running(Op op, bint stream, T* y, const T* dy, const T* x, const T* a,
                               Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m) noexcept nogil:
    """Elements lo .. hi of a run whose alpha runs along with them, with period m."""
    cdef Py_ssize_t i = lo, phase = lo if lo < m else lo % m
    while i + LANES <= hi:
        whole(op, stream, y + i, dy + i, x + i, vec_load(a + phase))
        i += LANES
        phase += LANES
        if phase >= m:
            phase -= m
    if i < hi:
        part(op, y + i, dy + i, x + i, vec_load_part(a + phase, hi - i), hi - i)

cdef enum:
    RUNNING = 1     # flags of a kernel: alpha runs along the row
    STREAM = 2      # use streaming stores (the result is larger than the caches and not in place)

cdef inline void sweep(Op op, int flags, T* y, const T* dy, const T* x, const T* a,
                       Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m) noexcept nogil:
    """The elementwise part of `op` on elements lo .. hi of a run."""
    cdef bint running = reads_alpha(op) and flags & RUNNING
    cdef Py_ssize_t head = hi
    if flags & STREAM:
        head = min(hi, lo + (LINE - unaligned(y + lo)) % LINE)
    if running:
        sweep_running(op, False, y, dy, x, a, lo, head, m)
        if head < hi:
            sweep_running(op, True, y, dy, x, a, head, hi, m)
    else:
        sweep_rows(op, False, y, dy, x, a, lo, head, m)
        if head < hi:
            sweep_rows(op, True, y, dy, x, a, head, hi, m)

cdef inline void map_run(Op op, int flags, T* y, const T* dy, const T* x, const T* a,
                         Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    sweep(op, flags, y, dy, x, a, 0, n, m)
    if flags & STREAM:
        fence()

# ---- the sum behind dalpha, and the backward of PReLU in one pass over memory -------------------------

cdef enum:
    BLOCK = 1024    # elements: 4 or 8 KB of each operand stay in L1 between the two loops below

cdef inline double block_sum(const T* dy, const T* x, Py_ssize_t n) noexcept nogil:
    """The sum of n <= BLOCK terms: element i goes to lane i mod 16, the last ones as a group that ends at n."""
    cdef wide total = wide_splat(0), term
    cdef Py_ssize_t i = 0
    while i + GROUP <= n:
        total = wide_add(total, prelu_backward_dalpha(wide_from(dy + i), wide_from(x + i)))
        i += GROUP
    if i < n:
        if n >= GROUP:
            term = prelu_backward_dalpha(wide_from(dy + n - GROUP), wide_from(x + n - GROUP))
            term = wide_join(wide_splat(0), term, GROUP - (n - i))
        else:
            term = prelu_backward_dalpha(wide_from_part(dy, n), wide_from_part(x, n))
        total = wide_add(total, term)
    return wide_sum(total)

cdef inline void running_sum(double* acc, const T* dy, const T* x,
                             Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t m) noexcept nogil:
    """acc[i mod m] += term i for lo <= i < hi."""
    cdef Py_ssize_t i = lo, phase = lo if lo < m else lo % m
    cdef wide term
    while i + GROUP <= hi:
        term = prelu_backward_dalpha(wide_from(dy + i), wide_from(x + i))
        wide_store(acc + phase, wide_add(wide_load(acc + phase), term))
        i += GROUP
        phase += GROUP
        if phase >= m:
            phase -= m
    if i < hi:
        # The lanes past hi add +0.0 to what is never -0.0: nothing changes there.
        term = prelu_backward_dalpha(wide_from_part(dy + i, hi - i), wide_from_part(x + i, hi - i))
        wide_store(acc + phase, wide_add(wide_load(acc + phase), term))

cdef inline Py_ssize_t advance(int flags, T* dx, const T* dy, const T* x, const T* a,
                               Py_ssize_t lo, Py_ssize_t hi, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """dx from lo up to hi, or a little less so that the next streamed group is aligned; where it stopped.

    It never runs ahead of the sum: in place, what the sum has not read yet must still be there.
    """
    if dx == NULL:
        return lo
    if hi < n and flags & STREAM:
        hi -= unaligned(dx + hi)
        if hi <= lo:
            return lo
    sweep(PRELU_BACKWARD, flags, dx, dy, x, a, lo, hi, m)
    return hi

cdef void backward_run(int flags, T* dx, const T* dy, const T* x, const T* a, double* acc,
                       Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """dx (unless NULL) and acc += sums of terms (unless NULL): per row, or per phase of a running alpha.

    One pass over memory: a block is summed and, while it is in L1, turned into dx.  Two loops on a block
    because the sum wants its operands widened by converting loads and dx as they are, and because they leave
    the order of the sum free of what streaming asks of addresses.  One fused loop has not been timed against it.
    """
    cdef Py_ssize_t i = 0, done = 0, row = 0, stop, rows, q
    cdef Py_ssize_t count, k
    cdef double total
    cdef double[40] pending
    if acc == NULL:
        map_run(PRELU_BACKWARD, flags, dx, dy, x, a, n, m)
        return
    if flags & RUNNING:
        while i < n:
            stop = min(n, i + BLOCK)
            running_sum(acc, dy, x, i, stop, m)
            done = advance(flags, dx, dy, x, a, done, stop, n, m)
            i = stop
    elif m <= BLOCK:
        rows = BLOCK // m
        while i < n:
            stop = min(n, i + rows * m)
            while i < stop:
                acc[row] += block_sum(dy + i, x + i, min(m, n - i))
                row += 1
                i += m
            done = advance(flags, dx, dy, x, a, done, stop, n, m)
    else:
        while i < n:
            stop = min(n, i + m)
            count = 0
            while i < stop:
                k = min(BLOCK, stop - i)
                total = block_sum(dy + i, x + i, k)
                i += k
                done = advance(flags, dx, dy, x, a, done, i, n, m)
                # Blocks are added in pairs, pairs of pairs ...: pending[d] holds the sum of 2**d blocks.
                q = 0
                while (count >> q) & 1:
                    total = pending[q] + total
                    q += 1
                pending[q] = total
                count += 1
            total = 0
            q = 0
            while count >> q:
                if (count >> q) & 1:
                    total = pending[q] + total
                q += 1
            acc[row] += total
            row += 1
    if dx != NULL and flags & STREAM:
        fence()

# ---- what the driver calls: plain C functions, addresses as integers ---------------------------------

cdef void k_relu(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                 Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(RELU, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, n, m)

cdef void k_relu_backward(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                          Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(RELU_BACKWARD, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, n, m)

cdef void k_prelu(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                  Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(PRELU, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, n, m)

cdef void k_prelu_backward(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                           Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    backward_run(<int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, <double*>acc, n, m)

cdef void k_copy(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                 Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(COPY, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, n, m)

cdef void k_add(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    map_run(ADD, <int>flags, <T*>y, <const T*>dy, <const T*>x, <const T*>a, n, m)

ADDRESSES = {
    "relu": <intptr_t>&k_relu,
    "relu_backward": <intptr_t>&k_relu_backward,
    "prelu": <intptr_t>&k_prelu,
    "prelu_backward": <intptr_t>&k_prelu_backward,
    "copy": <intptr_t>&k_copy,
    "add": <intptr_t>&k_add,
}
LEVEL = FA_LEVEL.decode()
