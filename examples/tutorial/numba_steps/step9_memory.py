"""Step 9, result memory: a result that nobody holds any more gives its memory to the next one."""

import sys
from threading import Lock

import numpy as np

from . import step8_threads

KEPT = 8  # pieces of memory at most
pool, lock = [np.empty(0, np.float32)], Lock()
UNUSED = sys.getrefcount(pool[0])  # the count of an array that only the pool holds


def empty_like(x):
    """An uninitialised array.  Each view of a piece, and a view of that, holds a reference to the piece."""
    with lock:
        for k in range(len(pool)):
            if pool[k].size == x.size and sys.getrefcount(pool[k]) == UNUSED:
                return pool[k][:]
        pool.append(np.empty(x.size, np.float32))
        del pool[:-KEPT]
        return pool[-1][:]


def prelu(x, alpha):
    y = empty_like(x)
    step8_threads.prelu(x, alpha, y)
    return y


def prelu_backward(dy, x, alpha):
    dx = empty_like(x)
    return dx, step8_threads.prelu_backward(dy, x, alpha, dx)
