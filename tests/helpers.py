"""What the tests share: variants of the machine, operands, the expected results and exact comparisons.

A *variant* is one way to compute: a backend, and a SIMD level where the backend has levels.  Functions are
called through the table of operations, operands travel as a dict (x, dy, alpha), results as a dict (y, dx,
dalpha).  `expected` prepares operands by itself (never with the package's argument handling) and asks the
reference; elementwise results are compared bit for bit, dalpha against an exact sum with the contract's bound.
"""

import contextlib
import functools
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastact
from fastact import _built
from fastact._operations import OPERATIONS

ROOT = Path(__file__).parents[1]
FLOATS = (np.float32, np.float64)
BACKWARD = [op.name for op in OPERATIONS.values() if op.backward]
SUMMED = [op.name for op in OPERATIONS.values() if op.summed]


class Variant(NamedTuple):
    """One way to compute."""

    backend: str
    level: str | None = None

    def __str__(self):
        return f"{self.backend}-{self.level}" if self.level else self.backend


VARIANTS = [
    Variant(backend, level)
    for backend in ("numpy", "numba", "cython")
    if backend in fastact.available_backends()
    for level in (_built.levels() if backend == "cython" else (None,))
]
COMPILED = [v for v in VARIANTS if v.backend != "numpy"]


# ---- operands -------------------------------------------------------------------------------------


def values(shape, dtype=np.float32, seed=0):
    """Normal values of both signs, with a sprinkle of both zeros."""
    rng = np.random.default_rng([seed, *np.atleast_1d(shape)])
    a = rng.standard_normal(shape)
    pick = rng.random(shape)
    a = np.where(pick < 0.02, 0.0, np.where(pick > 0.98, -0.0, a))
    return np.asarray(a, dtype)


def slopes(shape, dtype=np.float32, seed=7):
    """Slopes as networks have them, with a few negative ones."""
    return np.asarray(np.random.default_rng([seed, *np.atleast_1d(shape)]).uniform(-0.2, 0.8, shape), dtype)


def operands(name, shape, alpha_shape=(), dtype=np.float32, seed=0):
    """Operands of one operation, as a dict; leaky_relu's alpha is one number whatever is asked."""
    op = OPERATIONS[name]
    made = {read: values(shape, dtype, seed + i) for i, read in enumerate(reversed(op.reads))}
    if op.alpha == "number":
        made["alpha"] = 0.3
    elif op.alpha:
        made["alpha"] = slopes(alpha_shape, dtype)
    return made


