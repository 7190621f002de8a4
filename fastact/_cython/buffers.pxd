cimport numpy as cnp

cdef cnp.ndarray new_array(cnp.ndarray prototype, cnp.dtype descr)
