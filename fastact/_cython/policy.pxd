# The types of _policy.py.

cdef Py_ssize_t bytes_per_thread, bytes_per_summing_thread, bytes_to_wake, stream_bytes, stream_bytes_per_thread
cdef Py_ssize_t gil_elements, parallel_reduction, generation
cdef int process_threads, thread_source, openmp_variables, oversubscription
cdef bint contexts

cpdef Py_ssize_t threads_that_pay(Py_ssize_t traffic, bint summed) noexcept nogil
cpdef bint wakes(Py_ssize_t traffic) noexcept nogil
cpdef bint streams(Py_ssize_t traffic, Py_ssize_t threads) noexcept nogil
cpdef int bound_on_threads(int explicit, int processors, int openmp) noexcept nogil
cpdef void changed() noexcept
