# cython: boundscheck=False, wraparound=False
# distutils: extra_compile_args = -O3 -march=native -fno-trapping-math -ffp-contract=off
# Step 3, compiler flags: those that keep every bit.  -ffast-math is not among them.


def prelu(const float[::1] x, float alpha, float[::1] y):
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        y[i] = x[i] if x[i] > 0 else alpha * x[i]


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i
    cdef double[2] term = [0, 0]
    cdef double dalpha = 0
    for i in range(x.shape[0]):
        dx[i] = dy[i] if x[i] > 0 else alpha * dy[i]
    for i in range(x.shape[0]):
        term[0] = <double>x[i] * <double>dy[i]  # as in step 2: GCC makes a branch of an `if` in a sum all the same
        dalpha += term[x[i] > 0]
    return <float>dalpha
