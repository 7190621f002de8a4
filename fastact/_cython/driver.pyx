# The driver of both compiled variants: walks a plan's chunks, shares them out, folds the sums of dalpha.
#
# It knows loops and threads but no formula: a kernel is a C function on one run, Cython's or Numba's alike,
# so both start their threads equally cheaply and add up in the same order.  What a chunk is, how many threads
# and whether to stream is decided by the caller; the threads are team.h's.  OpenMP runtimes are only asked for their
# limits, which threadpoolctl sets, and whether the caller is in one of their parallel regions (then a call is serial).

from libc.stdint cimport intptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    PyThreadState* PyEval_SaveThread() nogil
    void PyEval_RestoreThread(PyThreadState*) nogil

cdef extern from *:
    """
    /* The x86-64 level of the CPU: everything that the compiler may use when it is given -march. */
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    #define HAS(f) __builtin_cpu_supports(f)
    static int fa_cpu_level(void)
    {
        __builtin_cpu_init();
        if (!(HAS("sse3") && HAS("ssse3") && HAS("sse4.1") && HAS("sse4.2") && HAS("popcnt"))) return 0;
        if (!(HAS("avx") && HAS("avx2") && HAS("fma") && HAS("bmi") && HAS("bmi2"))) return 1;
        if (!(HAS("avx512f") && HAS("avx512bw") && HAS("avx512cd") && HAS("avx512dq") && HAS("avx512vl"))) return 2;
        return 3;
    }
    #else
    static int fa_cpu_level(void) { return 0; }
    #endif
    """
    int fa_cpu_level()

cdef extern from "openmp.h":
    int fa_count_runtimes() nogil
    int fa_openmp_threads() nogil
    bint fa_openmp_team() nogil
    const char* fa_runtime_path(int) nogil
    int fa_prepare_openmp()

cdef extern from "team.h":
    ctypedef void (*fa_share)(const void* work, int share, int shares) noexcept nogil
    cdef struct fa_team:
        int helpers
    void fa_gather(fa_team* team, int wanted, int bound) nogil
    void fa_run(const fa_team* team, fa_share run, const void* work) nogil
    void fa_dismiss(const fa_team* team) nogil
    int fa_processors() nogil
    int fa_prepare()

cdef enum:
    RADIX = 32              # rows (and sums of rows) added in a chain before they move up; 64 where slopes run
    LEVELS = 3
    LINE = 8                # doubles in a cache line: partial sums of two threads never share one
    WIDTH = 32              # columns whose groups are folded side by side
    FOLD = 32768            # partial sums from which they are folded by all threads: some 50 us of work
    FENCE = 8               # a kernel's flag: the last run of a share, after which streamed results have to be seen
    KEEP_GIL = 32768        # elements (some 5 us of work) below which letting others run costs more than it gives
    SMALL = 1024            # doubles on the stack for a small call's partial sums


if fa_prepare() or fa_prepare_openmp():
    raise MemoryError("fastact: no memory to watch for forks (pthread_atfork)")


cdef void locate(const Dim* dims, int n, Py_ssize_t index, Py_ssize_t* at) noexcept nogil:
    """Add to at[0:3] the byte offsets (y, dy, x) of the index-th turn of these loops."""
    cdef Py_ssize_t k
    cdef int d
    for d in range(n - 1, -1, -1):
        if d > 0:
            k = index % dims[d].size
            index //= dims[d].size
        else:
            k = index
        at[0] += k * dims[d].y
        at[1] += k * dims[d].dy
        at[2] += k * dims[d].x


cdef inline void add_to(double* total, double* part, Py_ssize_t n) noexcept nogil:
    """total += part, and part is zero again."""
    cdef Py_ssize_t i
    for i in range(n):
        total[i] += part[i]
        part[i] = 0


cdef inline Py_ssize_t edge(const Job* job, Py_ssize_t strip) noexcept nogil:
    """Where a strip of columns begins."""
    if strip == 0:
        return 0
    return min(job.columns, strip * job.chunk_columns + job.edge)


