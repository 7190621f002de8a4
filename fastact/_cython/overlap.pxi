# Part of entry.pyx: whether operands share memory.

cdef enum:
    MOST_TERMS = 2 * MAX_LOOPS + 2
    MOST_STEPS = 100000                 # of the search below; what it has not decided by then counts as shared
cdef struct Term:                       # coef * u, for any u from 0 to most
    Py_ssize_t coef, most
cdef struct Terms:
    int count
    Py_ssize_t steps
    Term[MOST_TERMS] term               # from the largest coefficient to the smallest


cdef inline Py_ssize_t size_of_step(Py_ssize_t stride) noexcept nogil:
    return -stride if stride < 0 else stride


cdef void add_term(Terms* terms, Py_ssize_t coef, Py_ssize_t most) noexcept nogil:
    """Insert a term by its coefficient; terms with the same coefficient are merged."""
    cdef int k = terms.count, j
    if coef == 0 or most == 0:
        return
    while k > 0 and terms.term[k - 1].coef < coef:
        k -= 1
    if k > 0 and terms.term[k - 1].coef == coef:
        terms.term[k - 1].most += most
        return
    for j in range(terms.count, k, -1):
        terms.term[j] = terms.term[j - 1]
    terms.term[k].coef, terms.term[k].most = coef, most
    terms.count += 1


cdef bint reaches(Terms* terms, int first, Py_ssize_t least, Py_ssize_t most) noexcept nogil:
    """Whether a sum of the terms from `first` on can lie between `least` and `most`, or the search takes too long."""
    cdef Py_ssize_t rest = 0, u, stop, coef
    cdef int k
    if least <= 0 <= most:
        return True
    if most < 0 or first == terms.count:
        return False
    for k in range(first + 1, terms.count):
        rest += terms.term[k].coef * terms.term[k].most
    coef = terms.term[first].coef
    u = max(0, (least - rest + coef - 1) // coef) if least > rest else 0
    stop = min(terms.term[first].most, most // coef)
    while u <= stop:
        terms.steps += 1
        if terms.steps > MOST_STEPS:
            return True
        if reaches(terms, first + 1, least - u * coef, most - u * coef):
            return True
        u += 1
    return False


cdef void add_axes(Terms* terms, const fastact_array* a, intptr_t* lowest) noexcept nogil:
    """Add the axes of an array as terms, and write its lowest address."""
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef int d
    strides_of(a, strides)
    lowest[0] = <intptr_t>a.data
    for d in range(a.ndim):
        if strides[d] < 0:
            lowest[0] += strides[d] * (a.shape[d] - 1)
        add_term(terms, size_of_step(strides[d]), a.shape[d] - 1)


cdef void strides_of(const fastact_array* a, Py_ssize_t* strides) noexcept nogil:
    """An array's strides; where it has none, those of C order."""
    cdef int d
    if a.strides == NULL:
        c_order(a.ndim, a.shape, fa_itemsize(a.dtype), strides)
        return
    for d in range(a.ndim):
        strides[d] = a.strides[d]


cdef bint meet(const fastact_array* a, const fastact_array* b) noexcept nogil:
    """Whether an element of one array shares memory with an element of the other."""
    cdef Terms terms
    cdef intptr_t low_a, low_b
    cdef Py_ssize_t reach = 0, gap
    cdef int d, of_a
    if not size_of(a) or not size_of(b):
        return False
    if a.strides == NULL and b.strides == NULL:
        low_a, low_b = <intptr_t>a.data, <intptr_t>b.data
        return low_a < low_b + size_of(b) * fa_itemsize(b.dtype) and low_b < low_a + size_of(a) * fa_itemsize(a.dtype)
    terms.count, terms.steps = 0, 0
    add_axes(&terms, a, &low_a)
    of_a = terms.count
    for d in range(of_a):
        reach += terms.term[d].coef * terms.term[d].most
    add_axes(&terms, b, &low_b)
    # An element of a begins at low_a + reach - (some sum of its terms), one of b at low_b + (some sum of its terms):
    # they meet if the sum of all terms differs from `gap` by less than an element.
    gap = low_a + reach - low_b
    return reaches(&terms, 0, gap - fa_itemsize(b.dtype) + 1, gap + fa_itemsize(a.dtype) - 1)


cdef bint meets_itself(const fastact_array* a) noexcept nogil:
    """Whether two elements of an array share memory."""
    cdef Terms terms
    cdef Py_ssize_t[MAX_LOOPS] strides
    cdef Py_ssize_t itemsize = fa_itemsize(a.dtype), reach = itemsize, middle = 0
    cdef int d, k, axes = 0
    if a.strides == NULL or not size_of(a):
        return False
    strides_of(a, strides)
    terms.count, terms.steps = 0, 0
    for d in range(a.ndim):
        axes += a.shape[d] > 1
        add_term(&terms, size_of_step(strides[d]), a.shape[d] - 1)
    if terms.count < axes:              # a stride of 0, or two axes of one stride
        return True
    for k in range(terms.count - 1, -1, -1):
        if terms.term[k].coef < reach:
            break
        reach += terms.term[k].coef * terms.term[k].most
    else:
        return False                    # each stride is at least the extent of the axes with smaller strides
    # The indices of two elements differ by k along each axis, from -(n - 1) to n - 1, and not by 0 along all axes.
    # Along some axis, here the d-th, k is positive (else exchange the two elements).  The elements meet if the sum of
    # k * stride, without its sign, is less than an element.
    for d in range(a.ndim):
        if a.shape[d] == 1:
            continue
        terms.count, middle = 0, 0
        for k in range(a.ndim):
            reach = size_of_step(strides[k])
            if k == d:
                add_term(&terms, reach, a.shape[k] - 2)
                middle -= reach
            else:
                add_term(&terms, reach, 2 * (a.shape[k] - 1))
                middle += reach * (a.shape[k] - 1)
        if reaches(&terms, 0, middle - itemsize + 1, middle + itemsize - 1):
            return True
    return False


cdef bint same_memory(const fastact_array* a, const fastact_array* b) noexcept nogil:
    """Whether every element of one array has the address of the same element of the other."""
    cdef Py_ssize_t[MAX_LOOPS] one
    cdef Py_ssize_t[MAX_LOOPS] other
    cdef int d
    if a.data != b.data or a.dtype != b.dtype:
        return False
    if a.strides == b.strides:          # both NULL, or the same
        return True
    strides_of(a, one)
    strides_of(b, other)
    for d in range(a.ndim):
        if a.shape[d] > 1 and one[d] != other[d]:
            return False
    return True


cdef int check_memory(const fastact_array* y, const char* name, const fastact_array* dy, const fastact_array* x,
                      const fastact_array* alpha, bint in_place, const fastact_options* options) noexcept nogil:
    """An error if a result shares memory with an input; `in_place`: it may be exactly x or dy."""
    cdef const char* other = NULL
    cdef const char* allowed = b""
    if meets_itself(y):
        return fa_fail(options, FASTACT_BAD_VALUE, "%s shares memory among its own elements", name)
    if meet(y, x) and not (in_place and same_memory(y, x)):
        other = b"x"
    elif dy != NULL and meet(y, dy) and not (in_place and same_memory(y, dy)):
        other = b"dy"
    elif alpha != NULL and meet(y, alpha):
        other, in_place = b"alpha", False
    if in_place:
        allowed = b": it may be exactly that (in place), or apart from it"
    if other != NULL:
        return fa_fail(options, FASTACT_BAD_VALUE, "%s shares memory with %s%s", name, other, allowed)
    return FASTACT_OK
