"""Bare @njit functions: what somebody would write by hand, without checks, forms or threads.

The Numba variant's small calls are held against them.  Each loop writes into its last arguments and is the
out= form itself; the fresh form makes the results first.  Keys are (operation, form of alpha); with a
channel alpha x has three dimensions, else one.
"""

from collections.abc import Callable

import numpy as np
from numba import njit


@njit
def _relu(x, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]
    return y


@njit
def _relu_backward(dy, x, dx):
    zero = x.dtype.type(0)
    for i in range(x.size):
        dx[i] = zero if x[i] <= zero else dy[i]
    return dx


@njit
def _prelu(x, alpha, y):
    a = alpha[0]
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else a * x[i]
    return y


@njit
def _prelu_channel(x, alpha, y):
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            a = alpha[c]
            for i in range(x.shape[2]):
                y[n, c, i] = x[n, c, i] if x[n, c, i] > 0 else a * x[n, c, i]
    return y


@njit
def _prelu_backward(dy, x, alpha, dx, dalpha):
    a, total = alpha[0], 0.0
    for i in range(x.size):
        dx[i] = dy[i] if x[i] > 0 else a * dy[i]
        total += 0.0 if x[i] > 0 else np.float64(x[i]) * np.float64(dy[i])
    dalpha[0] = total
    return dx, dalpha


@njit
def _prelu_backward_channel(dy, x, alpha, dx, dalpha):
    totals = np.zeros(alpha.size)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            a, total = alpha[c], 0.0
            for i in range(x.shape[2]):
                v, d = x[n, c, i], dy[n, c, i]
                dx[n, c, i] = d if v > 0 else a * d
                total += 0.0 if v > 0 else np.float64(v) * np.float64(d)
            totals[c] += total
    dalpha[:] = totals
    return dx, dalpha


def _fresh(loop: Callable, n_reads: int) -> Callable:
    """The loop with results of its own."""

    def one(x):
        return loop(x, np.empty_like(x))

    def two(x, second):
        return loop(x, second, np.empty_like(x))

    def three(dy, x, alpha):
        return loop(dy, x, alpha, np.empty_like(x), np.empty_like(alpha))

    return njit((one, two, three)[n_reads - 1])


LOOPS: dict[tuple[str, str], Callable] = {
    ("relu", ""): _relu,
    ("relu_backward", ""): _relu_backward,
    ("prelu", "shared"): _prelu,
    ("prelu", "channel"): _prelu_channel,
    ("prelu_backward", "shared"): _prelu_backward,
    ("prelu_backward", "channel"): _prelu_backward_channel,
}
_READS = {"relu": 1, "relu_backward": 2, "prelu": 2, "prelu_backward": 3}
FRESH = {key: _fresh(loop, _READS[key[0]]) for key, loop in LOOPS.items()}
