# The one way in: fastact.h's functions, and what the fast path and the Python text call.
#
# `enter` takes operands of any layout and dtype, checks them, and runs them as they lie or buffered, without the GIL
# and without a Python object.  Nothing is written before everything is checked.  A plan is made on the stack, or copied
# from a slot that keeps it for the next call of the same shape.

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, intptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastact cimport (
    FASTACT_BAD_TYPE, FASTACT_BAD_VALUE, FASTACT_BFLOAT16, FASTACT_BOOL, FASTACT_FLOAT16, FASTACT_FLOAT32,
    FASTACT_FLOAT64, FASTACT_NO_MEMORY, FASTACT_NOT_YET, FASTACT_OK,
    FASTACT_NO_SOURCE, FASTACT_SOURCE_CALLER, FASTACT_SOURCE_DEFAULT, FASTACT_UINT64, fastact_array,
    fastact_default_options, fastact_options
)
from fastact._cython cimport policy
from fastact._cython.driver cimport (
    BUFFER_ELEMENTS, BUFFER_GROUPS, BUFFER_SUMS, Call, InnerLoop, Kernel, LINE, PRELU, PRELU_BACKWARD, RADIX, READS_DY,
    RELU, SUM_LEVELS, TILE_ELEMENTS, fa_range, in_pairs, launch, run, share_out, threads_for
)
from fastact._cython.plan cimport MAX_LOOPS, SEGMENT, Loop, Plan, make_plan

from fastact._tables import KERNELS

cnp.import_array()

cdef extern from "exact.h":
    pass

cdef extern from "elements.h" nogil:
    const char* fa_dtype_name(int dtype) noexcept
    Py_ssize_t fa_itemsize(int dtype) noexcept
    void fa_load(void* out, bint doubles, const char* p, Py_ssize_t stride, Py_ssize_t n, int dtype) noexcept
    void fa_copy(char* out, Py_ssize_t out_stride, const char* in_, Py_ssize_t stride, Py_ssize_t n, int size) noexcept
    void fa_round(char* out, Py_ssize_t stride, const double* sums, Py_ssize_t n, int dtype) noexcept
    void fa_swap(void* element, size_t size) noexcept

cdef extern from "interface.h" nogil:
    enum: FA_SHAPE_TEXT
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

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)


# ---- the last plans --------------------------------------------------------------------------------------------------

cdef enum:
    MAX_NDIM = 6
    FEW = 1                         # loops that a slot keeps: contiguous operands make no more
    FULL = -2                       # in place of an axis: alpha has x's shape ...
    OTHER = -3                      # ... or another one of several axes
cdef struct Slot:
    int ndim, itemsize, axis, summed
    Py_ssize_t[MAX_NDIM] shape
    bint filled
    Plan plan
cdef Slot[SLOTS] slots
cdef size_t SLOT_BYTES = sizeof(Plan) - (MAX_LOOPS - FEW) * sizeof(Loop)


cdef void free_slots() noexcept nogil:
    """In a forked child: forget the slots that another thread of the parent was writing, perhaps by half."""
    cdef int k
    for k in range(SLOTS):
        if fa_busy[k]:
            slots[k].filled = False
            fa_busy[k] = 0


if pthread_atfork(NULL, NULL, free_slots):
    raise MemoryError("fastact: no memory to watch for forks (pthread_atfork)")


cdef bint plan_for(Plan* plan, const fastact_array* x, int itemsize, int axis, bint summed) noexcept nogil:
    """The plan for operands in C order (axis -1: one slope or none; FULL), from its slot or made; False: none."""
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

cdef Kernel[8][2] own_kernels           # [kernel][float32, float64]
cdef Kernel[FASTACT_UINT64 - FASTACT_BOOL + 1] integer_kernels      # relu's, from bool to uint64


def use_kernels(floats, integers):
    """Set them: the addresses by kernel, for float32 and float64; relu's for the integers in fastact.h's order."""
    for number, name in enumerate(KERNELS):
        for k in range(2):
            own_kernels[number][k] = <Kernel><intptr_t>floats[k][name]
    for number, address in enumerate(integers):
        integer_kernels[number] = <Kernel><intptr_t>address


def capsule():
    """The table of the functions, as fastact_import() finds it."""
    return PyCapsule_New(<void*>fa_api_address, "fastact._C_API", NULL)


# ---- checks ----------------------------------------------------------------------------------------------------------

cdef inline void c_order(int ndim, const int64_t* shape, Py_ssize_t itemsize, Py_ssize_t* strides) noexcept nogil:
    """The strides of an array in C order."""
    cdef int d
    for d in range(ndim - 1, -1, -1):
        strides[d] = itemsize
        itemsize *= shape[d]


cdef inline Py_ssize_t size_of(const fastact_array* a) noexcept nogil:
    """The number of its elements."""
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


cdef inline bint is_float(int dtype) noexcept nogil:
    return dtype == FASTACT_FLOAT32 or dtype == FASTACT_FLOAT64


cdef int not_yet(const char* name, const fastact_array* a, const fastact_options* options) noexcept nogil:
    return fa_fail(options, FASTACT_NOT_YET, "%s has dtype %s, which this version does not compute", name,
                   fa_dtype_name(a.dtype))


cdef int check_array(const fastact_array* a, const char* name, const fastact_options* options) noexcept nogil:
    """What is wrong with an operand by itself; FASTACT_OK."""
    cdef int d
    cdef int64_t n = 1
    if a == NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s is NULL, and must be an array", name)
    if a.size < sizeof(fastact_array):
        return fa_fail(options, FASTACT_BAD_VALUE, "%s: its size is %u and must be sizeof(fastact_array), %u", name,
                       a.size, <unsigned>sizeof(fastact_array))
    if a.ndim < 0 or a.ndim > MAX_LOOPS:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s has %d axes; from 0 to %d are allowed", name, a.ndim, MAX_LOOPS)
    if a.dtype == FASTACT_BFLOAT16:
        return not_yet(name, a, options)
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
    """What is wrong with a result that has to have a shape and (0: a float's) dtype."""
    cdef const char* needed = b"float32 or float64"
    cdef int status = check_array(y, name, options)
    if status:
        return status
    if not same_shape(y, like):
        return bad_shape(name, y, of, like, options)
    if y.dtype == FASTACT_FLOAT16:
        return not_yet(name, y, options)
    if dtype:
        needed = fa_dtype_name(dtype)
    if y.dtype != dtype if dtype else not is_float(y.dtype):
        return fa_fail(options, FASTACT_BAD_TYPE, "%s has dtype %s, but the result has dtype %s", name,
                       fa_dtype_name(y.dtype), needed)
    return FASTACT_OK


