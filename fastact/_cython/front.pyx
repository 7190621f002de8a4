# The fast path of the compiled package: it recognises the common call in a few branches, and passes every other call on
# to the Python modules.
#
# A common call has ndarrays of any layout and dtype, numbers, or lists and tuples of numbers.  The fast path allocates
# the result and hands everything to entry.pyx, which checks it.  Calls that it does not take, and every error, go to
# _dispatch.py.  A call on 64 floats costs 0.1 us here and 10 us there.

cimport numpy as cnp
from cpython.contextvars cimport get_value
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.object cimport PyObject
from libc.stdint cimport intptr_t

from fastact cimport (
    FASTACT_FLOAT32, FASTACT_FLOAT64, FASTACT_OK, FASTACT_UINT64, fastact_array, fastact_default_options,
    fastact_options
)
from fastact._cython cimport policy
from fastact._cython.buffers cimport new_array
from fastact._cython.driver cimport Kernel, MOST_THREADS, SMALLEST_BLOCK, SWAPPED, read_quota
from fastact._cython.entry cimport enter, fill, is_float, kernel_dtype

import os
from threading import Lock

import numpy as np

from fastact import _arguments, _backends, _dispatch, _settings
from fastact._tables import INTEGERS, KERNELS, OPERATIONS
from fastact._tables import TYPES as FLOATS

cnp.import_array()

cdef extern from *:
    """
    #define fa_get(variable) __atomic_load_n(&(variable), __ATOMIC_ACQUIRE)
    #define fa_set(variable, value) __atomic_store_n(&(variable), value, __ATOMIC_RELEASE)
    """
    int fa_get(int) noexcept
    void fa_set(int, int) noexcept
    Py_ssize_t fa_get_size "fa_get"(Py_ssize_t) noexcept
    void fa_set_size "fa_set"(Py_ssize_t, Py_ssize_t) noexcept
    Kernel fa_get_kernel "fa_get"(Kernel) noexcept
    void fa_set_kernel "fa_set"(Kernel, Kernel) noexcept

cdef enum:
    MAX_OPS = 64
    MOST_EXACT = 1 << 24    # float32 represents all integers below exactly
    NONE, NUMBER, ARRAY     # the forms of alpha that an operation takes
cdef enum:
    CYTHON, NUMBA, BACKENDS     # rows of `kernels` below, and their number
    UNKNOWN = -1
    OTHER = -2                  # a backend without kernels here: _dispatch.py takes the call

# ---- what was looked up ----------------------------------------------------------------------------------------------

cdef enum:
    TYPES = FASTACT_UINT64 + 1      # types have fastact.h's numbers
cdef Kernel[BACKENDS][MAX_OPS][TYPES] kernels       # [backend][operation][type]; NULL: not looked up yet
cdef list DTYPES = ["", *FLOATS, *INTEGERS]
cdef int default_row = UNKNOWN      # the row of the process's default backend
cdef Py_ssize_t looked_up = -1      # the policy's `generation` that these belong to
cdef object changing = Lock()       # held while one of these is written, and never during slow work
# The table of operations, in C.
cdef list OPS = list(OPERATIONS.values())
assert len(OPS) <= MAX_OPS
cdef dict NUMBERS = {op.name: number for number, op in enumerate(OPS)}
cdef int operations = len(OPS)
cdef PyObject* names[MAX_OPS]
cdef int[MAX_OPS] alpha_form
cdef bint[MAX_OPS] reads_dy
cdef bint[MAX_OPS] keeps_integers
cdef int[MAX_OPS] kernels_number
for number, op in enumerate(OPS):
    names[number] = <PyObject*>op.name  # a borrowed reference: OPERATIONS keeps the name alive
    kernels_number[number] = list(KERNELS).index(op.kernel)
    alpha_form[number] = ("", "number", "array").index(op.alpha) + NONE
    reads_dy[number] = op.backward
    keeps_integers[number] = op.integers
cdef frozenset PLAIN = _arguments._PLAIN
cdef int DEEPEST = _arguments._DEEPEST
cdef object np_ndarray = np.ndarray, np_float32 = np.float32, np_float64 = np.float64
cdef object context_backend = _settings._context_backend
cdef object context_threads = _settings._context_threads
cdef object context_source = _settings._context_source
cdef dict SOURCES = _settings._SOURCES


