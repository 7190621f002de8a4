# The fast path of the compiled package: the common call in a few branches, everything else to the Python text.
#
# The common call: exact ndarrays, C-contiguous, float32 or float64, one dtype and shape, alpha a float, an array of
# one element, a 1-D array or one of x's shape.  It looks the plan up, takes the result from one allocation and launches
# it; what it leaves out (and every error) goes to _dispatch.py.  A call on 64 floats costs 0.1 us here, 10 us there.

cimport numpy as cnp
from cpython.float cimport PyFloat_CheckExact
from libc.stdint cimport intptr_t
from libc.string cimport memcpy

from fastact._cython cimport policy
from fastact._cython.buffers cimport new_array
from fastact._cython.driver cimport Call, InnerLoop, Kernel, MOST_THREADS, SMALLEST_BLOCK, launch
from fastact._cython.plan cimport MAX_LOOPS, Loop, Plan, SEGMENT, make_plan

import os
from threading import Lock

import numpy as np

from fastact import _backends, _dispatch, _settings
from fastact._tables import OPERATIONS

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISCARRAY(cnp.ndarray)
    bint PyArray_ISCARRAY_RO(cnp.ndarray)

cdef extern from *:
    """
    enum { SLOTS = 256 };
    /* Without the GIL each slot has a mutex; with it nothing can come between. */
    #ifdef Py_GIL_DISABLED
    static PyMutex fa_slot_mutex[SLOTS];
    #define fa_lock_slot(i) PyMutex_Lock(&fa_slot_mutex[i])
    #define fa_unlock_slot(i) PyMutex_Unlock(&fa_slot_mutex[i])
    #else
    #define fa_lock_slot(i) ((void)0)
    #define fa_unlock_slot(i) ((void)0)
    #endif
    #define fa_get(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)
    #define fa_set(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELEASE)
    """
    enum: SLOTS
    void fa_lock_slot(size_t) noexcept
    void fa_unlock_slot(size_t) noexcept
    int fa_get(int) noexcept
    void fa_set(int, int) noexcept
    Py_ssize_t fa_get_size "fa_get"(Py_ssize_t) noexcept
    void fa_set_size "fa_set"(Py_ssize_t, Py_ssize_t) noexcept
    Kernel fa_get_kernel "fa_get"(Kernel) noexcept
    void fa_set_kernel "fa_set"(Kernel, Kernel) noexcept

cdef enum:
    MAX_OPS = 64
    NONE, NUMBER, ARRAY     # the forms of alpha that an operation takes
    FULL = -2               # in place of an axis: alpha has x's shape
cdef enum:
    CYTHON, NUMBA, BACKENDS     # rows of the table below
    UNKNOWN = -1
    OTHER = -2                  # no kernels: the reference

# ---- what was looked up ----------------------------------------------------------------------------------------------

cdef Kernel[BACKENDS][MAX_OPS][2] kernels   # [backend][operation][float32, float64]; NULL: not looked up yet
cdef int default_row = UNKNOWN      # of the process's default backend
cdef Py_ssize_t looked_up = -1      # the policy's `generation` that these belong to
cdef object changing = Lock()       # held where one of these is written, and for nothing slow
# The table of operations, in C.
cdef list OPS = list(OPERATIONS.values())
assert len(OPS) <= MAX_OPS
cdef dict NUMBERS = {op.name: number for number, op in enumerate(OPS)}
cdef int[MAX_OPS] alpha_form
cdef bint[MAX_OPS] reads_dy
for number, op in enumerate(OPS):
    alpha_form[number] = ("", "number", "array").index(op.alpha) + NONE
    reads_dy[number] = op.backward
cdef object np_ndarray = np.ndarray, np_float32 = np.float32, np_float64 = np.float64
cdef object context_backend = _settings._context_backend.get


def forked():
    """Nobody else is left who could hold the lock; what another thread was changing is looked up again."""
    global changing
    changing = Lock()
    policy.changed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)


cdef int forget(Py_ssize_t asked) except -1:
    """The backend or its level was changed: look everything up again."""
    global default_row, looked_up
    cdef int row, number
    with changing:
        if looked_up != asked:
            fa_set(default_row, UNKNOWN)
            for row in range(BACKENDS):
                for number in range(MAX_OPS):
                    fa_set_kernel(kernels[row][number][0], NULL)
                    fa_set_kernel(kernels[row][number][1], NULL)
            fa_set_size(looked_up, asked)
    return 0


