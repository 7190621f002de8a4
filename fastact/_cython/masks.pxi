# Part of entry.pyx: the kernels with a mask.  They run over all elements in C order, which is also the order of the
# mask's bits.  Operands in another layout or dtype are buffered, a block after the other.

cdef struct Masked:                     # what the threads share
    Kernel kernel
    Operand y, x                        # x is dy in a kernel that reads the mask
    uint8_t* mask
    void* alpha
    int dtype, ndim                     # the kernel's type
    Py_ssize_t itemsize, elements, last     # `last`: the length of the last axis
    Py_ssize_t[MAX_LOOPS] shape
    bint backward, stream
    bint y_lies, x_lies                 # whether an operand is written or read where it lies


cdef void move_elements(const Masked* m, const Operand* operand, Py_ssize_t first, Py_ssize_t n, char* dense, bint back
                        ) noexcept nogil:
    """Copy n elements in C order, from the first-th on, to a dense block in the operand's own dtype, or back."""
    cdef Block block
    cdef Py_ssize_t size = fa_itemsize(operand.dtype), index, k
    cdef Py_ssize_t step = operand.strides[m.ndim - 1] if m.ndim else 0
    cdef char* at
    cdef int d
    block.rows, block.dtype = 1, operand.dtype
    block.out_row = block.in_row = 0
    while n > 0:
        index = first // m.last
        k = first % m.last
        at = operand.data + k * step
        for d in range(m.ndim - 2, -1, -1):
            at += index % m.shape[d] * operand.strides[d]
            index //= m.shape[d]
        block.n = min(n, m.last - k)
        if back:
            block.out, block.out_step, block.in_, block.in_step = at, step, dense, size
        else:
            block.out, block.out_step, block.in_, block.in_step = dense, size, at, step
        mover(&block)
        first, n, dense = first + block.n, n - block.n, dense + block.n * size


cdef void run_masked(const Masked* m, Py_ssize_t first, Py_ssize_t n, char* y, const char* x, bint fence
                     ) noexcept nogil:
    """The kernel on n elements that lie one after the other."""
    cdef InnerLoop loop
    memset(&loop, 0, sizeof(loop))
    loop.y, loop.mask, loop.alpha, loop.n = y, m.mask + first // 8, m.alpha, n
    if m.backward:
        loop.dy = x
    else:
        loop.x = x
    loop.stream, loop.fence = m.stream, fence
    m.kernel(&loop)


cdef void run_masked_range(const void* work, int index, int count) noexcept nogil:
    """A thread's range of the elements, which begins and ends at a whole cache line of the mask."""
    cdef const Masked* m = <const Masked*>work
    cdef Py_ssize_t lo = m.elements * index // count & -(8 * LINE), n
    cdef Py_ssize_t hi = m.elements if index + 1 == count else m.elements * (index + 1) // count & -(8 * LINE)
    cdef char[BUFFER_ELEMENTS * 8] x
    cdef char[BUFFER_ELEMENTS * 8] y
    cdef char[BUFFER_ELEMENTS * 8] spare
    cdef Block block
    if m.x_lies and m.y_lies:
        run_masked(m, lo, hi - lo, m.y.data + lo * m.itemsize, m.x.data + lo * m.itemsize, True)
        return
    memset(&block, 0, sizeof(block))
    block.rows, block.out, block.in_, block.dtype = 1, x, spare, m.x.dtype & ~SWAPPED
    block.doubles = m.dtype == FASTACT_FLOAT64
    while lo < hi:
        block.n = n = min(<Py_ssize_t>BUFFER_ELEMENTS, hi - lo)
        if block.dtype == m.dtype:
            move_elements(m, &m.x, lo, n, x, False)
        else:
            move_elements(m, &m.x, lo, n, spare, False)
            converter(&block)
        run_masked(m, lo, n, y, x, False)
        if m.y.data != NULL:
            move_elements(m, &m.y, lo, n, y, True)
        lo += n


