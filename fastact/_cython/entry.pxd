# What the fast path (front.pyx) uses of entry.pyx.

cimport numpy as cnp
from libc.stdint cimport int64_t

from fastact cimport (
    FASTACT_BFLOAT16, FASTACT_BOOL, FASTACT_FLOAT16, FASTACT_FLOAT32, FASTACT_FLOAT64, FASTACT_INT8, FASTACT_UINT8,
    fastact_array, fastact_options
)
from fastact._cython.driver cimport Kernel, READS_DY, SWAPPED

cdef int enter(int kernel, Kernel code, const fastact_array* y, const fastact_array* dalpha, const fastact_array* dy,
               const fastact_array* x, const fastact_array* alpha, const fastact_options* options, bint apart
               ) noexcept nogil


cdef extern from "numpy/ndarraytypes.h":
    enum: NPY_USERDEF

cdef int bfloat16               # NumPy's type number of ml_dtypes' bfloat16; 0: none was seen yet
cdef int other_dtype(cnp.ndarray array) noexcept


cdef inline bint is_float(int dtype) noexcept nogil:
    return FASTACT_FLOAT16 <= dtype <= FASTACT_FLOAT64


cdef inline int computing(int dtype) noexcept nogil:
    """The type that a result of this dtype is computed in."""
    return FASTACT_FLOAT32 if dtype == FASTACT_FLOAT16 or dtype == FASTACT_BFLOAT16 else dtype


cdef inline int kernel_dtype(int kernel, int dtype, const fastact_array* dy) noexcept nogil:
    """The dtype of the kernel for a result of this dtype: float32 where dy has another dtype than a 16-bit result."""
    if dtype < FASTACT_FLOAT32 and READS_DY >> kernel & 1 and dy.dtype & ~SWAPPED != dtype:
        return FASTACT_FLOAT32
    return dtype


cdef inline int dtype_of(cnp.ndarray array) noexcept:
    """fastact.h's number of the array's dtype in native byte order; 0 where it has none."""
    cdef int typenum = cnp.PyArray_TYPE(array)
    cdef Py_ssize_t size
    if typenum == cnp.NPY_FLOAT:
        return FASTACT_FLOAT32
    if typenum == cnp.NPY_DOUBLE:
        return FASTACT_FLOAT64
    if typenum == cnp.NPY_FLOAT16:
        return FASTACT_FLOAT16
    if typenum == cnp.NPY_BOOL:
        return FASTACT_BOOL
    if typenum >= NPY_USERDEF:
        return FASTACT_BFLOAT16 if typenum == bfloat16 else other_dtype(array)
    if not cnp.PyTypeNum_ISINTEGER(typenum):
        return 0
    size = cnp.PyArray_ITEMSIZE(array)
    return (FASTACT_INT8 if cnp.PyTypeNum_ISSIGNED(typenum) else FASTACT_UINT8) + (size > 1) + (size > 2) + (size > 4)


cdef inline void fill(fastact_array* a, cnp.ndarray array) noexcept:
    """Describe an ndarray as a fastact_array."""
    a.size, a.dtype, a.ndim = sizeof(fastact_array), dtype_of(array), cnp.PyArray_NDIM(array)
    a.data, a.shape = cnp.PyArray_DATA(array), <const int64_t*>cnp.PyArray_DIMS(array)
    if not cnp.PyArray_ISNOTSWAPPED(array):
        a.dtype |= SWAPPED
    a.strides = NULL
    if not cnp.PyArray_IS_C_CONTIGUOUS(array):
        a.strides = <const int64_t*>cnp.PyArray_STRIDES(array)
