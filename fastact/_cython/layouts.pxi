# Part of entry.pyx: it runs checked operands of any layout and dtype as they lie, or tile by tile.

# ---- moving elements -------------------------------------------------------------------------------------------------

cdef extern from "blocks.h" nogil:
    ctypedef struct Block "struct fa_block":
        char* out
        const char* in_ "in"
        Py_ssize_t rows, n, out_row, out_step, in_row, in_step, dtype
        bint doubles
    void fa_move(const Block* block) noexcept
    void fa_convert(const Block* block) noexcept
    void fa_narrow(const Block* block) noexcept

cdef extern from *:
    """
    typedef void (*fa_mover)(const struct fa_block *);
    /* At first the functions above, for any processor; when a SIMD level's modules are loaded, that level's functions.
       They are read and written atomically because calls without the GIL read them. */
    static fa_mover fa_level_move = fa_move, fa_level_convert = fa_convert, fa_level_narrow = fa_narrow;
    #define fa_mover_of(which) __atomic_load_n(&fa_level_##which, __ATOMIC_RELAXED)
    static void fa_use_movers(void *move, void *convert, void *narrow)
    {
        __atomic_store_n(&fa_level_narrow, (fa_mover)narrow, __ATOMIC_RELAXED);
        __atomic_store_n(&fa_level_move, (fa_mover)move, __ATOMIC_RELAXED);
        __atomic_store_n(&fa_level_convert, (fa_mover)convert, __ATOMIC_RELAXED);
    }
    """
    ctypedef void (*Mover "fa_mover")(const Block* block) noexcept nogil
    Mover mover "fa_mover_of(move)"
    Mover converter "fa_mover_of(convert)"
    Mover narrower "fa_mover_of(narrow)"
    void fa_use_movers(void* move, void* convert, void* narrow) noexcept


def use_movers(addresses):
    """Take fa_move, fa_convert and fa_narrow from a SIMD level's module."""
    fa_use_movers(<void*><intptr_t>addresses["move"], <void*><intptr_t>addresses["convert"],
                  <void*><intptr_t>addresses["narrow"])


cdef struct Walk:                       # a block of an array, in pieces that the functions above take
    Block piece
    int ndim                            # loops around a piece
    Py_ssize_t[MAX_LOOPS] size, out, in_, index     # their lengths, strides and current indices


cdef enum:
    SHORTEST_PIECE = 8                  # elements: where rows are shorter, rows and columns are exchanged


cdef inline void exchange(Py_ssize_t* a, Py_ssize_t* b) noexcept nogil:
    cdef Py_ssize_t value = a[0]
    a[0], b[0] = b[0], value


cdef void begin(Walk* w, int ndim, const Py_ssize_t* shape, const Py_ssize_t* outs, const Py_ssize_t* ins, int dtype
                ) noexcept nogil:
    """Set up a walk: axes of length 1 are left out, and neighbours that one stride covers are merged."""
    cdef int d, k, side
    cdef Py_ssize_t itemsize = fa_itemsize(dtype)
    w.piece.dtype = dtype
    w.piece.rows = w.piece.n = 1
    w.piece.out_row = w.piece.in_row = 0
    w.piece.out_step, w.piece.in_step = itemsize, itemsize
    k = -1
    for d in range(ndim):
        if shape[d] == 1:
            continue
        if k >= 0 and w.out[k] == outs[d] * shape[d] and w.in_[k] == ins[d] * shape[d]:
            w.size[k] *= shape[d]
        else:
            k += 1
            w.size[k], w.index[k] = shape[d], 0
        w.out[k], w.in_[k] = outs[d], ins[d]
    if k >= 0:
        w.piece.n, w.piece.out_step, w.piece.in_step = w.size[k], w.out[k], w.in_[k]
        k -= 1
    if k >= 0:
        # A piece's rows are the last loop but one; but where an array is contiguous along another loop and not along
        # the last one, they are that loop.
        side = k
        for d in range(k):
            if (w.in_[d] == itemsize and w.piece.in_step != itemsize) \
                    or (w.out[d] == itemsize and w.piece.out_step != itemsize):
                side = d
        w.piece.rows, w.piece.out_row, w.piece.in_row = w.size[side], w.out[side], w.in_[side]
        for d in range(side, k):
            w.size[d], w.out[d], w.in_[d] = w.size[d + 1], w.out[d + 1], w.in_[d + 1]
        k -= 1
        if w.piece.n < SHORTEST_PIECE < w.piece.rows and (
                w.piece.in_step == 0 or (w.piece.in_row != itemsize and w.piece.out_row != itemsize)):
            exchange(&w.piece.n, &w.piece.rows)
            exchange(&w.piece.out_step, &w.piece.out_row)
            exchange(&w.piece.in_step, &w.piece.in_row)
    w.ndim = k + 1


