# The driver of both variants: it hands out a plan's chunks to threads, runs them, and adds up the sums of dalpha.
#
# It knows loops and threads but no formula.  A kernel is a C function on one inner loop, from Cython or from Numba, so
# both variants start threads at the same cost and add up in the same order.  Every way to compute ends in `launch`.
# The threads come from team.h, the rules from _policy.py.  OpenMP runtimes are asked for their limits, which
# threadpoolctl sets, and whether the caller is in one of their parallel regions.  In a region a call starts no threads.

cimport numpy as cnp
from libc.stdint cimport intptr_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastact cimport (
    FASTACT_NO_MEMORY, FASTACT_NO_SOURCE, FASTACT_OK, FASTACT_SOURCE_CALLER, FASTACT_SOURCE_OPENMP,
    FASTACT_SOURCE_OWN, fastact_parallel_for
)
from fastact._cython cimport policy
from fastact._cython.plan cimport Loop, make_plan

from fastact import _cpu

cnp.import_array()

cdef extern from "cpu.h":
    const char* fa_cpu_level()

cdef extern from "system.h" nogil:
    ctypedef int fa_clock
    const fa_clock FA_COARSE_CLOCK
    long long fa_now(fa_clock) noexcept

cdef extern from "openmp.h":
    int fa_count_runtimes() nogil
    int fa_openmp_threads() nogil
    bint fa_openmp_team() nogil
    const char* fa_runtime_path(int) nogil
    int fa_team_runtime() nogil
    int fa_prepare_openmp()

cdef extern from "team.h":
    cdef struct fa_team:
        pass
    void fa_alone(fa_team* team) nogil
    void fa_gather(fa_team* team, int threads, int most, bint wake) nogil
    void fa_borrow(fa_team* team, int threads) nogil
    void fa_ask(fa_team* team, int threads, fastact_parallel_for parallel_for, void* context) nogil
    void fa_run(const fa_team* team, fa_range run, const void* work) nogil
    void fa_dismiss(const fa_team* team) nogil
    int fa_processors() nogil
    int fa_prepare()

cdef enum:
    DOUBLES = LINE // 8     # doubles in a cache line: partial sums of two threads never share a line
    WIDTH = 32              # columns whose partial sums are added side by side
    SMALL = 2048            # doubles on the stack for a small call's partial sums


if fa_prepare() or fa_prepare_openmp():
    raise MemoryError("fastact: no memory to watch for forks (pthread_atfork)")


cdef struct Work:           # what the threads of a team share
    const Plan* plan
    const Call* call
    bint stream
    bint plain              # dense rows and no sum: each thread takes an equal part of all elements, not chunks
    bint pattern            # whether each thread makes the pattern of a plane's slopes in its scratch
    Py_ssize_t edge         # elements from y's address to its next cache line
    double* partial         # partial sums, [plane][group][column]; NULL: none
    double* sums            # the sums of the slopes; NULL: none, or not yet
    double* scratch
    Py_ssize_t scratch_step     # doubles from one thread's scratch to the next one's


# ---- one thread's part -----------------------------------------------------------------------------------------------

cdef void locate(const Loop* loops, int n, Py_ssize_t index, Py_ssize_t* at) noexcept nogil:
    """Add to `at` the byte offsets of y, dy and x in the index-th iteration of these nested loops."""
    cdef Py_ssize_t k
    cdef int d
    for d in range(n - 1, -1, -1):
        if d > 0:
            k = index % loops[d].size
            index //= loops[d].size
        else:
            k = index
        at[0] += k * loops[d].y
        at[1] += k * loops[d].dy
        at[2] += k * loops[d].x


cdef inline void add_to(double* total, double* part, Py_ssize_t n) noexcept nogil:
    """total += part; then part = 0."""
    cdef Py_ssize_t i
    for i in range(n):
        total[i] += part[i]
        part[i] = 0


