"""Step 6, one pass: dx and the sum block by block, so that dy and x come from memory once."""

import numpy as np
from numba import njit

from .step3_flags import flags, prelu  # noqa: F401 (it has one pass already)
from .step5_accumulators import LANES, add_terms, total

BLOCK = 1024  # elements of dy, x and dx: 12 KB, which the first-level cache holds; a multiple of LANES


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    sums = np.zeros(LANES)
    for start in range(0, x.size, BLOCK):
        xs, dys, dxs = x[start : start + BLOCK], dy[start : start + BLOCK], dx[start : start + BLOCK]
        add_terms(dys, xs, sums)
        for k in range(xs.size):
            scaled = alpha * dys[k]
            dxs[k] = dys[k] if xs[k] > 0 else scaled
    return np.float32(total(sums))
