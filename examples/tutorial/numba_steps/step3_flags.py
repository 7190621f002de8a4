"""Step 3, compiler flags: those that keep every bit.  `fastmath` is not among them."""

import numpy as np
from numba import float32, njit, void

flags = {"error_model": "numpy", "boundscheck": False, "fastmath": False, "nogil": True}
line = float32[::1]  # "::1" says that the elements lie one after the other, as they do in the arrays of run.py


@njit(void(line, float32, line), **flags)
def prelu(x, alpha, y):
    for i in range(x.size):
        scaled = alpha * x[i]
        y[i] = x[i] if x[i] > 0 else scaled


@njit(float32(line, line, float32, line), **flags)
def prelu_backward(dy, x, alpha, dx):
    for i in range(x.size):
        scaled = alpha * dy[i]
        dx[i] = dy[i] if x[i] > 0 else scaled
    dalpha = 0.0
    for i in range(x.size):
        term = np.float64(x[i]) * np.float64(dy[i])
        dalpha += 0.0 if x[i] > 0 else term
    return np.float32(dalpha)