cdef bint next_piece(Walk* w) noexcept nogil:
    """Go to the next piece; False: there is none."""
    cdef int d
    for d in range(w.ndim - 1, -1, -1):
        w.piece.out += w.out[d]
        w.piece.in_ += w.in_[d]
        w.index[d] += 1
        if w.index[d] < w.size[d]:
            return True
        w.piece.out -= w.out[d] * w.size[d]
        w.piece.in_ -= w.in_[d] * w.size[d]
        w.index[d] = 0
    return False


cdef inline void run_pieces(Walk* w, Mover function, char* out, const char* in_) noexcept nogil:
    """Call a function on every piece of a block that begins at these addresses."""
    w.piece.out, w.piece.in_ = out, in_
    function(&w.piece)
    while w.ndim and next_piece(w):
        function(&w.piece)


cdef void store_number(void* out, const void* element, int given, int dtype) noexcept nogil:
    """Convert one element from its dtype (`given`) to a computing type, or to the same dtype in native byte order."""
    cdef char[8] native
    cdef Block block
    block.out, block.in_, block.rows, block.n, block.dtype = native, <const char*>element, 1, 1, given
    block.out_row = block.in_row = 0
    block.out_step = block.in_step = fa_itemsize(given)
    fa_move(&block)
    if given & ~SWAPPED == dtype:
        memcpy(out, native, fa_itemsize(dtype))
        return
    block.out, block.in_, block.doubles = <char*>out, native, dtype == FASTACT_FLOAT64
    fa_convert(&block)


# ---- a call ----------------------------------------------------------------------------------------------------------

cdef struct Operand:
    char* data                          # NULL: there is none
    int dtype
    Py_ssize_t[MAX_LOOPS] strides       # along x's axes; 0 where alpha is broadcast
cdef struct Operands:                   # of one call, checked
    int dtype                           # the kernel's storage type
    Py_ssize_t itemsize
    int alpha_dtype                     # the kernel's computing type, in which it reads alpha
    Py_ssize_t slope_size
    int ndim
    Py_ssize_t elements, alphas         # of x; of alpha, 0 where there is none
    Py_ssize_t[MAX_LOOPS] shape, alpha_shape
    int[MAX_LOOPS] order                # x's axes from outermost to innermost in memory
    Operand y, dalpha, dy, x, alpha
    Call call                           # threads and their source


cdef void take(Operand* operand, const fastact_array* a, int ndim, const Py_ssize_t* shape, int axis) noexcept nogil:
    """Fill in an operand: an array's address, its dtype, and its strides along x's axes.

    `shape` is x's or alpha's.  `axis` is the axis of x for the only axis of a per-channel alpha, else -1.
    """
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int d
    operand.data = NULL
    if a == NULL:
        return
    operand.data, operand.dtype = <char*>a.data, a.dtype
    strides_of(a, strides)
    for d in range(ndim):
        operand.strides[d] = 0
        if shape[d] != 1:
            operand.strides[d] = strides[0 if axis >= 0 else d - ndim + a.ndim]


cdef bint is_dense(const Operand* operand, int ndim, const Py_ssize_t* shape, const int* order,
                   Py_ssize_t itemsize) noexcept nogil:
    """Whether an operand's elements lie one after the other in this order of axes."""
    cdef int d, axis
    for d in range(ndim - 1, -1, -1):
        axis = order[d]
        if shape[axis] != 1:
            if operand.strides[axis] != itemsize:
                return False
            itemsize *= shape[axis]
    return True


cdef void reorder(Py_ssize_t* out, const Py_ssize_t* values, int ndim, const int* order) noexcept nogil:
    """Copy values along x's axes to `out` in this order of axes."""
    cdef int d
    for d in range(ndim):
        out[d] = values[order[d]]


cdef struct Load:                       # how a block is moved and converted
    Walk move, convert
    bint moves, converts, back


cdef void prepare(Load* how, int given, int dtype, int ndim, const Py_ssize_t* shape, const Py_ssize_t* strides,
                  const Py_ssize_t* dense, bint back) noexcept nogil:
    """Set up to copy blocks of an array (dtype `given`, any strides) to C order (strides `dense`) in a kernel's type.

    `back`: from C order into the array; the only conversion is then from float32 to 16-bit floats.
    """
    cdef Py_ssize_t[MAX_LOOPS] own
    how.converts = given & ~SWAPPED != dtype
    how.moves, how.back = True, back
    if back:
        if how.converts:
            c_order(ndim, <const int64_t*>shape, fa_itemsize(given), own)
            begin(&how.convert, ndim, shape, own, dense, given & ~SWAPPED)
            dense = own
        begin(&how.move, ndim, shape, strides, dense, given)
        return
    if how.converts:
        begin(&how.convert, ndim, shape, dense, strides, given)
        how.moves = given & SWAPPED or how.convert.piece.in_step != fa_itemsize(given) \
            or how.convert.piece.out_step != fa_itemsize(dtype)
        if how.moves:
            c_order(ndim, <const int64_t*>shape, fa_itemsize(given), own)
            begin(&how.convert, ndim, shape, dense, own, given & ~SWAPPED)
            begin(&how.move, ndim, shape, own, strides, given)
        how.convert.piece.doubles = dtype == FASTACT_FLOAT64
    else:
        begin(&how.move, ndim, shape, dense, strides, given)


