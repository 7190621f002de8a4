# cython: language_level=3, freethreading_compatible=True
# Recycled result memory: the memory of a result that is gone serves a later result.  New memory would be slow, because
# the system makes each page when it is first touched.  That takes several times as long as the computation.  To NumPy
# this module is a data allocator (NEP 49).
#
#   block       one mapping from the system: a page with the header, then the memory of one array
#   idle block  a block whose array is gone
#   live block  a block whose array exists
#   tail        the end of a live block that its array does not use
#   in use      the bytes of the live blocks without their tails
#   idle bytes  the bytes of the idle blocks and of the tails
#   epoch       a span of 5 seconds, by which the age of idle bytes is counted
#   to list     to put a block with idle bytes into the two lists that are described at `Block`
#
# Memory of 2 MB or more starts at a multiple of 2 MB, smaller memory at a multiple of the page size.  Sizes are rounded
# up to eighths of a power of two: 8, 9, 10, ... 15 times a power of two.
#
# What a request gets:
# 1. the idle block of its size that became idle last;
# 2. otherwise a new block, if the sum of the bytes that are idle and in use stays within recent use (`bound`);
# 3. otherwise a larger idle block (`larger`), whose end becomes a tail;
# 4. otherwise a new block.  Idle bytes are then given back until the sum is within recent use again: idle blocks are
#    unmapped and tails are cut off, the best fit first.
#
# Idle bytes that nobody has used for a whole epoch are given back by the first call in the next epoch.  One lock guards
# everything.

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject, PyTypeObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.string cimport memcpy, memset, strcpy

cdef extern from "system.h" nogil:
    void fa_lock() noexcept
    void fa_unlock() noexcept
    size_t fa_page_size() noexcept
    char* fa_map(size_t) noexcept
    void fa_want_huge_pages(void*, size_t) noexcept
    bint fa_cut(void*, size_t) noexcept
    bint fa_unmap(void*, size_t) noexcept
    int fa_at_fork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)

cdef extern from *:
    """
    /* The largest size of a block in bytes. */
    #define FA_LARGEST ((size_t)1 << (sizeof(size_t) > 4 ? 46 : 30))

    static int fa_log2(size_t n) { return 63 - __builtin_clzll(n); }
    static size_t fa_milliseconds(void) { return (size_t)(fa_now(FA_COARSE_CLOCK) / 1000000); }

    /* For a variable that is also read without the lock. */
    #define fa_load(variable) __atomic_load_n(&(variable), __ATOMIC_RELAXED)
    #define fa_store(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELAXED)
    """
    const size_t FA_LARGEST
    size_t fa_load(size_t) noexcept nogil
    void fa_store(size_t, size_t) noexcept nogil
    int fa_log2(size_t) noexcept nogil
    size_t fa_milliseconds() noexcept nogil

cdef extern from "numpy/arrayobject.h":
    # Both take over the caller's reference to `descr`, so the caller has to add one before.
    cnp.ndarray PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, cnp.dtype descr, int subok)
    cnp.ndarray PyArray_NewFromDescr(PyTypeObject* subtype, cnp.dtype descr, int ndim, cnp.npy_intp* shape,
                                     cnp.npy_intp* strides, void* memory, int flags, PyObject* base)
    ctypedef struct PyArrayObject_fields:
        PyObject* mem_handler
    bint PyArray_IS_C_CONTIGUOUS(cnp.ndarray)
    bint PyArray_IS_F_CONTIGUOUS(cnp.ndarray)

cdef extern from "Python.h":
    int PyTraceMalloc_Track(unsigned int domain, size_t memory, size_t size)

include "tables.pxi"

# Results of less than SMALLEST_BLOCK bytes use NumPy's own allocator, since malloc recycles small memory well.
cdef enum:
    HUGE = 1 << 21         # bytes of a huge page
    SPARE = 1 << 25        # bytes that may be idle beyond recent use in any case
    SIZES = 31 * 8         # eight sizes for each power of two from SMALLEST_BLOCK to FA_LARGEST
    STRETCH = 3 * 8        # a request takes a block up to this many sizes above its own, which is 8 times the bytes
    NUMPY_DOMAIN = 389047  # np.lib.tracemalloc_domain: the number under which tracemalloc counts NumPy's memory

