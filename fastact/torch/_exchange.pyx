# Plain CPU tensors through fastact without a Python object in between: DLPack's C exchange API on torch's side,
# fastact.h on ours.
#
# Results lie in fastact's recycled memory.  Their deleter needs neither the GIL nor Python: torch may call it on any
# thread and at exit.  Whatever is not the common call gives None, and _functions.py and _compute.py go on in Python.

cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastact cimport (
    FASTACT_BFLOAT16, FASTACT_FLOAT16, FASTACT_FLOAT32, FASTACT_FLOAT64, FASTACT_NO_SOURCE, FASTACT_OK,
    FASTACT_SOURCE_OPENMP, FASTACT_SOURCE_OWN, fastact_array, fastact_default_options, fastact_import,
    fastact_leaky_relu, fastact_leaky_relu_backward, fastact_options, fastact_prelu, fastact_prelu_backward,
    fastact_relu, fastact_relu_backward
)

import numpy as np

from fastact import _built
from fastact._cython import buffers

cdef extern from "torch/dlpack.h" nogil:
    enum:
        DL_CPU, DL_FLOAT, DL_BFLOAT, DL_MAJOR
    ctypedef struct fa_dltensor:
        void* data
        int32_t device_type, device_id, ndim
        uint8_t code, bits
        uint16_t lanes
        int64_t* shape
        int64_t* strides
        uint64_t byte_offset
    ctypedef struct fa_dlmanaged:
        uint32_t major, minor
        void* manager
        void (*deleter)(fa_dlmanaged* self) noexcept nogil
        uint64_t flags
        fa_dltensor tensor
    ctypedef struct fa_dlexchange:
        uint32_t major, minor
        int (*object_from_managed)(fa_dlmanaged* managed, void** object) noexcept with gil
        int (*tensor_from_object)(void* object, fa_dltensor* tensor) noexcept with gil

cdef extern from "system.h" nogil:
    void* fa_aligned(size_t alignment, size_t size) noexcept
    void fa_free_aligned(void* memory) noexcept

cdef extern from "Python.h":
    PyObject* PyObject_CallNoArgs(object function)
    void PyErr_Clear()

cdef extern from "numpy/ndarraytypes.h":
    PyObject* PyArray_HANDLER(cnp.ndarray array)
    ctypedef struct Allocator "PyDataMemAllocator":
        void* ctx
        void* (*malloc)(void* ctx, size_t size) noexcept nogil
        void (*free)(void* ctx, void* memory, size_t size) noexcept nogil
    ctypedef struct Handler "PyDataMem_Handler":
        Allocator allocator

include "tables.pxi"

cnp.import_array()
fastact_import()

cdef enum:
    MAX_AXES = 64
    ALIGNED = 64        # bytes
cpdef enum:
    AS_RELU, AS_LEAKY_RELU, AS_PRELU

# ---- what is taken from torch and from fastact -----------------------------------------------------------------------

cdef const fa_dlexchange* exchange = NULL
cdef Handler* recycled      # the allocator of fastact's results, which needs no GIL
cdef object tensor_type, parameter_type
cdef object empty_like, get_num_threads, grad_is_enabled, autocast_is_on
cdef tuple extraordinary    # functions that say what is_ordinary of _host.py asks for
cdef dict forward_ad
cdef bint[8] takes          # by fastact.h's number of a dtype
cdef bint in_torchs_memory = False
cdef int source = FASTACT_SOURCE_OPENMP
cdef Py_ssize_t alone = 0               # elements below which a call takes one thread and keeps the GIL
cdef cnp.ndarray a_result = buffers.empty_like(np.empty(SMALLEST_BLOCK, np.uint8))     # keeps the allocator

recycled = <Handler*>PyCapsule_GetPointer(<object>PyArray_HANDLER(a_result), "mem_handler")