cdef void load(Load* how, char* out, const char* in_, char* spare) noexcept nogil:
    """Copy one block.  `spare` has room for its elements in the array's dtype."""
    if how.converts and how.back:
        run_pieces(&how.convert, narrower, spare, in_)
        run_pieces(&how.move, mover, out, spare)
    elif how.converts:
        if how.moves:
            run_pieces(&how.move, mover, spare, in_)
            in_ = spare
        run_pieces(&how.convert, converter, out, in_)
    else:
        run_pieces(&how.move, mover, out, in_)


cdef void round_sums(Walk* w, char* out, const double* sums, int dtype) noexcept nogil:
    """Write sums as elements of a float dtype; each is rounded once."""
    cdef Py_ssize_t r
    w.piece.out, w.piece.in_ = out, <const char*>sums
    while True:
        for r in range(w.piece.rows):
            fa_round(w.piece.out + r * w.piece.out_row, w.piece.out_step,
                     <const double*>(w.piece.in_ + r * w.piece.in_row), w.piece.in_step, w.piece.n, dtype)
        if not next_piece(w):
            return


cdef void add_sums(Walk* w, char* out, const double* sums) noexcept nogil:
    """Add sums to others."""
    cdef Py_ssize_t r, i
    w.piece.out, w.piece.in_ = out, <const char*>sums
    while True:
        for r in range(w.piece.rows):
            for i in range(w.piece.n):
                (<double*>(w.piece.out + r * w.piece.out_row + i * w.piece.out_step))[0] += (
                    <const double*>(w.piece.in_ + r * w.piece.in_row + i * w.piece.in_step))[0]
        if not next_piece(w):
            return


cdef void write_sums(const Operands* o, const double* sums) noexcept nogil:
    """Write dalpha from its sums, which are in C order after their axes were put in o.order."""
    cdef Walk w
    cdef Py_ssize_t[MAX_LOOPS] shape
    cdef Py_ssize_t[MAX_LOOPS] dense
    cdef Py_ssize_t[MAX_LOOPS] strides
    reorder(shape, o.alpha_shape, o.ndim, o.order)
    reorder(strides, o.dalpha.strides, o.ndim, o.order)
    c_order(o.ndim, <const int64_t*>shape, sizeof(double), dense)
    begin(&w, o.ndim, shape, strides, dense, FASTACT_FLOAT64)
    round_sums(&w, o.dalpha.data, sums, o.dalpha.dtype)


cdef inline bint is_whole(const Operand* operand, const Operands* o) noexcept nogil:
    """Whether an operand's elements lie one after the other in the order of axes; true if there is no such operand."""
    return operand.data == NULL or is_dense(operand, o.ndim, o.shape, o.order, o.itemsize)


cdef bint is_constant(const Operand* operand, int ndim) noexcept nogil:
    """Whether all elements of an operand are one element in memory."""
    cdef int d
    for d in range(ndim):
        if operand.strides[d] != 0:
            return False
    return True


