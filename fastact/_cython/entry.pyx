# The entry of every call: the functions of fastact.h, and those that the fast path and the Python modules call.
#
# `enter` takes operands of any layout and dtype, checks them, and runs them as they lie or buffered, without the GIL
# and without Python objects.  Nothing is written before everything is checked.  A plan is made on the stack, or copied
# from a slot that keeps it for the next call of the same shape.

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, intptr_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastact cimport (
    FASTACT_BAD_TYPE, FASTACT_BAD_VALUE, FASTACT_BFLOAT16, FASTACT_BOOL, FASTACT_FLOAT16, FASTACT_FLOAT32,
    FASTACT_FLOAT64, FASTACT_NOT_YET, FASTACT_NO_MEMORY, FASTACT_NO_SOURCE, FASTACT_OK, FASTACT_SOURCE_CALLER,
    FASTACT_SOURCE_DEFAULT, FASTACT_UINT64, FASTACT_UINT8, fastact_array, fastact_default_options, fastact_options
)
from fastact._cython cimport policy
from fastact._cython.driver cimport (
    BUFFER_ELEMENTS, BUFFER_GROUPS, BUFFER_SIDE, BUFFER_SUMS, BUFFER_TURNED, LINE, NO_OPENMP, PRELU, PRELU_BACKWARD,
    PRELU_TO_MASK, RADIX, READS_DY, RELU, RELU_TO_MASK, SHORTEST_LOOP, SHORTEST_ROWS, SUM_LEVELS, SWAPPED,
    TILE_ELEMENTS, Call, InnerLoop, Kernel, fa_range, in_pairs, launch, run, share_out, threads_for
)
from fastact._cython.plan cimport MAX_LOOPS, SEGMENT, Loop, Plan, make_plan

from fastact._arguments import is_bfloat16
from fastact._tables import KERNELS

cnp.import_array()

cdef extern from "exact.h":
    pass

cdef extern from "elements.h" nogil:
    Py_ssize_t fa_itemsize(int dtype) noexcept
    void fa_round(char* out, Py_ssize_t out_step, const double* sums, Py_ssize_t step, Py_ssize_t n, int dtype) noexcept

cdef extern from "interface.h" nogil:
    enum: FA_SHAPE_TEXT
    const char* fa_dtype_name(int dtype) noexcept
    int fa_fail(const fastact_options* options, int status, const char* format, ...) noexcept
    const char* fa_shape(const fastact_array* array, char* text) noexcept

cdef extern from *:
    """
    enum { SLOTS = 256 };
    /* Whether a slot is being read or written.  A thread that finds it busy makes its own plan. */
    static char fa_busy[SLOTS];
    #define fa_try_slot(i) (!__atomic_exchange_n(&fa_busy[i], 1, __ATOMIC_ACQ_REL))
    #define fa_leave_slot(i) __atomic_store_n(&fa_busy[i], 0, __ATOMIC_RELEASE)
    #define FA_POINTER(result, name, arguments) fastact_##name,
    static const struct fastact_api fa_api = {sizeof(struct fastact_api), FASTACT_FUNCTIONS(FA_POINTER)};
    """
    enum: SLOTS
    bint fa_try_slot(size_t) noexcept nogil
    void fa_leave_slot(size_t) noexcept nogil
    char* fa_busy
    const void* fa_api_address "&fa_api"

cdef extern from "system.h" nogil:
    int fa_at_fork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)


# ---- the last plans --------------------------------------------------------------------------------------------------

cdef enum:
    MAX_NDIM = 6
    FEW = 1                         # loops that a slot keeps: contiguous operands have no more
    FULL = -2                       # instead of an axis: alpha has x's shape
    OTHER = -3                      # instead of an axis: alpha changes along several axes, but not in x's shape
cdef struct Slot:
    int ndim, itemsize, axis, summed
    Py_ssize_t[MAX_NDIM] shape
    bint filled
    Plan plan