def placed(a, offset):
    """A copy of `a` (in C order) that starts `offset` bytes after a 64-byte boundary."""
    a = np.ascontiguousarray(a) if a.ndim else a
    raw = np.empty(a.nbytes + offset + 64, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    copy = raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


# ---- calls ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def using(variant):
    """The variant's backend and level as the default."""
    with fastact.use_backend(variant.backend):
        if variant.level is None:
            yield
        else:
            with _built.use_level(variant.level):
                yield


def call(name, ops, variant=None, **options):
    """Call a public function on its operands; no call may raise a floating-point warning."""
    op = OPERATIONS[name]
    args = [ops[read] for read in op.reads]
    if "alpha" in ops:
        args.append(ops["alpha"])
    with using(variant) if variant else contextlib.nullcontext(), np.errstate(all="raise"):
        result = getattr(fastact, name)(*args, **options)
    if len(op.writes) == 1:
        result = (result,)
    assert isinstance(result, tuple)
    return dict(zip(op.writes, result, strict=True))


def out_for(name, *arrays):
    """`out=` as the function wants it: one array, or a tuple of as many as it writes."""
    return arrays if len(OPERATIONS[name].writes) > 1 else arrays[0]


# ---- what is expected -----------------------------------------------------------------------------


def computing(op, x):
    """The dtype that an operation computes in."""
    if x.dtype.kind in "biu" and not op.integers:
        return np.dtype(np.float64)
    return x.dtype.newbyteorder("=")


def aligned_alpha(alpha, x, channel_axis=1):
    """Alpha in a shape that broadcasts against x."""
    alpha = np.asarray(alpha)
    if alpha.size == 1:
        return alpha.reshape(())
    if alpha.ndim == 1:
        shape = [1] * x.ndim
        shape[channel_axis] = alpha.size
        return alpha.reshape(shape)
    return alpha


def prepared(name, ops, channel_axis=1):
    """Operands as the reference wants them: native, in the computing dtype, alpha aligned."""
    op = OPERATIONS[name]
    x = np.asarray(ops["x"])
    dtype = computing(op, x)
    with np.errstate(all="ignore"):
        ready = {read: np.asarray(ops[read]).astype(dtype) for read in op.reads}
        if "alpha" in ops:
            ready["alpha"] = aligned_alpha(ops["alpha"], x, channel_axis).astype(dtype)
    return ready


def expected(name, ops, channel_axis=1):
    """The elementwise result, by the reference."""
    op = OPERATIONS[name]
    ready = prepared(name, ops, channel_axis)
    args = [ready[read] for read in (*op.reads, "alpha") if read in ready]
    with np.errstate(all="ignore"):
        return np.asarray(op.reference(*args))


def terms_by_alpha(ready):
    """The float64 terms of dalpha as rows, one row for each element of the aligned alpha."""
    alpha = ready["alpha"]
    with np.errstate(all="ignore"):
        x, dy = (ready[k].astype(np.float64) for k in ("x", "dy"))
        terms = np.where(x > 0, 0.0, x * dy)
    shape = (1,) * (x.ndim - alpha.ndim) + alpha.shape
    kept = [i for i, size in enumerate(shape) if size != 1]
    summed = [i for i, size in enumerate(shape) if size == 1]
    return terms.transpose(kept + summed).reshape(alpha.size, terms.size // max(alpha.size, 1))


def exact_sums(rows):
    """The sum of each row of finite terms as if exactly (the error is below 2**-90 of the terms' sizes).

    Few rows: math.fsum.  Many: all rows at once in pairs of float64 (Knuth's two-sum), which a sum near
    the end of the range would spoil; those rows go to fractions.
    """
    if len(rows) <= 64 or rows.shape[1] > 5000:
        return np.array([exact_sum(row) for row in rows])
    high, low = np.zeros(len(rows)), np.zeros(len(rows))
    with np.errstate(all="ignore"):
        for column in rows.T:
            total = high + column
            part = total - high
            low += (high - (total - part)) + (column - part)
            high = total
        sums = high + low
    for i in np.flatnonzero(~np.isfinite(sums)):
        sums[i] = exact_sum(rows[i])
    return sums


def exact_sum(row):
    """One row: rounded once, inf where that is beyond float64."""
    try:
        return math.fsum(row)
    except OverflowError:
        total = sum(map(Fraction, row))
        try:
            return float(total)
        except OverflowError:
            return math.copysign(math.inf, total)


def assert_dalpha(got, ops, channel_axis=1, name="prelu_backward", note=""):
    """dalpha has alpha's shape, and lies within the contract's bound of the exact sum.

    The products are exact for float32; for float64 each is rounded once, by at most 2**-53 of itself, which
    is taken off the bound.  Sums that meet an inf or a NaN are compared by their kind, single terms bit for bit.
    """
    __tracebackhide__ = True
    alpha = np.asarray(ops["alpha"])
    assert type(got) is np.ndarray
    assert got.shape == alpha.shape, (got.shape, alpha.shape, note)
    rows, flat = terms_by_alpha(prepared(name, ops, channel_axis)), got.ravel()
    if rows.shape[1] == 1:  # nothing is summed, so nothing depends on an order
        with np.errstate(all="ignore"):
            assert_same_bits(flat, (0.0 + rows[:, 0]).astype(got.dtype), note or "single terms")
    finite = np.isfinite(rows).all(axis=1)
    with np.errstate(all="ignore"):
        want = rows.sum(axis=1)
        want[finite] = exact_sums(rows[finite])
        rounded = want.astype(got.dtype)
        size = np.zeros(len(rows))
        size[finite] = abs(rows[finite]).sum(axis=1) * (1 - 2.0**-20)
        bound = np.spacing(abs(flat)).astype(np.float64) / 2 + (2.0**-45 - 2.0**-52) * size
        within = abs(flat.astype(np.float64) - want) <= bound
        same = np.where(np.isnan(rounded), np.isnan(flat), flat == rounded)
    right = np.where(np.isfinite(rounded), within, same) & ~((want == 0) & (flat == 0) & np.signbit(flat))
    for i in np.flatnonzero(~right)[:1]:
        raise AssertionError(
            f"{note}: {np.count_nonzero(~right)} of {right.size} sums are wrong, first dalpha[{i}] = {flat[i]!r}, "
            f"exactly {want[i]!r}, bound {bound[i]:.3e}"
        )


# ---- comparisons ----------------------------------------------------------------------------------


def bits(a):
    """Bit patterns with one pattern for every NaN."""
    a = np.asarray(a)
    if a.dtype.kind != "f":
        return a
    a = np.array(a, dtype=a.dtype.newbyteorder("="), order="C")
    a[np.isnan(a)] = np.nan
    return a.view(f"u{a.itemsize}")


def assert_same_bits(got, want, note=""):
    """Same type, dtype, shape and bits, NaN payloads aside."""
    __tracebackhide__ = True
    assert type(got) is np.ndarray, (type(got), note)
    assert got.dtype == want.dtype, (got.dtype, want.dtype, note)
    assert got.dtype.isnative, (got.dtype, note)
    assert got.shape == want.shape, (got.shape, want.shape, note)
    different = np.argwhere(bits(got) != bits(want))
    if len(different):
        first = tuple(different[0])
        raise AssertionError(
            f"{note}: {len(different)} of {got.size} differ, first at {first}: {got[first]!r}, not {want[first]!r}"
        )


def assert_right(name, ops, got, channel_axis=1, note=""):
    """Every result of a call against the reference (dalpha: against the exact sum)."""
    __tracebackhide__ = True
    assert_same_bits(got[OPERATIONS[name].writes[0]], expected(name, ops, channel_axis), note or name)
    if "dalpha" in got:
        assert_dalpha(got["dalpha"], ops, channel_axis, name, note or name)


# ---- other processes ------------------------------------------------------------------------------


def pytest_environment():
    """The environment without what would set up a run of pytest, of the package or of matplotlib."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("FASTACT_", "PYTEST_", "MATPLOTLIB", "MPL"))}


def run_pytest(*arguments, cwd=ROOT, timeout=300, **variables):
    """Pytest in a process of its own, on the checkout if nothing else is said: the finished process."""
    cache = [] if "cacheprovider" in arguments else ["-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *cache, *arguments]
    environment = pytest_environment() | variables
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment)


@functools.cache
def clean_environment():
    """The environment without this package's variables and OpenMP's, with the package on the path."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FASTACT_", "OMP_", "GOMP_"))}
    root = os.path.dirname(os.path.dirname(os.path.abspath(fastact.__file__)))
    env["PYTHONPATH"] = os.pathsep.join(p for p in (root, env.get("PYTHONPATH")) if p)
    return env


def python(code, *arguments, **variables):
    """Run code in a fresh interpreter with some variables set: the finished process."""
    command = [sys.executable, "-c", code] if code else [sys.executable]
    return subprocess.run(
        [*command, *arguments],
        env=clean_environment() | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def output_of(code, *arguments, **variables):
    """What the code printed; it must succeed."""
    done = python(code, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sums_of(backend):
    """The bits of some hard sums, as text: for processes that are to agree."""
    lines = []
    for shape, alpha, axis in (
        ((300_001,), (), 1),
        ((40, 30, 70), (30,), 1),
        ((3000, 33), (33,), 1),
        ((2, 3, 17_000), (3,), 1),
    ):
        for dtype in FLOATS:
            ops = operands("prelu_backward", shape, alpha, dtype)
            ops["dy"] = ops["dy"] * np.asarray(10.0, dtype) ** ops["x"].round()
            with fastact.use_backend(backend):
                got = call("prelu_backward", ops, channel_axis=axis)
            lines.append(got["dalpha"].tobytes().hex()[:400])
    return " ".join(lines)