cdef int run_as_they_lie(Operands* o, bint* done) noexcept nogil:
    """Run operands of the computing type in one plan, if there is one (`done`)."""
    cdef Plan plan
    cdef Call call = o.call
    cdef bint summed = o.dalpha.data != NULL, alpha_dense, single, direct, constant
    cdef char* memory = NULL
    cdef Py_ssize_t sums_bytes, alpha_bytes
    cdef double number
    cdef Py_ssize_t[MAX_LOOPS] shape
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef Py_ssize_t[MAX_LOOPS] dense
    cdef Load how
    cdef int status
    done[0] = False
    constant = o.dy.data != NULL and is_constant(&o.dy, o.ndim)
    if o.x.dtype != o.dtype or (o.dy.data != NULL and o.dy.dtype != o.dtype and not constant):
        return FASTACT_OK
    alpha_dense = o.alphas == 0 or (o.alpha.dtype == o.alpha_dtype
                                    and is_dense(&o.alpha, o.ndim, o.alpha_shape, o.order, o.slope_size))
    if o.alphas > TILE_ELEMENTS and not alpha_dense:
        return FASTACT_OK
    single = summed and o.alphas == o.elements and o.elements > 1 and o.dalpha.dtype == o.dtype
    direct = summed and (single or o.dalpha.dtype >= FASTACT_FLOAT32) \
        and is_dense(&o.dalpha, o.ndim, o.alpha_shape, o.order, fa_itemsize(o.dalpha.dtype)) \
        and <intptr_t>o.dalpha.data % fa_itemsize(o.dalpha.dtype) == 0
    single = single and direct
    if not make_plan(&plan, o.ndim, o.shape, &o.y.strides[0] if o.y.data != NULL else &o.x.strides[0],
                     &o.dy.strides[0] if o.dy.data != NULL and not constant else &o.x.strides[0], o.x.strides,
                     o.alpha_shape, o.order, o.itemsize, summed and not single):
        return FASTACT_OK
    # Short loops with gaps between them, as in a crop of an image, cost more than a copy of their elements.
    if plan.longest < (SHORTEST_LOOP if o.alphas else SHORTEST_ROWS) and o.elements > SHORTEST_LOOP and not (
            is_whole(&o.x, o) and is_whole(&o.y, o) and (constant or is_whole(&o.dy, o))):
        return FASTACT_OK
    # Either alpha is read where it lies, or its repeated pattern fits a cache-sized scratch.
    if o.alphas and plan.alphas * plan.repeats * plan.copies > TILE_ELEMENTS and (
            not alpha_dense or (plan.along and plan.repeats > 1)):
        return FASTACT_OK
    # The memory holds the sums (where they are not written to dalpha itself), then alpha, then alpha before conversion.
    sums_bytes = 0 if direct or not summed else o.alphas * <Py_ssize_t>sizeof(double)
    alpha_bytes = 0 if alpha_dense else o.alphas * <Py_ssize_t>sizeof(double)
    if sums_bytes + alpha_bytes:
        memory = <char*>malloc(sums_bytes + 2 * alpha_bytes)
        if memory == NULL:
            return FASTACT_NO_MEMORY
    call.alpha = <intptr_t>o.alpha.data
    call.dalpha = <intptr_t>(o.dalpha.data if direct else memory) if summed else 0
    call.narrow = direct and o.dalpha.dtype == FASTACT_FLOAT32
    call.single_terms = single
    if not alpha_dense:
        call.alpha = <intptr_t>memory + sums_bytes
        reorder(shape, o.alpha_shape, o.ndim, o.order)
        reorder(strides, o.alpha.strides, o.ndim, o.order)
        c_order(o.ndim, <const int64_t*>shape, o.slope_size, dense)
        prepare(&how, o.alpha.dtype, o.alpha_dtype, o.ndim, shape, strides, dense, False)
        load(&how, <char*>call.alpha, o.alpha.data, <char*>call.alpha + alpha_bytes)
    call.y, call.dy, call.x = <intptr_t>o.y.data, <intptr_t>o.dy.data, <intptr_t>o.x.data
    call.constant_dy = constant
    if constant:
        store_number(&number, o.dy.data, o.dy.dtype, o.dtype)
        call.dy = <intptr_t>&number
    status = launch(&plan, &call)
    if status == FASTACT_OK and summed and not direct:
        write_sums(o, <double*>memory)
    free(memory)
    done[0] = True
    return status


# ---- buffered, tile by tile ------------------------------------------------------------------------------------------
# This does what _buffered.py does; the order of the sums is explained there.

cdef enum:
    SCRATCH_TILES = 12                  # bytes of scratch that a tile's sums may take, in tiles of an operand
    SIDE_BY_SIDE = 32                   # sums that in_pairs adds at once
cdef enum:
    Y, DY, X, ALPHA, PARTS              # the operands that have tiles
cdef struct Part:                       # an operand in the order of axes
    const Operand* operand
    Py_ssize_t[MAX_LOOPS] strides
cdef struct Tiles:                      # what the threads share
    const Operands* o
    Part[PARTS] part
    Part dalpha
    Py_ssize_t[MAX_LOOPS] shape, alpha_shape
    Py_ssize_t[MAX_LOOPS] extent        # of a tile
    int cuts                            # the number of axes along which there are several tiles
    int[MAX_LOOPS] cut                  # these axes
    Py_ssize_t[MAX_LOOPS] along         # how many tiles there are along each
    Py_ssize_t[MAX_LOOPS] sums_strides  # of the sums in C order, in bytes; 0 where alpha is broadcast
    Py_ssize_t tiles, groups
    bint summed, single                 # whether there is a dalpha; whether its slopes have single terms
    bint terms                          # whether the kernel writes these single terms itself, in dalpha's type
    bint stream                         # whether a result that needs no copy is streamed
    Py_ssize_t tile_elements, tile_bytes    # of one operand's tile
    Py_ssize_t bytes                    # of a thread's memory
    char* memory
    double* totals                      # the sums of each group