cdef inline InnerLoop new_loop(const Work* work) noexcept nogil:
    """An inner loop without sums, in which each row has a slope of its own."""
    cdef InnerLoop loop
    memset(&loop, 0, sizeof(loop))
    loop.along = work.plan.along
    loop.stream = work.stream
    loop.fence = True
    return loop


cdef inline void place(InnerLoop* loop, const Call* call, const Py_ssize_t* at) noexcept nogil:
    """The operands at these byte offsets."""
    loop.y = <void*>(call.y + at[0]) if call.y else NULL
    loop.dy = <const void*>(call.dy + at[1]) if call.dy else NULL
    loop.x = <const void*>(call.x + at[2])


cdef inline Py_ssize_t strip_start(const Work* work, Py_ssize_t strip) noexcept nogil:
    """The first column of a strip."""
    if strip == 0:
        return 0
    return min(work.plan.columns, strip * work.plan.chunk_columns + (work.edge if work.plan.along else 0))


cdef void run_chunk(const Work* work, Py_ssize_t chunk, intptr_t alpha, const void* same, bint last, double* scratch
                    ) noexcept nogil:
    """Run one chunk: a strip of columns in a group of rows of a plane.  `alpha` points to the plane's first slope.

    A fence follows the `last` chunk of a thread.  Where dy is one number, `same` repeats it for a whole inner loop.
    """
    cdef const Plan* plan = work.plan
    cdef const Call* call = work.call
    cdef Py_ssize_t strip = chunk % plan.strips, group = chunk // plan.strips % plan.groups
    cdef Py_ssize_t plane = chunk // (plan.strips * plan.groups)
    cdef Py_ssize_t first = strip_start(work, strip)
    cdef Py_ssize_t width = strip_start(work, strip + 1) - first
    cdef Py_ssize_t row = group * plan.chunk_rows, stop = min(row + plan.chunk_rows, plan.rows)
    cdef Py_ssize_t radix = 2 * RADIX if plan.along else RADIX, left = radix, turns = 0, k, start, slope, take
    cdef Py_ssize_t lanes = width, following = 0        # `following`: rows that are left in the loop `around` a row
    cdef const Loop* around = NULL
    cdef int levels = 1 if stop - row <= radix else 2 if stop - row <= radix * radix else SUM_LEVELS
    cdef Py_ssize_t[3] base
    cdef Py_ssize_t[3] at
    cdef double* acc = NULL
    cdef double* partial = NULL
    cdef InnerLoop loop = new_loop(work)
    if plan.along:
        start = slope = first
        loop.n, loop.m = width, plan.m
    elif plan.segments == 1:
        start, slope = first * plan.m, first
        loop.n, loop.m = width * plan.m, plan.m
    else:
        slope = first // plan.segments
        k = first % plan.segments * plan.segment
        start = slope * plan.m + k
        loop.n = loop.m = min(plan.segment, plan.m - k)
    loop.alpha = <const void*>(alpha + slope * plan.slope_size)
    if call.single_terms:
        loop.terms = <void*>(call.dalpha + (plane * plan.channels + slope) * plan.itemsize)
    base[0] = base[1] = base[2] = start * plan.itemsize
    locate(plan.loops, plan.plane_loops, plane, base)
    if work.partial != NULL:
        partial = work.partial + (plane * plan.groups + group) * plan.columns + first
        if plan.along:
            lanes = (width + 2 * GROUP - 1) // GROUP * GROUP    # the kernel reads and writes whole groups
            memset(scratch, 0, GROUP * sizeof(double))
            scratch += GROUP                                    # it also does so with the group before the first
        # Sums are made in place, unless two threads would keep writing to one cache line.
        acc = partial if levels == 1 and lanes == width and width >= DOUBLES else scratch
        memset(acc, 0, levels * lanes * sizeof(double))
        loop.sums = acc
    while row < stop:
        if following > 0:
            following -= 1
            at[0] += around.y
            at[1] += around.dy
            at[2] += around.x
        else:
            at[0], at[1], at[2] = base[0], base[1], base[2]
            locate(plan.loops + plan.plane_loops, plan.row_loops, row, at)
            if plan.row_loops and not plan.joined:
                around = plan.loops + plan.plane_loops + plan.row_loops - 1
                following = around.size - 1 - row % around.size
        take = 1
        if plan.joined:
            take = min(stop - row, left if acc != NULL else stop - row)
            loop.n = min(take * plan.m, plan.joined_elements - row * plan.m)
        row += take
        place(&loop, call, at)
        loop.more = 0
        if following > 0 and call.alpha == 0 and (around.y | around.dy | around.x) & (plan.itemsize - 1) == 0:
            # A kernel without alpha takes all rows of the innermost loop in one call.  relu of rows of 56 with gaps
            # takes 1.4 of the time of rows without gaps this way, 2.0 with a call for each row.
            loop.more = min(following, stop - row)
            loop.y_step, loop.x_step = around.y // plan.itemsize, around.x // plan.itemsize
            loop.dy_step = around.dy // plan.itemsize if loop.dy != NULL else 0  # NULL must stay NULL
            row += loop.more
            following = 0
        if same != NULL:
            loop.dy, loop.dy_step = same, 0
        loop.fence = last and row >= stop
        call.kernel(&loop)
        left -= take
        if acc != NULL and left == 0 and row < stop:
            # After RADIX rows (twice as many with alpha along the loop), and after as many such sums.
            add_to(acc + lanes, acc, lanes)
            left = radix
            turns += 1
            if turns % radix == 0:
                add_to(acc + 2 * lanes, acc + lanes, lanes)
    if acc != partial:
        for k in range(1, levels):
            add_to(acc + k * lanes, acc + (k - 1) * lanes, lanes)
        memcpy(partial, acc + (levels - 1) * lanes, width * sizeof(double))