# A listed block is in two lists: in the stack of the blocks with about as many idle bytes, and in the list by age.
cdef struct Block:         # the header of a block
    size_t size            # bytes of memory, without the header page
    size_t used            # bytes that the array uses, from the front; 0 if the block is idle
    size_t epoch           # the epoch in which the block was listed
    bint listed            # whether it has idle bytes: it is idle, or live with a tail
    Block* below           # its neighbours in the stack
    Block* above
    Block* older           # its neighbours in the list by age
    Block* newer

cdef size_t page = fa_page_size()
cdef size_t limit = 0, idle_bytes = 0, idle_blocks = 0, in_use_bytes = 0, hits = 0, misses = 0
cdef size_t epoch = 0                   # the number of the current epoch
cdef size_t epoch_began = 0, epoch_length = 5000    # in milliseconds
cdef size_t peak = 0, peak_before = 0   # the most bytes that were in use at once, in this epoch and in the one before
cdef Block* idle[SIZES]                 # the tops of the stacks of idle blocks, by the size of the block
cdef Block* tails[SIZES]                # the tops of the stacks of live blocks, by the size of the tail
cdef Block* newest = NULL               # the ends of the list by age
cdef Block* oldest = NULL


# Blocks

cdef inline Block* header(void* memory) noexcept nogil:
    return <Block*>(<char*>memory - page)


cdef inline void* memory_of(Block* b) noexcept nogil:
    return <char*>b + page


cdef size_t round_up(size_t size) noexcept nogil:
    """The size of the block that a request of `size` bytes asks for."""
    if size < SMALLEST_BLOCK:
        size = SMALLEST_BLOCK
    cdef size_t step = (<size_t>1) << (fa_log2(size) - 3)
    if step < page:
        step = page
    return (size + step - 1) & ~(step - 1)


cdef inline int stack_of(size_t size) noexcept nogil:
    """The number of the stack for blocks with `size` idle bytes."""
    if size < SMALLEST_BLOCK:     # only a tail is as small as that
        return 0
    cdef int e = fa_log2(size)
    return (e - fa_log2(SMALLEST_BLOCK)) * 8 + <int>((size >> (e - 3)) & 7)


cdef Block* map_block(size_t size) noexcept nogil:
    """A new live block, or NULL."""
    cdef size_t spare = HUGE if size >= HUGE else 0, front
    cdef char* start = fa_map(page + size + spare)
    if start == NULL:
        return NULL
    if spare:
        # The mapping is 2 MB longer than needed.  What is cut off lets the memory behind the header start at a multiple
        # of 2 MB.
        front = (-<size_t>(start + page)) & (HUGE - 1)
        if front:
            fa_cut(start, front)
            start += front
        if spare - front:
            fa_cut(start + page + size, spare - front)
        fa_want_huge_pages(start, page + size)
    cdef Block* b = <Block*>start
    b.size = b.used = size
    b.listed = False
    return b


cdef void unmap(Block* chain) noexcept nogil:
    """Give the blocks of a chain back to the system.

    A chain is made of blocks that are no longer listed, each linked to the next by `older`.  It is collected while the
    lock is held, and unmapped afterwards, since unmapping takes long.
    """
    cdef Block* b
    while chain != NULL:
        b = chain
        chain = b.older
        fa_unmap(b, page + b.size)


# The lists.  Whoever calls these functions holds the lock.

cdef inline Block** top_for(Block* b) noexcept nogil:
    """The top of the stack to which a block belongs."""
    return &tails[stack_of(b.size - b.used)] if b.used else &idle[stack_of(b.size)]


cdef void link(Block* b) noexcept nogil:
    """List a block that has idle bytes."""
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
    """Take a block out of both lists."""
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
    """Give back a listed block's idle bytes; return the chain.

    An idle block is put in front of the chain.  A live block's tail is cut off at once.
    """
    unlink(b)
    if b.used == 0:
        b.older = chain
        return b
    if fa_cut(<char*>memory_of(b) + b.used, b.size - b.used):
        b.size = b.used
    return chain


cdef Block* best_fit(size_t size) noexcept nogil:
    """The listed block with the fewest idle bytes of those that have `size` or more; else the one with the most."""
    cdef int first = min(stack_of(round_up(size)), SIZES - 1), i, k
    for i in range(SIZES):  # the stacks from `first` on, then those below it from the largest size down
        k = first + i if first + i < SIZES else SIZES - 1 - i
        if tails[k] != NULL:
            return tails[k]
        if idle[k] != NULL:
            return idle[k]
    return NULL