def connect(api, tensor, parameter, dtypes, functions):
    """Take the exchange API, the exact types of plain tensors, the dtypes' numbers and functions of torch; once."""
    global exchange, tensor_type, parameter_type, empty_like, get_num_threads, grad_is_enabled, autocast_is_on
    global extraordinary, forward_ad, alone
    cdef const fa_dlexchange* found = <const fa_dlexchange*>PyCapsule_GetPointer(api, "dlpack_exchange_api")
    if found.major != DL_MAJOR or found.tensor_from_object == NULL:
        raise ValueError(f"torch's DLPack exchange API has version {found.major}, which is unknown here")
    tensor_type, parameter_type = tensor, parameter
    empty_like, get_num_threads, grad_is_enabled, autocast_is_on, extraordinary, forward_ad = functions
    for number in dtypes:
        takes[number] = True
    thresholds = _built.policy.thresholds()
    alone = min(thresholds["bytes_per_thread"], thresholds["bytes_per_summing_thread"]) // 8
    exchange = found


def set_torch_memory(bint on):
    """Whether results lie in torch's memory."""
    global in_torchs_memory
    in_torchs_memory = on


# ---- tensors ---------------------------------------------------------------------------------------------------------

cdef struct Operand:        # a tensor, as torch and as fastact have it
    fa_dltensor tensor
    fastact_array array
    Py_ssize_t size
    bint dense              # no gaps and no overlaps; axes in any order
    bint in_order           # dense, in C order
    int64_t[MAX_AXES] strides


