# The types of _plan.py.

cimport cython

cdef extern from "tables.h":
    enum: MAX_LOOPS

cdef struct Loop:               # one loop: its length, the operands' strides in bytes, alpha's stride in elements
    Py_ssize_t size, y, dy, x, alpha

# The work is made of planes (each with slopes of its own), a plane of rows (which are added up in dalpha), and a row of
# columns (each has one sum).
cdef struct Plan:
    int itemsize                # of the storage type
    int slope_size              # bytes of a slope, which has the computing type
    Py_ssize_t elements         # of x in all
    # Bytes from an operand's first element (all indices 0) to where its lowest element begins and its highest one ends.
    Py_ssize_t y_low, dy_low, x_low, y_high, dy_high, x_high
    bint along                  # whether alpha is along the inner loop
    Py_ssize_t m                # elements of a row with one slope, or the period of an alpha along the loop
    Py_ssize_t columns          # sums in a row: its channels times their segments, or the period
    int segments                # the pieces of a channel's m elements (1 where alpha is along the loop)
    Py_ssize_t segment          # elements of such a piece
    int copies                  # how often the period has all slopes
    Py_ssize_t channels         # slopes of a plane
    Py_ssize_t repeats          # columns of one slope: its neighbours in the period, or its segments
    bint joined                 # whether rows lie one after the other, so that one inner loop takes many
    Py_ssize_t joined_elements  # elements of all rows that are joined
    Py_ssize_t chunk_columns, chunk_rows    # the size of a chunk, the part that a thread takes at a time
    Py_ssize_t planes, rows     # how many there are
    int plane_loops, row_loops  # how many loops make them
    # What follows from the above:
    Py_ssize_t groups           # how many groups of rows have partial sums of their own
    Py_ssize_t strips           # how many pieces of chunk_columns columns there are
    Py_ssize_t chunks           # pieces that the work is cut into
    Py_ssize_t longest          # the most elements of an inner loop
    Py_ssize_t alphas           # slopes in all
    bint reduces                # whether a slope has more than one partial sum
    bint repeated               # whether the kernel reads a pattern that is made of the slopes
    Py_ssize_t pattern          # elements of a plane's pattern: a period, and if joined GROUP more
    Py_ssize_t scratch          # doubles that a chunk's sums take
    bint dense                  # whether equal parts of all elements can be run as single inner loops
    # Planes' loops first, then rows', each from outermost to innermost.  It is the last field because a slot of the
    # fast path keeps the first loops only.
    Loop[MAX_LOOPS] loops

cdef Py_ssize_t GROUP, LINE, RADIX, SUM_LEVELS, SHORTEST_ROW, SEGMENT, PERIOD, REGISTERS, SHORT_PERIOD, COLUMNS
cdef Py_ssize_t LEAST_CHUNK
cdef Py_ssize_t MOST_CHUNK, CHUNKS, SHORT_LOOP, MAX_SEGMENTS, MAX_GROUPS, PARTIALS

cdef bint make_plan(Plan* plan, int ndim, const Py_ssize_t* shape, const Py_ssize_t* ys, const Py_ssize_t* dys,
                    const Py_ssize_t* xs, const Py_ssize_t* alpha_shape, const int* order, Py_ssize_t itemsize,
                    bint summed) noexcept nogil


@cython.locals(merged=cython.bint)
cdef int collapse(Plan* plan, int ndim, const Py_ssize_t* shape, const Py_ssize_t* ys, const Py_ssize_t* dys,
                  const Py_ssize_t* xs, const Py_ssize_t* alpha_shape, const int* order) noexcept nogil
cdef Py_ssize_t turns_of(const Plan* plan, int count, bint with_alpha) noexcept nogil
cdef int row_loops(const Plan* plan, int count) noexcept nogil
cdef bint is_step(Loop loop, Py_ssize_t step) noexcept nogil
cdef Py_ssize_t chunk_of(const Plan* plan) noexcept nogil


@cython.locals(often=cython.bint)
cdef void use_rows(Plan* plan, int count, Py_ssize_t m, bint summed) noexcept nogil


@cython.locals(joined=cython.bint)
cdef void use_alpha_along(Plan* plan, int count, Py_ssize_t channels, Py_ssize_t repeats, Py_ssize_t period,
                          bint summed) noexcept nogil
cdef Py_ssize_t copies_of(Py_ssize_t period, bint summed) noexcept nogil
cdef void make_grid(Plan* plan, int count, Py_ssize_t chunk, Py_ssize_t per_row, bint summed) noexcept nogil