# ---- shared memory ---------------------------------------------------------------------------------------------------

cdef enum:
    MOST_TERMS = 2 * MAX_LOOPS + 2
    MOST_STEPS = 100000                 # of the search below; what it has not decided by then counts as shared
cdef struct Term:                       # coef * u, for any u from 0 to most
    Py_ssize_t coef, most
cdef struct Terms:
    int count
    Py_ssize_t steps
    Term[MOST_TERMS] term               # from the largest coefficient to the smallest


cdef inline Py_ssize_t size_of_step(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef void add_term(Terms* terms, Py_ssize_t coef, Py_ssize_t most) noexcept nogil:
    """Put a term in its place; terms with one coefficient are one."""
    cdef int k = terms.count, j
    if coef == 0 or most == 0:
        return
    while k > 0 and terms.term[k - 1].coef < coef:
        k -= 1
    if k > 0 and terms.term[k - 1].coef == coef:
        terms.term[k - 1].most += most
        return
    for j in range(terms.count, k, -1):
        terms.term[j] = terms.term[j - 1]
    terms.term[k].coef, terms.term[k].most = coef, most
    terms.count += 1


cdef bint reaches(Terms* terms, int first, Py_ssize_t least, Py_ssize_t most) noexcept nogil:
    """Whether a sum of the terms from `first` on lies between `least` and `most`, or this is not decided in time."""
    cdef Py_ssize_t rest = 0, u, stop, coef
    cdef int k
    if least <= 0 <= most:
        return True
    if most < 0 or first == terms.count:
        return False
    for k in range(first + 1, terms.count):
        rest += terms.term[k].coef * terms.term[k].most
    coef = terms.term[first].coef
    u = max(0, (least - rest + coef - 1) // coef) if least > rest else 0
    stop = min(terms.term[first].most, most // coef)
    while u <= stop:
        terms.steps += 1
        if terms.steps > MOST_STEPS:
            return True
        if reaches(terms, first + 1, least - u * coef, most - u * coef):
            return True
        u += 1
    return False


cdef void add_axes(Terms* terms, const fastact_array* a, intptr_t* lowest) noexcept nogil:
    """The axes of an array as terms; its lowest address."""
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int d
    strides_of(a, strides)
    lowest[0] = <intptr_t>a.data
    for d in range(a.ndim):
        if strides[d] < 0:
            lowest[0] += strides[d] * (a.shape[d] - 1)
        add_term(terms, size_of_step(strides[d]), a.shape[d] - 1)


cdef void strides_of(const fastact_array* a, Py_ssize_t* strides) noexcept nogil:
    """An array's strides, C order's where it has none of its own."""
    cdef int d
    if a.strides == NULL:
        c_order(a.ndim, a.shape, fa_itemsize(a.dtype), strides)
        return
    for d in range(a.ndim):
        strides[d] = a.strides[d]


cdef bint meet(const fastact_array* a, const fastact_array* b) noexcept nogil:
    """Whether an element of one array shares memory with an element of the other."""
    cdef Terms terms
    cdef intptr_t low_a, low_b
    cdef Py_ssize_t reach = 0, gap
    cdef int d, of_a
    if not size_of(a) or not size_of(b):
        return False
    if a.strides == NULL and b.strides == NULL:
        low_a, low_b = <intptr_t>a.data, <intptr_t>b.data
        return low_a < low_b + size_of(b) * fa_itemsize(b.dtype) and low_b < low_a + size_of(a) * fa_itemsize(a.dtype)
    terms.count, terms.steps = 0, 0
    add_axes(&terms, a, &low_a)
    of_a = terms.count
    for d in range(of_a):
        reach += terms.term[d].coef * terms.term[d].most
    add_axes(&terms, b, &low_b)
    # An element of a begins at low_a + reach - (some sum of its terms), one of b at low_b + (some sum of its terms):
    # they meet if the sum of all terms differs from `gap` by less than an element.
    gap = low_a + reach - low_b
    return reaches(&terms, 0, gap - fa_itemsize(b.dtype) + 1, gap + fa_itemsize(a.dtype) - 1)


cdef bint meets_itself(const fastact_array* a) noexcept nogil:
    """Whether two elements of an array share memory."""
    cdef Terms terms
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef Py_ssize_t itemsize = fa_itemsize(a.dtype), reach = itemsize, middle = 0
    cdef int d, k, axes = 0
    if a.strides == NULL or not size_of(a):
        return False
    strides_of(a, strides)
    terms.count, terms.steps = 0, 0
    for d in range(a.ndim):
        axes += a.shape[d] > 1
        add_term(&terms, size_of_step(strides[d]), a.shape[d] - 1)
    if terms.count < axes:              # a stride of 0, or two axes of one stride
        return True
    for k in range(terms.count - 1, -1, -1):
        if terms.term[k].coef < reach:
            break
        reach += terms.term[k].coef * terms.term[k].most
    else:
        return False                    # each stride steps over all that lies inside it
    # Two elements lie apart by a sum of terms whose numbers go from -most to most.  If they meet, this is less than an
    # element, and the number of some axis, here the d-th, is positive (or all of them change their signs).
    for d in range(a.ndim):
        if a.shape[d] == 1:
            continue
        terms.count, middle = 0, 0
        for k in range(a.ndim):
            reach = size_of_step(strides[k])
            if k == d:
                add_term(&terms, reach, a.shape[k] - 2)
                middle -= reach
            else:
                add_term(&terms, reach, 2 * (a.shape[k] - 1))
                middle += reach * (a.shape[k] - 1)
        if reaches(&terms, 0, middle - itemsize + 1, middle + itemsize - 1):
            return True
    return False


cdef bint same_memory(const fastact_array* a, const fastact_array* b) noexcept nogil:
    """Whether two arrays of one shape are element by element in the same place."""
    cdef Py_ssize_t[MAX_LOOPS] one
    cdef Py_ssize_t[MAX_LOOPS] other
    cdef int d
    if a.data != b.data or a.dtype != b.dtype:
        return False
    if a.strides == b.strides:          # both NULL, or the same
        return True
    strides_of(a, one)
    strides_of(b, other)
    for d in range(a.ndim):
        if a.shape[d] > 1 and one[d] != other[d]:
            return False
    return True


cdef int check_memory(const fastact_array* y, const char* name, const fastact_array* dy, const fastact_array* x,
                      const fastact_array* alpha, bint in_place, const fastact_options* options) noexcept nogil:
    """What a result shares with an input, except that it may be exactly x or dy."""
    cdef const char* other = NULL
    cdef const char* allowed = b""
    if meets_itself(y):
        return fa_fail(options, FASTACT_BAD_VALUE, "%s shares memory among its own elements", name)
    if meet(y, x) and not (in_place and same_memory(y, x)):
        other = b"x"
    elif dy != NULL and meet(y, dy) and not (in_place and same_memory(y, dy)):
        other = b"dy"
    elif alpha != NULL and meet(y, alpha):
        other, in_place = b"alpha", False
    if in_place:
        allowed = b": it may be exactly that (in place), or apart from it"
    if other != NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s shares memory with %s%s", name, other, allowed)
    return FASTACT_OK


# ---- blocks of any layout --------------------------------------------------------------------------------------------

cdef struct Walk:                       # a block's rows, for two operands
    int ndim
    Py_ssize_t n                        # elements of a row
    Py_ssize_t a_step, b_step           # bytes from one to the next
    char* a
    char* b
    Py_ssize_t[MAX_LOOPS] size, a_stride, b_stride, index


cdef void begin(Walk* w, int ndim, const Py_ssize_t* shape, char* a, const Py_ssize_t* a_strides, char* b,
                const Py_ssize_t* b_strides) noexcept nogil:
    """Stand at the first row.  Axes of one element are left out; an axis that goes on where the next ends joins it."""
    cdef int d, k
    w.ndim, w.n, w.a_step, w.b_step, w.a, w.b = 0, 1, 0, 0, a, b
    for d in range(ndim):
        if shape[d] == 1:
            continue
        k = w.ndim - 1
        if k >= 0 and w.a_stride[k] == a_strides[d] * shape[d] and w.b_stride[k] == b_strides[d] * shape[d]:
            w.size[k] *= shape[d]
        else:
            k += 1
            w.ndim += 1
            w.size[k], w.index[k] = shape[d], 0
        w.a_stride[k], w.b_stride[k] = a_strides[d], b_strides[d]
    if w.ndim:
        w.ndim -= 1
        w.n, w.a_step, w.b_step = w.size[w.ndim], w.a_stride[w.ndim], w.b_stride[w.ndim]


cdef bint next_row(Walk* w) noexcept nogil:
    """Go to the next row; False: there is none."""
    cdef int d
    for d in range(w.ndim - 1, -1, -1):
        w.a += w.a_stride[d]
        w.b += w.b_stride[d]
        w.index[d] += 1
        if w.index[d] < w.size[d]:
            return True
        w.a -= w.a_stride[d] * w.size[d]
        w.b -= w.b_stride[d] * w.size[d]
        w.index[d] = 0
    return False


# ---- a call ----------------------------------------------------------------------------------------------------------

cdef struct Operand:
    char* data                          # NULL: there is none
    int dtype
    Py_ssize_t[MAX_LOOPS] strides       # along x's axes; 0 where alpha is broadcast
cdef struct Operands:                   # of one call, checked
    int dtype                           # the computing type
    Py_ssize_t itemsize
    int ndim
    Py_ssize_t elements, alphas         # of x; of alpha, 0 where there is none
    Py_ssize_t[MAX_LOOPS] shape, alpha_shape
    int[MAX_LOOPS] order                # x's axes from outermost to innermost in memory
    Operand y, dalpha, dy, x, alpha
    Call call                           # threads and their source


cdef void take(Operand* operand, const fastact_array* a, int ndim, const Py_ssize_t* shape, int axis) noexcept nogil:
    """An array along x's axes: of x's shape, or alpha's (`axis`: where the only axis of a per-channel alpha goes)."""
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int d
    operand.data = NULL
    if a == NULL:
        return
    operand.data, operand.dtype = <char*>a.data, a.dtype
    strides_of(a, strides)
    for d in range(ndim):
        operand.strides[d] = 0
        if shape[d] != 1:
            operand.strides[d] = strides[0 if axis >= 0 else d - ndim + a.ndim]


cdef bint is_dense(const Operand* operand, int ndim, const Py_ssize_t* shape, const int* order,
                   Py_ssize_t itemsize) noexcept nogil:
    """Whether an operand's elements lie one after the other in this order of axes."""
    cdef int d, axis
    for d in range(ndim - 1, -1, -1):
        axis = order[d]
        if shape[axis] != 1:
            if operand.strides[axis] != itemsize:
                return False
            itemsize *= shape[axis]
    return True


cdef void reorder(Py_ssize_t* out, const Py_ssize_t* values, int ndim, const int* order) noexcept nogil:
    """Values along x's axes, in this order of axes."""
    cdef int d
    for d in range(ndim):
        out[d] = values[order[d]]


cdef void load_block(char* out, const Operand* operand, char* at, int ndim, const Py_ssize_t* shape,
                     const Py_ssize_t* strides, int dtype) noexcept nogil:
    """A block of an operand that begins at `at`, as dense elements of the computing type."""
    cdef Walk w
    cdef Py_ssize_t i, size = fa_itemsize(dtype)
    begin(&w, ndim, shape, at, strides, at, strides)
    while True:
        if is_float(dtype):
            fa_load(out, dtype == FASTACT_FLOAT64, w.a, w.a_step, w.n, operand.dtype)
        else:
            fa_copy(out, size, w.a, w.a_step, w.n, <int>size)
            if operand.dtype & FA_SWAPPED:
                for i in range(w.n):
                    fa_swap(out + i * size, size)
        out += w.n * size
        if not next_row(&w):
            return


cdef void write_sums(const Operands* o, const double* sums) noexcept nogil:
    """dalpha from its sums, which are dense in the order of axes: each is rounded once."""
    cdef Py_ssize_t[MAX_LOOPS] shape
    cdef Py_ssize_t[MAX_LOOPS] dense
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef Walk w
    reorder(shape, o.alpha_shape, o.ndim, o.order)
    reorder(strides, o.dalpha.strides, o.ndim, o.order)
    c_order(o.ndim, <const int64_t*>shape, sizeof(double), dense)
    begin(&w, o.ndim, shape, o.dalpha.data, strides, <char*>sums, dense)
    while True:
        fa_round(w.a, w.a_step, <const double*>w.b, w.n, o.dalpha.dtype)
        if not next_row(&w):
            return


cdef int run_as_they_lie(Operands* o, bint* done) noexcept nogil:
    """Run operands of the computing type in one plan, if there is one (`done`)."""
    cdef Plan plan
    cdef Call call = o.call
    cdef bint summed = o.dalpha.data != NULL, alpha_dense, single, direct
    cdef char* memory = NULL
    cdef Py_ssize_t bytes
    cdef Py_ssize_t[MAX_LOOPS] shape
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int status
    done[0] = False
    if o.x.dtype != o.dtype or (o.dy.data != NULL and o.dy.dtype != o.dtype):
        return FASTACT_OK
    alpha_dense = o.alphas == 0 or (o.alpha.dtype == o.dtype
                                    and is_dense(&o.alpha, o.ndim, o.alpha_shape, o.order, o.itemsize))
    if o.alphas > TILE_ELEMENTS and not alpha_dense:
        return FASTACT_OK
    direct = summed and is_dense(&o.dalpha, o.ndim, o.alpha_shape, o.order, fa_itemsize(o.dalpha.dtype)) \
        and <intptr_t>o.dalpha.data % fa_itemsize(o.dalpha.dtype) == 0
    single = direct and o.alphas == o.elements and o.elements > 1 and o.dalpha.dtype == o.dtype
    if not make_plan(&plan, o.ndim, o.shape, &o.y.strides[0] if o.y.data != NULL else &o.x.strides[0],
                     &o.dy.strides[0] if o.dy.data != NULL else &o.x.strides[0], o.x.strides, o.alpha_shape, o.order,
                     o.itemsize, summed and not single):
        return FASTACT_OK
    # alpha is read where it lies, or its pattern is no more than a cache-sized scratch.
    if o.alphas and plan.alphas * plan.repeats * plan.copies > TILE_ELEMENTS and (
            not alpha_dense or (plan.along and plan.repeats > 1)):
        return FASTACT_OK
    bytes = (0 if alpha_dense else o.alphas * o.itemsize + sizeof(double)) \
        + (0 if direct or not summed else o.alphas * sizeof(double))
    if bytes:
        memory = <char*>malloc(bytes)
        if memory == NULL:
            return FASTACT_NO_MEMORY
    call.alpha = <intptr_t>o.alpha.data
    call.dalpha = <intptr_t>(o.dalpha.data if direct else memory) if summed else 0
    call.narrow = direct and o.dalpha.dtype == FASTACT_FLOAT32
    call.single_terms = single
    if not alpha_dense:
        call.alpha = <intptr_t>memory + (0 if direct or not summed else o.alphas * <Py_ssize_t>sizeof(double))
        reorder(shape, o.alpha_shape, o.ndim, o.order)
        reorder(strides, o.alpha.strides, o.ndim, o.order)
        load_block(<char*>call.alpha, &o.alpha, o.alpha.data, o.ndim, shape, strides, o.dtype)
    call.y, call.dy, call.x = <intptr_t>o.y.data, <intptr_t>o.dy.data, <intptr_t>o.x.data
    status = launch(&plan, &call)
    if status == FASTACT_OK and summed and not direct:
        write_sums(o, <double*>memory)
    free(memory)
    done[0] = True
    return status


# ---- buffered, tile by tile ------------------------------------------------------------------------------------------
# This does what _buffered.py does; the order of the sums is explained there.

cdef enum:
    SCRATCH_TILES = 12                  # bytes of scratch that a tile's sums may take, in tiles of an operand
    SIDE_BY_SIDE = 32                   # sums that in_pairs adds at once
cdef struct Part:                       # an operand in the order of axes
    const Operand* operand
    Py_ssize_t[MAX_LOOPS] strides
cdef struct Tiles:                      # what the threads share
    const Operands* o
    Part y, dy, x, alpha, dalpha
    Py_ssize_t[MAX_LOOPS] shape, alpha_shape
    Py_ssize_t[MAX_LOOPS] sums_strides  # of a dense array of sums, in bytes; 0 where alpha is broadcast
    int axis                            # the axes from here on are whole in a tile; the one before is cut ...
    Py_ssize_t step, steps              # ... into so many elements, so many times
    Py_ssize_t tiles, groups
    bint summed, single                 # whether there is a dalpha; whether its slopes have single terms
    Py_ssize_t tile_bytes               # of one operand's tile
    Py_ssize_t bytes                    # of a thread's memory
    char* memory
    double* totals                      # the sums of each group
cdef struct Own:                        # what a thread has for itself
    char* tiles                         # of y, dy, x, alpha
    double* part                        # the sums of one tile
    double* levels                      # the sums of a group's tiles
    double* scratch
    Py_ssize_t planned                  # elements of the cut axis that the plan is for; -1: none yet
    Plan plan


cdef void make_part(Part* part, const Operands* o, const Operand* operand) noexcept nogil:
    part.operand = operand
    if operand.data != NULL:
        reorder(part.strides, operand.strides, o.ndim, o.order)


cdef char* tile_of(const Part* part, const Tiles* t, const Py_ssize_t* shape, const Py_ssize_t* first, bint read,
                   const Py_ssize_t* dense, char* scratch) noexcept nogil:
    """An operand's tile at these indices: where it lies, or (if it is to be read) copied into the scratch."""
    cdef int d
    cdef bint as_it_lies = part.operand.dtype == t.o.dtype
    cdef char* at = part.operand.data
    if at == NULL:
        return NULL
    for d in range(t.o.ndim):
        at += first[d] * part.strides[d]
        if shape[d] > 1 and part.strides[d] != dense[d]:
            as_it_lies = False
    if as_it_lies:
        return at
    if read:
        load_block(scratch, part.operand, at, t.o.ndim, shape, part.strides, t.o.dtype)
    return scratch


cdef void move_up(double* levels, int level, Py_ssize_t n) noexcept nogil:
    """Add the sums of a level to the next one's."""
    cdef Py_ssize_t i
    cdef double* low = levels + level * n
    for i in range(n):
        low[n + i] += low[i]
        low[i] = 0


cdef void run_tile(const Tiles* t, Py_ssize_t number, Own* own) noexcept nogil:
    """One tile; its sums are added to the group's."""
    cdef const Operands* o = t.o
    cdef Py_ssize_t[MAX_LOOPS] tile, alpha_tile, first, dense, alpha_dense, part_strides
    cdef int[MAX_LOOPS] axes
    cdef Py_ssize_t i, index = number
    cdef int d
    cdef char* at
    cdef Call call = o.call
    cdef Walk w
    for d in range(o.ndim - 1, -1, -1):
        first[d], tile[d], axes[d] = 0, t.shape[d] if d >= t.axis else 1, d
        if d == t.axis - 1:
            first[d] = index % t.steps * t.step
            tile[d] = min(t.step, t.shape[d] - first[d])
            index //= t.steps
        elif d < t.axis:
            first[d] = index % t.shape[d]
            index //= t.shape[d]
        alpha_tile[d] = tile[d] if t.alpha_shape[d] != 1 else 1
    c_order(o.ndim, <const int64_t*>tile, o.itemsize, dense)
    c_order(o.ndim, <const int64_t*>alpha_tile, o.itemsize, alpha_dense)
    call.y = <intptr_t>tile_of(&t.y, t, tile, first, False, dense, own.tiles)
    call.dy = <intptr_t>tile_of(&t.dy, t, tile, first, True, dense, own.tiles + t.tile_bytes)
    call.x = <intptr_t>tile_of(&t.x, t, tile, first, True, dense, own.tiles + 2 * t.tile_bytes)
    call.alpha = <intptr_t>tile_of(&t.alpha, t, alpha_tile, first, True, alpha_dense, own.tiles + 3 * t.tile_bytes)
    call.dalpha = <intptr_t>own.part if t.summed else 0
    call.narrow = call.single_terms = False
    call.scratch, call.scratch_doubles = own.scratch, SCRATCH_TILES * t.tile_bytes // <Py_ssize_t>sizeof(double)
    if not o.ndim or own.planned != tile[t.axis - 1 if t.axis else 0]:
        make_plan(&own.plan, o.ndim, tile, dense, dense, dense, alpha_tile, axes, o.itemsize, t.summed)
        own.planned = tile[t.axis - 1 if t.axis else 0] if o.ndim else -1
    run(&own.plan, &call, 0, 1, False)
    if call.y == <intptr_t>own.tiles:
        at = t.y.operand.data
        for d in range(o.ndim):
            at += first[d] * t.y.strides[d]
        begin(&w, o.ndim, tile, at, t.y.strides, own.tiles, dense)
        while True:
            fa_copy(w.a, w.a_step, w.b, w.b_step, w.n, <int>o.itemsize)
            if not next_row(&w):
                break
    if not t.summed:
        return
    c_order(o.ndim, <const int64_t*>alpha_tile, sizeof(double), part_strides)
    at = t.dalpha.operand.data if t.single else <char*>own.levels
    for d in range(o.ndim):
        at += first[d] * (t.dalpha.strides[d] if t.single else t.sums_strides[d])
    begin(&w, o.ndim, alpha_tile, at, &t.dalpha.strides[0] if t.single else &t.sums_strides[0], <char*>own.part,
          part_strides)
    while True:
        if t.single:
            fa_round(w.a, w.a_step, <const double*>w.b, w.n, o.dalpha.dtype)
        else:
            for i in range(w.n):
                (<double*>(w.a + i * w.a_step))[0] += (<double*>(w.b + i * w.b_step))[0]
        if not next_row(&w):
            return


cdef void run_tiles(const void* work, int index, int count) noexcept nogil:
    """A thread's range of the groups."""
    cdef const Tiles* t = <const Tiles*>work
    cdef Own own
    cdef Py_ssize_t group, number, first, n = t.o.alphas
    own.tiles = t.memory + index * t.bytes
    own.part = <double*>(own.tiles + 4 * t.tile_bytes)
    own.scratch = own.part
    if t.summed:
        own.scratch += t.tile_bytes // t.o.itemsize
    own.levels = own.scratch + SCRATCH_TILES * t.tile_bytes // <Py_ssize_t>sizeof(double)
    own.planned = -1
    if t.totals != NULL:
        memset(own.levels, 0, SUM_LEVELS * n * sizeof(double))
    for group in range(t.groups * index // count, t.groups * (index + 1) // count):
        first = t.tiles * group // t.groups
        for number in range(first, t.tiles * (group + 1) // t.groups):
            run_tile(t, number, &own)
            if t.totals != NULL:
                if (number - first + 1) % RADIX == 0:
                    move_up(own.levels, 0, n)
                if (number - first + 1) % (RADIX * RADIX) == 0:
                    move_up(own.levels, 1, n)
        if t.totals != NULL:
            move_up(own.levels, 0, n)
            move_up(own.levels, 1, n)
            memcpy(t.totals + group * n, own.levels + 2 * n, n * sizeof(double))
            memset(own.levels + 2 * n, 0, n * sizeof(double))


cdef int run_buffered(Operands* o) noexcept nogil:
    """Run operands that cannot be run as they lie."""
    cdef Tiles t
    cdef Py_ssize_t inner = 1, elements, threads, i, traffic
    cdef int d
    cdef char* memory
    t.o, t.axis, t.tiles = o, o.ndim, 1
    t.summed, t.single = o.dalpha.data != NULL, o.alphas == o.elements
    reorder(t.shape, o.shape, o.ndim, o.order)
    reorder(t.alpha_shape, o.alpha_shape, o.ndim, o.order)
    while t.axis and inner * t.shape[t.axis - 1] <= BUFFER_ELEMENTS:
        t.axis -= 1
        inner *= t.shape[t.axis]
    t.step, t.steps = max(1, BUFFER_ELEMENTS // inner), 1
    if t.axis:
        t.steps = (t.shape[t.axis - 1] + t.step - 1) // t.step
        t.tiles = t.steps
        for d in range(t.axis - 1):
            t.tiles *= t.shape[d]
    t.groups = min(t.tiles, BUFFER_GROUPS)
    if t.summed and not t.single:
        t.groups = min(t.groups, max(1, BUFFER_SUMS // o.alphas))
    make_part(&t.y, o, &o.y)
    make_part(&t.dy, o, &o.dy)
    make_part(&t.x, o, &o.x)
    make_part(&t.alpha, o, &o.alpha)
    make_part(&t.dalpha, o, &o.dalpha)
    c_order(o.ndim, <const int64_t*>t.alpha_shape, sizeof(double), t.sums_strides)
    for d in range(o.ndim):
        if t.alpha_shape[d] == 1:
            t.sums_strides[d] = 0
    traffic = o.elements * o.itemsize * (1 + (o.y.data != NULL) + (o.dy.data != NULL))
    threads = min(t.groups, threads_for(&o.call, traffic, t.summed))
    if threads == 0:
        return FASTACT_NO_SOURCE
    # A thread's memory: the tiles, the sums of one, scratch, the sums of a group; then the totals of all groups.
    elements = (min(o.elements, inner * t.step) + LINE - 1) // LINE * LINE
    t.tile_bytes = elements * o.itemsize
    t.bytes = (4 + SCRATCH_TILES) * t.tile_bytes + (elements * sizeof(double) if t.summed else 0)
    if t.summed and not t.single:
        t.bytes += SUM_LEVELS * o.alphas * sizeof(double)
    t.bytes = (t.bytes + 2 * LINE - 1) // LINE * LINE
    memory = <char*>malloc(threads * t.bytes + (t.groups * o.alphas * sizeof(double) if t.summed else 0) + LINE)
    if memory == NULL:
        return FASTACT_NO_MEMORY
    t.memory = memory + (LINE - <intptr_t>memory % LINE)
    t.totals = NULL
    if t.summed and not t.single:
        t.totals = <double*>(t.memory + threads * t.bytes)
    share_out(&o.call, traffic, threads, <fa_range>run_tiles, &t)
    if t.totals != NULL:
        i = 0
        while i < o.alphas:
            in_pairs(t.totals + i, t.groups, o.alphas, 1, 1, t.totals + i, <int>min(SIDE_BY_SIDE, o.alphas - i))
            i += SIDE_BY_SIDE
        write_sums(o, t.totals)
    free(memory)
    return FASTACT_OK


# ---- the way in ------------------------------------------------------------------------------------------------------

cdef inline void turn(Operand* operand, int axis, Py_ssize_t size) noexcept nogil:
    """Go through an axis the other way round."""
    if operand.data != NULL:
        operand.data += (size - 1) * operand.strides[axis]
        operand.strides[axis] = -operand.strides[axis]


cdef inline Py_ssize_t step_along(const Operands* o, int axis) noexcept nogil:
    """How far apart elements are along an axis; where x is expanded, those of another operand."""
    if o.x.strides[axis]:
        return size_of_step(o.x.strides[axis])
    if o.y.data != NULL and o.y.strides[axis]:
        return size_of_step(o.y.strides[axis])
    return size_of_step(o.dy.strides[axis]) if o.dy.data != NULL else 0


cdef int run_any(Operands* o) noexcept nogil:
    """Run checked operands of any layout."""
    cdef bint done
    cdef int status, d, k
    cdef Py_ssize_t stride
    for d in range(o.ndim):
        if o.x.strides[d] < 0 and o.shape[d] > 1:
            turn(&o.x, d, o.shape[d])
            turn(&o.y, d, o.shape[d])
            turn(&o.dy, d, o.shape[d])
            turn(&o.alpha, d, o.alpha_shape[d])
            turn(&o.dalpha, d, o.alpha_shape[d])
    # The axes from x's largest stride to the smallest; equal ones keep their order.
    for d in range(o.ndim):
        stride = step_along(o, d)
        k = d
        while k > 0 and step_along(o, o.order[k - 1]) < stride:
            o.order[k] = o.order[k - 1]
            k -= 1
        o.order[k] = d
    status = run_as_they_lie(o, &done)
    if status or done:
        return status
    return run_buffered(o)


cdef void clear_sums(Operands* o) noexcept nogil:
    """dalpha where x has no elements."""
    cdef Walk w
    cdef double zero = 0
    cdef Py_ssize_t i
    if o.alphas == 0:
        return
    begin(&w, o.ndim, o.alpha_shape, o.dalpha.data, o.dalpha.strides, o.dalpha.data, o.dalpha.strides)
    while True:
        for i in range(w.n):
            fa_round(w.a + i * w.a_step, 0, &zero, 1, o.dalpha.dtype)
        if not next_row(&w):
            return


cdef int run_operands(Kernel kernel, int dtype, const fastact_array* y, const fastact_array* dalpha,
                      const fastact_array* dy, const fastact_array* x, const fastact_array* alpha, Py_ssize_t alphas,
                      int axis, const Call* call) noexcept nogil:
    """Run checked operands of any layout.  `axis` is that of a per-channel alpha, else negative."""
    cdef Operands o
    cdef int d
    cdef int channel = axis if alpha != NULL and alpha.ndim == 1 else -1
    o.dtype, o.itemsize, o.ndim, o.elements, o.call = dtype, fa_itemsize(dtype), x.ndim, 1, call[0]
    o.call.kernel = kernel
    for d in range(x.ndim):
        o.shape[d], o.alpha_shape[d] = x.shape[d], 1
        o.elements *= x.shape[d]
    o.alphas = alphas
    if channel >= 0:
        o.alpha_shape[channel] = alphas
    elif alpha != NULL and alphas != 1:
        for d in range(alpha.ndim):
            o.alpha_shape[x.ndim - alpha.ndim + d] = alpha.shape[d]
    take(&o.y, y, o.ndim, o.shape, -1)
    take(&o.dy, dy, o.ndim, o.shape, -1)
    take(&o.x, x, o.ndim, o.shape, -1)
    take(&o.alpha, alpha, o.ndim, o.alpha_shape, channel)
    take(&o.dalpha, dalpha, o.ndim, o.alpha_shape, channel)
    if o.elements == 0:
        if o.dalpha.data != NULL:
            clear_sums(&o)
        return FASTACT_OK
    return run_any(&o)


cdef int axis_of_alpha(const fastact_array* alpha, const fastact_array* x, int* axis, const fastact_options* options
                       ) noexcept nogil:
    """The only axis of x along which an alpha of several slopes changes; else FULL or OTHER."""
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


cdef Kernel kernel_for(int kernel, int dtype) noexcept nogil:
    """The Cython variant's kernel; NULL: it is not loaded."""
    if is_float(dtype):
        return own_kernels[kernel][dtype == FASTACT_FLOAT64]
    return integer_kernels[dtype - FASTACT_BOOL]


cdef struct Checked:                    # what the checks find out
    int dtype                           # the computing type
    int axis                            # of x, along which alpha changes; -1: one slope or none; FULL, OTHER
    Py_ssize_t alphas                   # 0: there is no alpha
    bint single                         # dalpha has a single term for each slope


cdef inline bint is_like(const fastact_array* a, const fastact_array* x) noexcept nogil:
    """Whether an operand has x's dtype and shape, in C order, and elements."""
    return a.size >= sizeof(fastact_array) and a.dtype == x.dtype and a.strides == NULL and a.data != NULL \
        and (a.shape == x.shape and a.ndim == x.ndim or a.shape != NULL and same_shape(a, x))


cdef inline bint touch(const fastact_array* a, Py_ssize_t a_bytes, const fastact_array* b, Py_ssize_t b_bytes
                       ) noexcept nogil:
    return <intptr_t>a.data < <intptr_t>b.data + b_bytes and <intptr_t>b.data < <intptr_t>a.data + a_bytes


cdef Py_ssize_t usual(int kernel, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
                      const fastact_array* x, const fastact_array* alpha, Checked* found) noexcept nogil:
    """The number of elements of the usual call, in which nothing is wrong; 0: it is another one.

    All operands lie in C order and have the computing dtype, and alpha is one number or has x's dtype.  The full
    checks (`check`) take 400 instructions more; a call from Python on 64 floats takes 2,200.
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
        elif alpha.dtype != x.dtype or alpha.strides != NULL or alpha.ndim < 0 or alpha.ndim > x.ndim \
                or alpha.shape == NULL:
            return 0
        else:
            found.alphas = 1
            for d in range(alpha.ndim):
                # One that broadcasts has no more elements than x, so their number does not overflow.
                if not 0 < alpha.shape[d] <= n or (
                        alpha.ndim > 1 and alpha.shape[d] != 1 and alpha.shape[d] != x.shape[x.ndim - alpha.ndim + d]):
                    return 0
                found.alphas *= alpha.shape[d]
        alpha_bytes = found.alphas * (4 if alpha.dtype == FASTACT_FLOAT32 else 8)
        if y != NULL and touch(y, bytes, alpha, alpha_bytes):
            return 0
    elif y == NULL:
        return 0
    if dalpha != NULL:
        sums_bytes = found.alphas * (4 if x.dtype == FASTACT_FLOAT32 else 8)
        if alpha == NULL or dalpha.size < sizeof(fastact_array) or dalpha.dtype != x.dtype or dalpha.strides != NULL \
                or dalpha.data == NULL or (dalpha.shape == NULL and dalpha.ndim) or not same_shape(dalpha, alpha) \
                or touch(dalpha, sums_bytes, x, bytes) \
                or touch(dalpha, sums_bytes, dy, bytes) or touch(dalpha, sums_bytes, alpha, alpha_bytes) \
                or (y != NULL and touch(dalpha, sums_bytes, y, bytes)):
            return 0
        found.single = found.alphas == n and n > 1
    elif y == NULL:
        return 0
    return n


cdef int check(int kernel, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
               const fastact_array* x, const fastact_array* alpha, const fastact_options* options, bint apart,
               Checked* found) noexcept nogil:
    """What is wrong with the operands of any call."""
    cdef const char* name = b"dx" if READS_DY >> kernel & 1 else b"y"
    cdef int status = check_array(x, b"x", options)
    if status:
        return status
    found.dtype, found.axis, found.alphas, found.single = x.dtype & ~FA_SWAPPED, -1, 0, False
    if found.dtype == FASTACT_FLOAT16:
        return not_yet(b"x", x, options)
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


cdef int enter(int kernel, Kernel code, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
               const fastact_array* x, const fastact_array* alpha, const fastact_options* options, bint apart
               ) noexcept nogil:
    """Check a call and run it.

    With `code` (unless NULL) in place of the Cython variant's kernel; `apart`: the caller has already checked for
    shared memory.
    """
    cdef bint from_c = code == NULL
    cdef int status
    cdef Py_ssize_t n
    cdef double number, total = 0
    cdef Checked found
    cdef Plan plan
    cdef Call call
    cdef InnerLoop loop
    if options == NULL:
        options = &DEFAULTS
    elif options.size < sizeof(fastact_options):
        return FASTACT_BAD_VALUE        # it may have no message
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
        code = kernel_for(kernel, found.dtype)
        if code == NULL:
            return fa_fail(options, FASTACT_BAD_VALUE, "the kernels are not loaded: call fastact_import(), or ask "
                           "Python for fastact._C_API, first")
    if n and n <= SEGMENT and (found.alphas <= 1 or found.axis == FULL):
        # A row of up to SEGMENT elements is one segment: its sum is the result.
        loop.y = y.data if y != NULL else NULL
        loop.dy = dy.data if dy != NULL else NULL
        loop.x, loop.alpha = x.data, NULL
        if found.alphas:
            loop.alpha = alpha.data
            if alpha.dtype != found.dtype:
                fa_load(&number, found.dtype == FASTACT_FLOAT64, <const char*>alpha.data, 0, 1, alpha.dtype)
                loop.alpha = &number
        loop.sums = &total if dalpha != NULL and not found.single else NULL
        loop.terms = dalpha.data if found.single and dalpha != NULL else NULL
        loop.n = loop.m = n
        loop.first = loop.channels = loop.offset = 0
        loop.along = found.axis == FULL
        loop.stream = loop.fence = False
        code(&loop)
        if loop.sums != NULL:
            fa_round(<char*>dalpha.data, 0, &total, 1, dalpha.dtype)
        return FASTACT_OK
    call.kernel = code
    call.threads, call.source = options.n_threads, options.source
    if from_c:                          # Python has looked at these settings while it had the GIL
        call.threads = call.threads if call.threads else policy.process_threads
        call.source = call.source if call.source else policy.thread_source
    call.scratch, call.scratch_doubles = NULL, 0
    call.parallel_for, call.context = options.parallel_for, options.context
    if not n or found.axis == OTHER or not plan_for(&plan, x, <int>fa_itemsize(x.dtype), found.axis,
                                                    dalpha != NULL and not found.single):
        status = run_operands(code, found.dtype, y, dalpha, dy, x, alpha, found.alphas, found.axis, &call)
    else:
        call.y = <intptr_t>y.data if y != NULL else 0
        call.dy = <intptr_t>dy.data if dy != NULL else 0
        call.x = <intptr_t>x.data
        call.alpha = <intptr_t>alpha.data if found.alphas else 0
        if found.alphas and alpha.dtype != found.dtype:
            fa_load(&number, found.dtype == FASTACT_FLOAT64, <const char*>alpha.data, 0, 1, alpha.dtype)
            call.alpha = <intptr_t>&number
        call.dalpha = <intptr_t>dalpha.data if dalpha != NULL else 0
        call.narrow = found.dtype == FASTACT_FLOAT32
        call.single_terms = found.single
        status = launch(&plan, &call)
    return status if status == FASTACT_OK else fa_fail(options, status, why(status))


cdef const char* why(int status) noexcept nogil:
    """What went wrong after the checks."""
    if status == FASTACT_NO_MEMORY:
        return b"no memory for partial sums or a scratch"
    return b"no OpenMP runtime with GOMP_parallel is loaded in this process"


cdef inline bint is_swapped(const fastact_array* a) noexcept nogil:
    return a != NULL and a.size >= sizeof(fastact_array) and a.dtype >= FA_SWAPPED


cdef int enter_from_c "fa_enter"(int kernel, const fastact_array* y, const fastact_array* dalpha,
                                 const fastact_array* dy, const fastact_array* x, const fastact_array* alpha,
                                 const fastact_options* options) noexcept nogil:
    """What the functions of fastact.h call."""
    if is_swapped(y) or is_swapped(dalpha) or is_swapped(dy) or is_swapped(x) or is_swapped(alpha):
        return fa_fail(options, FASTACT_BAD_TYPE, "an array has a dtype that is no dtype of fastact.h")
    return enter(kernel, NULL, y, dalpha, dy, x, alpha, options, False)


# ---- for Python ------------------------------------------------------------------------------------------------------

cdef dict NUMBERS = {name: number for number, name in enumerate(KERNELS)}
# Of fastact.h, for those who make calls of its functions in another language.
DTYPES = {
    fa_dtype_name(dtype).decode(): dtype for dtype in range(FASTACT_FLOAT32, FASTACT_UINT64 + 1)
}
STATUSES = {"OK": FASTACT_OK, "BAD_VALUE": FASTACT_BAD_VALUE, "NO_MEMORY": FASTACT_NO_MEMORY,
            "NO_SOURCE": FASTACT_NO_SOURCE}
cdef dict ERRORS = {FASTACT_BAD_VALUE: ValueError, FASTACT_BAD_TYPE: TypeError, FASTACT_NO_MEMORY: MemoryError,
                    FASTACT_NO_SOURCE: RuntimeError, FASTACT_NOT_YET: TypeError}


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
    options.n_threads, options.source, options.channel_axis = threads, source, 0    # of an x of one axis
    options.message, options.message_size = message, sizeof(message)
    with nogil:
        status = enter(number, code, operands[0], operands[1], operands[2], operands[3], operands[4], &options, True)
    if status:
        raise ERRORS[status](f"fastact: {message.decode()}")
