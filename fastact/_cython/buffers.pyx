# cython: language_level=3, freethreading_compatible=True
# Result memory that is recycled, because fresh pages cost several times the kernel: a NumPy data allocator (NEP 49).
# A block is a mapping of its own: a page with the header, then the array's memory, at a multiple of the page or 2 MB.
# Sizes go up to the next eighth of a power of two.
#
# A request takes the idle block of its size that was dropped last.  If there is none, new memory is mapped as long as
# idle and live memory together stay within recent use (`bound`).  Beyond it a larger idle block serves the request; its
# tail stays mapped and counts as idle.  Where that is not enough, idle blocks are unmapped and tails cut off, the best
# fit first.  What was idle for a whole epoch goes at the first call of the next one.  One mutex guards all of it.

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.string cimport memcpy, memset, strcpy

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>

    #ifndef MAP_ANONYMOUS
    #define MAP_ANONYMOUS MAP_ANON
    #endif
    #define FA_LARGEST ((size_t)1 << (sizeof(size_t) > 4 ? 46 : 30))

    static pthread_mutex_t fa_mutex = PTHREAD_MUTEX_INITIALIZER;
    static void fa_lock(void)   { pthread_mutex_lock(&fa_mutex); }
    static void fa_unlock(void) { pthread_mutex_unlock(&fa_mutex); }

    static int fa_log2(size_t n) { return 63 - __builtin_clzll(n); }

    /* What is read without the mutex. */
    #define fa_load(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
    #define fa_store(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELAXED)

    static char *fa_map(size_t n) {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? NULL : (char *)p;
    }

    /* Advice: a system without it, or a kernel that says no, changes nothing but the speed. */
    static void fa_want_huge_pages(void *p, size_t n) {
    #ifdef MADV_HUGEPAGE
        (void)madvise(p, n, MADV_HUGEPAGE);
    #endif
    }

    /* Adjacent mappings are one to the kernel, and it may refuse to split one.  Then the pages go back at least. */
    static int fa_unmap(void *p, size_t n) {
        if (!munmap(p, n)) return 1;
    #ifdef MADV_DONTNEED
        (void)madvise(p, n, MADV_DONTNEED);
    #endif
        return 0;
    }

    #ifdef CLOCK_MONOTONIC_COARSE
    #define FA_CLOCK CLOCK_MONOTONIC_COARSE
    #else
    #define FA_CLOCK CLOCK_MONOTONIC
    #endif
    static size_t fa_milliseconds(void) {
        struct timespec now;
        clock_gettime(FA_CLOCK, &now);
        return (size_t)now.tv_sec * 1000 + (size_t)now.tv_nsec / 1000000;
    }
    """
    const size_t FA_LARGEST
    void fa_lock() noexcept nogil
    void fa_unlock() noexcept nogil
    size_t fa_load(size_t) noexcept nogil
    void fa_store(size_t, size_t) noexcept nogil
    int fa_log2(size_t) noexcept nogil
    char* fa_map(size_t) noexcept nogil
    void fa_want_huge_pages(void*, size_t) noexcept nogil
    bint fa_unmap(void*, size_t) noexcept nogil
    size_t fa_milliseconds() noexcept nogil
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    long sysconf(int)
    enum:
        _SC_PAGESIZE

cdef extern from "numpy/arrayobject.h":
    # both steal the reference to the dtype
    cnp.ndarray PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, cnp.dtype descr, int subok)
    cnp.ndarray PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int ndim, cnp.npy_intp* shape,
                                     cnp.npy_intp* strides, void* memory, int flags, PyObject* base)
    ctypedef struct PyArrayObject_fields:
        PyObject* mem_handler
    bint PyArray_IS_C_CONTIGUOUS(cnp.ndarray)
    bint PyArray_IS_F_CONTIGUOUS(cnp.ndarray)

cdef extern from "Python.h":
    int PyTraceMalloc_Track(unsigned int domain, size_t memory, size_t size)

cdef enum:
    MAX_DIMS = 64          # NumPy's own limit
    SMALLEST = 1 << 16     # what malloc recycles well by itself stays with NumPy's own handler
    HUGE = 1 << 21
    SIZES = 31 * 8         # eight sizes for each power of two from SMALLEST to FA_LARGEST
    STRETCH = 3 * 8        # a request may take a block of so many sizes above its own: of 8 times the bytes
    NUMPY_DOMAIN = 389047  # NumPy's in tracemalloc: np.lib.tracemalloc_domain

cdef struct Block:         # the header
    size_t size            # of the memory behind the header page
    size_t used            # from the front, by a live result; 0 while the block is idle
    size_t epoch           # in which it was listed
    bint listed            # idle, or live with a tail that nobody uses: it is in a stack and in the list by age
    Block* below           # the stack of its unused bytes
    Block* above
    Block* older           # the list by age
    Block* newer

cdef size_t page = sysconf(_SC_PAGESIZE)
cdef size_t limit = 0, idle_bytes = 0, idle_blocks = 0, in_use_bytes = 0, hits = 0, misses = 0
cdef size_t epoch = 0, epoch_began = 0, epoch_length = 5000     # in milliseconds
cdef size_t peak = 0, peak_before = 0   # the most bytes that were in use at once, in this epoch and in the last one
cdef Block* idle[SIZES]                 # the tops of the stacks: idle blocks by size ...
cdef Block* tails[SIZES]                # ... and live blocks by the size of their tails
cdef Block* newest = NULL
cdef Block* oldest = NULL


# Blocks

cdef inline Block* header(void* memory) noexcept nogil:
    return <Block*>(<char*>memory - page)


cdef inline void* memory_of(Block* b) noexcept nogil:
    return <char*>b + page


cdef size_t round_up(size_t size) noexcept nogil:
    if size < SMALLEST:
        size = SMALLEST
    cdef size_t step = (<size_t>1) << (fa_log2(size) - 3)
    if step < page:
        step = page
    return (size + step - 1) & ~(step - 1)


cdef inline int stack_of(size_t size) noexcept nogil:
    if size < SMALLEST:     # a tail
        return 0
    cdef int e = fa_log2(size)
    return (e - fa_log2(SMALLEST)) * 8 + <int>((size >> (e - 3)) & 7)


cdef Block* map_block(size_t size) noexcept nogil:
    cdef size_t spare = HUGE if size >= HUGE else 0, front
    cdef char* start = fa_map(page + size + spare)
    if start == NULL:
        return NULL
    if spare:
        # trim the mapping such that the memory, not the header, starts at a multiple of 2 MB
        front = (-<size_t>(start + page)) & (HUGE - 1)
        if front:
            fa_unmap(start, front)
            start += front
        if spare - front:
            fa_unmap(start + page + size, spare - front)
        fa_want_huge_pages(start, page + size)
    cdef Block* b = <Block*>start
    b.size = b.used = size
    b.listed = False
    return b


cdef void unmap(Block* chain) noexcept nogil:
    """Give the blocks of a chain (linked by `older`) back to the system."""
    cdef Block* b
    while chain != NULL:
        b = chain
        chain = b.older
        fa_unmap(b, page + b.size)


# The lists; the caller holds the lock

cdef inline Block** top_for(Block* b) noexcept nogil:
    return &tails[stack_of(b.size - b.used)] if b.used else &idle[stack_of(b.size)]


cdef void link(Block* b) noexcept nogil:
    global newest, oldest, idle_bytes, idle_blocks
    cdef Block** top = top_for(b)
    b.below, b.above = top[0], NULL
    if b.below != NULL:
        b.below.above = b
    top[0] = b
    b.older, b.newer = newest, NULL
    if newest != NULL:
        newest.newer = b
    else:
        oldest = b
    newest = b
    b.epoch = epoch
    b.listed = True
    idle_bytes += b.size - b.used
    idle_blocks += b.used == 0


cdef void unlink(Block* b) noexcept nogil:
    global newest, oldest, idle_bytes, idle_blocks
    if b.above != NULL:
        b.above.below = b.below
    else:
        top_for(b)[0] = b.below
    if b.below != NULL:
        b.below.above = b.above
    if b.newer != NULL:
        b.newer.older = b.older
    else:
        newest = b.older
    if b.older != NULL:
        b.older.newer = b.newer
    else:
        oldest = b.newer
    b.listed = False
    idle_bytes -= b.size - b.used
    idle_blocks -= b.used == 0


cdef Block* give_back(Block* b, Block* chain) noexcept nogil:
    """Cut the tail off a live block now, or put an idle one in front of the chain for `unmap`; return the chain."""
    unlink(b)
    if b.used == 0:
        b.older = chain
        return b
    if fa_unmap(<char*>memory_of(b) + b.used, b.size - b.used):
        b.size = b.used
    return chain


cdef Block* best_fit(size_t size) noexcept nogil:
    """The listed block with the least unused bytes that are at least `size`, else the one with the most."""
    cdef int first = min(stack_of(round_up(size)), SIZES - 1), k
    for k in range(first, SIZES):
        if tails[k] != NULL or idle[k] != NULL:
            return tails[k] if tails[k] != NULL else idle[k]
    for k in range(first - 1, -1, -1):
        if tails[k] != NULL or idle[k] != NULL:
            return tails[k] if tails[k] != NULL else idle[k]
    return NULL


cdef Block* shrink(size_t most, Block* chain) noexcept nogil:
    """Give memory back until at most `most` bytes are idle; return the chain for `unmap`, which may have a start."""
    while idle_bytes > most:
        chain = give_back(best_fit(idle_bytes - most), chain)
    return chain


cdef inline size_t bound() noexcept nogil:
    """The most bytes that idle and live memory may take together: a quarter more than was in use recently.

    Without the quarter a loop that keeps a small result and drops a large one unmaps the large one each time.
    """
    cdef size_t recent = max(in_use_bytes, peak, peak_before)
    return recent + recent // 4


cdef inline void tick() noexcept nogil:
    """Begin a new epoch when it is time: before anything is listed, which has the epoch's number."""
    global epoch, epoch_began, peak, peak_before
    cdef size_t now = fa_milliseconds(), passed
    if now - epoch_began >= epoch_length:
        passed = (now - epoch_began) // epoch_length
        epoch += passed
        epoch_began = now
        peak_before = peak if passed == 1 else in_use_bytes
        peak = in_use_bytes


