"""16-bit floats: every one of them through every formula, and every rounding, on every backend and SIMD level.

What is expected comes from the reference in float32, rounded by NumPy or ml_dtypes.  Numba's conversions without F16C
are tried in a process of its own, for a processor that has none.
"""

import os
import platform

import numpy as np
import pytest
from helpers import COMPILED, HALVES, OPERATIONS, VARIANTS, assert_same_bits, call, expected, run_pytest

kinds = pytest.mark.parametrize("kind", HALVES, ids=lambda kind: np.dtype(kind).name)
OTHER_PROCESSOR = "NUMBA_CPU_NAME" in os.environ
# A NaN whose bits are all set: rounded like a number it would become -0.0.
FULL_NAN = np.array(-1, np.int32).view(np.float32)
ALPHAS = (0.3, -2.5, 1e-5, 3e4, np.inf, FULL_NAN, *(np.array(0.3, kind) for kind in (*HALVES, np.float32, np.float64)))


def every(kind):
    return np.arange(1 << 16, dtype=np.uint16).view(kind)


@kinds
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_value(name, kind):
    """Every x, and every dy beside positive, negative and zero ones."""
    op = OPERATIONS[name]
    x, dy = every(kind), np.random.default_rng(0).permutation(every(kind))
    for alpha in ALPHAS if op.alpha else (None,):
        ops = {"x": x, "dy": dy, "alpha": float(alpha) if op.alpha == "number" else alpha}
        ops = {k: v for k, v in ops.items() if k in op.reads or (k == "alpha" and op.alpha)}
        want = expected(name, ops)
        for variant in VARIANTS:
            assert_same_bits(call(name, ops, variant)[op.writes[0]], want, f"{variant} {alpha}")


@kinds
@pytest.mark.parametrize("name", [op.name for op in OPERATIONS.values() if op.backward])
def test_every_rounding(name, kind):
    """A float32 dy: halfway between any two neighbours, and the next ones on both sides."""
    finite = every(kind).astype(np.float32)
    finite = np.unique(finite[np.isfinite(finite)])
    middle = finite[:-1] / 2 + finite[1:] / 2
    beyond = np.array([65519.9, 65520, 3.4e38, np.inf, FULL_NAN], np.float32)
    dy = np.concatenate([middle, np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf), beyond, -beyond])
    op = OPERATIONS[name]
    for sign in (1, -1):
        ops = {"x": np.full(dy.shape, sign, kind), "dy": dy} | ({"alpha": 1.0} if op.alpha else {})
        want = expected(name, ops)
        for variant in VARIANTS:
            assert_same_bits(call(name, ops, variant)["dx"], want, f"{variant} {sign}")


@kinds
@pytest.mark.parametrize("name", [op.name for op in OPERATIONS.values() if op.summed])
def test_a_sum_is_rounded_once(name, kind):
    """Sums that are a little above halfway, by less than float32 can tell: it would make ties of them."""
    digits, least = (11, -24) if np.dtype(kind) == np.float16 else (8, -133)
    small = max(least, -80)
    for terms, want in {
        ((1, 1), (2.0**-digits, 1), (2.0**-20, 2.0**-20)): 1 + 2.0 ** (1 - digits),
        ((2.0 ** (least // 2), 2.5 * 2.0 ** (least - least // 2)), (2.0**small, 2.0**small)): 3 * 2.0**least,
    }.items():
        x, dy = (np.array(factors, kind) for factors in zip(*terms, strict=True))
        for variant in VARIANTS:
            for alpha in (np.array(0.5, kind), np.full(1, 0.5, kind)):
                dalpha = call(name, {"x": -x, "dy": -dy, "alpha": alpha}, variant)["dalpha"]
                assert_same_bits(dalpha, np.full(alpha.shape, want, kind), f"{variant} {terms}")


@pytest.mark.full
@pytest.mark.skipif(OTHER_PROCESSOR or platform.machine() != "x86_64", reason="for x86-64, once")
@pytest.mark.skipif("numba" not in {v.backend for v in COMPILED}, reason="no Numba")
def test_numba_without_f16c(tmp_path):
    variables = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    # Forward only: both conversions are there, and the backward loops take 30 s to compile for this processor.
    words = ("-k", "float16 and not bfloat16 and not backward")
    done = run_pytest("-q", __file__, *words, FASTACT_TEST_BACKENDS="numba", **variables)
    assert done.returncode == 0, done.stdout
