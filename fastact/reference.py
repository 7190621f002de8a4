"""The contract: what every function computes, one NumPy expression each.

Imports numpy only and knows no layout, thread or backend; the other variants are held to these lines bit
for bit (dalpha: within its bound).  Operands come prepared: x, dy and alpha in the computing dtype, alpha
in a shape that broadcasts to x's.  It is also the "numpy" backend.  Signs are taken from x, never from y:
ReLU is not PReLU with alpha = 0 (0 * -inf is NaN).
"""

import numpy as np


def relu(x):
    """x where x > 0 or NaN, +0.0 elsewhere (-0.0 and -inf included)."""
    return np.where(x <= 0, x.dtype.type(0), x)


def relu_backward(dy, x):
    """dy where x > 0 or NaN; exactly +0.0 elsewhere, whatever dy is."""
    return np.where(x <= 0, dy.dtype.type(0), dy)


def relu_kept(x):
    """Where relu lets x through, as booleans: what a mask keeps for the backward."""
    return ~(x <= 0)


def relu_from_mask(dy, kept):
    """relu_backward where the elements that were let through are known."""
    return np.where(kept, dy, dy.dtype.type(0))


def prelu_kept(x):
    """Where prelu lets x through, as booleans."""
    return x > 0


def prelu_from_mask(dy, kept, alpha):
    """prelu_backward_dx where the elements that were let through are known."""
    return np.where(kept, dy, alpha * dy)


def prelu(x, alpha):
    """x where x > 0, bit for bit; one IEEE multiply elsewhere."""
    return np.where(x > 0, x, alpha * x)


def prelu_backward_dx(dy, x, alpha):
    """dy where x > 0; x = 0 and NaN take the alpha branch."""
    return np.where(x > 0, dy, alpha * dy)


def prelu_backward_dalpha(dy, x, alpha):
    """The sum of the terms that share an alpha, in float64, in alpha's shape.

    The product is selected, not a factor (inf * 0 would be NaN).  Each sum runs along a contiguous axis,
    where NumPy adds pairwise; along any other it adds naively, 21 times the contract's bound on 32,768 rows.
    """
    terms = np.where(x > 0, 0.0, np.multiply(x, dy, dtype=np.float64))
    shape = (1,) * (x.ndim - alpha.ndim) + alpha.shape
    kept = [axis for axis, size in enumerate(shape) if size != 1]
    summed = [axis for axis, size in enumerate(shape) if size == 1]
    rows = np.ascontiguousarray(terms.transpose(kept + summed)).reshape(alpha.size, terms.size // max(alpha.size, 1))
    return 0.0 + rows.sum(axis=1).reshape(alpha.shape)