cdef int check_mask(const fastact_array* mask, Py_ssize_t elements, const fastact_options* options) noexcept nogil:
    """An error if something is wrong with a mask itself."""
    cdef int status = check_array(mask, b"mask", options)
    cdef char[FA_SHAPE_TEXT] text
    if status:
        return status
    if mask.dtype != FASTACT_UINT8:
        return fa_fail(options, FASTACT_BAD_TYPE, "mask has dtype %s, and must have dtype uint8",
                       fa_dtype_name(mask.dtype))
    if mask.ndim != 1 or mask.shape[0] != (elements + 7) // 8:
        return fa_fail(options, FASTACT_BAD_VALUE, "mask of shape %s does not match %lld elements, which take %lld "
                       "bytes", fa_shape(mask, text), <long long>elements, <long long>((elements + 7) // 8))
    if mask.strides != NULL and mask.strides[0] != 1 and mask.shape[0] > 1:
        return fa_fail(options, FASTACT_BAD_VALUE, "mask has a stride of %lld bytes, and must have 1",
                       <long long>mask.strides[0])
    return FASTACT_OK


cdef int enter_masked(int kernel, Kernel code, const fastact_array* y, const fastact_array* mask,
                      const fastact_array* x, double alpha, const fastact_options* options, bint apart) noexcept nogil:
    """The same as `enter` for a kernel with a mask.  If the kernel reads the mask, x is dy."""
    cdef Masked m
    cdef Call call
    cdef Py_ssize_t traffic, threads
    cdef bint from_c = code == NULL, integers
    cdef float narrow = <float>alpha
    cdef int status, d, result
    cdef const char* name
    if options == NULL:
        options = &DEFAULTS
    elif options.size < sizeof(fastact_options):
        return FASTACT_BAD_VALUE        # such options may have no field for a message
    else:
        status = check_options(options)
        if status:
            return status
    m.backward = kernel != RELU_TO_MASK and kernel != PRELU_TO_MASK
    name = b"dy" if m.backward else b"x"
    status = check_array(x, name, options)
    if status:
        return status
    result = x.dtype & ~SWAPPED
    integers = kernel == RELU_TO_MASK and not is_float(result)      # relu keeps the dtype of integers
    if not is_float(result) and not integers:
        result = FASTACT_FLOAT64
    status = check_result(y, b"dx" if m.backward else b"y", x, name, result, options)
    if status:
        return status
    m.elements = size_of(x)
    status = check_mask(mask, m.elements, options)
    if status == FASTACT_OK and not apart:
        status = check_memory(y, b"dx" if m.backward else b"y", NULL, x, NULL, True, options)
        if status == FASTACT_OK and (meet(mask, x) or meet(mask, y)):
            status = fa_fail(options, FASTACT_BAD_VALUE, "mask shares memory with another array")
    if status or not m.elements:
        return status
    m.dtype = result if is_float(result) else FASTACT_FLOAT64
    if code == NULL:
        code = own_kernels[kernel][m.dtype]
        if code == NULL:
            return fa_fail(options, FASTACT_BAD_VALUE, NOT_LOADED)
    m.kernel, m.mask, m.itemsize, m.ndim = code, <uint8_t*>mask.data, fa_itemsize(m.dtype), x.ndim
    m.alpha = <void*>&alpha if m.dtype == FASTACT_FLOAT64 else &narrow
    for d in range(x.ndim):
        m.shape[d] = x.shape[d]
    m.last = m.shape[x.ndim - 1] if x.ndim else 1
    take(&m.y, y, m.ndim, m.shape, -1)
    take(&m.x, x, m.ndim, m.shape, -1)
    m.x_lies, m.y_lies = lies_in_c_order(&m, &m.x), lies_in_c_order(&m, &m.y)
    memset(&call, 0, sizeof(call))
    call.threads, call.source = options.n_threads, options.source
    if from_c:
        call.threads = call.threads if call.threads else policy.process_threads
        call.source = call.source if call.source else policy.thread_source
    call.parallel_for, call.context = options.parallel_for, options.context
    traffic = 2 * m.elements * m.itemsize + m.elements // 8
    threads = threads_for(&call, traffic, False)
    if threads == 0:
        return fa_fail(options, FASTACT_NO_SOURCE, why(FASTACT_NO_SOURCE))
    m.stream = m.x_lies and m.y_lies and policy.streams(traffic, threads) and y.data != x.data \
        and <intptr_t>y.data % m.itemsize == 0
    if integers:
        # The kernel for doubles makes the mask, and its y is not needed.  Then relu makes y.
        m.y.data, m.y_lies = NULL, False
    share_out(&call, traffic, min(threads, (m.elements + 8 * LINE - 1) // (8 * LINE)), <fa_range>run_masked_range, &m)
    if integers:
        return enter(RELU, NULL, y, NULL, NULL, x, NULL, options, True)
    return FASTACT_OK


cdef bint lies_in_c_order(const Masked* m, const Operand* operand) noexcept nogil:
    """Whether the kernel reads or writes an operand where it lies."""
    cdef int[MAX_LOOPS] order
    cdef int d
    for d in range(m.ndim):
        order[d] = d
    return operand.dtype == m.dtype and is_dense(operand, m.ndim, m.shape, order, m.itemsize)


cdef int enter_masked_from_c "fa_enter_masked"(int kernel, const fastact_array* y, const fastact_array* mask,
                                               const fastact_array* x, double alpha, const fastact_options* options
                                               ) noexcept nogil:
    """What the functions of fastact.h call where there is a mask."""
    if is_swapped(y) or is_swapped(mask) or is_swapped(x):
        return fa_fail(options, FASTACT_BAD_TYPE, "an array has a dtype that is no dtype of fastact.h")
    return enter_masked(kernel, NULL, y, mask, x, alpha, options, False)