cdef Slot[SLOTS] slots
cdef size_t SLOT_BYTES = sizeof(Plan) - (MAX_LOOPS - FEW) * sizeof(Loop)


cdef void free_slots() noexcept nogil:
    """In a forked child: forget the slots that another thread of the parent may have been writing at the fork."""
    cdef int k
    for k in range(SLOTS):
        if fa_busy[k]:
            slots[k].filled = False
            fa_busy[k] = 0


if fa_at_fork(NULL, NULL, free_slots):
    raise MemoryError("fastact: no memory to watch for forks (pthread_atfork)")


cdef bint plan_for(Plan* plan, const fastact_array* x, int itemsize, int axis, bint summed) noexcept nogil:
    """The plan for operands in C order, from its slot or a new one; False where there is none.

    `axis` is where alpha changes; -1: one slope or none; FULL: alpha has x's shape.
    """
    cdef int ndim = x.ndim, d
    cdef size_t mixed = 2 * axis + summed + 131 * itemsize
    cdef Slot* slot
    cdef bint same = False
    cdef Py_ssize_t[MAX_LOOPS] alpha
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int[MAX_LOOPS] order
    for d in range(ndim):
        mixed = mixed * 1000003 + <size_t>x.shape[d]
    mixed = (mixed ^ (mixed >> 16)) % SLOTS
    slot = &slots[mixed]
    if fa_try_slot(mixed):
        same = slot.filled and slot.ndim == ndim and slot.itemsize == itemsize and slot.axis == axis \
            and slot.summed == summed
        if same:
            for d in range(ndim):
                same = same and slot.shape[d] == x.shape[d]
        if same:
            memcpy(plan, &slot.plan, SLOT_BYTES)
        fa_leave_slot(mixed)
    if same:
        return True
    for d in range(ndim):
        alpha[d] = x.shape[d] if d == axis or axis == FULL else 1
        order[d] = d
    c_order(ndim, x.shape, itemsize, strides)
    if not make_plan(plan, ndim, <const Py_ssize_t*>x.shape, strides, strides, strides, alpha, order, itemsize, summed):
        return False
    if ndim <= MAX_NDIM and plan.plane_loops + plan.row_loops <= FEW and fa_try_slot(mixed):
        slot.ndim, slot.itemsize, slot.axis, slot.summed = ndim, itemsize, axis, summed
        for d in range(ndim):
            slot.shape[d] = x.shape[d]
        memcpy(&slot.plan, plan, SLOT_BYTES)
        slot.filled = True
        fa_leave_slot(mixed)
    return True


# ---- the kernels of the Cython variant, for callers in C -------------------------------------------------------------

cdef Kernel[16][FASTACT_UINT64 + 1] own_kernels      # [kernel][dtype]; NULL: there is none, or it is not loaded yet


def use_kernels(addresses):
    """Set `own_kernels` to addresses by the names of kernel and dtype."""
    for (kernel, dtype), address in addresses.items():
        own_kernels[NUMBERS[kernel]][DTYPES[dtype]] = <Kernel><intptr_t>address


def capsule():
    """The table of the functions of fastact.h, in the form that fastact_import() finds."""
    return PyCapsule_New(<void*>fa_api_address, "fastact._C_API", NULL)


# ---- checks ----------------------------------------------------------------------------------------------------------

cdef inline void c_order(int ndim, const int64_t* shape, Py_ssize_t itemsize, Py_ssize_t* strides) noexcept nogil:
    """The strides of an array in C order."""
    cdef int d
    for d in range(ndim - 1, -1, -1):
        strides[d] = itemsize
        itemsize *= shape[d]


cdef inline Py_ssize_t size_of(const fastact_array* a) noexcept nogil:
    """The number of an array's elements."""
    cdef Py_ssize_t n = 1
    cdef int d
    for d in range(a.ndim):
        n *= a.shape[d]
    return n


cdef inline bint same_shape(const fastact_array* a, const fastact_array* b) noexcept nogil:
    cdef int d
    if a.ndim != b.ndim:
        return False
    for d in range(a.ndim):
        if a.shape[d] != b.shape[d]:
            return False
    return True