cdef inline Block* follow_use(Block* chain) noexcept nogil:
    """Give back what recent use does not ask for; every call comes here, and nearly always it finds nothing to do."""
    while oldest != NULL and epoch - oldest.epoch > 1:
        chain = give_back(oldest, chain)
    if idle_bytes + in_use_bytes > bound():
        chain = shrink(bound() - in_use_bytes, chain)
    return chain


cdef void release(size_t most) noexcept nogil:
    fa_lock()
    cdef Block* chain = shrink(most, NULL)
    fa_unlock()
    unmap(chain)


# The allocator: NumPy calls it from any thread, with or without the GIL, and even after this module's end

cdef inline size_t taken(Block* b, size_t size) noexcept nogil:
    """The bytes of a block that a request of `size` takes: no huge page is cut, it would not be given back in part."""
    return size if b.size < HUGE else min(b.size, (size + HUGE - 1) & ~<size_t>(HUGE - 1))


cdef Block* larger(size_t size) noexcept nogil:
    """The smallest idle block that may serve a request of a smaller size and wastes a quarter at most, or NULL."""
    cdef int k = stack_of(size), above = min(k + STRETCH + 1, SIZES)
    for k in range(k + 1, above):
        if idle[k] != NULL and taken(idle[k], size) - size <= size // 4:
            return idle[k]
    return NULL


