# The types of _policy.py.

cdef Py_ssize_t bytes_per_thread, bytes_per_summing_thread, stream_bytes, stream_bytes_per_thread, gil_elements
cdef Py_ssize_t parallel_reduction, generation
cdef int process_threads, openmp_variables, oversubscription
cdef bint contexts

cpdef Py_ssize_t threads_that_pay(Py_ssize_t traffic, bint summed) noexcept nogil
cpdef bint streams(Py_ssize_t traffic, Py_ssize_t threads) noexcept nogil
cpdef int bound_on_threads(int explicit, int processors, int openmp) noexcept nogil
cpdef void changed() noexcept