cdef int check_array(const fastact_array* a, const char* name, const fastact_options* options) noexcept nogil:
    """An error if something is wrong with an operand itself, or FASTACT_OK."""
    cdef int d
    cdef int64_t n = 1
    if a == NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s is NULL, and must be an array", name)
    if a.size < sizeof(fastact_array):
        return fa_fail(options, FASTACT_BAD_VALUE, "%s: its size is %u and must be sizeof(fastact_array), %u", name,
                       a.size, <unsigned>sizeof(fastact_array))
    if a.ndim < 0 or a.ndim > MAX_LOOPS:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s has %d axes; from 0 to %d are allowed", name, a.ndim, MAX_LOOPS)
    if not fa_itemsize(a.dtype):
        return fa_fail(options, FASTACT_BAD_TYPE, "%s has dtype %d, which is no dtype of fastact.h", name, a.dtype)
    if a.ndim and a.shape == NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s has %d axes, and its shape is NULL", name, a.ndim)
    for d in range(a.ndim):
        if a.shape[d] < 0 or (a.shape[d] and n > (<int64_t>1 << 60) // a.shape[d]):
            return fa_fail(options, FASTACT_BAD_VALUE, "%s: axis %d cannot have %lld elements", name, d,
                           <long long>a.shape[d])
        n *= a.shape[d]
    if n and a.data == NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s has %lld elements, and its data is NULL", name, <long long>n)
    return FASTACT_OK


cdef int bad_shape(const char* name, const fastact_array* a, const char* of, const fastact_array* like,
                   const fastact_options* options) noexcept nogil:
    cdef char[FA_SHAPE_TEXT] one
    cdef char[FA_SHAPE_TEXT] other
    return fa_fail(options, FASTACT_BAD_VALUE, "%s of shape %s does not match %s of shape %s", name, fa_shape(a, one),
                   of, fa_shape(like, other))


cdef int check_result(const fastact_array* y, const char* name, const fastact_array* like, const char* of, int dtype,
                      const fastact_options* options) noexcept nogil:
    """An error if a result does not have the shape of `like` and this dtype (0: any float)."""
    cdef const char* needed = b"float16, bfloat16, float32 or float64"
    cdef int status = check_array(y, name, options)
    if status:
        return status
    if not same_shape(y, like):
        return bad_shape(name, y, of, like, options)
    if dtype:
        needed = fa_dtype_name(dtype)
    if y.dtype != dtype if dtype else not is_float(y.dtype):
        return fa_fail(options, FASTACT_BAD_TYPE, "%s has dtype %s, but the result has dtype %s", name,
                       fa_dtype_name(y.dtype), needed)
    return FASTACT_OK


include "overlap.pxi"
include "layouts.pxi"
include "masks.pxi"


# ---- the way in ------------------------------------------------------------------------------------------------------

cdef int axis_of_alpha(const fastact_array* alpha, const fastact_array* x, int* axis, const fastact_options* options
                       ) noexcept nogil:
    """Find the only axis of x along which an alpha of several slopes changes; FULL or OTHER where there are more."""
    cdef char[FA_SHAPE_TEXT] one
    cdef char[FA_SHAPE_TEXT] other
    cdef int d, first = x.ndim - alpha.ndim, changing = 0
    if alpha.ndim == 1:
        axis[0] = options.channel_axis + (x.ndim if options.channel_axis < 0 else 0)
        if axis[0] < 0 or axis[0] >= x.ndim:
            return fa_fail(options, FASTACT_BAD_VALUE, "channel_axis=%d is out of range for x of shape %s",
                           options.channel_axis, fa_shape(x, one))
        if alpha.shape[0] != x.shape[axis[0]]:
            return fa_fail(options, FASTACT_BAD_VALUE, "alpha of shape %s does not match x of shape %s along "
                           "channel_axis=%d", fa_shape(alpha, one), fa_shape(x, other), options.channel_axis)
        return FASTACT_OK
    for d in range(alpha.ndim):
        if first < 0 or (alpha.shape[d] != 1 and alpha.shape[d] != x.shape[first + d]):
            return fa_fail(options, FASTACT_BAD_VALUE, "alpha of shape %s does not broadcast to x of shape %s",
                           fa_shape(alpha, one), fa_shape(x, other))
        if alpha.shape[d] != 1:
            changing += 1
            axis[0] = first + d
    if changing > 1:
        axis[0] = FULL if same_shape(alpha, x) else OTHER
    return FASTACT_OK


cdef struct Checked:                    # what the checks find out
    int dtype                           # the elementwise result's
    int axis                            # the axis of x along which alpha changes; -1: one slope or none; FULL, OTHER
    Py_ssize_t alphas                   # 0: there is no alpha
    bint single                         # dalpha has a single term for each slope


cdef inline bint is_like(const fastact_array* a, const fastact_array* x) noexcept nogil:
    """Whether an operand is in C order and has x's dtype, x's shape and memory."""
    return a.size >= sizeof(fastact_array) and a.dtype == x.dtype and a.strides == NULL and a.data != NULL \
        and (a.shape == x.shape and a.ndim == x.ndim or a.shape != NULL and same_shape(a, x))


cdef inline bint touch(const fastact_array* a, Py_ssize_t a_bytes, const fastact_array* b, Py_ssize_t b_bytes
                       ) noexcept nogil:
    return <intptr_t>a.data < <intptr_t>b.data + b_bytes and <intptr_t>b.data < <intptr_t>a.data + a_bytes


cdef Py_ssize_t usual(int kernel, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
                      const fastact_array* x, const fastact_array* alpha, Checked* found) noexcept nogil:
    """The number of elements where this is a usual call without errors; 0 where it is another call.

    In a usual call all operands lie in C order and have x's dtype, and alpha is one number or has the computing dtype.
    The full checks (`check`) take 400 instructions more; a call from Python on 64 floats takes 2,200.
    """
    cdef Py_ssize_t n = 1, bytes, alpha_bytes = 0, sums_bytes
    cdef double product = 1
    cdef int d
    if x == NULL or x.size < sizeof(fastact_array) or x.strides != NULL or x.data == NULL \
            or not (is_float(x.dtype) or kernel == RELU and FASTACT_BOOL <= x.dtype <= FASTACT_UINT64) \
            or not 0 <= x.ndim <= MAX_NDIM or (x.shape == NULL and x.ndim):
        return 0
    for d in range(x.ndim):
        product *= x.shape[d]
        if x.shape[d] <= 0 or product > 1e17:
            return 0
        n *= x.shape[d]
    bytes = n * fa_itemsize(x.dtype)
    found.dtype, found.axis, found.alphas, found.single = x.dtype, -1, 0, False
    if y != NULL and (not is_like(y, x) or (y.data != x.data and touch(y, bytes, x, bytes))):
        return 0
    if READS_DY >> kernel & 1:
        if dy == NULL or not is_like(dy, x):
            return 0
        if y != NULL and y.data != dy.data and touch(y, bytes, dy, bytes):
            return 0
    if kernel == PRELU or kernel == PRELU_BACKWARD:
        if alpha == NULL or alpha.size < sizeof(fastact_array) or alpha.data == NULL:
            return 0
        if alpha.ndim == 0:
            found.alphas = 1
            if not is_float(alpha.dtype):
                return 0
        elif alpha.dtype != computing(x.dtype) or alpha.strides != NULL or alpha.ndim < 0 or alpha.ndim > x.ndim \
                or alpha.shape == NULL:
            return 0
        else:
            found.alphas = 1
            for d in range(alpha.ndim):
                # An alpha that broadcasts has no more elements than x, so the product does not overflow.
                if not 0 < alpha.shape[d] <= n or (
                        alpha.ndim > 1 and alpha.shape[d] != 1 and alpha.shape[d] != x.shape[x.ndim - alpha.ndim + d]):
                    return 0
                found.alphas *= alpha.shape[d]
        alpha_bytes = found.alphas * fa_itemsize(alpha.dtype)
        if y != NULL and touch(y, bytes, alpha, alpha_bytes):
            return 0
    elif y == NULL:
        return 0
    if dalpha != NULL:
        sums_bytes = found.alphas * fa_itemsize(computing(x.dtype))
        if alpha == NULL or dalpha.size < sizeof(fastact_array) or dalpha.dtype != computing(x.dtype) \
                or dalpha.strides != NULL \
                or dalpha.data == NULL or (dalpha.shape == NULL and dalpha.ndim) or not same_shape(dalpha, alpha) \
                or touch(dalpha, sums_bytes, x, bytes) \
                or touch(dalpha, sums_bytes, dy, bytes) or touch(dalpha, sums_bytes, alpha, alpha_bytes) \
                or (y != NULL and touch(dalpha, sums_bytes, y, bytes)):
            return 0
        found.single = found.alphas == n and n > 1 and dalpha.dtype == x.dtype
    elif y == NULL:
        return 0
    return n


cdef int check(int kernel, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
               const fastact_array* x, const fastact_array* alpha, const fastact_options* options, bint apart,
               Checked* found) noexcept nogil:
    """An error if something is wrong with the operands of a call, whatever call it is."""
    cdef const char* name = b"dx" if READS_DY >> kernel & 1 else b"y"
    cdef int status = check_array(x, b"x", options)
    if status:
        return status
    found.dtype, found.axis, found.alphas, found.single = x.dtype & ~SWAPPED, -1, 0, False
    if kernel != RELU and not is_float(found.dtype):
        found.dtype = FASTACT_FLOAT64
    if y != NULL or dalpha == NULL:
        status = check_result(y, name, x, b"x", found.dtype, options)
        if status:
            return status
    if READS_DY >> kernel & 1:
        status = check_array(dy, b"dy", options)
        if status:
            return status
        if not same_shape(dy, x):
            return bad_shape(b"dy", dy, b"x", x, options)
    if kernel == PRELU or kernel == PRELU_BACKWARD:
        status = check_array(alpha, b"alpha", options)
        if status:
            return status
        found.alphas = size_of(alpha)
    if dalpha != NULL:
        status = check_result(dalpha, b"dalpha", alpha, b"alpha", 0, options)
        if status:
            return status
    if apart:
        return FASTACT_OK
    if y != NULL:
        status = check_memory(y, name, dy, x, alpha, True, options)
    if status == FASTACT_OK and dalpha != NULL:
        status = check_memory(dalpha, b"dalpha", dy, x, alpha, False, options)
        if status == FASTACT_OK and y != NULL and meet(y, dalpha):
            status = fa_fail(options, FASTACT_BAD_VALUE, "dx and dalpha share memory")
    return status


cdef int check_options(const fastact_options* options) noexcept nogil:
    if options.n_threads < 0:
        return fa_fail(options, FASTACT_BAD_VALUE, "n_threads is %d, and must be at least 0", options.n_threads)
    if options.source < FASTACT_SOURCE_DEFAULT or options.source > FASTACT_SOURCE_CALLER:
        return fa_fail(options, FASTACT_BAD_VALUE, "source is %d, which is no source of fastact.h", options.source)
    if options.source == FASTACT_SOURCE_CALLER and options.parallel_for == NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "source is FASTACT_SOURCE_CALLER, and parallel_for is NULL")
    return FASTACT_OK


