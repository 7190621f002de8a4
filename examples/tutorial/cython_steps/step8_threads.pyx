# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off -fopenmp
# distutils: extra_link_args = -fopenmp
# Step 8, threads: they take chunks of one size, so that dalpha does not depend on how many they are.

import numpy as np

from cython.parallel cimport prange

from .step7_streaming cimport STREAM_FROM, backward_part, prelu_part

cdef Py_ssize_t CHUNK = 1 << 17  # elements; no other thread is woken for less


def prelu(const float[::1] x, float alpha, float[::1] y):
    cdef Py_ssize_t c, n = x.shape[0], chunks = (n + CHUNK - 1) // CHUNK
    cdef bint stream = 4 * n >= STREAM_FROM
    if chunks <= 1:
        prelu_part(&x[0], alpha, &y[0], n, False)
        return
    for c in prange(chunks, nogil=True, schedule="static"):
        prelu_part(&x[c * CHUNK], alpha, &y[c * CHUNK], min(CHUNK, n - c * CHUNK), stream)


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t c, n = x.shape[0], chunks = (n + CHUNK - 1) // CHUNK, k
    cdef bint stream = 4 * n >= STREAM_FROM
    cdef double[::1] sums
    cdef double dalpha = 0
    if chunks <= 1:
        return <float>backward_part(&dy[0], &x[0], alpha, &dx[0], n, False)
    sums = np.empty(chunks)
    for c in prange(chunks, nogil=True, schedule="static"):
        k = c * CHUNK
        sums[c] = backward_part(&dy[k], &x[k], alpha, &dx[k], min(CHUNK, n - k), stream)
    for c in range(chunks):  # in the order of the chunks, whoever computed them
        dalpha += sums[c]
    return <float>dalpha
