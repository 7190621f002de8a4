# cython: language_level=3, freethreading_compatible=True
# Result memory that is recycled, because fresh pages cost several times the kernel: a NumPy data allocator (NEP 49).
# A block is a mapping of its own: a page with the header, then the array's memory, at a multiple of the page or 2 MB.
# Sizes go up to the next eighth of a power of two; the idle blocks of a size form a stack: the newest is taken first.
# All idle blocks form a list by age too: beyond the limit the oldest are unmapped, and of what is older than the newest
# quarter of the limit ("warm") the kernel may take the pages when memory is short.  What was recycled last stays warm
# whatever its size, until something else is dropped.  One mutex guards all of it.

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.string cimport memcpy, memset, strcpy

from operator import index

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <sys/mman.h>
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

    /* Both are advice: a system without them, or a kernel that says no, changes nothing but the speed. */
    static void fa_want_huge_pages(void *p, size_t n) {
    #ifdef MADV_HUGEPAGE
        (void)madvise(p, n, MADV_HUGEPAGE);
    #endif
    }
    static void fa_free_to_take(void *p, size_t n) {
    #ifdef MADV_FREE
        (void)madvise(p, n, MADV_FREE);
    #endif
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
    void fa_free_to_take(void*, size_t) noexcept nogil
    int munmap(void*, size_t) noexcept nogil
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)
    long sysconf(int)
    enum:
        _SC_PAGESIZE
        _SC_PHYS_PAGES

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
    NUMPY_DOMAIN = 389047  # NumPy's in tracemalloc: np.lib.tracemalloc_domain

cdef struct Block:         # the header; the rest is used while the block is idle only
    size_t size            # of the memory behind the header page
    bint warm              # its pages were not offered to the kernel
    bint recycled          # it was taken from the idle ones before
    Block* below           # the stack of its size
    Block* above
    Block* older           # the list by age
    Block* newer

cdef size_t page = sysconf(_SC_PAGESIZE)
cdef size_t limit = 0, idle_bytes = 0, idle_blocks = 0, warm_bytes = 0, in_use_bytes = 0, hits = 0, misses = 0
cdef Block* top[SIZES]
cdef Block* newest = NULL
cdef Block* oldest = NULL
cdef Block* coldest = NULL   # the oldest block that is warm; all newer ones are warm too


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
            munmap(start, front)
            start += front
        if spare - front:
            munmap(start + page + size, spare - front)
        fa_want_huge_pages(start, page + size)
    cdef Block* b = <Block*>start
    b.size = size
    b.recycled = False
    return b


cdef void unmap(Block* chain) noexcept nogil:
    """Give the blocks of a chain (linked by `older`) back to the system."""
    cdef Block* b
    while chain != NULL:
        b = chain
        chain = b.older
        munmap(b, page + b.size)


# The lists; the caller holds the lock

cdef void link(Block* b) noexcept nogil:
    global newest, oldest, coldest, idle_bytes, idle_blocks, warm_bytes
    cdef int k = stack_of(b.size)
    b.below, b.above = top[k], NULL
    if b.below != NULL:
        b.below.above = b
    top[k] = b
    b.older, b.newer = newest, NULL
    if newest != NULL:
        newest.newer = b
    else:
        oldest = b
    newest = b
    b.warm = True
    if coldest == NULL:
        coldest = b
    idle_bytes += b.size
    idle_blocks += 1
    warm_bytes += b.size


cdef void unlink(Block* b) noexcept nogil:
    global newest, oldest, coldest, idle_bytes, idle_blocks, warm_bytes
    if b.above != NULL:
        b.above.below = b.below
    else:
        top[stack_of(b.size)] = b.below
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
    if coldest == b:
        coldest = b.newer
    if b.warm:
        warm_bytes -= b.size
    idle_bytes -= b.size
    idle_blocks -= 1


cdef Block* shrink(size_t bound) noexcept nogil:
    """Take the oldest blocks out until at most `bound` bytes are idle; return them as a chain for `unmap`."""
    cdef Block* chain = NULL
    cdef Block* b
    while idle_bytes > bound:
        b = oldest
        unlink(b)
        b.older = chain
        chain = b
    return chain


