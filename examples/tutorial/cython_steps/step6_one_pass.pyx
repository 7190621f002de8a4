# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off
# Step 6, one pass: each group of 32 elements is summed and written while its vectors are at hand.

from .vectors cimport add4, choose8, doubles, load8, select, store8, terms4, total, zeros4


def prelu(const float[::1] x, float alpha, float[::1] y):
    select(&y[0], &x[0], &x[0], alpha, x.shape[0])  # it has one pass already


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i, n = x.shape[0], whole = n - n % 32
    cdef int k
    cdef doubles[8] sums
    for k in range(8):
        sums[k] = zeros4()
    for i in range(0, whole, 32):
        for k in range(8):
            sums[k] = add4(sums[k], terms4(&dy[i + 4 * k], &x[i + 4 * k]))
        for k in range(0, 32, 8):
            store8(&dx[i + k], choose8(load8(&dy[i + k]), load8(&x[i + k]), alpha))
    select(&dx[whole], &dy[whole], &x[whole], alpha, n - whole)
    return <float>total(sums, &dy[whole], &x[whole], n - whole)