cdef fastact_options DEFAULTS = fastact_default_options()
cdef const char* NOT_LOADED = b"the kernels are not loaded: call fastact_import(), or in Python " \
    b"fastact._interface.load_kernels(), first"


cdef int enter(int kernel, Kernel code, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
               const fastact_array* x, const fastact_array* alpha, const fastact_options* options, bint apart
               ) noexcept nogil:
    """Check a call and run it.

    `code` is the kernel; NULL: the Cython variant's.  `apart`: the caller has already checked for shared memory.
    """
    cdef bint from_c = code == NULL
    cdef int status, dtype
    cdef Py_ssize_t n
    cdef double number, total = 0
    cdef Checked found
    cdef Plan plan
    cdef Call call
    cdef InnerLoop loop
    if options == NULL:
        options = &DEFAULTS
    elif options.size < sizeof(fastact_options):
        return FASTACT_BAD_VALUE        # such options may have no field for a message
    else:
        status = check_options(options)
        if status:
            return status
    n = usual(kernel, y, dalpha, dy, x, alpha, &found)
    if not n:
        status = check(kernel, y, dalpha, dy, x, alpha, options, apart, &found)
        if status:
            return status
    if alpha != NULL and found.alphas != 1:
        status = axis_of_alpha(alpha, x, &found.axis, options)
        if status:
            return status
    if code == NULL:
        code = own_kernels[kernel][kernel_dtype(kernel, found.dtype, dy)]
        if code == NULL:
            return fa_fail(options, FASTACT_BAD_VALUE, NOT_LOADED)
    dtype = computing(found.dtype)
    if n and n <= SEGMENT and (found.alphas <= 1 or found.axis == FULL and (dalpha == NULL or found.single)):
        # Up to SEGMENT elements are one segment and one inner loop, and its sum is dalpha: no plan is needed.
        loop.y = y.data if y != NULL else NULL
        loop.dy = dy.data if dy != NULL else NULL
        loop.x, loop.alpha = x.data, NULL
        if found.alphas:
            loop.alpha = alpha.data
            if alpha.dtype != dtype:
                store_number(&number, alpha.data, alpha.dtype, dtype)
                loop.alpha = &number
        loop.sums = &total if dalpha != NULL and not found.single else NULL
        loop.terms = dalpha.data if found.single and dalpha != NULL else NULL
        loop.n = loop.m = n
        loop.first = loop.channels = loop.offset = loop.more = 0
        loop.along = found.axis == FULL
        loop.stream = loop.fence = False
        code(&loop)
        if loop.sums != NULL:
            fa_round(<char*>dalpha.data, 0, &total, 0, 1, dalpha.dtype)
        return FASTACT_OK
    call.kernel = code
    call.threads, call.source = options.n_threads, options.source
    if from_c:                          # a call from Python has applied these settings already, with the GIL
        call.threads = call.threads if call.threads else policy.process_threads
        call.source = call.source if call.source else policy.thread_source
    call.scratch, call.scratch_doubles, call.constant_dy = NULL, 0, False
    call.parallel_for, call.context = options.parallel_for, options.context
    if not n or found.axis == OTHER or not plan_for(&plan, x, <int>fa_itemsize(x.dtype), found.axis,
                                                    dalpha != NULL and not found.single):
        status = run_operands(code, kernel_dtype(kernel, found.dtype, dy), y, dalpha, dy, x, alpha, found.alphas,
                              found.axis, &call)
    else:
        call.y = <intptr_t>y.data if y != NULL else 0
        call.dy = <intptr_t>dy.data if dy != NULL else 0
        call.x = <intptr_t>x.data
        call.alpha = <intptr_t>alpha.data if found.alphas else 0
        if found.alphas and alpha.dtype != dtype:
            store_number(&number, alpha.data, alpha.dtype, dtype)
            call.alpha = <intptr_t>&number
        call.dalpha = <intptr_t>dalpha.data if dalpha != NULL else 0
        call.narrow = dtype == FASTACT_FLOAT32
        call.single_terms = found.single
        status = launch(&plan, &call)
    return status if status == FASTACT_OK else fa_fail(options, status, why(status))