def forked():
    """In a forked child: make a new lock, since nobody could release the old one, and look everything up again."""
    global changing
    changing = Lock()
    policy.changed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)


cdef int forget(Py_ssize_t asked) except -1:
    """The backend or its level was changed: look everything up again."""
    global default_row, looked_up
    cdef int row, number, kind
    with changing:
        if looked_up != asked:
            fa_set(default_row, UNKNOWN)
            for row in range(BACKENDS):
                for number in range(MAX_OPS):
                    for kind in range(TYPES):
                        fa_set_kernel(kernels[row][number][kind], NULL)
            fa_set_size(looked_up, asked)
    return 0


cdef int row_of(object backend) except? UNKNOWN:
    """The row of `kernels` for a `backend=` argument; OTHER where the Python modules have to take the call."""
    cdef int row
    cdef Py_ssize_t asked = fa_get_size(policy.generation)
    cdef bint is_default = False
    if fa_get_size(looked_up) != asked:
        forget(asked)
    if backend is None and policy.contexts:
        backend = get_value(context_backend)
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
            if asked == fa_get_size(policy.generation):     # else the backend was changed: look again next time
                fa_set(default_row, row)
    return row


cdef Kernel kernel_of(int row, int op, int kind) except NULL:
    """A backend's kernel, looked up at its first use.  Numba compiles it then."""
    cdef Kernel kernel = fa_get_kernel(kernels[row][op][kind])
    cdef Py_ssize_t asked = fa_get_size(policy.generation)
    if kernel != NULL:
        return kernel
    backend = "cython" if row == CYTHON else "numba"
    _backends.require(backend)
    kernel = <Kernel><intptr_t>_backends.kernel_address(backend, OPS[op].kernel, DTYPES[kind])
    with changing:
        if asked == fa_get_size(policy.generation):     # else the level was changed: look again next time
            fa_set_kernel(kernels[row][op][kind], kernel)
    return kernel


# ---- the common call -------------------------------------------------------------------------------------------------

cdef bint ask_for_threads(fastact_options* options, object n_threads) except -1:
    """Write the bound and the source of threads that somebody asked for; return whether anybody did."""
    cdef object source = None
    cdef long bound
    cdef int overflow
    options.n_threads, options.source = policy.process_threads, policy.thread_source
    if policy.contexts:
        if n_threads is None:
            n_threads = get_value(context_threads)
        source = get_value(context_source)
    if n_threads is not None:
        bound = PyLong_AsLongAndOverflow(n_threads, &overflow)
        options.n_threads = <int>bound if overflow == 0 and bound < MOST_THREADS else MOST_THREADS
    if source is not None:
        options.source = SOURCES.get(source, 0)
    return options.n_threads or options.source


