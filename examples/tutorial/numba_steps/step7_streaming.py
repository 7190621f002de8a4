"""Step 7, streaming stores: large results go past the caches, by the instruction of stores.py."""

import numpy as np
from numba import njit

from .step3_flags import flags
from .step5_accumulators import LANES, add_terms, total
from .step6_one_pass import BLOCK
from .stores import LINE, fence, stream_line

STREAM_FROM = 32 << 20  # bytes: about the size of the last-level cache


@njit(**flags)
def select(out, given, x, alpha, lo, hi):
    out, given, x = out[lo:hi], given[lo:hi], x[lo:hi]
    for i in range(x.size):
        scaled = alpha * given[i]
        out[i] = given[i] if x[i] > 0 else scaled


@njit(**flags)
def lines(out):
    """Where out's first whole cache line begins, and where its last one ends."""
    head = min(out.size, (64 - np.intp(out.ctypes.data % 64)) % 64 // 4)
    return head, out.size - (out.size - head) % LINE


@njit(**flags)
def prelu_part(x, alpha, y, stream):
    first, last = lines(y) if stream else (x.size, x.size)
    select(y, x, x, alpha, 0, first)
    for i in range(first, last, LINE):
        stream_line(y, i, x, x, alpha)
    select(y, x, x, alpha, last, x.size)
    if stream:
        fence()


@njit(**flags)
def backward_part(dy, x, alpha, dx, stream):
    first, last = lines(dx) if stream else (0, 0)
    sums = np.zeros(LANES)
    select(dx, dy, x, alpha, 0, first)
    for lo in range(0, x.size, BLOCK):
        hi = min(lo + BLOCK, x.size)
        add_terms(dy[lo:hi], x[lo:hi], sums)  # in blocks that do not depend on the address, nor does dalpha
        if stream:
            for i in range(lo + first, min(hi + first, last), LINE):
                stream_line(dx, i, dy, x, alpha)
        else:
            select(dx, dy, x, alpha, lo, hi)
    if stream:
        select(dx, dy, x, alpha, last, x.size)
        fence()
    return total(sums)


@njit(**flags)
def prelu(x, alpha, y):
    prelu_part(x, alpha, y, y.nbytes >= STREAM_FROM)


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    return np.float32(backward_part(dy, x, alpha, dx, dx.nbytes >= STREAM_FROM))