cdef void* pool_malloc(void* ctx, size_t size) noexcept nogil:
    global in_use_bytes, peak, peak_before, hits, misses
    if size > FA_LARGEST // 2:
        return NULL
    size = round_up(size)
    fa_lock()
    tick()
    in_use_bytes += size
    cdef Block* b = idle[stack_of(size)]
    if b == NULL and idle_bytes + in_use_bytes > bound():
        b = larger(size)
    if b != NULL:
        unlink(b)
        b.used = taken(b, size)
        in_use_bytes += b.used - size
        if b.size > b.used:
            link(b)
        hits += 1
    else:
        misses += 1
    peak = max(peak, in_use_bytes)
    cdef Block* chain = follow_use(NULL)
    fa_unlock()
    unmap(chain)
    if b != NULL:
        return memory_of(b)
    b = map_block(size)
    if b == NULL:
        release(0)
        b = map_block(size)
        if b == NULL:
            fa_lock()
            in_use_bytes -= size
            peak = peak_before = in_use_bytes   # else what was refused would count as recent use
            fa_unlock()
            return NULL
    return memory_of(b)


cdef void pool_free(void* ctx, void* memory, size_t size) noexcept nogil:
    # `size` is NumPy's idea of it, which a resize or a change of dtype may have altered: the header knows
    global in_use_bytes
    if memory == NULL:
        return
    cdef Block* b = header(memory)
    cdef Block* chain = NULL
    fa_lock()
    tick()
    if b.listed:
        unlink(b)
    in_use_bytes -= b.used
    b.used = 0
    if b.size <= limit:
        chain = shrink(limit - b.size, NULL)
        link(b)
    else:
        b.older = NULL
        chain = b
    chain = follow_use(chain)
    fa_unlock()
    unmap(chain)