cdef inline Py_ssize_t part_start(const Work* work, Py_ssize_t thread, Py_ssize_t threads) noexcept nogil:
    """The first element of a thread's equal part of all elements, which begins at a cache line of the result."""
    if thread == 0:
        return 0
    if thread == threads:
        return work.plan.elements
    return min(work.plan.elements, (work.plan.elements * thread // threads & -LINE) + work.edge)


cdef void run_part(const Work* work, Py_ssize_t thread, Py_ssize_t threads) noexcept nogil:
    """A thread's equal part of all elements.

    With parts of whole rows (rows of 49, 12 KB of them) calls in L2 took 1.2 to 1.3 of a copy's time.  Chunks may not
    divide evenly: 3 chunks with a slope for each element took 1.4 of it on 2 threads.
    """
    cdef const Plan* plan = work.plan
    cdef Py_ssize_t lo = part_start(work, thread, threads)
    cdef Py_ssize_t offset = lo * plan.itemsize
    cdef Py_ssize_t[3] at
    cdef InnerLoop loop = new_loop(work)
    at[0] = at[1] = at[2] = offset
    place(&loop, work.call, at)
    loop.n = loop.m = part_start(work, thread + 1, threads) - lo
    loop.alpha = <const void*>work.call.alpha
    if plan.along:
        loop.alpha = <const void*>(work.call.alpha + lo * plan.slope_size)
        if work.call.single_terms:
            loop.terms = <void*>(work.call.dalpha + offset)
    elif plan.elements > plan.m:
        loop.m, loop.channels = plan.m, plan.channels
        loop.first, loop.offset = lo // plan.m % plan.channels, lo % plan.m
    work.call.kernel(&loop)


cdef void make_pattern(const Plan* plan, intptr_t slopes, char* target) noexcept nogil:
    """A plane's slopes as a kernel reads them along the loop: repeated, in copies, and if joined GROUP at the end."""
    cdef Py_ssize_t k, r, period = plan.channels * plan.repeats * plan.slope_size
    cdef char* end = target + plan.pattern * plan.slope_size
    if plan.repeats == 1:
        memcpy(target, <const void*>slopes, period)
        target += period
    else:
        for k in range(plan.channels):
            for r in range(plan.repeats):
                if plan.slope_size == sizeof(float):
                    (<float*>target)[r] = (<const float*>slopes)[k]
                else:
                    (<double*>target)[r] = (<const double*>slopes)[k]
            target += plan.repeats * plan.slope_size
    while target < end:
        k = min(period, end - target)
        memcpy(target, target - period, k)
        target += k


cdef inline Py_ssize_t pattern_doubles(const Plan* plan) noexcept nogil:
    """The doubles of a thread's scratch that a plane's pattern takes, in whole cache lines."""
    return (plan.pattern * plan.slope_size + LINE - 1) // LINE * DOUBLES


cdef inline Py_ssize_t constant_doubles(const Plan* plan) noexcept nogil:
    """The doubles of that scratch that a repeated dy takes, where dy is one number."""
    return (plan.longest * plan.itemsize + LINE - 1) // LINE * DOUBLES


cdef const void* make_constant(const Plan* plan, intptr_t number, double* target) noexcept nogil:
    """Fill `target` with this number, as often as the longest loop reads it."""
    cdef Py_ssize_t i
    if plan.itemsize == sizeof(uint16_t):
        for i in range(plan.longest):
            (<uint16_t*>target)[i] = (<const uint16_t*>number)[0]
    elif plan.itemsize == sizeof(float):
        for i in range(plan.longest):
            (<float*>target)[i] = (<const float*>number)[0]
    else:
        for i in range(plan.longest):
            target[i] = (<const double*>number)[0]
    return target


cdef void run_thread(const Work* work, int thread, int threads) noexcept nogil:
    """What one thread of a team does: its range of the chunks, or its part of all elements."""
    cdef const Plan* plan = work.plan
    cdef Py_ssize_t chunk, stop = plan.chunks * (thread + 1) // threads, plane, last_plane = -1
    cdef double* pattern = work.scratch + thread * work.scratch_step
    cdef double* scratch = pattern + (pattern_doubles(plan) if work.pattern else 0)
    cdef intptr_t alpha = 0
    cdef const void* same = NULL
    if work.plain:
        run_part(work, thread, threads)
        return
    if work.call.constant_dy:       # each thread has a copy of its own, like the pattern below
        same = make_constant(plan, work.call.dy, scratch)
        scratch += constant_doubles(plan)
    for chunk in range(plan.chunks * thread // threads, stop):
        plane = chunk // (plan.strips * plan.groups)
        if plane != last_plane:
            alpha = work.call.alpha + plane * plan.channels * plan.slope_size
            if work.pattern:
                # Each thread has a copy of its own: to read lines that another core has just written took 3 to 5 us.
                make_pattern(plan, alpha, <char*>pattern)
                alpha = <intptr_t>pattern
            last_plane = plane
        run_chunk(work, chunk, alpha, same, chunk + 1 == stop, scratch)


# ---- the end of a sum ------------------------------------------------------------------------------------------------

cdef Py_ssize_t threads_for(const Call* call, Py_ssize_t traffic, bint summed) noexcept nogil:
    """How many threads a call takes; 0 where its source of threads is missing."""
    cdef Py_ssize_t threads = policy.threads_that_pay(traffic, summed)
    if threads > 1:
        threads = min(threads, <Py_ssize_t>thread_bound(call.threads))
    if threads > 1 and call.source == FASTACT_SOURCE_OPENMP and not fa_team_runtime():
        return 0
    return threads


cdef void share_out(const Call* call, Py_ssize_t traffic, Py_ssize_t threads, fa_range range_, const void* work
                    ) noexcept nogil:
    """Run ranges of work that has no plan on a team of up to this many threads."""
    cdef fa_team team
    make_team(&team, call, threads, traffic)
    fa_run(&team, range_, work)
    fa_dismiss(&team)


cdef void make_team(fa_team* team, const Call* call, Py_ssize_t threads, Py_ssize_t traffic) noexcept nogil:
    """Make a team of up to this many threads from the call's source."""
    fa_alone(team)
    if threads == 1:
        return
    if call.source == FASTACT_SOURCE_CALLER:
        fa_ask(team, <int>threads, call.parallel_for, call.context)
    elif not fa_openmp_team():
        if call.source == FASTACT_SOURCE_OPENMP:
            fa_borrow(team, <int>threads)
        else:
            # Callers at the same time share the processors: 8 callers of 2 threads make 9 threads on 2 cores, not 16.
            fa_gather(team, <int>threads, max(fa_processors(), <int>threads), policy.wakes(traffic))


cdef void in_pairs(const double* term, Py_ssize_t outer, Py_ssize_t outer_step, Py_ssize_t inner, Py_ssize_t step,
                   double* sums, int width) noexcept nogil:
    """Add terms in pairs, pairs of pairs and so on, for `width` <= WIDTH sums side by side.

    A sum has outer * inner terms.  Term (i, j) of sum k is at term[i * outer_step + j + k * step].
    """
    cdef double[PAIRS][WIDTH] pending
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


cdef void reduce_thread(const Work* work, int thread, int threads) noexcept nogil:
    """Add up the groups of a thread's range of columns; with `sums` set, the columns of its range of slopes."""
    cdef const Plan* plan = work.plan
    cdef Py_ssize_t count = plan.columns if work.sums == NULL else plan.channels
    cdef Py_ssize_t strips = (count + WIDTH - 1) // WIDTH, i, first
    cdef int width
    cdef double* partial
    for i in range(plan.planes * strips * thread // threads, plan.planes * strips * (thread + 1) // threads):
        partial = work.partial + i // strips * plan.groups * plan.columns
        first = i % strips * WIDTH
        width = <int>min(WIDTH, count - first)
        if work.sums == NULL:
            in_pairs(partial + first, plan.groups, plan.columns, 1, 1, partial + first, width)
        else:
            in_pairs(partial + first * plan.repeats, plan.copies, plan.channels * plan.repeats, plan.repeats,
                     plan.repeats, work.sums + i // strips * plan.channels + first, width)


cdef void reduce_sums(Work* work, double* sums, fa_team* team, Py_ssize_t partials) noexcept nogil:
    """Add up the partial sums of each slope."""
    cdef fa_team alone
    fa_alone(&alone)
    if partials <= policy.parallel_reduction:
        team = &alone
    if work.plan.groups > 1:
        work.sums = NULL
        fa_run(team, <fa_range>reduce_thread, work)
    work.sums = sums
    fa_run(team, <fa_range>reduce_thread, work)


# ---- a call ----------------------------------------------------------------------------------------------------------

cdef int run(const Plan* plan, const Call* call, Py_ssize_t traffic, Py_ssize_t threads, bint stream) noexcept nogil:
    """Run a plan on up to this many threads.  Without memory for it, write nothing and return -1."""
    cdef Work work
    cdef fa_team team
    cdef double[SMALL + DOUBLES] small
    cdef void* memory = NULL
    cdef double* sums = <double*>call.dalpha
    cdef Py_ssize_t partials = 0, rounded = 0, needed, k
    cdef bint summed = call.dalpha != 0 and not call.single_terms
    threads = max(1, min(threads, plan.chunks))
    work.plan, work.call, work.stream = plan, call, stream
    work.plain = plan.dense and (call.dalpha == 0 or call.single_terms and plan.along) and not call.constant_dy
    # Strips end at cache lines of the result: half a line of streaming stores costs over a microsecond.
    work.edge = -((call.y if call.y else call.x) // plan.itemsize) & (LINE // plan.itemsize - 1)
    # A vector that crosses the end of a period reads slopes after that end.  No vector does if a period is made of
    # whole groups and vectors begin where the period does: then alpha is read as it is.
    work.pattern = plan.repeated and not work.plain and (
        plan.repeats > 1 or plan.copies > 1 or plan.m % GROUP != 0 or stream
        or (call.x if summed else call.y) % LINE != 0)
    work.partial = work.sums = NULL
    work.scratch = small
    work.scratch_step = (pattern_doubles(plan) if work.pattern else 0) + (
        constant_doubles(plan) if call.constant_dy else 0)
    if summed:
        work.scratch_step += (plan.scratch // DOUBLES + 2) * DOUBLES
        if plan.reduces:
            partials = (plan.planes * plan.groups * plan.columns + DOUBLES) // DOUBLES * DOUBLES
        if call.narrow:
            rounded = (plan.alphas + DOUBLES) // DOUBLES * DOUBLES
    needed = threads * work.scratch_step + partials + rounded
    if needed:
        if needed + DOUBLES <= call.scratch_doubles:
            work.scratch = call.scratch
        elif needed > SMALL:
            memory = malloc((needed + DOUBLES) * sizeof(double))
            if memory == NULL:
                return -1
            work.scratch = <double*>memory
        # The scratch begins at a cache line: vectors across two lines make a sum with alpha along the loop a tenth
        # slower.
        work.scratch += -(<intptr_t>work.scratch // <intptr_t>sizeof(double)) & (DOUBLES - 1)
    if summed:
        work.partial = work.scratch + threads * work.scratch_step
        if call.narrow:
            sums = work.partial + partials
        if not plan.reduces:
            work.partial = sums
    make_team(&team, call, threads, traffic)
    fa_run(&team, <fa_range>run_thread, &work)
    if summed and plan.reduces:
        reduce_sums(&work, sums, &team, partials)
    fa_dismiss(&team)
    if summed and call.narrow:
        for k in range(plan.alphas):
            (<float*>call.dalpha)[k] = <float>sums[k]
    free(memory)
    return 0


cdef inline bint apart(intptr_t a, Py_ssize_t a_low, Py_ssize_t a_high, intptr_t b, Py_ssize_t b_low,
                       Py_ssize_t b_high) noexcept nogil:
    """Whether two operands, each from its lowest to its highest element, have no memory in common."""
    return a + a_high <= b + b_low or b + b_high <= a + a_low


cdef int launch(const Plan* plan, const Call* call) noexcept nogil:
    """Choose threads and stores, run a plan, and return a status of fastact.h."""
    cdef bint summed = call.dalpha != 0, stream
    cdef Py_ssize_t operands = 1 + (call.y != 0) + (call.dy != 0) + call.single_terms + (
        call.alpha != 0 and plan.alphas == plan.elements)
    cdef Py_ssize_t traffic = plan.elements * plan.itemsize * operands
    cdef Py_ssize_t threads = threads_for(call, traffic, summed)
    if threads == 0:
        return FASTACT_NO_SOURCE
    # Where a result's address is no multiple of an element's size, none of its elements is at a cache line.
    stream = call.y != 0 and policy.streams(traffic, threads) and call.y % plan.itemsize == 0 \
        and (not call.single_terms or call.dalpha % plan.itemsize == 0) \
        and apart(call.y, plan.y_low, plan.y_high, call.x, plan.x_low, plan.x_high) \
        and (call.dy == 0 or call.constant_dy
             or apart(call.y, plan.y_low, plan.y_high, call.dy, plan.dy_low, plan.dy_high))
    return FASTACT_NO_MEMORY if run(plan, call, traffic, threads, stream) else FASTACT_OK


# ---- threads ---------------------------------------------------------------------------------------------------------

cdef int quota = 0              # processors that the control groups' quotas amount to; 0: no quota
cdef long long quota_read = -10**18     # when, in nanoseconds
cdef long long QUOTA_LASTS = _cpu.QUOTA_SECONDS * 1e9


cdef int read_quota() except -1:
    """Read the quota again if the last reading is old.  Callers with the GIL do this, also for those without it."""
    global quota, quota_read
    cdef int found
    if fa_now(FA_COARSE_CLOCK) - quota_read > QUOTA_LASTS:
        found = _cpu.read_quota()
        if found != quota:              # threads without the GIL read it meanwhile, so it is written only if it changed
            quota = found
        quota_read = fa_now(FA_COARSE_CLOCK)
    return 0


read_quota()


cdef int thread_bound(int explicit) noexcept nogil:
    """The bound on threads in force, where `explicit` (0: none) was asked for."""
    cdef int processors = fa_processors()
    if quota:
        processors = min(processors, quota)
    return policy.bound_on_threads(explicit, processors, 0 if explicit else fa_openmp_threads())


SOURCES = {"own": FASTACT_SOURCE_OWN, "openmp": FASTACT_SOURCE_OPENMP}


def openmp_source():
    """The file of the OpenMP runtime that the source "openmp" takes, or None."""
    cdef int number = fa_team_runtime()
    return fa_runtime_path(number - 1).decode(errors="replace") if number else None


def openmp_threads():
    """The threads that the loaded OpenMP runtimes allow the caller; where none is loaded, more than any machine has."""
    return fa_openmp_threads()


def openmp_runtimes():
    """The files of the OpenMP runtimes that are loaded."""
    return [fa_runtime_path(i).decode(errors="replace") for i in range(fa_count_runtimes())]


CPU_LEVEL = fa_cpu_level().decode()

# ---- for Python ------------------------------------------------------------------------------------------------------

cdef inline intptr_t address(object array):
    """Where an array or None has its first element."""
    return 0 if array is None else <intptr_t>cnp.PyArray_DATA(<cnp.ndarray?>array)


cdef inline const Py_ssize_t* strides(object array) except? NULL:
    return <const Py_ssize_t*>cnp.PyArray_STRIDES(<cnp.ndarray?>array)


cdef bint plan_arrays(Plan* plan, object y, object dy, object x_, object alpha, object order, bint summed) except -1:
    """The plan for these arrays of one shape; False where there is none.  An operand that is missing is None."""
    cdef cnp.ndarray x = <cnp.ndarray?>x_
    cdef Py_ssize_t[MAX_LOOPS] ones
    cdef int[MAX_LOOPS] axes
    cdef int d, ndim = cnp.PyArray_NDIM(x)
    for d in range(ndim):
        ones[d] = 1
        axes[d] = order[d]
    return make_plan(
        plan, ndim, <Py_ssize_t*>cnp.PyArray_DIMS(x), strides(x if y is None else y), strides(x if dy is None else dy),
        strides(x), &ones[0] if alpha is None else <Py_ssize_t*>cnp.PyArray_DIMS(<cnp.ndarray?>alpha), axes,
        cnp.PyArray_ITEMSIZE(x), summed)


cdef class Bound:
    """A kernel without alpha, bound to arrays, threads and a kind of stores: a call adds 0.2 us to the work."""
    cdef Plan plan
    cdef Call call
    cdef Py_ssize_t threads
    cdef bint stream
    cdef object arrays

    def __init__(self, kernel, y, dy, x, Py_ssize_t threads, bint stream):
        if not plan_arrays(&self.plan, y, dy, x, None, tuple(range(x.ndim)), False):
            raise ValueError("these arrays cannot be run as they lie")
        memset(&self.call, 0, sizeof(self.call))
        self.call.kernel = <Kernel><intptr_t>kernel
        self.call.y, self.call.dy, self.call.x = address(y), address(dy), address(x)
        self.arrays, self.threads, self.stream = (y, dy, x), threads, stream

    def __call__(self):
        with nogil:
            run(&self.plan, &self.call, 1 << 40, self.threads, self.stream)


def describe(y, dy, x, alpha, order, bint summed):
    """The plan for these arrays as a dict, or None; for tests."""
    cdef Plan plan
    memset(&plan, 0, sizeof(plan))
    if not plan_arrays(&plan, y, dy, x, alpha, order, summed):
        return None
    found = dict(plan)
    found["loops"] = found["loops"][:plan.plane_loops + plan.row_loops]
    return found
