# What steps 4 to 8 share: the vectors of vectors.h, and what step 4 makes of them.

cdef extern from "vectors.h" nogil:
    ctypedef struct floats:
        pass
    ctypedef struct doubles:
        pass
    floats load8(const float *p)
    void store8(float *p, floats v)
    void stream8(float *p, floats v)
    floats choose8(floats given, floats x, float alpha)
    doubles terms4(const float *dy, const float *x)
    doubles add4(doubles a, doubles b)
    doubles zeros4()
    double lane4(doubles v, int k)
    void fence()


cdef inline void select(float *out, const float *given, const float *x, float alpha, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, whole = n - n % 8
    for i in range(0, whole, 8):
        store8(out + i, choose8(load8(given + i), load8(x + i), alpha))
    for i in range(whole, n):
        out[i] = given[i] if x[i] > 0 else alpha * given[i]


cdef inline double total(doubles *sums, const float *dy, const float *x, Py_ssize_t rest) noexcept nogil:
    # The 32 sums in pairs, after the terms that are left when all whole groups of 32 are added.
    cdef double[32] lanes
    cdef Py_ssize_t k, half = 16
    for k in range(32):
        lanes[k] = lane4(sums[k // 4], k % 4)
    for k in range(rest):
        lanes[k] += 0.0 if x[k] > 0 else <double>x[k] * <double>dy[k]
    while half:
        for k in range(half):
            lanes[k] += lanes[k + half]
        half //= 2
    return lanes[0]
