"""Step 2, branch-free: both values are computed, and one is selected."""

import numpy as np
from numba import njit


@njit
def prelu(x, alpha, y):
    for i in range(x.size):
        scaled = alpha * x[i]
        y[i] = x[i] if x[i] > 0 else scaled


@njit
def prelu_backward(dy, x, alpha, dx):
    for i in range(x.size):
        scaled = alpha * dy[i]
        dx[i] = dy[i] if x[i] > 0 else scaled
    dalpha = 0.0
    for i in range(x.size):
        term = np.float64(x[i]) * np.float64(dy[i])
        dalpha += 0.0 if x[i] > 0 else term
    return np.float32(dalpha)
