# The fast path of the compiled package: the common call in a few branches, everything else to the Python text.
#
# The common call: exact ndarrays, C-contiguous, float32 or float64, one dtype and shape, alpha a float, an array of
# one element, a 1-D array or one of x's shape.  It looks the plan up, takes the result from one allocation and runs;
# what it leaves out (and every error) goes to _dispatch.py, which stays the truth, thresholds included: the tests
# compare the two.  A call on 64 floats costs 0.1 us here, 10 us there.

cimport numpy as cnp
from cpython.float cimport PyFloat_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport intptr_t

from fastact._cython.driver cimport (
    EACH, GROUP, Kernel, Prepared, RUNNING, SLOPES, openmp_limit, processors, run,
)
from fastact._cython.buffers cimport new_array

import os
from threading import Lock

import numpy as np

from fastact import _backends, _built, _cpu, _dispatch, _layout, _settings
from fastact._operations import OPERATIONS

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_ISCARRAY(cnp.ndarray)
    bint PyArray_ISCARRAY_RO(cnp.ndarray)

cdef extern from *:
    """
    /* Without the GIL each slot has a mutex; with it nothing can come between. */
    #ifdef Py_GIL_DISABLED
    static PyMutex fa_slot_mutex[256];
    #define fa_lock_slot(i) PyMutex_Lock(&fa_slot_mutex[i])
    #define fa_unlock_slot(i) PyMutex_Unlock(&fa_slot_mutex[i])
    #else
    #define fa_lock_slot(i) ((void)0)
    #define fa_unlock_slot(i) ((void)0)
    #endif
    #include <time.h>
    #ifndef CLOCK_MONOTONIC_COARSE
    #define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
    #endif
    static double fa_seconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return now.tv_sec + 1e-9 * now.tv_nsec;
    }
    #define fa_get(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)
    #define fa_set(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELEASE)
    """
    void fa_lock_slot(size_t) noexcept
    void fa_unlock_slot(size_t) noexcept
    double fa_seconds() noexcept
    int fa_get(int) noexcept
    void fa_set(int, int) noexcept
    Kernel fa_get_kernel "fa_get"(Kernel) noexcept
    void fa_set_kernel "fa_set"(Kernel, Kernel) noexcept

cdef enum:
    MAX_OPS = 64
    NONE, NUMBER, ARRAY     # the forms of alpha that an operation takes
    FULL = -2           # in place of an axis: alpha has x's shape
    FEW = 512           # channels whose sums have room on the stack
    POOLED = 65536      # bytes from which new_array looks into the recycled memory
    STREAM = 2

cdef enum:
    CYTHON, NUMBA, BACKENDS     # rows of the table below
    UNKNOWN = -1
    OTHER = -2                  # no kernels: the reference
cdef enum:
    SLOTS = 256
    MAX_NDIM = 6
cdef struct Slot:
    int ndim, typenum, axis, summed
    Py_ssize_t[MAX_NDIM] shape
    PyObject* plan                  # a reference of the slot's own; NULL: empty
cdef Kernel[BACKENDS][MAX_OPS][2] kernels   # [backend][operation][float32, float64]; NULL: not looked up yet
cdef int default_row = UNKNOWN      # of the process's default backend
cdef int contexts = False           # whether use_backend or threads was ever used: then the context has to be asked
cdef object changing = Lock()       # held where one of these or `generation` is written, and for nothing slow
cdef dict plans = {}                # every plan, by a tuple ...
cdef Slot[SLOTS] slots              # ... and the last ones again, found without making one: 0.2 us less
# The table of operations, in C.
cdef list OPS = list(OPERATIONS.values())
cdef dict NUMBERS = {op.name: number for number, op in enumerate(OPS)}
cdef int[MAX_OPS] alpha_form
cdef bint[MAX_OPS] reads_dy
for number, op in enumerate(OPS):
    alpha_form[number] = ("", "number", "array").index(op.alpha) + NONE
    reads_dy[number] = op.backward
