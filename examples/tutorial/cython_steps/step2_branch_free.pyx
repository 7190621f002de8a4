# Step 2, branch-free: the comparison is an index, 0 or 1.  1 * x has the bits of x; 0 * x would be NaN where x is inf,
# so a term of the sum is chosen, not one of its factors.


def prelu(const float[::1] x, float alpha, float[::1] y):
    cdef Py_ssize_t i
    cdef float[2] factor = [alpha, 1]
    for i in range(x.shape[0]):
        y[i] = factor[x[i] > 0] * x[i]


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i
    cdef float[2] factor = [alpha, 1]
    cdef double[2] term = [0, 0]
    cdef double dalpha = 0
    for i in range(x.shape[0]):
        dx[i] = factor[x[i] > 0] * dy[i]
    for i in range(x.shape[0]):
        term[0] = <double>x[i] * <double>dy[i]
        dalpha += term[x[i] > 0]
    return <float>dalpha
