"""The kernels that move whole elements: plain loops, of which the C compiler (through Cython) and Numba make vectors.

They are relu of integers, where a boolean counts as an integer of 8 bits, and relu and relu_backward of 16-bit floats.
An unsigned integer is never below 0, so its relu is a copy.  The bits of a 16-bit float are read as a signed integer.
A float above 0 is then above 0.  The negative floats go from -32768 (-0.0) up to -inf, and the NaNs with a sign are
above -inf.  Hence `bound` is 0 for integers and -inf's bits for floats, and what is not above it becomes 0.
"""

from __future__ import annotations


def relu(x: Integer, bound: Integer, zero: Integer) -> Integer:
    """Let x through; 0 where x <= 0."""
    return x if x > bound else zero


def relu_backward(dy: Integer, x: Integer, bound: Integer, zero: Integer) -> Integer:
    """Let dy through; 0 where x <= 0."""
    return dy if (x > bound) & (x != zero) else zero


def formula(op: int, dy: Integer, x: Integer, bound: Integer, zero: Integer) -> Integer:
    """What a kernel computes."""
    if op == RELU_BACKWARD:
        return relu_backward(dy, x, bound, zero)
    return relu(x, bound, zero)


def run_apart(op: int, y: IntegersOut, dy: IntegersIn, x: IntegersIn, n: int, bound: Integer) -> None:
    """n elements of a result that does not overlap its operands."""
    for i in range(n):
        y[i] = formula(op, dy[i], x[i], bound, zero_of(y))


def run_loop(
    op: int, y: IntegersOut, dy: IntegersIn, x: IntegersIn, buffer: IntegersOut, n: int, bound: Integer, streams: bool
) -> None:
    """One loop.  A streamed result is first made in the buffer of STREAM_LINES cache lines, which stays in L1."""
    # Calls in place have loops of their own: LLVM vectorizes the others only where y does not overlap its operands.
    if same(y, x):
        for i in range(n):
            y[i] = formula(op, dy[i], y[i], bound, zero_of(y))
    elif same(y, dy):
        for i in range(n):
            y[i] = formula(op, y[i], x[i], bound, zero_of(y))
    else:
        done = ZERO
        if n >= STREAM_LINES * line(y):
            done = to_line(y)
            run_apart(op, y, dy, x, done, bound)
            while streams and done + line(y) <= n:
                lines = min(STREAM_LINES, (n - done) // line(y))
                run_apart(op, buffer, at(dy, done), at(x, done), lines * line(y), bound)
                stream_lines(at(y, done), buffer, lines)
                done += lines * line(y)
        run_apart(op, at(y, done), at(dy, done), at(x, done), n - done, bound)


def run_integers(
    op: int, y: IntegersOut, dy: IntegersIn, x: IntegersIn, buffer: IntegersOut, loop: InnerLoop, bound: Integer
) -> None:
    """The kernel: one loop, and `more` further ones.  For relu, dy is x."""
    row = ZERO
    while row <= loop.more:
        run_loop(
            op,
            at(y, row * loop.y_step),
            at(dy, row * loop.dy_step),
            at(x, row * loop.x_step),
            buffer,
            loop.n,
            bound,
            loop.stream,
        )
        row += 1
    if loop.fence:
        fence()
