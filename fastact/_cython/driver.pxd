# What the front door shares with the driver: a kernel's signature, a plan as C reads it, and `run`.

from libc.stdint cimport intptr_t

ctypedef void (*Kernel)(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                        Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil

cdef enum:
    MAX_DIMS = 64           # NumPy's own limit
    RUNNING = 1
    GROUP = 16

cdef struct Dim:
    Py_ssize_t size
    Py_ssize_t y, dy, x     # strides in bytes

cdef struct Job:
    Kernel kernel
    intptr_t y, dy, x, a    # addresses; 0 where the operation has no such operand
    Py_ssize_t itemsize, alpha_step, flags
    Py_ssize_t m, columns, segments, segment, copies, channels, repeats, elements
    Py_ssize_t chunk_columns, chunk_rows, n_planes, n_rows, groups, strips
    bint joined
    int plane_dims, row_dims
    Dim[MAX_DIMS] dims      # planes first, then rows
    double* partial         # [plane][group][column]; NULL where nothing is summed


cdef class Prepared:
    cdef Job job
    cdef Py_ssize_t chunks, lanes


cdef int run(Prepared prepared, Kernel kernel, intptr_t y, intptr_t dy, intptr_t x, intptr_t a,
             Py_ssize_t flags, int threads, double* sums) except -1