cdef int row_of(object backend) except? UNKNOWN:
    """The row of `kernels` for a `backend=` argument; OTHER where the Python text has to look."""
    cdef int row
    cdef Py_ssize_t asked = fa_get_size(policy.generation)
    cdef bint is_default = False
    if fa_get_size(looked_up) != asked:
        forget(asked)
    if backend is None and policy.contexts:
        backend = context_backend()
    if backend is None:
        row = fa_get(default_row)
        if row != UNKNOWN:
            return row
        is_default = True
        backend = _settings.get_backend()
    elif type(backend) is not str:
        return OTHER
    row = CYTHON if backend == "cython" else NUMBA if backend == "numba" else OTHER
    if is_default:
        with changing:
            if asked == fa_get_size(policy.generation):     # else it was changed meanwhile: look again next time
                fa_set(default_row, row)
    return row


cdef Kernel kernel_of(int row, int op, bint is_double) except NULL:
    """A backend's kernel, looked up at its first use: for Numba that is when it is compiled."""
    cdef Kernel kernel = fa_get_kernel(kernels[row][op][is_double])
    cdef Py_ssize_t asked = fa_get_size(policy.generation)
    if kernel != NULL:
        return kernel
    backend = "cython" if row == CYTHON else "numba"
    _backends.require(backend)
    dtype = np.dtype(np.float64 if is_double else np.float32)
    kernel = <Kernel><intptr_t>_backends.kernel_address(backend, OPS[op].kernel, dtype)
    with changing:
        if asked == fa_get_size(policy.generation):     # else the level was changed: look again next time
            fa_set_kernel(kernels[row][op][is_double], kernel)
    return kernel


# ---- the last plans --------------------------------------------------------------------------------------------------

cdef enum:
    MAX_NDIM = 6
    FEW = 1                         # loops that a slot keeps: contiguous operands make no more
cdef struct Slot:
    int ndim, typenum, axis, summed
    Py_ssize_t[MAX_NDIM] shape
    bint filled
    Plan plan
cdef Slot[SLOTS] slots
cdef size_t SLOT_BYTES = sizeof(Plan) - (MAX_LOOPS - FEW) * sizeof(Loop)


cdef bint plan_for(Plan* plan, cnp.ndarray x, int typenum, int axis, bint summed) noexcept:
    """The plan for contiguous operands (axis -1: one alpha or none; FULL), from its slot or made; False: there is none.

    It is copied, because a call may let other threads run before it is launched, and they may change the slot.
    """
    cdef int ndim = cnp.PyArray_NDIM(x), d
    cdef size_t mixed = 2 * axis + summed + 131 * typenum
    cdef Slot* slot
    cdef bint same
    cdef Py_ssize_t[MAX_LOOPS] alpha
    cdef int[MAX_LOOPS] order
    for d in range(ndim):
        mixed = mixed * 1000003 + <size_t>cnp.PyArray_DIM(x, d)
    mixed = (mixed ^ (mixed >> 16)) % SLOTS
    slot = &slots[mixed]
    fa_lock_slot(mixed)
    same = slot.filled and slot.ndim == ndim and slot.typenum == typenum and slot.axis == axis \
        and slot.summed == summed
    if same:
        for d in range(ndim):
            same = same and slot.shape[d] == cnp.PyArray_DIM(x, d)
    if same:
        memcpy(plan, &slot.plan, SLOT_BYTES)
    fa_unlock_slot(mixed)
    if same:
        return True
    for d in range(ndim):
        alpha[d] = cnp.PyArray_DIM(x, d) if d == axis or axis == FULL else 1
        order[d] = d
    strides = <Py_ssize_t*>cnp.PyArray_STRIDES(x)
    if not make_plan(plan, ndim, <Py_ssize_t*>cnp.PyArray_DIMS(x), strides, strides, strides, alpha, order,
                     cnp.PyArray_ITEMSIZE(x), summed):
        return False
    if ndim <= MAX_NDIM and plan.plane_loops + plan.row_loops <= FEW:
        fa_lock_slot(mixed)
        slot.ndim, slot.typenum, slot.axis, slot.summed = ndim, typenum, axis, summed
        for d in range(ndim):
            slot.shape[d] = cnp.PyArray_DIM(x, d)
        memcpy(&slot.plan, plan, SLOT_BYTES)
        slot.filled = True
        fa_unlock_slot(mixed)
    return True


# ---- the common call -------------------------------------------------------------------------------------------------