cdef bint read(Operand* o, object tensor) except -1:
    """Read a tensor into `o`.  The answer says whether fastact takes it."""
    cdef fa_dltensor* t = &o.tensor
    cdef int32_t axis, k
    cdef int64_t step = 1, n
    cdef int[MAX_AXES] order
    if type(tensor) is not tensor_type and type(tensor) is not parameter_type:
        return False
    if exchange.tensor_from_object(<PyObject*>tensor, t):
        PyErr_Clear()
        return False
    if t.device_type != DL_CPU or t.lanes != 1 or t.ndim > MAX_AXES or t.byte_offset:
        return False
    if t.code == DL_FLOAT:
        o.array.dtype = FASTACT_FLOAT32 if t.bits == 32 else FASTACT_FLOAT64 if t.bits == 64 else FASTACT_FLOAT16
        if t.bits != 16 and t.bits != 32 and t.bits != 64:
            return False
    elif t.code == DL_BFLOAT and t.bits == 16:
        o.array.dtype = FASTACT_BFLOAT16
    else:
        return False
    if not takes[o.array.dtype]:
        return False
    o.array.size, o.array.ndim, o.array.data, o.array.shape = sizeof(fastact_array), t.ndim, t.data, t.shape
    o.size = 1
    o.in_order = True
    for axis in range(t.ndim - 1, -1, -1):
        n = t.shape[axis]
        if n != 1 and t.strides[axis] != o.size:
            o.in_order = False
        o.size *= n
    if t.data == NULL and o.size:   # zeros without memory (torch._efficientzerotensor)
        return False
    if o.in_order or o.size == 0:
        o.dense = True
        o.array.strides = NULL
        return True
    for axis in range(t.ndim):
        o.strides[axis] = t.strides[axis] * (t.bits // 8)
    o.array.strides = o.strides
    o.dense = t.ndim <= 8
    if o.dense:                     # axes of more than one element by their strides
        n = 0
        for axis in range(t.ndim):
            if t.shape[axis] != 1:
                k = <int32_t>n
                while k > 0 and t.strides[order[k - 1]] > t.strides[axis]:
                    order[k] = order[k - 1]
                    k -= 1
                order[k] = axis
                n += 1
        for k in range(<int32_t>n):
            if t.strides[order[k]] != step:
                o.dense = False
                break
            step *= t.shape[order[k]]
    return True


cdef void drop(fa_dlmanaged* managed) noexcept nogil:
    """The deleter of results."""
    if managed.manager != NULL:
        recycled.allocator.free(recycled.allocator.ctx, managed.manager, 0)
    fa_free_aligned(managed)


cdef object new(Operand* o, Operand* like, object prototype):
    """A new tensor of the shape, strides and dtype of `like`, which is `prototype`; it is read into `o`.

    A small one comes from one allocation with its description.  None: torch made a tensor that fastact does not take.
    """
    cdef fa_dlmanaged* managed
    cdef void* memory
    cdef void* result = NULL
    cdef size_t bytes = like.size * (like.tensor.bits // 8), head
    cdef int32_t ndim = like.tensor.ndim
    if in_torchs_memory or not like.dense:
        made = empty_like(prototype)
        return made if read(o, made) else None
    head = (sizeof(fa_dlmanaged) + 2 * ndim * sizeof(int64_t) + ALIGNED - 1) & ~<size_t>(ALIGNED - 1)
    memory = fa_aligned(ALIGNED, head + (bytes if bytes < SMALLEST_BLOCK else 0))
    if memory == NULL:
        raise MemoryError
    managed = <fa_dlmanaged*>memory
    managed.major, managed.minor, managed.flags, managed.manager, managed.deleter = DL_MAJOR, 0, 0, NULL, drop
    o.array = like.array
    if bytes >= SMALLEST_BLOCK:
        managed.manager = recycled.allocator.malloc(recycled.allocator.ctx, bytes)
        if managed.manager == NULL:
            fa_free_aligned(managed)
            raise MemoryError
        o.array.data = managed.manager
    else:
        o.array.data = <char*>memory + head
    managed.tensor = like.tensor
    managed.tensor.data = o.array.data
    managed.tensor.shape = <int64_t*>(managed + 1)
    managed.tensor.strides = managed.tensor.shape + ndim
    if ndim:
        memcpy(managed.tensor.shape, like.tensor.shape, ndim * sizeof(int64_t))
        memcpy(managed.tensor.strides, like.tensor.strides, ndim * sizeof(int64_t))
    if exchange.object_from_managed(managed, &result):
        raise
    made = <object>result
    Py_XDECREF(<PyObject*>result)   # `made` has a reference of its own
    return made


cdef bint says(object function) except -1:
    """What a function of torch without arguments returns, as a truth value."""
    cdef PyObject* answer = PyObject_CallNoArgs(function)
    cdef bint yes
    if answer == NULL:
        raise
    yes = bool(<object>answer)
    Py_XDECREF(answer)
    return yes


cdef bint is_ordinary() except -1:
    """As _host.is_ordinary."""
    for function in extraordinary:
        if says(function):
            return False
    return forward_ad["_current_level"] < 0


# ---- calls -----------------------------------------------------------------------------------------------------------

cdef int call(int op, bint backward, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
              const fastact_array* x, const fastact_array* alpha, double slope, const fastact_options* options
              ) noexcept nogil:
    if op == AS_RELU:
        return fastact_relu_backward(y, dy, x, NULL, options) if backward else fastact_relu(y, NULL, x, options)
    if op == AS_LEAKY_RELU:
        return fastact_leaky_relu_backward(y, dy, x, NULL, slope, options) if backward \
            else fastact_leaky_relu(y, NULL, x, slope, options)
    return fastact_prelu_backward(y, dalpha, dy, x, alpha, options) if backward else fastact_prelu(y, x, alpha, options)


cdef bint run(int op, bint backward, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
              Operand* x, const fastact_array* alpha, double slope) except -1:
    """Run a call, a large one on torch's threads and without the GIL.  The answer says whether it succeeded."""
    global source
    cdef fastact_options options
    cdef int status
    if x.size < alone:
        return call(op, backward, y, dalpha, dy, &x.array, alpha, slope, NULL) == FASTACT_OK
    options = fastact_default_options()
    options.n_threads = get_num_threads()
    options.source = source
    with nogil:
        status = call(op, backward, y, dalpha, dy, &x.array, alpha, slope, &options)
        if status == FASTACT_NO_SOURCE:
            options.source = FASTACT_SOURCE_OWN
            status = call(op, backward, y, dalpha, dy, &x.array, alpha, slope, &options)
            if status == FASTACT_OK:
                source = FASTACT_SOURCE_OWN
    return status == FASTACT_OK


cdef bint go_together(Operand* x, Operand* weight) noexcept:
    """Whether slopes have a dtype that torch's prelu takes with x, or ours: float32 slopes with 16 bits."""
    return weight.array.dtype == x.array.dtype or (x.tensor.bits == 16 and weight.array.dtype == FASTACT_FLOAT32)


cdef bint fit(Operand* x, Operand* weight) noexcept:
    """Whether torch's prelu takes this many slopes."""
    if weight.tensor.ndim > 1:
        return False
    return weight.size == 1 or (x.tensor.ndim > 1 and x.tensor.shape[1] == weight.size)


cdef object forward_of(int op, x, Operand* o_x, Operand* weight, double slope):
    """The result for operands that were read; None where torch or Python has to go on."""
    cdef Operand o_y
    y = new(&o_y, o_x, x)
    if y is None or not run(op, False, &o_y.array, NULL, NULL, o_x, &weight.array, slope):
        return None
    return y


def forward(int op, x, more=None):
    """The result, without autograd: `more` is a number for leaky_relu, the slopes for prelu; None: go on in Python."""
    cdef Operand o_x, o_weight
    if not read(&o_x, x) or (op == AS_PRELU and not (read(&o_weight, more) and go_together(&o_x, &o_weight))):
        return None
    return forward_of(op, x, &o_x, &o_weight, more if op == AS_LEAKY_RELU else 0)


def attempt(int op, x, more=None):
    """As `forward`, for any object as x, if autograd does not record the call.

    If it does, and `forward` would take x, nothing is computed.  True: record it by an autograd.Function.  False: it is
    so small that torch's own relu or leaky_relu takes less time than that.
    """
    cdef Operand o_x, o_weight
    cdef bint recorded
    if not read(&o_x, x) or not is_ordinary() or x.is_neg():
        return None
    recorded = x.requires_grad
    if op == AS_PRELU:
        if not read(&o_weight, more) or not go_together(&o_x, &o_weight) or not fit(&o_x, &o_weight) \
                or more.is_neg() or says(autocast_is_on):
            return None
        recorded = recorded or more.requires_grad
    if recorded and says(grad_is_enabled):
        return op == AS_PRELU or o_x.size >= alone
    return forward_of(op, x, &o_x, &o_weight, more if op == AS_LEAKY_RELU else 0)


def in_place(int op, x, more=None):
    """As `forward`, in the place of x: x, or None."""
    cdef Operand o_x
    if not read(&o_x, x):
        return None
    return x if run(op, False, &o_x.array, NULL, NULL, &o_x, NULL, more if op == AS_LEAKY_RELU else 0) else None


def attempt_backward(int op, dy, x, more=None, bint need_dx=True, bint need_dalpha=True):
    """As `backward`, for any dy; None if autograd records this backward."""
    if says(grad_is_enabled) or not is_ordinary() or dy.is_neg():
        return None
    return backward(op, dy, x, more, need_dx, need_dalpha)


def backward(int op, dy, x, more=None, bint need_dx=True, bint need_dalpha=True):
    """The gradient, for prelu the tuple of both (None: not needed).  None: not the common call."""
    cdef Operand o_dy, o_x, o_dx, o_weight, o_dalpha
    cdef const fastact_array* a_dx = NULL
    cdef const fastact_array* a_dalpha = NULL
    cdef double slope = 0
    dx = dalpha = None
    if not read(&o_x, x) or not read(&o_dy, dy) or o_dy.array.dtype != o_x.array.dtype:
        return None
    if need_dx:
        dx = new(&o_dx, &o_x, x)
        if dx is None:
            return None
        a_dx = &o_dx.array
    if op == AS_PRELU:
        if not read(&o_weight, more) or not go_together(&o_x, &o_weight):
            return None
        if need_dalpha:
            dalpha = new(&o_dalpha, &o_weight, more)
            if dalpha is None:
                return None
            a_dalpha = &o_dalpha.array
        if not run(op, True, a_dx, a_dalpha, &o_dy.array, &o_x, &o_weight.array, 0):
            return None
        return dx, dalpha
    if op == AS_LEAKY_RELU:
        slope = more
    return dx if run(op, True, a_dx, NULL, &o_dy.array, &o_x, NULL, slope) else None