cdef object np_ndarray = np.ndarray, np_float32 = np.float32, np_float64 = np.float64
cdef Py_ssize_t direct = _layout.SEGMENT    # elements that one kernel call takes: a row that is not cut
cdef Py_ssize_t generation = 0      # of the settings
cdef Py_ssize_t stream_bytes = _dispatch.STREAM_BYTES
cdef Py_ssize_t stream_bytes_per_thread = _dispatch.STREAM_BYTES_PER_THREAD
cdef int MOST_THREADS = _settings.MOST_THREADS
cdef int set_threads = 0            # the process's explicit bound; 0: none
cdef int openmp_variables = 0       # what OpenMP's variables say, for a call without an explicit bound
cdef int oversubscription = 0       # see _settings.oversubscribed
cdef int quota = 0                  # processors that the control groups' quotas amount to; 0: no quota
cdef double quota_read = -1e9       # when
cdef Py_ssize_t bytes_per_thread = _dispatch.BYTES_PER_THREAD
cdef Py_ssize_t bytes_per_summing_thread = _dispatch.BYTES_PER_SUMMING_THREAD


def settings_changed(bint context=False):
    """The backend, its level or a threshold was changed: look them up again."""
    global contexts, default_row, generation, set_threads, openmp_variables, oversubscription
    global stream_bytes, stream_bytes_per_thread, bytes_per_thread, bytes_per_summing_thread
    cdef int bound = min(_settings.explicit_threads() or 0, MOST_THREADS), row, number
    with changing:
        generation += 1
        fa_set(default_row, UNKNOWN)
        for row in range(BACKENDS):
            for number in range(MAX_OPS):
                fa_set_kernel(kernels[row][number][0], NULL)
                fa_set_kernel(kernels[row][number][1], NULL)
        if context:
            fa_set(contexts, True)
        # Words that a call reads one by one: one that overlaps a change sees the old or the new.
        stream_bytes = _dispatch.STREAM_BYTES
        stream_bytes_per_thread = _dispatch.STREAM_BYTES_PER_THREAD
        set_threads = bound
        openmp_variables = _settings.openmp_variables
        oversubscription = _settings.oversubscription
        bytes_per_thread = _dispatch.BYTES_PER_THREAD
        bytes_per_summing_thread = _dispatch.BYTES_PER_SUMMING_THREAD


def forked():
    """Nobody else is left who could hold it; what another thread was changing is looked up again."""
    global changing
    changing = Lock()
    settings_changed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)
settings_changed()
_settings.on_change.append(settings_changed)
_built.on_change.append(settings_changed)


cdef int row_of(object backend) except? UNKNOWN:
    """The row of `kernels` for a `backend=` argument; OTHER where the Python text has to look."""
    cdef int row
    cdef Py_ssize_t asked = generation
    cdef bint is_default = False
    if backend is None and fa_get(contexts):
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
            if asked == generation:     # else somebody changed it meanwhile: look again the next time
                fa_set(default_row, row)
    return row


cdef Kernel kernel_of(int row, int op, bint is_double) except NULL:
    """A backend's kernel, looked up at its first use: for Numba that is when it is compiled."""
    cdef Kernel kernel = fa_get_kernel(kernels[row][op][is_double])
    cdef Py_ssize_t asked = generation
    if kernel != NULL:
        return kernel
    backend = "cython" if row == CYTHON else "numba"
    _backends.require(backend)
    dtype = np.dtype(np.float64 if is_double else np.float32)
    kernel = <Kernel><intptr_t>_backends.kernel_address(backend, OPS[op].kernel, dtype)
    with changing:
        if asked == generation:     # else somebody changed the level meanwhile: look again the next time
            fa_set_kernel(kernels[row][op][is_double], kernel)
    return kernel


cdef double QUOTA_SECONDS = _cpu.QUOTA_SECONDS
cdef object context_backend = _settings._context_backend.get


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