cdef object common(int op, object dy, object x_, object alpha, bint weak, object channel_axis, object out,
                   object dalpha_out, bint need_dx, bint summed, object backend, object n_threads, object fallback):
    """The result ((dx, dalpha) for a summed operation), or `fallback` itself where the call is not a common one.

    `weak`: dalpha has the computing dtype, not alpha's.
    """
    cdef cnp.ndarray x, result = None, sums = None
    cdef fastact_array[5] arrays
    cdef fastact_array* a_y = NULL
    cdef fastact_array* a_sums = NULL
    cdef fastact_array* a_dy = NULL
    cdef fastact_array* a_alpha = NULL
    cdef fastact_options options
    cdef fastact_options* a_options = NULL
    cdef int typenum, row, status, sums_type, result_dtype
    cdef Py_ssize_t n
    cdef double number
    cdef float narrow
    cdef Kernel kernel
    if n_threads is not None and (type(n_threads) is not int or not 1 <= n_threads <= MOST_THREADS):
        return fallback
    if type(x_) is not np_ndarray:
        return fallback
    x = <cnp.ndarray>x_
    fill(&arrays[0], x)
    typenum = cnp.PyArray_TYPE(x)           # NumPy's type number of the result
    result_dtype = arrays[0].dtype & ~SWAPPED
    if result_dtype == 0:
        return fallback
    if not is_float(result_dtype) and not keeps_integers[op]:
        typenum, result_dtype = cnp.NPY_DOUBLE, FASTACT_FLOAT64
    sums_type = cnp.NPY_DOUBLE if result_dtype == FASTACT_FLOAT64 else cnp.NPY_FLOAT
    if reads_dy[op]:
        if type(dy) is not np_ndarray:
            return fallback
        a_dy = &arrays[1]
        fill(a_dy, <cnp.ndarray>dy)
    if alpha_form[op] != NONE:
        a_alpha = &arrays[2]
        if PyFloat_CheckExact(alpha) or type(alpha) is np_float32 or type(alpha) is np_float64 \
                or (type(alpha) is int and -MOST_EXACT < alpha < MOST_EXACT):
            number = alpha
            narrow = <float>number
            a_alpha.size, a_alpha.ndim = sizeof(fastact_array), 0
            a_alpha.dtype = FASTACT_FLOAT64 if sums_type == cnp.NPY_DOUBLE else FASTACT_FLOAT32
            a_alpha.data = <void*>&number if sums_type == cnp.NPY_DOUBLE else &narrow
            a_alpha.shape = a_alpha.strides = NULL
        elif type(alpha) is np_ndarray:
            fill(a_alpha, <cnp.ndarray>alpha)
            if cnp.PyArray_SIZE(<cnp.ndarray>alpha) != 1:
                if alpha_form[op] == NUMBER:
                    return fallback
                if a_alpha.ndim == 1:
                    if type(channel_axis) is not int or not -64 <= channel_axis < 64:   # so that it fits a C int
                        return fallback
                    if channel_axis != 1:
                        options = fastact_default_options()
                        a_options = &options
                        options.channel_axis = channel_axis
            if summed and not weak and is_float(a_alpha.dtype & ~SWAPPED):
                sums_type = cnp.PyArray_TYPE(<cnp.ndarray>alpha)
        else:
            return fallback
    row = row_of(backend)
    if row == OTHER:
        return fallback
    kernel = kernel_of(row, op, kernel_dtype(kernels_number[op], result_dtype, a_dy))
    n = cnp.PyArray_SIZE(x)
    if out is not None:
        if not need_dx or type(out) is not np_ndarray or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out) \
                or cnp.PyArray_TYPE(<cnp.ndarray>out) != typenum:
            return fallback
        result = <cnp.ndarray>out
    elif need_dx:
        if arrays[0].strides == NULL and n * 8 < SMALLEST_BLOCK:
            result = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), typenum, 0)
        else:
            result = new_array(x, cnp.PyArray_DescrFromType(typenum))
    if need_dx:
        a_y = &arrays[3]
        if out is None and arrays[0].strides == NULL and result_dtype == arrays[0].dtype:
            a_y[0] = arrays[0]
            a_y.data = cnp.PyArray_DATA(result)
        else:
            fill(a_y, result)
    if summed:
        if dalpha_out is not None:
            if type(dalpha_out) is not np_ndarray or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>dalpha_out) \
                    or cnp.PyArray_TYPE(<cnp.ndarray>dalpha_out) != sums_type:
                return fallback
            sums = <cnp.ndarray>dalpha_out
        elif a_alpha.strides == NULL:
            sums = cnp.PyArray_EMPTY(a_alpha.ndim, <cnp.npy_intp*>a_alpha.shape, sums_type, 0)
        else:
            sums = new_array(<cnp.ndarray>alpha, cnp.PyArray_DescrFromType(sums_type))
        a_sums = &arrays[4]
        fill(a_sums, sums)
    elif a_y == NULL:
        return fallback
    if n_threads is not None or policy.contexts or policy.process_threads or policy.thread_source:
        if a_options == NULL:
            options = fastact_default_options()
        if ask_for_threads(&options, n_threads):
            a_options = &options
    if n < policy.gil_elements:
        status = enter(kernels_number[op], kernel, a_y, a_sums, a_dy, &arrays[0], a_alpha, a_options, False)
    else:
        read_quota()
        with nogil:
            status = enter(kernels_number[op], kernel, a_y, a_sums, a_dy, &arrays[0], a_alpha, a_options, False)
    if status != FASTACT_OK:
        return fallback                 # _dispatch.py then raises the error
    return (result, sums) if summed else result


