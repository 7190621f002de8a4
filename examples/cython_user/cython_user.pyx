# cython: language_level=3
"""PReLU's gradients for rows of float32, computed without the GIL through fastact's C interface."""

from libc.stdint cimport int64_t

from fastact cimport (
    FASTACT_FLOAT32, fastact_array, fastact_default_options, fastact_import, fastact_options, fastact_prelu_backward
)

fastact_import()

cdef struct Described:                  # an array of one or two axes, and the numbers that it points to
    fastact_array array
    int64_t[2] shape, strides


cdef void describe(Described* d, const void* data, int ndim, Py_ssize_t* shape, Py_ssize_t* strides) noexcept nogil:
    """Describe a memoryview's array."""
    cdef int axis
    for axis in range(ndim):
        d.shape[axis], d.strides[axis] = shape[axis], strides[axis]
    d.array.size, d.array.dtype, d.array.ndim = sizeof(fastact_array), FASTACT_FLOAT32, ndim
    d.array.data, d.array.shape, d.array.strides = <void*>data, d.shape, d.strides


cpdef int backward(float[:, :] dx, float[:] dalpha, const float[:, :] dy, const float[:, :] x, const float[:] alpha
                   ) except -1 nogil:
    """Write the gradients of rows whose columns are channels; return 0."""
    cdef Described d_dx, d_dalpha, d_dy, d_x, d_alpha
    cdef char[200] message
    cdef fastact_options options = fastact_default_options()
    options.message, options.message_size = message, sizeof(message)
    if not x.shape[0] or not x.shape[1]:        # an empty memoryview has no address
        with gil:
            raise ValueError("x has no elements")
    describe(&d_dx, &dx[0, 0], 2, dx.shape, dx.strides)
    describe(&d_dalpha, &dalpha[0], 1, dalpha.shape, dalpha.strides)
    describe(&d_dy, &dy[0, 0], 2, dy.shape, dy.strides)
    describe(&d_x, &x[0, 0], 2, x.shape, x.strides)
    describe(&d_alpha, &alpha[0], 1, alpha.shape, alpha.strides)
    if fastact_prelu_backward(&d_dx.array, &d_dalpha.array, &d_dy.array, &d_x.array, &d_alpha.array, &options):
        with gil:
            raise ValueError(message.decode())
    return 0
