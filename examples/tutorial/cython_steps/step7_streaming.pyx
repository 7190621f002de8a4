# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off
# Step 7, streaming stores: large results go past the caches.  Only whole cache lines are streamed; what is before the
# first one and after the last one is stored as before.

from .vectors cimport (
    add4, choose8, doubles, fence, floats, load8, select, store8, stream8, terms4, total, zeros4)

cdef Py_ssize_t STREAM_FROM = 32 << 20  # bytes: about the size of the last-level cache


cdef inline Py_ssize_t before_a_line(const float *out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t elements = (64 - <size_t>out % 64) % 64 // 4
    return min(elements, n)


cdef inline void put8(float *out, floats v, bint stream) noexcept nogil:
    if stream:
        stream8(out, v)
    else:
        store8(out, v)


cdef void prelu_part(const float *x, float alpha, float *y, Py_ssize_t n, bint stream) noexcept nogil:
    cdef Py_ssize_t i, first = before_a_line(y, n) if stream else n, last = n - (n - first) % 16
    cdef floats v
    select(y, x, x, alpha, first)
    for i in range(first, last, 8):
        v = load8(x + i)
        stream8(y + i, choose8(v, v, alpha))
    select(y + last, x + last, x + last, alpha, n - last)
    if stream:
        fence()


cdef double backward_part(
        const float *dy, const float *x, float alpha, float *dx, Py_ssize_t n, bint stream) noexcept nogil:
    # The sums' groups begin at element 0 whatever dx's address is, so dalpha does not depend on it.
    # The vectors of dx that are stored meanwhile begin at its first line.
    cdef Py_ssize_t i, j, whole = n - n % 32, first = before_a_line(dx, n) if stream else 0
    cdef Py_ssize_t both = (n - first) // 32 * 32
    cdef int k
    cdef doubles[8] sums
    for k in range(8):
        sums[k] = zeros4()
    select(dx, dy, x, alpha, first)
    for i in range(0, both, 32):
        for k in range(8):
            sums[k] = add4(sums[k], terms4(dy + i + 4 * k, x + i + 4 * k))
        for k in range(0, 32, 8):
            j = first + i + k
            put8(dx + j, choose8(load8(dy + j), load8(x + j), alpha), stream)
    for i in range(both, whole, 32):
        for k in range(8):
            sums[k] = add4(sums[k], terms4(dy + i + 4 * k, x + i + 4 * k))
    j = first + both
    select(dx + j, dy + j, x + j, alpha, n - j)
    if stream:
        fence()
    return total(sums, dy + whole, x + whole, n - whole)


def prelu(const float[::1] x, float alpha, float[::1] y):
    prelu_part(&x[0], alpha, &y[0], x.shape[0], 4 * x.shape[0] >= STREAM_FROM)


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    return <float>backward_part(&dy[0], &x[0], alpha, &dx[0], x.shape[0], 4 * x.shape[0] >= STREAM_FROM)