cdef struct Own:                        # what a thread has for itself
    char* tiles                         # of y, dy, x, alpha
    char* spare                         # for elements before their conversion
    double* sums                        # of one tile
    double* levels                      # the sums of a group's tiles, on SUM_LEVELS levels
    Py_ssize_t[SUM_LEVELS] first, stop  # the range of slopes whose sums on a level may not be 0
    double* scratch
    # What follows from the extent of the tile that the thread is at:
    Py_ssize_t[MAX_LOOPS] extent, alpha_extent
    Py_ssize_t[MAX_LOOPS] dense, alpha_dense, sums_dense    # strides in C order
    bint[PARTS] lies                    # whether an operand is read or written where it lies
    Load[PARTS] load                    # what is done where it is not
    bint terms_lie                      # the same for single terms
    Load write_terms
    Walk add                            # for the tile's sums
    Plan plan


cdef void make_part(Part* part, const Operands* o, const Operand* operand) noexcept nogil:
    part.operand = operand
    if operand.data != NULL:
        reorder(part.strides, operand.strides, o.ndim, o.order)


cdef int fastest(const Part* part, int ndim, const Py_ssize_t* shape) noexcept nogil:
    """The axis along which an operand's elements lie closest together; -1: there is none."""
    cdef int d, found = -1
    for d in range(ndim):
        if shape[d] > 1 and part.strides[d] != 0 and (
                found < 0 or size_of_step(part.strides[d]) <= size_of_step(part.strides[found])):
            found = d
    return found


