"""relu of integers, which Cython and Numba both compile: the plain loop, which both make vectors of.

A boolean is an integer of 8 bits here.  Unsigned integers are never below 0: the compilers make a copy of the loop.
"""

from __future__ import annotations


def relu(x: Integer, zero: Integer) -> Integer:
    """Let x through; 0 where x <= 0."""
    return x if x > zero else zero


def relu_apart(y: IntegersOut, x: IntegersIn, n: int) -> None:
    """relu of n elements into memory elsewhere."""
    for i in range(n):
        y[i] = relu(x[i], zero_of(y))


def run_loop(y: IntegersOut, x: IntegersIn, buffer: IntegersOut, n: int, streams: bool) -> None:
    """One loop.  What is streamed is made in the buffer of STREAM_LINES cache lines, which stays in L1."""
    if same(y, x):  # a loop of its own, because LLVM makes vectors of the other one only where y and x do not meet
        for i in range(n):
            y[i] = relu(y[i], zero_of(y))
    else:
        done = ZERO
        if n >= STREAM_LINES * line(y):
            done = to_line(y)
            relu_apart(y, x, done)
            while streams and done + line(y) <= n:
                lines = min(STREAM_LINES, (n - done) // line(y))
                relu_apart(buffer, at(x, done), lines * line(y))
                stream_lines(at(y, done), buffer, lines)
                done += lines * line(y)
        relu_apart(at(y, done), at(x, done), n - done)


def run_integers(
    y: IntegersOut, x: IntegersIn, buffer: IntegersOut, n: int, more: int, y_step: int, x_step: int, streams: bool,
    fences: bool,
) -> None:  # fmt: skip
    """The kernel: a loop, and `more` of them."""
    row = ZERO
    while row <= more:
        run_loop(at(y, row * y_step), at(x, row * x_step), buffer, n, streams)
        row += 1
    if fences:
        fence()
