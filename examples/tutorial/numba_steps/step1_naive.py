"""Step 1, naive: the loops that one writes first."""

import numpy as np
from numba import njit


@njit
def prelu(x, alpha, y):
    for i in range(x.size):
        if x[i] > 0:
            y[i] = x[i]
        else:
            y[i] = alpha * x[i]


@njit
def prelu_backward(dy, x, alpha, dx):
    for i in range(x.size):
        if x[i] > 0:
            dx[i] = dy[i]
        else:
            dx[i] = alpha * dy[i]
    dalpha = 0.0
    for i in range(x.size):
        if not x[i] > 0:
            dalpha += np.float64(x[i]) * np.float64(dy[i])
    return np.float32(dalpha)