cdef inline bint fits(object array, cnp.ndarray x, int typenum):
    """Whether an operand is an exact, C-contiguous, native array of x's dtype and shape."""
    cdef cnp.ndarray a
    cdef int d
    if type(array) is not np_ndarray or not PyArray_ISCARRAY_RO(<cnp.ndarray>array):
        return False
    a = <cnp.ndarray>array
    if cnp.PyArray_TYPE(a) != typenum or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(x):
        return False
    for d in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(a, d) != cnp.PyArray_DIM(x, d):
            return False
    return True


cdef inline bint apart(cnp.ndarray one, object other):
    """Whether two contiguous arrays share nothing."""
    cdef intptr_t a = <intptr_t>cnp.PyArray_DATA(one), b = <intptr_t>cnp.PyArray_DATA(<cnp.ndarray>other)
    return a + cnp.PyArray_NBYTES(one) <= b or b + cnp.PyArray_NBYTES(<cnp.ndarray>other) <= a


cdef object common(int op, object dy_, object x_, object alpha, object channel_axis, object out, object dalpha_out,
                   bint need_dx, bint summed, object backend, object n_threads, object fallback):
    """The result (dx, dalpha for a summed operation), or `fallback` itself where the call is not the common one."""
    cdef cnp.ndarray x, result = None
    cdef cnp.ndarray like = None        # alpha's array: one slope ...
    cdef cnp.ndarray slopes = None      # ... or several
    cdef bint each                      # whether every one of them has a single term
    cdef int typenum, row
    cdef bint has_dy = reads_dy[op]
    cdef Py_ssize_t n, axis = -1
    cdef intptr_t a = 0
    cdef float narrow
    cdef double number = 0, total = 0
    cdef Plan plan
    cdef bint planned                   # else it is a single inner loop
    cdef Call call
    cdef InnerLoop loop
    if n_threads is not None and (type(n_threads) is not int or not 1 <= n_threads <= MOST_THREADS):
        return fallback
    if type(x_) is not np_ndarray or not PyArray_ISCARRAY_RO(<cnp.ndarray>x_):
        return fallback
    x = <cnp.ndarray>x_
    typenum = cnp.PyArray_TYPE(x)
    if typenum != cnp.NPY_FLOAT and typenum != cnp.NPY_DOUBLE:
        return fallback
    n = cnp.PyArray_SIZE(x)
    if n == 0 or (has_dy and not fits(dy_, x, typenum)):
        return fallback
    if alpha_form[op] != NONE:
        if PyFloat_CheckExact(alpha) or type(alpha) is np_float32 or type(alpha) is np_float64:
            number = alpha
            narrow = <float>number
            a = <intptr_t>&narrow if typenum == cnp.NPY_FLOAT else <intptr_t>&number
        elif type(alpha) is not np_ndarray or cnp.PyArray_TYPE(<cnp.ndarray>alpha) != typenum \
                or not PyArray_ISCARRAY_RO(<cnp.ndarray>alpha):
            return fallback
        elif cnp.PyArray_SIZE(<cnp.ndarray>alpha) == 1:
            like = <cnp.ndarray>alpha
            a = <intptr_t>cnp.PyArray_DATA(like)
        elif alpha_form[op] == ARRAY and cnp.PyArray_NDIM(<cnp.ndarray>alpha) == 1 and type(channel_axis) is int \
                and -64 <= channel_axis < 64:   # what fits an int; an enum costs 160 instructions here
            axis = channel_axis
            if axis < 0:
                axis += cnp.PyArray_NDIM(x)
            if axis < 0 or axis >= cnp.PyArray_NDIM(x) or cnp.PyArray_DIM(x, axis) != cnp.PyArray_SIZE(alpha):
                return fallback
            slopes = <cnp.ndarray>alpha
        elif alpha_form[op] == ARRAY and fits(alpha, x, typenum):
            axis = FULL
            slopes = <cnp.ndarray>alpha
        else:
            return fallback
        if slopes is not None:
            a = <intptr_t>cnp.PyArray_DATA(slopes)
    each = summed and slopes is not None and cnp.PyArray_SIZE(slopes) == n
    planned = n > SEGMENT or axis >= 0
    if planned and not plan_for(&plan, x, typenum, axis, summed and not each):
        return fallback
    row = row_of(backend)
    if row == OTHER:
        return fallback
    call.kernel = kernel_of(row, op, typenum == cnp.NPY_DOUBLE)
    if dalpha_out is not None:
        # Shape and dtype as dalpha's, and apart from everything.
        if type(dalpha_out) is not np_ndarray or not PyArray_ISCARRAY(<cnp.ndarray>dalpha_out):
            return fallback
        if slopes is not None:
            if not fits(dalpha_out, slopes, typenum):
                return fallback
        elif cnp.PyArray_TYPE(<cnp.ndarray>dalpha_out) != typenum or cnp.PyArray_SIZE(<cnp.ndarray>dalpha_out) != 1 \
                or cnp.PyArray_NDIM(<cnp.ndarray>dalpha_out) != (cnp.PyArray_NDIM(like) if like is not None else 0):
            return fallback
        if not apart(x, dalpha_out) or not apart(<cnp.ndarray>dy_, dalpha_out) \
                or ((slopes is not None or like is not None) and not apart(<cnp.ndarray>alpha, dalpha_out)) \
                or (out is not None and (type(out) is not np_ndarray or not apart(<cnp.ndarray>out, dalpha_out))):
            return fallback
    if out is not None:
        if not need_dx or not fits(out, x, typenum) or not PyArray_ISCARRAY(<cnp.ndarray>out):
            return fallback
        result = <cnp.ndarray>out
        if cnp.PyArray_DATA(result) != cnp.PyArray_DATA(x) and not apart(result, x):
            return fallback
        if has_dy and cnp.PyArray_DATA(result) != cnp.PyArray_DATA(<cnp.ndarray>dy_) \
                and not apart(result, dy_):
            return fallback
        if (slopes is not None or like is not None) and not apart(result, alpha):
            return fallback
    elif need_dx:
        if n * cnp.PyArray_ITEMSIZE(x) < SMALLEST_BLOCK:
            result = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum, 0)
        else:
            result = new_array(x, cnp.PyArray_DescrFromType(typenum))
    if summed and slopes is not None:
        like = <cnp.ndarray>dalpha_out
        if like is None:
            like = new_array(slopes, cnp.PyArray_DescrFromType(typenum))
    elif summed:
        like = sum_array(typenum, like, dalpha_out)     # before dx is written, which may be in place
    call.y = <intptr_t>cnp.PyArray_DATA(result) if result is not None else 0
    call.dy = <intptr_t>cnp.PyArray_DATA(<cnp.ndarray>dy_) if has_dy else 0
    call.x = <intptr_t>cnp.PyArray_DATA(x)
    call.alpha = a
    call.dalpha = <intptr_t>cnp.PyArray_DATA(like) if summed else 0
    call.narrow = typenum == cnp.NPY_FLOAT
    call.single_terms = each
    if planned:
        call.threads = explicit_threads(n_threads)
        launch(&plan, &call)
    else:
        # A row of up to SEGMENT elements is one segment: its sum is the result.
        loop.y, loop.dy, loop.x, loop.alpha = <void*>call.y, <void*>call.dy, <void*>call.x, <void*>a
        loop.sums = &total if summed and not each else NULL
        loop.terms = <void*>call.dalpha if each else NULL
        loop.n = loop.m = n
        loop.first = loop.channels = loop.offset = 0
        loop.along = axis == FULL
        loop.stream = loop.fence = False
        call.kernel(&loop)
        if summed and not each:
            if call.narrow:
                (<float*>call.dalpha)[0] = <float>total
            else:
                (<double*>call.dalpha)[0] = total
    return (result if need_dx else None, like) if summed else result


