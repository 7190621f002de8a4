"""Step 5, several accumulators: 128 sums that do not wait for one another, added up in pairs at the end."""

import numpy as np
from numba import njit

from .step3_flags import flags, prelu  # noqa: F401 (nothing is summed there)

LANES = 128  # 1 KB of sums, which stay in the first-level cache


@njit(**flags)
def add_terms(dy, x, sums):
    """Add term i to sum i % LANES."""
    whole = x.size - x.size % LANES
    for start in range(0, whole, LANES):
        xs, dys = x[start : start + LANES], dy[start : start + LANES]
        for k in range(LANES):
            term = np.float64(xs[k]) * np.float64(dys[k])
            sums[k] += 0.0 if xs[k] > 0 else term
    for k in range(x.size - whole):
        term = np.float64(x[whole + k]) * np.float64(dy[whole + k])
        sums[k] += 0.0 if x[whole + k] > 0 else term


@njit(**flags)
def total(sums):
    half = LANES // 2
    while half:
        for k in range(half):
            sums[k] += sums[k + half]
        half //= 2
    return sums[0]


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    for i in range(x.size):
        scaled = alpha * dy[i]
        dx[i] = dy[i] if x[i] > 0 else scaled
    sums = np.zeros(LANES)
    add_terms(dy, x, sums)
    return np.float32(total(sums))