cdef int thread_bound(object n_threads) except -1:
    """As _settings.thread_bound, in 0.05 us."""
    global quota, quota_read
    if fa_get(contexts):
        return _settings.thread_bound(n_threads)
    cdef int bound = set_threads if n_threads is None else n_threads, most = processors()
    if fa_seconds() - quota_read > QUOTA_SECONDS:
        quota = _cpu.quota()
        quota_read = fa_seconds()
    if quota:
        most = min(most, quota)
    if bound:
        return min(bound, max(most, oversubscription))
    return max(1, min(most, openmp_variables, openmp_limit()))


cdef Prepared plan_for(cnp.ndarray x, int typenum, int axis, bint summed):
    """The plan for contiguous operands (axis -1: one alpha or none; FULL), or None where it is not for this path."""
    cdef int ndim = cnp.PyArray_NDIM(x), d
    cdef size_t mixed = 2 * axis + summed + 131 * typenum
    cdef Slot* slot
    cdef PyObject* before
    cdef bint same
    cdef Prepared plan = None
    for d in range(ndim):
        mixed = mixed * 1000003 + <size_t>cnp.PyArray_DIM(x, d)
    mixed = (mixed ^ (mixed >> 16)) % SLOTS
    slot = &slots[mixed]
    fa_lock_slot(mixed)
    same = slot.plan != NULL and slot.ndim == ndim and slot.typenum == typenum and slot.axis == axis \
        and slot.summed == summed
    if same:
        for d in range(ndim):
            same = same and slot.shape[d] == cnp.PyArray_DIM(x, d)
    if same:
        plan = <Prepared>slot.plan
    fa_unlock_slot(mixed)
    if same:
        return plan
    plan = slow_plan_for(x, typenum, axis, summed)
    if plan is not None and ndim <= MAX_NDIM:
        Py_INCREF(plan)
        fa_lock_slot(mixed)
        before = slot.plan
        slot.ndim, slot.typenum, slot.axis, slot.summed = ndim, typenum, axis, summed
        for d in range(ndim):
            slot.shape[d] = cnp.PyArray_DIM(x, d)
        slot.plan = <PyObject*>plan
        fa_unlock_slot(mixed)
        Py_XDECREF(before)
    return plan


cdef Prepared slow_plan_for(cnp.ndarray x, int typenum, int axis, bint summed):
    """The same, made or from the dictionary."""
    key = ((<object>x).shape, typenum, axis, summed)
    found = plans.get(key)
    if found is None:
        shape = key[0]
        itemsize = cnp.PyArray_ITEMSIZE(x)
        order = tuple(range(len(shape)))
        alpha = tuple(n if d == axis or axis == FULL else 1 for d, n in enumerate(shape))
        strides = tuple(s * itemsize for s in _layout.dense_strides(shape))
        plan = _layout.make_plan(shape, (strides,) * 3, itemsize, alpha, order, summed)
        if plan is None or plan.n_planes > 1:
            found = False
        else:
            found = Prepared(plan, itemsize)
        if len(plans) > 4096:
            plans.clear()
        plans[key] = found
    return None if found is False else found


