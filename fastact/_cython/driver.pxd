# What the compiled core shares: a kernel's signature, what a call brings to a plan, and `launch`.

from libc.stdint cimport intptr_t

from fastact._cython.plan cimport Plan

include "tables.pxi"

ctypedef void (*Kernel)(InnerLoop* loop) noexcept nogil

cdef struct Call:
    Kernel kernel
    intptr_t y, dy, x       # addresses; 0 where there is no such operand
    intptr_t alpha          # the slopes, dense in the plan's order of axes
    intptr_t dalpha         # one number for each slope, in the same order; 0: no sum is needed
    bint narrow             # dalpha is float32: sums are rounded once, at the end
    bint single_terms       # every slope has one term: the kernel writes dalpha itself, in x's type
    int threads             # what somebody asked for; 0: nobody did

cdef int launch(const Plan* plan, const Call* call) except -1
cdef int run(const Plan* plan, const Call* call, Py_ssize_t threads, bint stream) noexcept nogil
cdef int thread_bound(int explicit) except -1
