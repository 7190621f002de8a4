# What the fast path shares with the driver: a kernel's signature, a plan as C reads it, and `run`.

from libc.stdint cimport intptr_t

ctypedef void (*Kernel)(intptr_t y, intptr_t dy, intptr_t x, intptr_t a, intptr_t acc,
                        Py_ssize_t n, Py_ssize_t m, Py_ssize_t flags) noexcept nogil

cdef enum:
    MAX_DIMS = 64           # NumPy's own limit
    RUNNING = 1
    EACH = 4
    AGAIN = 32              # of an elementwise run of rows: acc has its first slope, their number, its offset in a row
    SLOPES = 16             # `a` has the slopes only: a running kernel's pattern is to be made of them
    GROUP = 16

cdef struct Dim:
    Py_ssize_t size
    Py_ssize_t y, dy, x     # strides in bytes

cdef struct Job:
    Kernel kernel
    intptr_t y, dy, x, a    # addresses; 0 where the operation has no such operand
    Py_ssize_t itemsize, alpha_step, flags
    Py_ssize_t m, columns, segments, segment, copies, channels, repeats, elements
    Py_ssize_t chunk_columns, edge, chunk_rows, n_planes, n_rows, groups, strips
    bint joined, plain      # plain: rows one after the other and no sum, which need no chunks
    int plane_dims, row_dims
    const Dim* dims         # planes first, then rows
    double* partial         # [plane][group][column]; NULL where nothing is summed ...
    Py_ssize_t pattern      # doubles that alpha's pattern takes in each thread's scratch; 0: `a` can be read as it is
    intptr_t each           # ... and dalpha itself where every alpha has one term (flag EACH), else 0


cdef class Prepared:
    cdef Job job
    cdef Dim[MAX_DIMS] dims
    cdef Py_ssize_t chunks, lanes, elements
    cdef bint folds         # whether an alpha has more than one partial sum
    cdef bint dense         # whether all rows lie one after the other


cdef int run(Prepared prepared, Kernel kernel, intptr_t y, intptr_t dy, intptr_t x, intptr_t a,
             Py_ssize_t flags, int threads, void* sums) except -1

cdef int processors() noexcept nogil      # that the calling thread may use
cdef int openmp_limit() noexcept nogil    # threads that the loaded OpenMP runtimes allow it
