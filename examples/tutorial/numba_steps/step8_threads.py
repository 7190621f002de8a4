"""Step 8, threads: they take chunks of one size, so that dalpha does not depend on how many they are."""

import numpy as np
from numba import njit, prange

from .step3_flags import flags
from .step7_streaming import STREAM_FROM, backward_part, prelu_part

CHUNK = 1 << 17  # elements; no other thread is woken for less


@njit(parallel=True, **flags)
def prelu_chunks(x, alpha, y):
    for c in prange(-(-x.size // CHUNK)):
        part = slice(c * CHUNK, (c + 1) * CHUNK)
        prelu_part(x[part], alpha, y[part], y.nbytes >= STREAM_FROM)


@njit(parallel=True, **flags)
def backward_chunks(dy, x, alpha, dx):
    sums = np.zeros(-(-x.size // CHUNK))
    for c in prange(sums.size):
        part = slice(c * CHUNK, (c + 1) * CHUNK)
        sums[c] = backward_part(dy[part], x[part], alpha, dx[part], dx.nbytes >= STREAM_FROM)
    return sums


@njit(**flags)
def prelu(x, alpha, y):
    if x.size <= CHUNK:
        prelu_part(x, alpha, y, False)
    else:
        prelu_chunks(x, alpha, y)


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    if x.size <= CHUNK:
        return np.float32(backward_part(dy, x, alpha, dx, False))
    dalpha = 0.0
    for part in backward_chunks(dy, x, alpha, dx):  # in the order of the chunks, whoever computed them
        dalpha += part
    return np.float32(dalpha)
