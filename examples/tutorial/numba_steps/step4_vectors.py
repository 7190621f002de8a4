"""Step 4, vectors: LLVM makes them where no turn of a loop waits for the one before; so the terms get a loop."""

import numpy as np
from numba import njit

from .step3_flags import flags, prelu  # noqa: F401 (LLVM has made vectors of this one already)

BLOCK = 1024  # terms: 8 KB, which the first-level cache holds


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    for i in range(x.size):
        scaled = alpha * dy[i]
        dx[i] = dy[i] if x[i] > 0 else scaled
    terms = np.empty(BLOCK)
    dalpha = 0.0
    for start in range(0, x.size, BLOCK):
        # Slices, because LLVM cannot rule out that start + k is negative, which would count from the end.
        xs, dys = x[start : start + BLOCK], dy[start : start + BLOCK]
        for k in range(xs.size):
            term = np.float64(xs[k]) * np.float64(dys[k])
            terms[k] = 0.0 if xs[k] > 0 else term
        for k in range(xs.size):
            dalpha += terms[k]
    return np.float32(dalpha)
