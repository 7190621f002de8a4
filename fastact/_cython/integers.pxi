# relu of signed integers; compiled once per SIMD level.
#
# A compare and a mask in every width are what compilers vectorise well, so this is the plain loop.
# Unsigned integers and booleans are never below 0: their relu is a copy, made by NumPy.
# The addresses are called like those of kernels.pxi.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, intptr_t

ctypedef fused integer:
    int8_t
    int16_t
    int32_t
    int64_t

cdef inline integer relu(integer x) noexcept nogil:
    return x if x > 0 else <integer>0

cdef void k_relu(integer* y, intptr_t dy, const integer* x, intptr_t a, intptr_t acc,
                 Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = relu(x[i])

ADDRESSES = {
    "int8": <intptr_t>&k_relu[int8_t],
    "int16": <intptr_t>&k_relu[int16_t],
    "int32": <intptr_t>&k_relu[int32_t],
    "int64": <intptr_t>&k_relu[int64_t],
}
