"""Whether a result is right, and how far a sum is off.

A benchmark checks what it times, because `--benchmark-only` skips the tests.  Exact results must have
the reference's bits, and their sums lie within the contract's bound (which the reference itself may use up
half of); the others get a loose tolerance.  The error of a sum is measured against the exact one, in units
in the last place of the result's dtype.
"""

import math

import numpy as np

from .workloads import Task


class WrongResult(Exception):
    """What differs from the reference."""


def check_result(results: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...], exact: bool) -> None:
    """Hold (y,), (dx,) or (dx, dalpha) against what workloads.expected_of says."""
    got, *got_sums = results
    want, *want_sums = wanted
    _same_kind("the result", got, want)
    if exact:
        bits = f"u{got.itemsize}"
        wrong = np.ascontiguousarray(got).view(bits) != np.ascontiguousarray(want).view(bits)
    else:
        wrong = ~(np.abs(got - want) <= 1e-6 * np.abs(want))  # isclose takes four times as long
    if wrong.any():
        raise WrongResult(f"{np.count_nonzero(wrong)} of {wrong.size} elements differ from the reference")
    if got_sums:
        (total,), (want_total, magnitude) = got_sums, want_sums
        _same_kind("dalpha", total, want_total.astype(total.dtype))
        ulp = np.spacing(np.maximum(np.abs(total), np.abs(want_total).astype(total.dtype))).astype(np.float64)
        bound = ulp / 2 + 2.0**-44 * magnitude if exact else 1e3 * np.finfo(total.dtype).eps * magnitude
        off = np.abs(total - want_total)
        if not np.all(off <= bound):
            raise WrongResult(f"dalpha is {np.max(off / ulp):.3g} ulp off")


def _same_kind(what: str, got: np.ndarray, want: np.ndarray) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise WrongResult(f"{what} has shape {got.shape} and dtype {got.dtype}, not {want.shape} and {want.dtype}")


def ulp_error(dalpha: np.ndarray, task: Task) -> float:
    """The largest error of dalpha against the exact sums, in ulp of its dtype."""
    workload = task.workload
    shape = (1, 1, -1) if workload.alpha == "shared" else (workload.shape[0], workload.shape[1], -1)
    x, dy = (array.reshape(shape) for array in (task.x, task.dy))
    errors = []
    for channel, got in enumerate(dalpha.reshape(-1)):
        negative = ~(x[:, channel] > 0)
        high, low = _product(x[:, channel][negative].astype(np.float64), dy[:, channel][negative].astype(np.float64))
        # Both sums rounded once: what is left of the exact one after its nearest double matters in float64.
        nearest = math.fsum([*high, *low])
        error = math.fsum([float(got), *-high, *-low])
        errors.append(abs(error) / float(np.spacing(dalpha.dtype.type(abs(nearest)))))
    return max(errors)


def _product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a * b as an unevaluated sum of two doubles (Dekker 1971), exactly."""
    high = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = 134217729.0 * a  # 2**27 + 1
    high = scaled - (scaled - a)
    return high, a - high