cdef void run_chunk(const Job* job, Py_ssize_t chunk, bint last, double* scratch) noexcept nogil:
    """One chunk: a strip of columns of one group of rows of one plane; with a fence after the `last` of a share."""
    cdef Py_ssize_t strip = chunk % job.strips, group = (chunk // job.strips) % job.groups
    cdef Py_ssize_t plane = chunk // (job.strips * job.groups)
    cdef Py_ssize_t first = edge(job, strip)
    cdef Py_ssize_t width = edge(job, strip + 1) - first
    cdef Py_ssize_t start, n, m, a, take, flags, lanes = width
    cdef intptr_t into = 0
    cdef Py_ssize_t row = group * job.chunk_rows, stop = min(row + job.chunk_rows, job.n_rows)
    cdef Py_ssize_t[3] base
    cdef Py_ssize_t[3] at
    cdef Py_ssize_t radix = 2 * RADIX if job.flags & RUNNING else RADIX, left = radix, turns = 0, k
    cdef int levels = 1 if stop - row <= radix else 2 if stop - row <= radix * radix else 3
    cdef double* acc = NULL
    cdef double* partial = NULL
    if job.flags & RUNNING:
        start, n, m, a = first, width, job.m, first
    elif job.segments == 1:
        start, n, m, a = first * job.m, width * job.m, job.m, first
    else:
        a = first // job.segments
        k = first % job.segments * job.segment
        start, n = a * job.m + k, min(job.segment, job.m - k)
        m = n
    a = (plane * job.alpha_step + a) * job.itemsize
    if job.each:
        into = job.each + a
    a += job.a
    base[0] = base[1] = base[2] = start * job.itemsize
    locate(job.dims, job.plane_dims, plane, base)
    if job.partial != NULL:
        partial = job.partial + (plane * job.groups + group) * job.columns + first
        if job.flags & RUNNING:
            lanes = (width + 2 * GROUP - 1) // GROUP * GROUP    # its kernel reads and writes whole groups ...
            memset(scratch, 0, GROUP * sizeof(double))
            scratch += GROUP                                    # ... and one before the first
        # Not where two threads would share a line of them all the time.
        acc = partial if levels == 1 and lanes == width and width >= LINE else scratch
        memset(acc, 0, levels * lanes * sizeof(double))
        into = <intptr_t>acc
    while row < stop:
        at[0], at[1], at[2] = base[0], base[1], base[2]
        locate(job.dims + job.plane_dims, job.row_dims, row, at)
        take = 1
        if job.joined:
            take = min(stop - row, left if acc != NULL else stop - row)
            n = min(take * job.m, job.elements - row * job.m)
        row += take
        flags = job.flags | FENCE if last and row >= stop else job.flags
        job.kernel(job.y + at[0] if job.y else 0, job.dy + at[1] if job.dy else 0, job.x + at[2], a, into, n, m, flags)
        left -= take
        if acc != NULL and left == 0 and row < stop:
            # The cascade: 32 or 64 rows make a sum, 32 or 64 such sums the next one.
            add_to(acc + lanes, acc, lanes)
            left = radix
            turns += 1
            if turns % radix == 0:
                add_to(acc + 2 * lanes, acc + lanes, lanes)
    if acc != partial:
        for k in range(1, levels):
            add_to(acc + k * lanes, acc + (k - 1) * lanes, lanes)
        memcpy(partial, acc + (levels - 1) * lanes, width * sizeof(double))


cdef void in_pairs(const double* term, Py_ssize_t outer, Py_ssize_t outer_step, Py_ssize_t inner, Py_ssize_t step,
                   double* sums, int width) noexcept nogil:
    """Terms added in pairs, pairs of pairs, ...: outer * inner of them for each of `width` <= WIDTH sums side by side.

    The next term of a sum lies one further (`outer_step` after `inner` of them), the next sum's `step` further.
    """
    cdef double[LINE * 5][WIDTH] pending
    cdef double[WIDTH] total
    cdef Py_ssize_t i, j, count = 0
    cdef int level, k
    for i in range(outer):
        for j in range(inner):
            for k in range(width):
                total[k] = term[i * outer_step + k * step + j]
            level = 0
            while (count >> level) & 1:
                for k in range(width):
                    total[k] = pending[level][k] + total[k]
                level += 1
            for k in range(width):
                pending[level][k] = total[k]
            count += 1
    for k in range(width):
        total[k] = 0
    level = 0
    while count >> level:
        if (count >> level) & 1:
            for k in range(width):
                total[k] = pending[level][k] + total[k]
        level += 1
    for k in range(width):
        sums[k] = total[k]


cdef void make_pattern(const Job* job, char* target) noexcept nogil:
    """alpha as a running kernel reads it: slopes repeated, copies of the period, 16 more where it wraps."""
    cdef Py_ssize_t channels = job.channels, repeats = job.repeats, k, r
    cdef Py_ssize_t period = channels * repeats * job.itemsize
    cdef char* end = target + (job.m + (GROUP if job.joined else 0)) * job.itemsize
    cdef char* t = target
    if repeats == 1:
        memcpy(t, <const void*>job.a, period)
        t += period
    else:
        for k in range(channels):
            for r in range(repeats):
                if job.itemsize == sizeof(float):
                    (<float*>t)[r] = (<const float*>job.a)[k]
                else:
                    (<double*>t)[r] = (<const double*>job.a)[k]
            t += repeats * job.itemsize
    while t < end:
        memcpy(t, t - period, min(period, end - t))
        t += min(period, end - t)


cdef inline Py_ssize_t part_edge(const Job* job, Py_ssize_t share, Py_ssize_t shares) noexcept nogil:
    """Where an equal part of all elements begins: at a cache line of the result."""
    if share == 0:
        return 0
    return job.elements if share == shares else (job.elements * share // shares & -GROUP) + job.edge


cdef void run_share(const Job* job, Py_ssize_t share, Py_ssize_t shares, Py_ssize_t chunks,
                    double* scratch) noexcept nogil:
    """The share-th of `shares` equal parts of the chunks, or of plain rows."""
    cdef Py_ssize_t chunk, stop = chunks * (share + 1) // shares, lo, n, a
    cdef double[3] again
    cdef bint rows
    cdef Job mine
    if job.plain:
        # Equal parts of all elements, as for a single row: runs of one image's rows (12 KB of rows of 49) took 1.2 to
        # 1.3 of the limit in L2, and chunks of them do not come out even (3 chunks of slopes for each element on 2
        # threads: 1.4).
        lo = part_edge(job, share, shares)
        n = part_edge(job, share + 1, shares) - lo
        if job.flags & RUNNING:
            a = lo * job.itemsize
            job.kernel(job.y + a if job.y else 0, job.dy + a if job.dy else 0, job.x + a, job.a + a,
                       job.each + a if job.each else 0, n, n, job.flags | FENCE)
            return
        again[0], again[1], again[2] = lo // job.m % job.channels, job.channels, lo % job.m
        rows = job.elements > job.m
        job.kernel(job.y + lo * job.itemsize, job.dy + lo * job.itemsize if job.dy else 0, job.x + lo * job.itemsize,
                   job.a, <intptr_t>&again[0] if rows else 0, n, job.m if rows else n,
                   job.flags | FENCE | (AGAIN if rows else 0))
        return
    if job.pattern:
        # Its own for each thread: fetching the lines that another core has just written took 3 to 5 us.
        mine = job[0]
        make_pattern(job, <char*>scratch)
        mine.a = <intptr_t>scratch
        scratch += job.pattern
        job = &mine
    for chunk in range(chunks * share // shares, stop):
        run_chunk(job, chunk, chunk + 1 == stop, scratch)


cdef void fold_share(const Job* job, Py_ssize_t share, Py_ssize_t shares, double* sums) noexcept nogil:
    """The share-th of `shares` equal parts of the columns (without sums: their groups), or then of the alphas."""
    cdef Py_ssize_t count = job.columns if sums == NULL else job.channels
    cdef Py_ssize_t strips = (count + WIDTH - 1) // WIDTH, i, first
    cdef int width
    cdef double* partial
    for i in range(job.n_planes * strips * share // shares, job.n_planes * strips * (share + 1) // shares):
        partial = job.partial + i // strips * job.groups * job.columns
        first = i % strips * WIDTH
        width = <int>min(WIDTH, count - first)
        if sums == NULL:
            in_pairs(partial + first, job.groups, job.columns, 1, 1, partial + first, width)
        else:
            in_pairs(partial + first * job.repeats, job.copies, job.channels * job.repeats, job.repeats, job.repeats,
                     sums + i // strips * job.channels + first, width)


cdef struct Work:           # what a team does: its job, and for a fold where the sums go
    const Job* job
    Py_ssize_t chunks
    double* scratch
    Py_ssize_t scratch_step
    double* sums


cdef void run_one(const Work* work, int share, int shares) noexcept nogil:
    run_share(work.job, share, shares, work.chunks, work.scratch + share * work.scratch_step)


cdef void fold_one(const Work* work, int share, int shares) noexcept nogil:
    fold_share(work.job, share, shares, work.sums)


cdef class Prepared:
    """A plan as the driver reads it; what changes from call to call is filled in by `run`."""

    def __cinit__(self, plan, Py_ssize_t itemsize):
        cdef Job* job = &self.job
        cdef int d = 0
        job.dims = self.dims
        job.itemsize = itemsize
        job.edge = 0
        job.m = plan.m
        job.columns = plan.columns
        job.segments = plan.segments
        job.segment = plan.segment
        job.copies = plan.copies
        job.channels = plan.channels
        job.repeats = plan.repeats
        job.elements = plan.elements
        job.joined = plan.joined
        job.chunk_columns = plan.chunk_columns
        job.chunk_rows = plan.chunk_rows
        job.n_planes = plan.n_planes
        job.n_rows = plan.n_rows
        job.groups = plan.groups
        job.strips = (job.columns + job.chunk_columns - 1) // job.chunk_columns
        job.flags = RUNNING if plan.running else 0
        job.alpha_step = job.channels
        if plan.running:
            job.alpha_step = job.m + (GROUP if job.joined else 0)
        job.plane_dims = len(plan.planes)
        job.row_dims = len(plan.rows)
        for dim in plan.planes + plan.rows:
            self.dims[d].size = dim.size
            self.dims[d].y, self.dims[d].dy, self.dims[d].x = dim.strides
            d += 1
        self.chunks = job.n_planes * job.groups * job.strips
        # All rows one after the other, or a single one along which alpha runs.
        self.dense = job.n_planes == 1 and (job.n_rows == job.copies == job.repeats == 1 if plan.running else (
            job.n_rows == 1 or job.row_dims == 1 and all(
                step == job.channels * job.m * itemsize for step in plan.rows[0].strides)))
        self.elements = job.n_planes * job.n_rows * (job.m if job.flags & RUNNING else job.channels * job.m)
        self.folds = job.groups * job.copies * job.repeats > 1
        self.lanes = LEVELS * (job.chunk_columns + 3 * GROUP) + GROUP


cdef int run(Prepared prepared, Kernel kernel, intptr_t y, intptr_t dy, intptr_t x, intptr_t a,
             Py_ssize_t flags, int threads, void* sums) except -1:
    """Run a plan; sums (unless NULL) gets one double for each alpha, in alpha's memory order.

    With EACH it gets one element of the kernel's type instead, and nothing is added up.
    """
    cdef Job job = prepared.job
    cdef double* scratch = NULL
    cdef double[SMALL + LINE] small
    cdef void* memory = NULL
    cdef Py_ssize_t step = 0, partials = 0, needed
    cdef PyThreadState* state = NULL
    cdef fa_team team
    cdef Work work
    job.kernel = kernel
    job.y, job.dy, job.x, job.a = y, dy, x, a
    job.flags |= flags & ~SLOPES
    job.pattern = 0
    job.partial = NULL
    job.each = <intptr_t>sums if flags & EACH else 0
    job.plain = prepared.dense and (sums == NULL or job.each and job.flags & RUNNING)
    if job.plain:
        job.elements = prepared.elements
    if job.flags & RUNNING or job.plain:
        # Strips end where the result has a cache line: half a line of streaming stores costs over a microsecond.
        job.edge = -((y or x) // job.itemsize) & (64 // job.itemsize - 1)
    threads = max(1, min(<Py_ssize_t>threads, prepared.chunks))
    if flags & SLOPES:
        job.pattern = (job.m + GROUP + LINE) // LINE * LINE
    if sums != NULL and not job.each:
        if prepared.folds:
            partials = (job.n_planes * job.groups * job.columns + LINE) // LINE * LINE
        step = (prepared.lanes // LINE + 2) * LINE
    step += job.pattern
    needed = partials + threads * step
    if needed:
        scratch = small
        if needed > SMALL:
            memory = malloc((needed + LINE) * sizeof(double))
            if memory == NULL:
                raise MemoryError(f"fastact: no memory for partial sums or alpha's pattern ({job.columns} columns)")
            scratch = <double*>memory
        # On cache lines: a register that crosses two costs a running alpha's sum a tenth.
        scratch += -(<intptr_t>scratch // <intptr_t>sizeof(double)) & (LINE - 1)
    if sums != NULL and not job.each:
        job.partial = scratch + threads * step if prepared.folds else <double*>sums
    if prepared.elements >= KEEP_GIL:
        state = PyEval_SaveThread()
    team.helpers = 0
    if threads > 1 and not fa_openmp_team():
        # Callers at once share the processors: 8 of them with 2 threads each are 9 threads on 2 cores, not 16.
        fa_gather(&team, threads - 1, max(fa_processors(), threads) - 1)
    work.job, work.chunks, work.scratch, work.scratch_step = &job, prepared.chunks, scratch, step
    fa_run(&team, <fa_share>run_one, &work)
    if job.partial != NULL and prepared.folds:
        if team.helpers and partials > FOLD:
            work.sums = NULL
            fa_run(&team, <fa_share>fold_one, &work)
            work.sums = <double*>sums
            fa_run(&team, <fa_share>fold_one, &work)
        else:
            if job.groups > 1:
                fold_share(&job, 0, 1, NULL)
            fold_share(&job, 0, 1, <double*>sums)
    fa_dismiss(&team)
    free(memory)
    if state != NULL:
        PyEval_RestoreThread(state)
    return 0


def execute(kernel, addresses, plan, int itemsize, int flags, int threads, dalpha):
    """Run a plan; `dalpha` (one element for each alpha in memory order) is written, unless None.

    It is float64, or with the flag EACH of the operands' type.  `addresses` are those of y, dy, x and alpha's
    pattern (0: none).
    """
    cdef intptr_t into = 0 if dalpha is None else dalpha.ctypes.data
    run(Prepared(plan, itemsize), <Kernel><intptr_t>kernel, addresses[0], addresses[1], addresses[2], addresses[3],
        flags, threads, <void*>into)


cdef class Bound:
    """A plan bound to a kernel and to arrays, without a sum: calling it runs it, in 0.2 us beside the work."""
    cdef Prepared prepared
    cdef Kernel kernel
    cdef intptr_t y, dy, x
    cdef Py_ssize_t flags
    cdef int threads

    def __init__(self, kernel, addresses, plan, int itemsize, int flags, int threads):
        self.prepared = Prepared(plan, itemsize)
        self.kernel = <Kernel><intptr_t>kernel
        self.y, self.dy, self.x, _ = addresses
        self.flags, self.threads = flags, threads

    def __call__(self):
        run(self.prepared, self.kernel, self.y, self.dy, self.x, 0, self.flags, self.threads, NULL)


cdef int processors() noexcept nogil:
    return fa_processors()


cdef int openmp_limit() noexcept nogil:
    return fa_openmp_threads()


def openmp_threads():
    """What the loaded OpenMP runtimes allow the calling thread; a number beyond any machine's where there is none."""
    return fa_openmp_threads()


def openmp_runtimes():
    """The files of the OpenMP runtimes that are loaded."""
    return [fa_runtime_path(i).decode(errors="replace") for i in range(fa_count_runtimes())]


CPU_LEVEL = ("generic", "v2", "v3", "v4")[fa_cpu_level()]