cdef void cool() noexcept nogil:
    # The first write to a page that was offered is slow where pages are not huge (3 to 4 times the time of a write to
    # 4 MB; 768 MB of huge pages offered at every call cost two threads a fifth), so what is recycled all the time is
    # not offered: only what a quarter of the limit cannot hold, and never the block that was recycled last.
    global coldest, warm_bytes
    cdef Block* b
    while warm_bytes > limit // 4 and not (coldest == newest and newest.recycled):
        b = coldest
        fa_free_to_take(memory_of(b), b.size)
        b.warm = False
        warm_bytes -= b.size
        coldest = b.newer


cdef void release(size_t bound) noexcept nogil:
    fa_lock()
    cdef Block* chain = shrink(bound)
    fa_unlock()
    unmap(chain)


# The allocator: NumPy calls it from any thread, with or without the GIL, and even after this module's end

cdef void* pool_malloc(void* ctx, size_t size) noexcept nogil:
    global in_use_bytes, hits, misses
    if size > FA_LARGEST // 2:
        return NULL
    size = round_up(size)
    fa_lock()
    cdef Block* b = top[stack_of(size)]
    if b != NULL:
        unlink(b)
        b.recycled = True
        hits += 1
        in_use_bytes += size
    fa_unlock()
    if b != NULL:
        return memory_of(b)
    b = map_block(size)
    if b == NULL:
        release(0)
        b = map_block(size)
        if b == NULL:
            return NULL
    fa_lock()
    misses += 1
    in_use_bytes += size
    fa_unlock()
    return memory_of(b)


cdef void pool_free(void* ctx, void* memory, size_t size) noexcept nogil:
    # `size` is NumPy's idea of it, which a resize or a change of dtype may have altered: the header knows
    global in_use_bytes
    if memory == NULL:
        return
    cdef Block* b = header(memory)
    cdef Block* chain = b
    fa_lock()
    in_use_bytes -= b.size
    if b.size <= limit:
        chain = shrink(limit - b.size)
        link(b)
        cool()
    else:
        b.older = NULL
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
    cdef size_t had = header(memory).size
    if size <= FA_LARGEST // 2 and round_up(size) == had:
        return memory
    cdef void* moved = pool_malloc(ctx, size)
    if moved != NULL:
        memcpy(moved, memory, min(had, size))
        pool_free(ctx, memory, had)
    return moved


cdef void after_fork_in_child() noexcept nogil:
    # The child has no use for the parent's idle blocks, and holding them would make the parent copy their pages
    cdef Block* chain = shrink(0)
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
    """Bound the memory of past results that is kept for new ones.

    The bound is for the process and for idle memory only: results that are alive do not count. What is beyond it
    goes back to the system at once, the oldest first. The default is the smaller of 1 GB (2**30 bytes) and an eighth
    of the memory.

    Parameters
    ----------
    bytes : int
        The most bytes to keep; 0 turns recycling off.
    """
    wanted = index(bytes)
    if wanted < 0:
        raise ValueError(f"set_buffer_limit: bytes must be >= 0, got {bytes}")
    cdef size_t bound = min(wanted, FA_LARGEST)
    cdef Block* chain
    fa_lock()
    fa_store(limit, bound)
    chain = shrink(bound)
    cool()
    fa_unlock()
    unmap(chain)


def get_buffer_limit():
    """Return the most bytes of past results that are kept for new ones; see `set_buffer_limit`."""
    return fa_load(limit)


def clear_buffers():
    """Give all idle result memory back to the system; results that are alive keep theirs."""
    with nogil:
        release(0)


def counters():
    """Return the limit, what is idle and in use, and how often memory was recycled (hits) or was not (misses)."""
    fa_lock()
    cdef size_t idle = idle_bytes, blocks = idle_blocks, used = in_use_bytes, hit = hits, missed = misses, bound = limit
    fa_unlock()
    return dict(limit=bound, idle_bytes=idle, idle_blocks=blocks, in_use_bytes=used, hits=hit, misses=missed)


def default_limit():
    """Return the smaller of 1 GB and an eighth of the memory that this process may use."""
    cdef object memory = sysconf(_SC_PHYS_PAGES) * <object>page
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                memory = min(memory, int(file.read()))
        except (OSError, ValueError):   # no such cgroup, or "max"
            pass
    return min(1 << 30, memory // 8)


set_buffer_limit(default_limit())