cdef void* pool_calloc(void* ctx, size_t count, size_t size) noexcept nogil:
    if size and count > FA_LARGEST // size:
        return NULL
    cdef void* memory = pool_malloc(ctx, count * size)
    if memory != NULL:
        memset(memory, 0, count * size)
    return memory


cdef void* pool_realloc(void* ctx, void* memory, size_t size) noexcept nogil:
    if memory == NULL:
        return pool_malloc(ctx, size)
    cdef size_t had = header(memory).used
    if size <= FA_LARGEST // 2 and round_up(size) == had:
        return memory
    cdef void* moved = pool_malloc(ctx, size)
    if moved != NULL:
        memcpy(moved, memory, min(had, size))
        pool_free(ctx, memory, had)
    return moved


cdef void after_fork_in_child() noexcept nogil:
    # The child has no use for the parent's idle blocks, and holding them would make the parent copy their pages
    cdef Block* chain = shrink(0, NULL)
    fa_unlock()
    unmap(chain)


cnp.import_array()
cdef cnp.PyDataMem_Handler handler
strcpy(handler.name, b"fastact")
handler.version = 1
handler.allocator.ctx = NULL
handler.allocator.malloc = pool_malloc
handler.allocator.calloc = pool_calloc
handler.allocator.realloc = pool_realloc
handler.allocator.free = pool_free
cdef object capsule = PyCapsule_New(&handler, "mem_handler", NULL)
if pthread_atfork(fa_lock, fa_unlock, after_fork_in_child):
    raise MemoryError("pthread_atfork")


# Arrays

cdef cnp.ndarray like(cnp.ndarray prototype, cnp.dtype descr):
    Py_INCREF(descr)
    return PyArray_NewLikeArray(prototype, cnp.NPY_KEEPORDER, descr, 0)


