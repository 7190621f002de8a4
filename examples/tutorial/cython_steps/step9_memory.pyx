# Step 9, result memory: a result that nobody holds any more gives its memory to the next one.

import numpy as np

from . import step8_threads

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free


cdef extern from "memory.h":
    void *allocate(size_t size)


cdef enum:
    KEPT = 8  # pieces of memory at most

cdef void *pool[KEPT]
cdef Py_ssize_t[KEPT] sizes
cdef int turn = 0


cdef class Piece:
    """Memory that begins with a cache line, so that step 7 has no edge in front."""

    cdef void *memory
    cdef Py_ssize_t size

    def __cinit__(self, Py_ssize_t size):
        cdef int k
        self.size = size
        for k in range(KEPT):
            if pool[k] and sizes[k] == self.size:
                self.memory, pool[k] = pool[k], NULL
                return
        self.memory = allocate(size)
        if not self.memory:
            raise MemoryError

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory, self.size, False, flags)

    def __dealloc__(self):  # when no array is left: each array of it, and each view of one, holds a reference
        global turn
        turn = (turn + 1) % KEPT
        free(pool[turn])
        pool[turn], sizes[turn] = self.memory, self.size


def empty_like(x):
    return np.asarray(Piece(x.nbytes)).view(np.float32)


def prelu(x, alpha):
    y = empty_like(x)
    step8_threads.prelu(x, alpha, y)
    return y


def prelu_backward(dy, x, alpha):
    dx = empty_like(x)
    return dx, step8_threads.prelu_backward(dy, x, alpha, dx)