cdef const char* why(int status) noexcept nogil:
    """The message for an error that came after the checks."""
    if status == FASTACT_NO_MEMORY:
        return b"no memory for partial sums or a scratch"
    return NO_OPENMP


cdef inline bint is_swapped(const fastact_array* a) noexcept nogil:
    return a != NULL and a.size >= sizeof(fastact_array) and a.dtype >= SWAPPED


cdef int enter_from_c "fa_enter"(int kernel, const fastact_array* y, const fastact_array* dalpha,
                                 const fastact_array* dy, const fastact_array* x, const fastact_array* alpha,
                                 const fastact_options* options) noexcept nogil:
    """The function that all functions of fastact.h call."""
    if is_swapped(y) or is_swapped(dalpha) or is_swapped(dy) or is_swapped(x) or is_swapped(alpha):
        return fa_fail(options, FASTACT_BAD_TYPE, "an array has a dtype that is no dtype of fastact.h")
    return enter(kernel, NULL, y, dalpha, dy, x, alpha, options, False)


# ---- for Python ------------------------------------------------------------------------------------------------------

cdef dict NUMBERS = {name: number for number, name in enumerate(KERNELS)}
# The numbers of fastact.h, for modules that generate calls of its functions (_njit.py).
DTYPES = {
    fa_dtype_name(dtype).decode(): dtype for dtype in range(FASTACT_FLOAT16, FASTACT_UINT64 + 1)
}
STATUSES = {"OK": FASTACT_OK, "BAD_VALUE": FASTACT_BAD_VALUE, "NO_MEMORY": FASTACT_NO_MEMORY,
            "NO_SOURCE": FASTACT_NO_SOURCE}
