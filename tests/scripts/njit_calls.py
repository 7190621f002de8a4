"""Calls inside @njit functions, for test_njit.py: `njit_calls.py [--no-core] FUNCTION`.

FASTACT_TEST_PATH is a folder with a distribution that has the entry point for Numba.  It goes to the path here, so that
the process is one in which the package is installed.
"""

import hashlib
import os
import sys

sys.path.insert(0, os.environ["FASTACT_TEST_PATH"])
if sys.argv[1] == "--no-core":
    sys.argv.pop(1)
    import no_core  # noqa: F401

import fastact

numba_was_imported = "numba" in sys.modules

import numpy as np  # noqa: E402
from numba import njit, prange  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@njit(cache=True)
def gradients(dy, x, alpha):
    return fastact.prelu_backward(dy, x, alpha)


@njit(cache=True)
def rows(x):
    y = np.empty_like(x)
    for i in range(x.shape[0]):
        fastact.relu(x[i], out=y[i])
    return y, fastact.relu(x[0, 0])


def imports():
    print(numba_was_imported)
    njit(lambda a: a)(1)
    print("fastact._njit" in sys.modules, "fastact._numba.kernels" in sys.modules)


def cached():
    """Prints how often the cache was hit, and the bits of the results."""
    x = np.linspace(-1, 1, 30_000).reshape(30, 1000)
    dx, dalpha = gradients(x[::-1].copy(), x, np.full(1000, 0.3))
    y, number = rows(x)
    hits, misses = (
        sum(sum(getattr(f.stats, kind).values()) for f in (gradients, rows)) for kind in ("cache_hits", "cache_misses")
    )
    print(f"{hits} hits, {misses} misses")
    for result in (dx, dalpha, y, np.asarray(number)):
        print(hashlib.sha256(result.tobytes()).hexdigest())
    want = fastact.prelu_backward(x[::-1], x, np.full(1000, 0.3))
    assert (dx == want[0]).all() and (dalpha == want[1]).all() and (y == fastact.relu(x)).all()


def threads():
    """Prints how many threads came, beside Numba's, by calls inside prange and then by one outside."""

    @njit(parallel=True)
    def inside(x, y):
        for i in prange(x.shape[0]):
            fastact.relu(x[i], out=y[i])

    @njit
    def outside(x, y):
        fastact.relu(x, out=y)

    @njit(parallel=True)
    def nothing(y):
        for i in prange(y.shape[0]):
            y[i] = 0

    def count():
        return len(os.listdir("/proc/self/task"))

    from fastact import _settings

    x = np.linspace(-1, 1, 6_000_000).reshape(6, 1_000_000)
    y = np.empty_like(x)
    with _settings.oversubscribed(1000):
        fastact.set_num_threads(3)
        nothing(y)
        before = count()
        for _ in range(5):
            inside(x, y)
        assert (y == np.maximum(x, 0)).all()
        after = count()
        outside(x, y)
        print(after - before, count() - after)


def without_core():
    """Every operation on many operands, against the reference."""
    from helpers import OPERATIONS, SUMMED, assert_right, operands
    from layouts import laid_out

    assert fastact._built.driver is None
    for name, op in OPERATIONS.items():
        names = ", ".join([*op.reads, *(["alpha"] if op.alpha else [])])
        function = njit(eval(f"lambda {names}: call({names})", {"call": getattr(fastact, name)}))
        for shape, alpha, layout in (
            ((61,), (), "c"), ((100_000,), (), "c"), ((90, 80), (80,), "strided"), ((6, 5, 4), (5, 1), "permuted"),
        )[:: 1 if op.alpha == "array" else 2]:  # fmt: skip
            if op.alpha != "array":
                alpha = ()
            ops = {k: laid_out(a, layout) for k, a in operands(name, shape, alpha).items()}
            got = function(*(ops[k] for k in names.split(", ")))
            got = got if isinstance(got, tuple) else (got,)
            assert_right(name, ops, dict(zip(op.writes, got, strict=True)), note=f"{shape} {alpha} {layout}")
        if not op.summed:
            continue
        x = np.linspace(-1, 1, 5)
        in_place = njit(eval(f"lambda {names}, out: call({names}, out=out)", {"call": getattr(fastact, name)}))
        for out in (x[1:], x[:-1], np.lib.stride_tricks.as_strided(np.empty(1), (4,), (0,))):
            ops = operands(name, (4,), (), np.float64) | {"x": x[:-1]}
            other = out is not x[:-1] and out.ctypes.data != x.ctypes.data
            try:
                in_place(*(ops[k] for k in names.split(", ")), (out, None))
            except ValueError as error:
                assert other and "shares memory" in str(error), (name, error)
            else:
                assert not other, name
    for name in SUMMED:
        huge = np.array([1e308, 1e308, -1e308, -np.inf])
        ops = {k: {"dy": -huge, "x": -abs(huge)}[k] for k in OPERATIONS[name].reads} | {"alpha": np.array([0.5])}
        names = ", ".join(ops)
        got = njit(eval(f"lambda {names}: call({names})", {"call": getattr(fastact, name)}))(*ops.values())
        got = got if isinstance(got, tuple) else (got,)
        assert_right(name, ops, dict(zip(OPERATIONS[name].writes, got, strict=True)))
    print("right")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