cdef Block* shrink(size_t most, Block* chain) noexcept nogil:
    """Give memory back until at most `most` bytes are idle; put blocks in front of the chain and return it."""
    while idle_bytes > most:
        chain = give_back(best_fit(idle_bytes - most), chain)
    return chain


cdef inline size_t bound() noexcept nogil:
    """The most bytes that may be idle and in use together: a quarter more than were in use recently, or SPARE more.

    Without the quarter, a loop that keeps a small result and drops a large one would unmap the large one every time.
    Without SPARE, inference of a network would unmap results, too: it drops each result before it asks for one of
    another size.  One picture through MobileFaceNet in torch made 400 page faults then, which took 10 % of its time.
    """
    cdef size_t recent = max(in_use_bytes, peak, peak_before)
    return recent + max(recent // 4, <size_t>SPARE)


cdef inline void tick() noexcept nogil:
    """Begin a new epoch if the current one is over.  This comes before `link`, which notes the epoch's number."""
    global epoch, epoch_began, peak, peak_before
    cdef size_t now = fa_milliseconds(), passed
    if now - epoch_began >= epoch_length:
        passed = (now - epoch_began) // epoch_length
        epoch += passed
        epoch_began = now
        peak_before = peak if passed == 1 else in_use_bytes
        peak = in_use_bytes


cdef inline Block* follow_use(Block* chain) noexcept nogil:
    """Give back what is too old or exceeds recent use; return the chain.

    Every request and every release of memory calls this.  Nearly always it finds nothing to do.
    """
    while oldest != NULL and epoch - oldest.epoch > 1:
        chain = give_back(oldest, chain)
    if idle_bytes + in_use_bytes > bound():
        chain = shrink(bound() - in_use_bytes, chain)
    return chain


cdef void release(size_t most) noexcept nogil:
    """Give memory back until at most `most` bytes are idle."""
    fa_lock()
    cdef Block* chain = shrink(most, NULL)
    fa_unlock()
    unmap(chain)


# The allocator.  NumPy calls it from any thread, with the GIL or without, and even when the module has been torn down.

cdef inline size_t taken(Block* b, size_t size) noexcept nogil:
    """The bytes of an idle block that a request of `size` takes.

    A block with huge pages gives whole huge pages, since the system does not take back a part of one.
    """
    return size if b.size < HUGE else min(b.size, (size + HUGE - 1) & ~<size_t>(HUGE - 1))


cdef Block* larger(size_t size) noexcept nogil:
    """The smallest idle block that is larger than the request and wastes at most a quarter of it, or NULL.

    What the array gets beyond its size (`taken`) is wasted.  The tail is not wasted: the system can have it back.
    """
    cdef int k = stack_of(size), above = min(k + STRETCH + 1, SIZES)
    for k in range(k + 1, above):
        if idle[k] != NULL and taken(idle[k], size) - size <= size // 4:
            return idle[k]
    return NULL


cdef void* buffer_malloc(void* ctx, size_t size) noexcept nogil:
    """The memory that a request gets (see the top of this file), or NULL."""
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
            peak = peak_before = in_use_bytes   # otherwise the refused request would count as recent use
            fa_unlock()
            return NULL
    return memory_of(b)


cdef void buffer_free(void* ctx, void* memory, size_t size) noexcept nogil:
    # NumPy's `size` is not used.  It can be wrong after a resize or a change of dtype; the header's size is right.
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


cdef void* buffer_calloc(void* ctx, size_t count, size_t size) noexcept nogil:
    if size and count > FA_LARGEST // size:
        return NULL
    cdef void* memory = buffer_malloc(ctx, count * size)
    if memory != NULL:
        memset(memory, 0, count * size)
    return memory


cdef void* buffer_realloc(void* ctx, void* memory, size_t size) noexcept nogil:
    if memory == NULL:
        return buffer_malloc(ctx, size)
    cdef size_t had = header(memory).used
    if size <= FA_LARGEST // 2 and round_up(size) == had:
        return memory
    cdef void* moved = buffer_malloc(ctx, size)
    if moved != NULL:
        memcpy(moved, memory, min(had, size))
        buffer_free(ctx, memory, had)
    return moved


cdef void after_fork_in_child() noexcept nogil:
    # The child does not need the parent's idle blocks.  If it kept them, the parent would have to copy each of their
    # pages that it writes to.
    cdef Block* chain = shrink(0, NULL)
    fa_unlock()
    unmap(chain)


cnp.import_array()
cdef cnp.PyDataMem_Handler handler
strcpy(handler.name, b"fastact")
handler.version = 1
handler.allocator.ctx = NULL
handler.allocator.malloc = buffer_malloc
handler.allocator.calloc = buffer_calloc
handler.allocator.realloc = buffer_realloc
handler.allocator.free = buffer_free
cdef object capsule = PyCapsule_New(&handler, "mem_handler", NULL)
if fa_at_fork(fa_lock, fa_unlock, after_fork_in_child):
    raise MemoryError("pthread_atfork")


# Arrays

cdef cnp.ndarray like(cnp.ndarray prototype, cnp.dtype descr):
    """np.empty_like(prototype, descr, subok=False), in NumPy's own memory."""
    Py_INCREF(descr)
    return PyArray_NewLikeArray(prototype, cnp.NPY_KEEPORDER, descr, 0)


cdef void keep_order(cnp.ndarray a, size_t itemsize, cnp.npy_intp* strides) noexcept:
    """Set `strides` to those of np.empty_like(a).

    The axes keep the order of a's strides; axes with equal strides are in C order.
    """
    cdef int[MAX_LOOPS] order
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
    """np.empty_like(prototype, descr, subok=False), in recycled memory unless it is small or recycling is off."""
    cdef size_t itemsize = descr.itemsize
    cdef cnp.npy_intp[MAX_LOOPS] strides
    cdef cnp.ndarray array
    cdef void* memory = NULL
    cdef size_t size
    if fa_load(limit) != 0 and itemsize != 0 and <size_t>cnp.PyArray_SIZE(prototype) >= SMALLEST_BLOCK // itemsize:
        size = <size_t>cnp.PyArray_SIZE(prototype) * itemsize
        memory = buffer_malloc(NULL, size)
    if memory == NULL:
        try:
            return like(prototype, descr)
        except MemoryError:
            release(0)
            return like(prototype, descr)
    # The array is made as NumPy would make it if our allocator were in force.  To put it in force, one has to set a
    # context variable and to reset it afterwards.  That takes 0.15 us more than this.  The reset can also fail when
    # memory is short, and then our allocator would stay in force.
    keep_order(prototype, itemsize, strides)
    Py_INCREF(descr)
    try:
        array = PyArray_NewFromDescr(<PyTypeObject*>cnp.ndarray, descr, cnp.PyArray_NDIM(prototype),
                                     cnp.PyArray_DIMS(prototype), strides, memory, cnp.NPY_ARRAY_CARRAY, NULL)
    except BaseException:
        buffer_free(NULL, memory, 0)
        raise
    PyTraceMalloc_Track(NUMPY_DOMAIN, <size_t>memory, size)
    (<PyArrayObject_fields*>array).mem_handler = <PyObject*>capsule
    Py_INCREF(capsule)
    cnp.PyArray_ENABLEFLAGS(array, cnp.NPY_ARRAY_OWNDATA)
    return array


def empty_like(x, dtype=None):
    """np.empty_like(x, dtype, subok=False), in recycled memory unless it is small or recycling is off."""
    cdef cnp.ndarray a = cnp.PyArray_FROM_O(x)
    return new_array(a, a.dtype if dtype is None else cnp.dtype(dtype))


def set_buffer_limit(bytes):
    """Set the most bytes that may be idle.  fastact.set_buffer_limit is the public function."""
    cdef size_t most = min(bytes, FA_LARGEST)
    fa_lock()
    fa_store(limit, most)
    fa_unlock()
    release(most)


def get_buffer_limit():
    """Return the most bytes that may be idle."""
    return fa_load(limit)


def set_epoch(milliseconds):
    """Set the length of an epoch.  Tests make it short, so that they need not wait for seconds."""
    global epoch_length
    fa_lock()
    epoch_length = milliseconds
    fa_unlock()


def clear_buffers():
    """Give all idle memory back to the system.  Live results keep theirs."""
    with nogil:
        release(0)


def counters():
    """Return the limit, what is idle (with tails), what is in use, and how the requests went.

    A request that got recycled memory is a hit, one that got new memory is a miss.
    """
    fa_lock()
    cdef size_t bytes = idle_bytes, blocks = idle_blocks, used = in_use_bytes, recent = max(peak, peak_before)
    cdef size_t hit = hits, missed = misses, most = limit
    fa_unlock()
    return dict(limit=most, idle_bytes=bytes, idle_blocks=blocks, in_use_bytes=used, recent_peak_bytes=recent, hits=hit,
                misses=missed)
