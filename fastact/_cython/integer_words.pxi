# The words of _integers.py for Cython.

from libc.stdint cimport uintptr_t

cdef extern from "integers.h" nogil:
    const char* FA_LEVEL
    void* stream_buffer "fa_stream_buffer"()
    void stream_lines "fa_stream_lines"(void*, const void*, Py_ssize_t)
    void fence "fa_fence"()

cdef enum:
    ZERO = 0


cdef inline integer zero_of(const integer* p) noexcept nogil:
    return 0


cdef inline integer* at(const integer* p, Py_ssize_t i) noexcept nogil:
    return <integer*>p + i


cdef inline bint same(const integer* p, const integer* q) noexcept nogil:
    return p == q


cdef inline Py_ssize_t line(const integer* p) noexcept nogil:
    return LINE // sizeof(integer)


cdef inline Py_ssize_t to_line(const integer* p) noexcept nogil:
    return -<uintptr_t>p % LINE // sizeof(integer)
