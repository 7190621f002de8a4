# What the modules of the compiled core share: a kernel's signature, what a call adds to a plan, and `launch`.

from libc.stdint cimport intptr_t

from fastact cimport fastact_parallel_for
from fastact._cython.plan cimport Plan

include "tables.pxi"

ctypedef void (*Kernel)(InnerLoop* loop) noexcept nogil

cdef struct Call:
    Kernel kernel
    intptr_t y, dy, x       # addresses; 0 where there is no such operand
    intptr_t alpha          # the slopes, dense in the plan's order of axes
    intptr_t dalpha         # one number for each slope, in the same order; 0: no sum is needed
    bint constant_dy        # dy is one number, at the address `dy`
    bint narrow             # dalpha is float32: sums are rounded once, at the end
    bint single_terms       # every slope has one term: the kernel writes dalpha itself, in x's type, the computing type
    int threads             # what somebody asked for; 0: nobody did
    int source              # where threads come from, as fastact.h numbers it; 0: the package's own pool
    fastact_parallel_for parallel_for       # the function of the source FASTACT_SOURCE_CALLER
    void* context                           # the first argument of that function
    double* scratch         # memory for partial sums; where it is too small, `run` allocates its own
    Py_ssize_t scratch_doubles

ctypedef void (*fa_range)(const void* work, int index, int count) noexcept nogil

cdef Py_ssize_t threads_for(const Call* call, Py_ssize_t traffic, bint summed) noexcept nogil
cdef void share_out(const Call* call, Py_ssize_t traffic, Py_ssize_t threads, fa_range range_, const void* work
                    ) noexcept nogil
cdef void in_pairs(const double* term, Py_ssize_t outer, Py_ssize_t outer_step, Py_ssize_t inner, Py_ssize_t step,
                   double* sums, int width) noexcept nogil
cdef int launch(const Plan* plan, const Call* call) noexcept nogil
cdef int run(const Plan* plan, const Call* call, Py_ssize_t traffic, Py_ssize_t threads, bint stream) noexcept nogil
cdef int read_quota() except -1