cdef dict ERRORS = {FASTACT_BAD_VALUE: ValueError, FASTACT_BAD_TYPE: TypeError, FASTACT_NO_MEMORY: MemoryError,
                    FASTACT_NO_SOURCE: RuntimeError, FASTACT_NOT_YET: TypeError}


cdef int other_dtype(cnp.ndarray array) noexcept:
    """fastact.h's number of a dtype that is not NumPy's own; 0 where it has none."""
    global bfloat16
    if is_bfloat16(array.dtype):
        bfloat16 = cnp.PyArray_TYPE(array)
        return FASTACT_BFLOAT16
    return 0


def launch_masked(name, address, y, mask, x, alpha, int threads, int source):
    """The same as launch_arrays for a kernel with a mask.  If the kernel reads the mask, x is dy."""
    cdef fastact_array[3] arrays
    cdef fastact_options options = fastact_default_options()
    cdef char[256] message
    cdef int k, number = NUMBERS[name], status
    cdef double slope = alpha
    cdef Kernel code = <Kernel><intptr_t>address
    for k, array in enumerate((y, mask, x)):
        fill(&arrays[k], <cnp.ndarray?>array)
    options.n_threads, options.source = threads, source
    options.message, options.message_size = message, sizeof(message)
    with nogil:
        status = enter_masked(number, code, &arrays[0], &arrays[1], &arrays[2], slope, &options, True)
    if status:
        raise ERRORS[status](f"fastact: {message.decode()}")


def launch_arrays(name, address, y, dy, x, alpha, dalpha, int threads, int source):
    """Run a kernel on checked arrays; y, dy, alpha and dalpha are None where there is no such operand.

    alpha and dalpha have x's number of axes.  `threads` is the bound and `source` the source of threads that somebody
    asked for, or 0.
    """
    cdef fastact_array[5] arrays
    cdef fastact_array* operands[5]
    cdef fastact_options options = fastact_default_options()
    cdef char[256] message
    cdef int k, number = NUMBERS[name], status
    cdef Kernel code = <Kernel><intptr_t>address
    for k, array in enumerate((y, dalpha, dy, x, alpha)):
        operands[k] = NULL
        if array is not None:
            fill(&arrays[k], <cnp.ndarray?>array)
            operands[k] = &arrays[k]
    options.n_threads, options.source, options.channel_axis = threads, source, 0    # the axis for an x of one axis
    options.message, options.message_size = message, sizeof(message)
    with nogil:
        status = enter(number, code, operands[0], operands[1], operands[2], operands[3], operands[4], &options, True)
    if status:
        raise ERRORS[status](f"fastact: {message.decode()}")