cdef object common(int op, object dy_, object x_, object alpha, object channel_axis, object out, object dalpha_out,
                   bint need_dx, bint summed, object backend, object n_threads, object fallback):
    """The result (dx, dalpha for a summed operation), or `fallback` itself where the call is not the common one."""
    cdef cnp.ndarray x, result = None, sums = None
    cdef cnp.ndarray like = None        # alpha's array: one slope ...
    cdef cnp.ndarray slopes = None      # ... or several
    cdef bint each                      # whether every one of them has a single term
    cdef int typenum, row
    cdef bint has_dy = reads_dy[op]
    cdef Py_ssize_t n, nbytes, axis = -1, flags = 0, traffic, share
    cdef intptr_t a = 0
    cdef float narrow
    cdef double number = 0, total = 0
    cdef int threads = 1
    cdef Prepared p
    cdef Kernel kernel
    cdef double[FEW] few            # sums on the stack
    cdef double* wide
    cdef float* rounded
    cdef Py_ssize_t channels, k
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
                and -64 <= channel_axis < 64:
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
    nbytes = n * cnp.PyArray_ITEMSIZE(x)
    each = summed and slopes is not None and cnp.PyArray_SIZE(slopes) == n
    if n > direct or axis >= 0:
        p = plan_for(x, typenum, axis, summed and not each)
        if p is None:
            return fallback
    row = row_of(backend)
    if row == OTHER:
        return fallback
    kernel = kernel_of(row, op, typenum == cnp.NPY_DOUBLE)
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
        if nbytes < POOLED:
            result = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum, 0)
        else:
            result = new_array(x, cnp.PyArray_DescrFromType(typenum))
    cdef intptr_t y = <intptr_t>cnp.PyArray_DATA(result) if result is not None else 0
    cdef intptr_t g = <intptr_t>cnp.PyArray_DATA(<cnp.ndarray>dy_) if has_dy else 0
    cdef intptr_t s = <intptr_t>cnp.PyArray_DATA(x)
    if summed and slopes is not None:
        like = <cnp.ndarray>dalpha_out
        if like is None:
            like = new_array(slopes, cnp.PyArray_DescrFromType(typenum))
    elif summed:
        like = sum_array(typenum, like, dalpha_out)     # before dx is written, which may be in place
    if n <= direct and axis == FULL:
        kernel(y, g, s, a, <intptr_t>cnp.PyArray_DATA(like) if each else 0, n, n, RUNNING | (EACH if each else 0))
        return (result if need_dx else None, like) if summed else result
    if n <= direct and axis < 0:
        # One row: no plan is needed; the sum is the plan's single segment.
        kernel(y, g, s, a, <intptr_t>&total if summed else 0, n, n, 0)
        if not summed:
            return result
        put_sum(like, total)
        return (result if need_dx else None, like)
    traffic = nbytes * (1 + has_dy + (result is not None) + (slopes is not None and axis == FULL) + each)
    share = bytes_per_summing_thread if summed else bytes_per_thread
    if traffic >= 2 * share:
        threads = min(<Py_ssize_t>thread_bound(n_threads), traffic // share)
    if y and traffic >= max(stream_bytes, threads * stream_bytes_per_thread) and apart(result, x) \
            and (not has_dy or apart(result, dy_)):
        flags = STREAM
    if axis >= 0 and p.job.flags & RUNNING and (p.job.repeats > 1 or p.job.copies > 1 or p.job.joined and (
            # No register crosses the end of a period of whole groups, unless it began within one to be aligned.
            p.job.m % GROUP or flags or (s if summed else y) % 64)):
        flags |= SLOPES
    if not summed:
        run(p, kernel, y, g, s, a, flags, threads, NULL)
        return result
    if slopes is None:
        run(p, kernel, y, g, s, a, flags, threads, &total)
        put_sum(like, total)
        return (result if need_dx else None, like)
    channels = cnp.PyArray_SIZE(like)
    if each or typenum == cnp.NPY_DOUBLE:
        run(p, kernel, y, g, s, a, flags | (EACH if each else 0), threads, cnp.PyArray_DATA(like))
        return (result if need_dx else None, like)
    wide = &few[0]
    if channels > FEW:
        sums = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(slopes), cnp.NPY_DOUBLE, 0)
        wide = <double*>cnp.PyArray_DATA(sums)
    run(p, kernel, y, g, s, a, flags, threads, wide)
    rounded = <float*>cnp.PyArray_DATA(like)
    for k in range(channels):
        rounded[k] = <float>wide[k]
    return (result if need_dx else None, like)


cdef cnp.ndarray sum_array(int typenum, cnp.ndarray like, object out):
    """Where the gradient of a shared alpha goes: out, or 0-d, or in the shape of alpha's array."""
    if out is not None:
        return <cnp.ndarray>out
    if like is not None:
        return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), typenum, 0)
    return cnp.PyArray_EMPTY(0, NULL, typenum, 0)


cdef inline void put_sum(cnp.ndarray array, double total) noexcept:
    """The sum, rounded once."""
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT:
        (<float*>cnp.PyArray_DATA(array))[0] = <float>total
    else:
        (<double*>cnp.PyArray_DATA(array))[0] = total


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