cdef void choose_tiles(Tiles* t, int ndim) noexcept nogil:
    """The extent of a tile, and how many there are."""
    cdef Py_ssize_t others, elements = BUFFER_ELEMENTS
    cdef int d, k, side, last = 0
    for d in range(ndim):
        t.extent[d] = 1
        if t.shape[d] > 1:
            last = d
    for k in range(PARTS):
        if t.part[k].operand.data != NULL and (k != ALPHA or t.o.alphas == t.o.elements):
            side = fastest(&t.part[k], ndim, t.shape)
            if side >= 0 and side != last:
                t.extent[side] = min(t.shape[side], BUFFER_SIDE)
                elements = BUFFER_TURNED
    for d in range(ndim - 1, -1, -1):
        others = 1
        for k in range(ndim):
            others *= t.extent[k] if k != d else 1
        t.extent[d] = min(t.shape[d], max(t.extent[d], elements // others))
        if t.extent[d] < t.shape[d]:
            break
    t.tiles, t.cuts = 1, 0
    for d in range(ndim):
        if t.extent[d] < t.shape[d]:
            t.cut[t.cuts], t.along[t.cuts] = d, (t.shape[d] + t.extent[d] - 1) // t.extent[d]
            t.tiles *= t.along[t.cuts]
            t.cuts += 1


cdef void use_extent(const Tiles* t, Own* own) noexcept nogil:
    """Compute what depends on a tile's extent: strides, which operands are copied and how, the plan."""
    cdef const Operands* o = t.o
    cdef const Part* part
    cdef const Py_ssize_t* extent
    cdef const Py_ssize_t* dense
    cdef const Py_ssize_t* sums_strides = &t.dalpha.strides[0]
    cdef int[MAX_LOOPS] axes
    cdef int d, k, dtype
    for d in range(o.ndim):
        axes[d] = d
        own.alpha_extent[d] = own.extent[d] if t.alpha_shape[d] != 1 else 1
    c_order(o.ndim, <const int64_t*>own.extent, o.itemsize, own.dense)
    c_order(o.ndim, <const int64_t*>own.alpha_extent, o.slope_size, own.alpha_dense)
    c_order(o.ndim, <const int64_t*>own.alpha_extent, sizeof(double), own.sums_dense)
    for k in range(PARTS):
        part = &t.part[k]
        own.lies[k] = True
        if part.operand.data == NULL:
            continue
        extent = &own.alpha_extent[0] if k == ALPHA else &own.extent[0]
        dense = &own.alpha_dense[0] if k == ALPHA else &own.dense[0]
        dtype = o.alpha_dtype if k == ALPHA else o.dtype
        own.lies[k] = part.operand.dtype == dtype
        for d in range(o.ndim):
            if extent[d] > 1 and part.strides[d] != dense[d]:
                own.lies[k] = False
        if not own.lies[k]:
            prepare(&own.load[k], part.operand.dtype, dtype, o.ndim, extent, part.strides, dense, k == Y)
    if not t.single:
        sums_strides = &t.sums_strides[0]
    own.terms_lie = t.terms
    for d in range(o.ndim):
        if own.extent[d] > 1 and t.dalpha.strides[d] != own.dense[d]:
            own.terms_lie = False
    if t.terms and not own.terms_lie:
        prepare(&own.write_terms, o.dtype, o.dtype, o.ndim, own.extent, t.dalpha.strides, own.dense, True)
    elif t.summed and not t.terms:
        begin(&own.add, o.ndim, own.alpha_extent, sums_strides, own.sums_dense, FASTACT_FLOAT64)
    make_plan(&own.plan, o.ndim, own.extent, own.dense, own.dense, own.dense, own.alpha_extent, axes, o.itemsize,
              t.summed and not t.terms)


cdef void run_tile(const Tiles* t, Py_ssize_t number, Own* own, bint first_one) noexcept nogil:
    """Run one tile, and add its sums to the group's."""
    cdef const Operands* o = t.o
    cdef char* at[PARTS]                # the tile's first element in each operand
    cdef intptr_t[PARTS] where          # the address where the kernel reads or writes the tile
    cdef char* sums_at = t.dalpha.operand.data if t.single else <char*>own.levels
    cdef Py_ssize_t first, size, index = number
    cdef bint changed = first_one
    cdef int c, d, k
    cdef Call call = o.call
    if first_one:
        memcpy(own.extent, t.extent, sizeof(own.extent))
    for k in range(PARTS):
        at[k] = t.part[k].operand.data
    for c in range(t.cuts - 1, -1, -1):
        d = t.cut[c]
        first = index % t.along[c] * t.extent[d]
        index //= t.along[c]
        size = min(t.extent[d], t.shape[d] - first)
        if own.extent[d] != size:
            own.extent[d], changed = size, True
        for k in range(PARTS):
            if at[k] != NULL:
                at[k] += first * t.part[k].strides[d]
        if t.summed:
            sums_at += first * (t.dalpha.strides[d] if t.single else t.sums_strides[d])
    if changed:
        use_extent(t, own)
    for k in range(PARTS):
        where[k] = <intptr_t>at[k]
        if not own.lies[k]:
            where[k] = <intptr_t>(own.tiles + k * t.tile_bytes)
            if k != Y:
                load(&own.load[k], <char*>where[k], at[k], own.spare)
    call.y, call.dy, call.x, call.alpha = where[Y], where[DY], where[X], where[ALPHA]
    call.dalpha = <intptr_t>(sums_at if own.terms_lie else <char*>own.sums) if t.summed else 0
    call.narrow, call.single_terms = False, t.terms
    call.scratch, call.scratch_doubles = own.scratch, SCRATCH_TILES * t.tile_bytes // <Py_ssize_t>sizeof(double)
    run(&own.plan, &call, 0, 1, t.stream and own.lies[Y] and where[Y] % o.itemsize == 0
        and (not t.terms or own.terms_lie and <intptr_t>sums_at % o.itemsize == 0))
    if not own.lies[Y]:
        load(&own.load[Y], at[Y], <char*>where[Y], own.spare)
    if t.terms:
        if not own.terms_lie:
            load(&own.write_terms, sums_at, <char*>own.sums, own.spare)
    elif t.summed and t.single:
        round_sums(&own.add, sums_at, own.sums, o.dalpha.dtype)
    elif t.summed:
        add_sums(&own.add, sums_at, own.sums)
        first = (<double*>sums_at) - own.levels
        own.first[0] = min(own.first[0], first)
        for d in range(o.ndim):
            first += (own.alpha_extent[d] - 1) * t.sums_strides[d] // <Py_ssize_t>sizeof(double)
        own.stop[0] = max(own.stop[0], first + 1)


cdef void move_up(Own* own, int level, Py_ssize_t n) noexcept nogil:
    """Add the sums of a level to those of the next; only those that may not be 0."""
    cdef Py_ssize_t i
    cdef double* low = own.levels + level * n
    for i in range(own.first[level], own.stop[level]):
        low[n + i] += low[i]
        low[i] = 0
    own.first[level + 1] = min(own.first[level + 1], own.first[level])
    own.stop[level + 1] = max(own.stop[level + 1], own.stop[level])
    own.first[level], own.stop[level] = n, 0


cdef void run_tiles(const void* work, int index, int count) noexcept nogil:
    """Run a thread's range of the groups."""
    cdef const Tiles* t = <const Tiles*>work
    cdef Own own
    cdef Py_ssize_t group, number, first, n = t.o.alphas
    cdef bint first_one = True
    cdef int level
    for level in range(SUM_LEVELS):
        own.first[level], own.stop[level] = n, 0
    own.tiles = t.memory + index * t.bytes
    own.spare = own.tiles + PARTS * t.tile_bytes
    own.sums = <double*>(own.spare + t.tile_elements * <Py_ssize_t>sizeof(double))
    own.scratch = own.sums
    if t.summed:
        own.scratch += t.tile_elements
    own.levels = own.scratch + SCRATCH_TILES * t.tile_bytes // <Py_ssize_t>sizeof(double)
    if t.totals != NULL:
        memset(own.levels, 0, SUM_LEVELS * n * sizeof(double))
    for group in range(t.groups * index // count, t.groups * (index + 1) // count):
        first = t.tiles * group // t.groups
        for number in range(first, t.tiles * (group + 1) // t.groups):
            run_tile(t, number, &own, first_one)
            first_one = False
            if t.totals != NULL:
                if (number - first + 1) % RADIX == 0:
                    move_up(&own, 0, n)
                if (number - first + 1) % (RADIX * RADIX) == 0:
                    move_up(&own, 1, n)
        if t.totals != NULL:
            move_up(&own, 0, n)
            move_up(&own, 1, n)
            own.first[2], own.stop[2] = n, 0
            memcpy(t.totals + group * n, own.levels + 2 * n, n * sizeof(double))
            memset(own.levels + 2 * n, 0, n * sizeof(double))


cdef int run_buffered(Operands* o) noexcept nogil:
    """Run operands that cannot be run as they lie."""
    cdef Tiles t
    cdef Py_ssize_t elements = 1, threads, i, traffic
    cdef int d
    cdef char* memory
    t.o = o
    t.summed, t.single = o.dalpha.data != NULL, o.alphas == o.elements
    t.terms = t.summed and t.single and o.dalpha.dtype == o.dtype
    reorder(t.shape, o.shape, o.ndim, o.order)
    reorder(t.alpha_shape, o.alpha_shape, o.ndim, o.order)
    make_part(&t.part[Y], o, &o.y)
    make_part(&t.part[DY], o, &o.dy)
    make_part(&t.part[X], o, &o.x)
    make_part(&t.part[ALPHA], o, &o.alpha)
    make_part(&t.dalpha, o, &o.dalpha)
    choose_tiles(&t, o.ndim)
    t.groups = min(t.tiles, BUFFER_GROUPS)
    if t.summed and not t.single:
        t.groups = min(t.groups, max(1, BUFFER_SUMS // o.alphas))
    c_order(o.ndim, <const int64_t*>t.alpha_shape, sizeof(double), t.sums_strides)
    for d in range(o.ndim):
        elements *= t.extent[d]
        if t.alpha_shape[d] == 1:
            t.sums_strides[d] = 0
    traffic = o.elements * o.itemsize * (1 + (o.y.data != NULL) + (o.dy.data != NULL))
    threads = min(t.groups, threads_for(&o.call, traffic, t.summed))
    if threads == 0:
        return FASTACT_NO_SOURCE
    # A result may share its memory with x or dy only where it is the same array.
    t.stream = o.y.data != NULL and o.y.data != o.x.data and o.y.data != o.dy.data \
        and policy.streams(traffic, threads)
    # The memory of each thread: the tiles, a tile of elements before their conversion, the sums of a tile, the scratch,
    # the sums of a group.  After all threads' memory come the totals of all groups.
    elements = (elements + LINE - 1) // LINE * LINE
    t.tile_elements, t.tile_bytes = elements, elements * max(o.itemsize, o.slope_size)
    t.bytes = (PARTS + SCRATCH_TILES) * t.tile_bytes + elements * <Py_ssize_t>sizeof(double) * (1 + t.summed)
    if t.summed and not t.single:
        t.bytes += SUM_LEVELS * o.alphas * sizeof(double)
    t.bytes = (t.bytes + 2 * LINE - 1) // LINE * LINE
    memory = <char*>malloc(
        threads * t.bytes + (t.groups * o.alphas * sizeof(double) if t.summed and not t.single else 0) + LINE)
    if memory == NULL:
        return FASTACT_NO_MEMORY
    t.memory = memory + (LINE - <intptr_t>memory % LINE)
    t.totals = NULL
    if t.summed and not t.single:
        t.totals = <double*>(t.memory + threads * t.bytes)
    share_out(&o.call, traffic, threads, <fa_range>run_tiles, &t)
    if t.totals != NULL:
        i = 0
        while i < o.alphas:
            in_pairs(t.totals + i, t.groups, o.alphas, 1, 1, t.totals + i, <int>min(SIDE_BY_SIDE, o.alphas - i))
            i += SIDE_BY_SIDE
        write_sums(o, t.totals)
    free(memory)
    return FASTACT_OK


# ---- any layout -----------------------------------------------------------------------------------------------------

cdef inline void turn(Operand* operand, int axis, Py_ssize_t size) noexcept nogil:
    """Reverse an axis of an operand."""
    if operand.data != NULL:
        operand.data += (size - 1) * operand.strides[axis]
        operand.strides[axis] = -operand.strides[axis]


cdef inline Py_ssize_t step_along(const Operands* o, int axis) noexcept nogil:
    """How far apart x's elements are along an axis; where x is expanded, the result's or dy's."""
    if o.x.strides[axis]:
        return size_of_step(o.x.strides[axis])
    if o.y.data != NULL and o.y.strides[axis]:
        return size_of_step(o.y.strides[axis])
    return size_of_step(o.dy.strides[axis]) if o.dy.data != NULL else 0


cdef inline int sign_along(const Operand* operand, int axis) noexcept nogil:
    """Whether an operand's addresses go up (1) or down (-1) along an axis; 0: neither."""
    if operand.data == NULL:
        return 0
    return (operand.strides[axis] > 0) - (operand.strides[axis] < 0)


cdef bint is_backward(const Operands* o, int axis) noexcept nogil:
    """Whether all operands are to be reversed along an axis.

    A sum goes through x from its lowest address to its highest, whatever dx does.  Without a sum the majority of the
    operands goes up.  In a tie the result goes up, because only a result that needs no copy can be streamed.
    """
    cdef int signs = sign_along(&o.x, axis)
    if o.dalpha.data == NULL:
        signs = 2 * (signs + sign_along(&o.dy, axis)) + 3 * sign_along(&o.y, axis)
    return signs < 0


cdef int run_any(Operands* o) noexcept nogil:
    """Run checked operands of any layout."""
    cdef bint done
    cdef int status, d, k
    cdef Py_ssize_t stride
    for d in range(o.ndim):
        if o.shape[d] > 1 and is_backward(o, d):
            turn(&o.x, d, o.shape[d])
            turn(&o.y, d, o.shape[d])
            turn(&o.dy, d, o.shape[d])
            turn(&o.alpha, d, o.alpha_shape[d])
            turn(&o.dalpha, d, o.alpha_shape[d])
    # The axes from x's largest stride to the smallest.  Axes of equal strides are sorted by the result's strides, or
    # keep their order.
    for d in range(o.ndim):
        stride = step_along(o, d)
        k = d
        while k > 0 and (step_along(o, o.order[k - 1]) < stride or (
                o.y.data != NULL and step_along(o, o.order[k - 1]) == stride
                and size_of_step(o.y.strides[o.order[k - 1]]) < size_of_step(o.y.strides[d]))):
            o.order[k] = o.order[k - 1]
            k -= 1
        o.order[k] = d
    status = run_as_they_lie(o, &done)
    if status or done:
        return status
    return run_buffered(o)


cdef void clear_sums(Operands* o) noexcept nogil:
    """Set dalpha to 0, for an x without elements."""
    cdef Py_ssize_t[MAX_LOOPS] nowhere
    cdef double zero = 0
    cdef Walk w
    memset(nowhere, 0, sizeof(nowhere))
    if o.alphas:
        begin(&w, o.ndim, o.alpha_shape, o.dalpha.strides, nowhere, FASTACT_FLOAT64)
        round_sums(&w, o.dalpha.data, &zero, o.dalpha.dtype)


cdef int run_operands(Kernel kernel, int dtype, const fastact_array* y, const fastact_array* dalpha,
                      const fastact_array* dy, const fastact_array* x, const fastact_array* alpha, Py_ssize_t alphas,
                      int axis, const Call* call) noexcept nogil:
    """Run checked operands of any layout.  `axis` is that of a per-channel alpha, else negative."""
    cdef Operands o
    cdef int d
    cdef int channel = axis if alpha != NULL and alpha.ndim == 1 else -1
    o.ndim, o.elements, o.call = x.ndim, 1, call[0]
    o.dtype, o.itemsize = dtype, fa_itemsize(dtype)
    o.alpha_dtype = computing(dtype)
    o.slope_size = fa_itemsize(o.alpha_dtype)
    o.call.kernel = kernel
    for d in range(x.ndim):
        o.shape[d], o.alpha_shape[d] = x.shape[d], 1
        o.elements *= x.shape[d]
    o.alphas = alphas
    if channel >= 0:
        o.alpha_shape[channel] = alphas
    elif alpha != NULL and alphas != 1:
        for d in range(alpha.ndim):
            o.alpha_shape[x.ndim - alpha.ndim + d] = alpha.shape[d]
    take(&o.y, y, o.ndim, o.shape, -1)
    take(&o.dy, dy, o.ndim, o.shape, -1)
    take(&o.x, x, o.ndim, o.shape, -1)
    take(&o.alpha, alpha, o.ndim, o.alpha_shape, channel)
    take(&o.dalpha, dalpha, o.ndim, o.alpha_shape, channel)
    if o.elements == 0:
        if o.dalpha.data != NULL:
            clear_sums(&o)
        return FASTACT_OK
    return run_any(&o)