cdef object FALLBACK = object()


# ---- array-likes -----------------------------------------------------------------------------------------------------

cdef bint is_plain(object value, int depth) except -1:
    """Whether NumPy converts the value alone, and nothing in it could have a mask or run a user's code."""
    cdef object known = None    # the type of the item before: most lists have items of one type
    if type(value) is list or type(value) is tuple:
        if depth == DEEPEST:
            return False
        for item in value:
            if type(item) is known:
                continue
            if type(item) in PLAIN:
                known = type(item)
            elif not is_plain(item, depth + 1):
                return False
        return True
    if type(value) is np_ndarray:
        return cnp.PyTypeNum_ISNUMBER(cnp.PyArray_TYPE(<cnp.ndarray>value))
    return type(value) in PLAIN


cdef object as_array(object value):
    """The same as _arguments.as_array in the simple cases; None in the others."""
    if type(value) is np_ndarray:
        return value
    try:
        if isinstance(value, np_ndarray):
            if hasattr(value, "mask"):
                return None
        elif not is_plain(value, 0):
            return None
        return cnp.PyArray_FROM_OF(value, cnp.NPY_ARRAY_ENSUREARRAY)
    except Exception:
        return None     # _arguments.py then raises the error


cdef object converted(int op, object dy, object x, object alpha, object channel_axis, object out, object dalpha_out,
                      bint need_dx, bint summed, object backend, object n_threads):
    """The same as `common`, after a conversion of array-likes to arrays.

    It returns FALLBACK if an operand cannot be converted, or if no operand needs a conversion.
    """
    cdef bint no_dy = not reads_dy[op]
    cdef bint no_alpha = alpha_form[op] == NONE or type(alpha) is float or type(alpha) is int   # none to convert
    x_ = as_array(x)
    dy_ = dy if no_dy else as_array(dy)
    alpha_ = alpha if no_alpha else float(alpha) if type(alpha) is bool else as_array(alpha)
    if x_ is None or (dy_ is None and not no_dy) or (alpha_ is None and not no_alpha):
        return FALLBACK
    if x_ is x and dy_ is dy and alpha_ is alpha:
        return FALLBACK
    return common(op, dy_, x_, alpha_, not isinstance(alpha, np_ndarray), channel_axis, out, dalpha_out, need_dx,
                  summed, backend, n_threads, FALLBACK)


# ---- what ops.py calls -----------------------------------------------------------------------------------------------

cdef inline int number_of(object name) except -1:
    """The number of an operation.  ops.py passes the same name objects; a dict would take 60 instructions more."""
    cdef int number
    for number in range(operations):
        if <PyObject*>name == names[number]:
            return number
    return NUMBERS[name]


def elementwise(name, dy, x, alpha, channel_axis, out, backend, n_threads, /):
    """The same as _dispatch.elementwise."""
    cdef int op = number_of(name)
    result = common(op, dy, x, alpha, False, channel_axis, out, None, True, False, backend, n_threads, FALLBACK)
    if result is FALLBACK:
        result = converted(op, dy, x, alpha, channel_axis, out, None, True, False, backend, n_threads)
        if result is FALLBACK:
            return _dispatch.elementwise(name, dy, x, alpha, channel_axis, out, backend, n_threads)
    return result


def backward(name, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads, /):
    """The same as _dispatch.backward."""
    cdef int op = number_of(name)
    cdef bint summed = need_dalpha is True
    if type(out) is tuple and len(<tuple>out) == 2 and (summed or need_dalpha is False and (<tuple>out)[1] is None) \
            and (need is True or need is False):
        y, sums = <tuple>out
        result = common(op, dy, x, alpha, False, channel_axis, y, sums, need, summed, backend, n_threads, FALLBACK)
        if result is FALLBACK:
            result = converted(op, dy, x, alpha, channel_axis, y, sums, need, summed, backend, n_threads)
        if result is not FALLBACK:
            return result if summed else (result, None)
    return _dispatch.backward(name, dy, x, alpha, channel_axis, need, need_dalpha, out, backend, n_threads)
