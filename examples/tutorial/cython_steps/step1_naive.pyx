# Step 1, naive: the loops that one writes first.


def prelu(const float[::1] x, float alpha, float[::1] y):
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        if x[i] > 0:
            y[i] = x[i]
        else:
            y[i] = alpha * x[i]


def prelu_backward(const float[::1] dy, const float[::1] x, float alpha, float[::1] dx):
    cdef Py_ssize_t i
    cdef double dalpha = 0
    for i in range(x.shape[0]):
        if x[i] > 0:
            dx[i] = dy[i]
        else:
            dx[i] = alpha * dy[i]
    for i in range(x.shape[0]):
        if not x[i] > 0:
            dalpha += <double>x[i] * <double>dy[i]
    return <float>dalpha
