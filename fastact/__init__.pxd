# fastact's C interface for Cython: `from fastact cimport fastact_import, fastact_prelu, ...`.  fastact.h explains it.
#
# Call fastact_import() once when the module is imported.  The compiler finds fastact.h in fastact.get_include().

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "fastact.h" nogil:
    enum:
        FASTACT_FLOAT16, FASTACT_BFLOAT16, FASTACT_FLOAT32, FASTACT_FLOAT64, FASTACT_BOOL
        FASTACT_INT8, FASTACT_INT16, FASTACT_INT32, FASTACT_INT64
        FASTACT_UINT8, FASTACT_UINT16, FASTACT_UINT32, FASTACT_UINT64
    enum:
        FASTACT_OK, FASTACT_BAD_VALUE, FASTACT_BAD_TYPE, FASTACT_NO_MEMORY, FASTACT_NO_SOURCE, FASTACT_NOT_YET
    enum:
        FASTACT_SOURCE_DEFAULT, FASTACT_SOURCE_OWN, FASTACT_SOURCE_OPENMP, FASTACT_SOURCE_CALLER
    ctypedef struct fastact_array:
        uint32_t size
        int32_t dtype, ndim
        void* data
        const int64_t* shape
        const int64_t* strides
    ctypedef void (*fastact_body)(void* work, int64_t i) noexcept nogil
    ctypedef void (*fastact_parallel_for)(void* context, int64_t n, fastact_body body, void* work) noexcept nogil
    ctypedef struct fastact_options:
        uint32_t size
        int32_t n_threads, source, channel_axis
        fastact_parallel_for parallel_for
        void* context
        char* message
        size_t message_size
    fastact_options fastact_default_options() noexcept
    ctypedef void (*fastact_task)(void* argument) noexcept nogil
    ctypedef struct fastact_scheduler:
        uint32_t size
        int32_t workers
        int (*schedule)(void* pool, fastact_task task, void* argument) noexcept nogil
        void* pool
    int fastact_import() except -1 with gil
    int fastact_relu(const fastact_array* y, const fastact_array* mask, const fastact_array* x,
                     const fastact_options* options) noexcept
    int fastact_relu_backward(const fastact_array* dx, const fastact_array* dy, const fastact_array* x,
                              const fastact_array* mask, const fastact_options* options) noexcept
    int fastact_leaky_relu(const fastact_array* y, const fastact_array* mask, const fastact_array* x, double alpha,
                           const fastact_options* options) noexcept
    int fastact_leaky_relu_backward(const fastact_array* dx, const fastact_array* dy, const fastact_array* x,
                                    const fastact_array* mask, double alpha, const fastact_options* options) noexcept
    int fastact_prelu(const fastact_array* y, const fastact_array* x, const fastact_array* alpha,
                      const fastact_options* options) noexcept
    int fastact_prelu_backward(const fastact_array* dx, const fastact_array* dalpha, const fastact_array* dy,
                               const fastact_array* x, const fastact_array* alpha,
                               const fastact_options* options) noexcept
    void fastact_scheduled_for(void* scheduler, int64_t n, fastact_body body, void* work) noexcept
