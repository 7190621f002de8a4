# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off
# Step 5, several accumulators: 8 vectors of 4 sums, which do not wait for one another.  Term i goes to sum i % 32.

from .vectors cimport add4, doubles, select, terms4, total, zeros4


def prelu(const float[::1] x, float alpha, float[::1] y):
    select(&y[0], &x[0], &x[0], alpha, x.shape[0])  # nothing is summed here


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i, n = x.shape[0], whole = n - n % 32
    cdef int k
    cdef doubles[8] sums
    select(&dx[0], &dy[0], &x[0], alpha, n)
    for k in range(8):
        sums[k] = zeros4()
    for i in range(0, whole, 32):
        for k in range(8):
            sums[k] = add4(sums[k], terms4(&dy[i + 4 * k], &x[i + 4 * k]))
    return <float>total(sums, &dy[whole], &x[whole], n - whole)
