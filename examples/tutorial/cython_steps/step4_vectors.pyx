# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off
# Step 4, vectors: written out, so that it is not for the compiler to find them.  vectors.pxd has the loop `select`.

from .vectors cimport doubles, lane4, select, terms4


def prelu(const float[::1] x, float alpha, float[::1] y):
    select(&y[0], &x[0], &x[0], alpha, x.shape[0])


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i, n = x.shape[0], whole = n - n % 4
    cdef int k
    cdef doubles terms
    cdef double dalpha = 0
    select(&dx[0], &dy[0], &x[0], alpha, n)
    for i in range(0, whole, 4):
        terms = terms4(&dy[i], &x[i])
        for k in range(4):
            dalpha += lane4(terms, k)
    for i in range(whole, n):
        dalpha += 0.0 if x[i] > 0 else <double>x[i] * <double>dy[i]
    return <float>dalpha