cdef void keep_order(cnp.ndarray a, size_t itemsize, cnp.npy_intp* strides) noexcept:
    """The strides of np.empty_like(a): the axes of a by their strides, equal ones in C order."""
    cdef int[MAX_DIMS] order
    cdef int ndim = cnp.PyArray_NDIM(a), d, k
    cdef cnp.npy_intp step = itemsize
    cdef bint c_order = PyArray_IS_C_CONTIGUOUS(a), f_order = not c_order and PyArray_IS_F_CONTIGUOUS(a)
    for d in range(ndim):
        k = d
        while k > 0 and not c_order and (
                f_order or abs(cnp.PyArray_STRIDE(a, order[k - 1])) < abs(cnp.PyArray_STRIDE(a, d))):
            order[k] = order[k - 1]
            k -= 1
        order[k] = d
    for k in range(ndim - 1, -1, -1):
        strides[order[k]] = step
        step *= cnp.PyArray_DIM(a, order[k])


@cython.cdivision(True)
cdef cnp.ndarray new_array(cnp.ndarray prototype, cnp.dtype descr):
    """np.empty_like(prototype, descr, subok=False), in recycled memory where that pays."""
    cdef size_t itemsize = descr.itemsize
    cdef cnp.npy_intp[MAX_DIMS] strides
    cdef cnp.ndarray array
    cdef void* memory = NULL
    cdef size_t size
    if fa_load(limit) != 0 and itemsize != 0 and <size_t>cnp.PyArray_SIZE(prototype) >= SMALLEST // itemsize:
        size = <size_t>cnp.PyArray_SIZE(prototype) * itemsize
        memory = pool_malloc(NULL, size)
    if memory == NULL:
        try:
            return like(prototype, descr)
        except MemoryError:
            release(0)
            return like(prototype, descr)
    # What NumPy does with a handler in force, without setting and resetting a context variable: 0.15 us, and resetting
    # can fail where memory is short, which left ours in force.
    keep_order(prototype, itemsize, strides)
    Py_INCREF(descr)
    try:
        array = PyArray_NewFromDescr(<PyTypeObject*>cnp.ndarray, descr, cnp.PyArray_NDIM(prototype),
                                     cnp.PyArray_DIMS(prototype), strides, memory, cnp.NPY_ARRAY_CARRAY, NULL)
    except BaseException:
        pool_free(NULL, memory, 0)
        raise
    PyTraceMalloc_Track(NUMPY_DOMAIN, <size_t>memory, size)
    (<PyArrayObject_fields*>array).mem_handler = <PyObject*>capsule
    Py_INCREF(capsule)
    cnp.PyArray_ENABLEFLAGS(array, cnp.NPY_ARRAY_OWNDATA)
    return array


def empty_like(x, dtype=None):
    """np.empty_like(x, dtype, subok=False), in recycled memory where that pays."""
    cdef cnp.ndarray a = cnp.PyArray_FROM_O(x)
    return new_array(a, a.dtype if dtype is None else cnp.dtype(dtype))


def set_buffer_limit(bytes):
    """Bound the idle memory; fastact.set_buffer_limit says the rest."""
    cdef size_t most = min(bytes, FA_LARGEST)
    fa_lock()
    fa_store(limit, most)
    fa_unlock()
    release(most)


def get_buffer_limit():
    """Return the bound of the idle memory in bytes."""
    return fa_load(limit)


def set_epoch(milliseconds):
    """Set the length of an epoch, for tests, which cannot wait for seconds."""
    global epoch_length
    fa_lock()
    epoch_length = milliseconds
    fa_unlock()


def clear_buffers():
    """Give all idle result memory back to the system; results that are alive keep theirs."""
    with nogil:
        release(0)


def counters():
    """The limit, what is idle (tails too) and in use, and how often memory was recycled (hits) or not (misses)."""
    fa_lock()
    cdef size_t bytes = idle_bytes, blocks = idle_blocks, used = in_use_bytes, recent = max(peak, peak_before)
    cdef size_t hit = hits, missed = misses, most = limit
    fa_unlock()
    return dict(limit=most, idle_bytes=bytes, idle_blocks=blocks, in_use_bytes=used, recent_peak_bytes=recent, hits=hit,
                misses=missed)
