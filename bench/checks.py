"""Whether a timed result is right.

A benchmark checks what it has timed, because `--benchmark-only` skips the tests.  Exact results must have
the reference's bits, and their sums lie within the contract's bound (which the reference itself may use up
half of); the others get a loose tolerance.
"""

import numpy as np


def check_result(results: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...], exact: bool) -> None:
    """Hold (y,), (dx,) or (dx, dalpha) against what workloads.expected_of says."""
    got, *got_sums = results
    want, *want_sums = wanted
    assert got.shape == want.shape and got.dtype == want.dtype
    if exact:
        bits = f"u{got.itemsize}"
        assert np.array_equal(np.ascontiguousarray(got).view(bits), np.ascontiguousarray(want).view(bits))
    else:
        assert np.allclose(got, want, rtol=1e-6, atol=0)
    if got_sums:
        (total,), (want_total, magnitude) = got_sums, want_sums
        assert total.shape == want_total.shape
        ulp = np.spacing(np.maximum(np.abs(total), np.abs(want_total).astype(total.dtype))).astype(np.float64)
        bound = ulp / 2 + 2.0**-44 * magnitude if exact else 1e3 * np.finfo(total.dtype).eps * magnitude
        assert np.all(np.abs(total - want_total) <= bound)
