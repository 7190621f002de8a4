"""relu of signed integers, which Cython and Numba both compile: the plain loop, which both make vectors of.

Unsigned integers and booleans are never below 0: their relu is a copy, made by NumPy.
"""

from __future__ import annotations


def relu(y: IntegersOut, x: IntegersIn, n: int) -> None:
    """Let x through; 0 where x <= 0."""
    for i in range(n):
        y[i] = x[i] if x[i] > 0 else 0
