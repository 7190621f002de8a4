"""Whether a result is right, and how far a sum is off.

A benchmark checks what it times, because `--benchmark-only` skips the tests.  Exact contestants must have the
reference's bits, and their sums must lie within the contract's bound (the reference itself may use up half of it).  The
others get a loose tolerance.  The error of a sum is measured against the exact sum, in units in the last place (ulp) of
the result's dtype.
"""

import math

import numpy as np

from .workloads import Task, computing

# For each float: its binary digits, and the exponent of its least number above 0.
DIGITS = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149), "float64": (53, -1074)}
# The error that a sum of a contestant that is not exact may have, over the sum of its terms' magnitudes: this many
# units of rounding of its dtype, since it may add in the dtype itself ...
LOOSE_UNITS = 1e3
LOOSEST = 0.25  # ... but no more than this, because a thousand units of 16 bits would be no bound
# The relative error that an element of such a contestant may have: for 16-bit floats two units in the last place.
LOOSE = {"float16": 2.0**-9, "bfloat16": 2.0**-6, None: 1e-6}


class WrongResult(Exception):
    """A result differs from the reference; the message says in what."""


def check_result(results: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...], exact: bool) -> tuple[float, float]:
    """Compare (y,), (dx,) or (dx, dalpha) with workloads.expected_of's; return the largest error of each in ulp."""
    got, *got_sums = results
    want, *want_sums = wanted
    _same_kind("the result", got, want)
    # 16-bit floats may differ by two units where alpha may be rounded to 16 bits.
    tolerance = 0.0 if exact else LOOSE.get(got.dtype.name, LOOSE[None])
    worst = _elementwise(got, want, tolerance)
    return worst, _sums(*got_sums, *want_sums, exact) if got_sums else 0.0


def _elementwise(got: np.ndarray, want: np.ndarray, tolerance: float) -> float:
    """The largest error in ulp; with a tolerance of 0 the bits must be the same."""
    bits = f"u{got.itemsize}"
    wrong = np.ascontiguousarray(got).view(bits) != np.ascontiguousarray(want).view(bits)
    if not wrong.any():
        return 0.0
    kind, wide = got.dtype.name, "float64" if got.dtype.kind in "iub" else computing(got).dtype
    one, other = got[wrong].astype(wide), want[wrong].astype(wide)
    off = np.abs(one - other)
    digits, least = DIGITS.get(kind, (0, -1074))
    normal = 2.0 ** (least + digits - 1)  # the least normal number: below it the unit in the last place stays the same
    far = ~(off <= tolerance * np.maximum(np.abs(other), normal))
    if far.any():
        where = tuple(int(axis[far.argmax()]) for axis in np.nonzero(wrong))
        raise WrongResult(
            f"{np.count_nonzero(far)} of {wrong.size} elements differ from the reference, first at {where}: "
            f"{got[where]} instead of {want[where]}"
        )
    return float(np.max(off / unit(other.astype(np.float64), kind))) if kind in DIGITS else 0.0


def _sums(total: np.ndarray, want: np.ndarray, magnitude: np.ndarray, exact: bool) -> float:
    """dalpha's largest error in ulp."""
    if total.shape != want.shape:
        raise WrongResult(f"dalpha has shape {total.shape}, not {want.shape}")
    dtype, got = total.dtype.name, total.astype(np.float64)
    ulp = unit(np.maximum(np.abs(got), np.abs(want)), dtype)
    loose = min(LOOSE_UNITS * 2.0 ** (1 - DIGITS[dtype][0]), LOOSEST)
    bound = ulp / 2 + 2.0**-44 * magnitude if exact else loose * magnitude
    off = np.abs(got - want)
    if not np.all(off <= bound):
        where = np.unravel_index(np.argmax(~(off <= bound)), off.shape)
        place = tuple(map(int, where))
        raise WrongResult(
            f"dalpha is {np.max(off / ulp):.3g} ulp off, first at {place}: {got[where]:.9g}, not {want[where]:.9g}"
        )
    return float(np.max(off / ulp))


def _same_kind(what: str, got: np.ndarray, want: np.ndarray) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise WrongResult(f"{what} has shape {got.shape} and dtype {got.dtype}, not {want.shape} and {want.dtype}")


def unit(values: np.ndarray | float, dtype: str) -> np.ndarray:
    """The distance from each of these doubles to the next number of a dtype."""
    digits, least = DIGITS[dtype]
    exponent = np.where(values == 0, least, np.frexp(values)[1] - digits)
    return np.ldexp(1.0, np.maximum(exponent, least))


def ulp_error(dalpha: np.ndarray, task: Task) -> float:
    """The largest error of dalpha against the exact sums, in ulp of its dtype."""
    workload = task.workload
    shape = (1, 1, -1) if workload.alpha == "shared" else (workload.shape[0], workload.shape[1], -1)
    x, dy = (array.reshape(shape) for array in (task.x, task.dy))
    errors = []
    for channel, got in enumerate(dalpha.reshape(-1)):
        negative = ~(x[:, channel] > 0)
        high, low = _product(x[:, channel][negative].astype(np.float64), dy[:, channel][negative].astype(np.float64))
        # The error is taken against the exact sum, not against its nearest double: in float64 the difference counts.
        nearest = math.fsum([*high, *low])
        error = math.fsum([float(got), *-high, *-low])
        errors.append(abs(error) / float(unit(nearest, dalpha.dtype.name)))
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