cdef inline int explicit_threads(object n_threads) except -1:
    """The bound on threads that somebody asked for, as _settings.explicit_threads; 0: nobody did."""
    if policy.contexts:
        return _settings.explicit_threads(n_threads)
    return policy.process_threads if n_threads is None else n_threads


cdef cnp.ndarray sum_array(int typenum, cnp.ndarray like, object out):
    """Where the gradient of a shared alpha goes: out, or 0-d, or in the shape of alpha's array."""
    if out is not None:
        return <cnp.ndarray>out
    if like is not None:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), typenum, 0)
    return cnp.PyArray_EMPTY(0, NULL, typenum, 0)


cdef object FALLBACK = object()


def elementwise(name, dy, x, alpha, channel_axis, out, backend, n_threads):
    """As _dispatch.elementwise."""
    result = common(NUMBERS[name], dy, x, alpha, channel_axis, out, None, True, False, backend, n_threads, FALLBACK)
    if result is not FALLBACK:
        return result
    return _dispatch.elementwise(name, dy, x, alpha, channel_axis, out, backend, n_threads)


def backward(name, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads):
    """As _dispatch.backward."""
    if type(out) is tuple and len(out) == 2 and need_dalpha is True:
        result = common(NUMBERS[name], dy, x, alpha, channel_axis, out[0], out[1], need, True, backend, n_threads,
                        FALLBACK)
        if result is not FALLBACK:
            return result
    return _dispatch.backward(name, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads)
