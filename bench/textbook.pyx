# cython: boundscheck=False, wraparound=False, cdivision=True
# What people write first in Cython: typed memoryviews, an if, prange; bench/textbook.py says what it leaves to be had.
# Built by textbook.compiled() with -O3 and OpenMP, when it is first asked for.

from cython cimport floating
from cython.parallel cimport prange


def relu(const floating[::1] x, floating[::1] y, int n_threads):
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads):
        y[i] = x[i] if x[i] > 0 else 0


def relu_backward(const floating[::1] dy, const floating[::1] x, floating[::1] dx, int n_threads):
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads):
        dx[i] = dy[i] if x[i] > 0 else 0


def prelu(const floating[:, :, ::1] x, const floating[::1] alpha, floating[:, :, ::1] y, int n_threads):
    cdef Py_ssize_t channels = x.shape[1], columns = x.shape[2], r, n, c, i
    for r in prange(x.shape[0] * channels, nogil=True, num_threads=n_threads):
        n = r // channels
        c = r % channels
        for i in range(columns):
            y[n, c, i] = x[n, c, i] if x[n, c, i] > 0 else alpha[c] * x[n, c, i]


def prelu_last(const floating[:, ::1] x, const floating[::1] alpha, floating[:, ::1] y, int n_threads):
    cdef Py_ssize_t r, c
    for r in prange(x.shape[0], nogil=True, num_threads=n_threads):
        for c in range(x.shape[1]):
            y[r, c] = x[r, c] if x[r, c] > 0 else alpha[c] * x[r, c]


def prelu_shared(const floating[::1] x, const floating[::1] alpha, floating[::1] y, int n_threads):
    cdef Py_ssize_t i
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads):
        y[i] = x[i] if x[i] > 0 else alpha[0] * x[i]


cdef double row_backward(const floating[::1] dy, const floating[::1] x, floating a, floating[::1] dx) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        if x[i] > 0:
            dx[i] = dy[i]
        else:
            total += <double>x[i] * <double>dy[i]
            dx[i] = a * dy[i]
    return total


def prelu_backward(const floating[:, :, ::1] dy, const floating[:, :, ::1] x, const floating[::1] alpha,
                   floating[:, :, ::1] dx, floating[::1] dalpha, int n_threads):
    cdef Py_ssize_t rows = x.shape[0], n, c
    cdef double total
    for c in prange(x.shape[1], nogil=True, num_threads=n_threads):
        total = 0
        for n in range(rows):
            total = total + row_backward(dy[n, c], x[n, c], alpha[c], dx[n, c])
        dalpha[c] = <floating>total


cdef double column_backward(const floating[:, ::1] dy, const floating[:, ::1] x, Py_ssize_t c, floating a,
                            floating[:, ::1] dx) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t r
    for r in range(x.shape[0]):
        if x[r, c] > 0:
            dx[r, c] = dy[r, c]
        else:
            total += <double>x[r, c] * <double>dy[r, c]
            dx[r, c] = a * dy[r, c]
    return total


def prelu_backward_last(const floating[:, ::1] dy, const floating[:, ::1] x, const floating[::1] alpha,
                        floating[:, ::1] dx, floating[::1] dalpha, int n_threads):
    cdef Py_ssize_t c
    for c in prange(x.shape[1], nogil=True, num_threads=n_threads):
        dalpha[c] = <floating>column_backward(dy, x, c, alpha[c], dx)


def prelu_backward_shared(const floating[::1] dy, const floating[::1] x, const floating[::1] alpha,
                          floating[::1] dx, floating[::1] dalpha, int n_threads):
    cdef Py_ssize_t i
    cdef double total = 0
    for i in prange(x.shape[0], nogil=True, num_threads=n_threads):
        if x[i] > 0:
            dx[i] = dy[i]
        else:
            total += <double>x[i] * <double>dy[i]
            dx[i] = alpha[0] * dy[i]
    dalpha[0] = <floating>total
