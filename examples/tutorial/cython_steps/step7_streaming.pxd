# What step 8 takes from step 7.
cdef Py_ssize_t STREAM_FROM
cdef void prelu_part(const float *x, float alpha, float *y, Py_ssize_t n, bint stream) noexcept nogil
cdef double backward_part(
    const float *dy, const float *x, float alpha, float *dx, Py_ssize_t n, bint stream) noexcept nogil
