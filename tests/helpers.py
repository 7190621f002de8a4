"""What the tests share: variants of the machine, operands, the expected results and exact comparisons.

A *variant* is one way to compute: a backend, and a SIMD level where the backend has levels.  Functions are
called through the table of operations, operands travel as a dict (x, dy, alpha), results as a dict (y, dx,
dalpha).  `expected` prepares operands by itself (never with the package's argument handling) and asks the
reference; elementwise results are compared bit for bit, dalpha against an exact sum with the contract's bound.
"""

import contextlib
import functools
import hashlib
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastact
from fastact import (
    _arguments,
    _backends,
    _buffers,
    _built,
    _cpu,
    _dispatch,
    _driver,
    _forks,
    _front,
    _launch,
    _masks,
    _plan,
    _settings,
    _tables,
    reference,
)
from fastact._tables import OPERATIONS

# The inside of the package, as far as tests look at it: they have it from here, so that a module that gets another name
# there gets it in these lines alone (and in the few scripts that look inside).
arguments, backends, buffers, built, cpu, dispatch, forks, front, plans, python_driver, settings, tables = (
    _arguments, _backends, _buffers, _built, _cpu, _dispatch, _forks.forks, _front, _plan, _driver, _settings, _tables
)  # fmt: skip
launch, launch_module = _launch.launch, _masks
HAS_CORE = built.driver is not None  # the compiled driver, recycled memory and fast path
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")  # by tests/sanitize.py: slower, with an allocator of its own

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "scripts"
PLUGINS = str(SCRIPTS / "plugins")  # of pytest, for a process's PYTHONPATH
try:  # its bfloat16 is recognised by name, and nothing of ours imports it
    import ml_dtypes

    HALVES = (np.float16, ml_dtypes.bfloat16)
except ImportError:
    HALVES = (np.float16,)
finfo = np.finfo if len(HALVES) == 1 else ml_dtypes.finfo  # which knows NumPy's dtypes too
FLOATS = (*HALVES, np.float32, np.float64)
# Those that are computed in themselves, for tests of what does not depend on the storage type.
WIDE = (np.float32, np.float64)
BACKWARD = [op.name for op in OPERATIONS.values() if op.backward]
SUMMED = [op.name for op in OPERATIONS.values() if op.summed]
WITH_SLOPES = [op.name for op in OPERATIONS.values() if op.alpha == "array"]


class Variant(NamedTuple):
    """One way to compute."""

    backend: str
    level: str | None = None

    def __str__(self):
        return f"{self.backend}-{self.level}" if self.level else self.backend


# FASTACT_TEST_BACKENDS=numba leaves one compiled variant beside NumPy, as if the other one did not work.  mutants.py
# sets it: a fault in the text that both compile has to be noticed in each of them alone.
only = os.environ.get("FASTACT_TEST_BACKENDS")
for backend in ("numba", "cython") if only else ():
    if backend not in only.split(","):
        backends._missing[backend] = f"FASTACT_TEST_BACKENDS is {only}"

VARIANTS = [
    Variant(backend, level)
    for backend in ("numpy", "numba", "cython")
    if backend in fastact.available_backends()
    for level in (built.levels() if backend == "cython" else (None,))
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


# ---- calls ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def using(variant):
    """The variant's backend and level as the default."""
    with fastact.use_backend(variant.backend):
        if variant.level is None:
            yield
        else:
            with built.use_level(variant.level):
                yield


@contextlib.contextmanager
def thresholds(**values):
    """Other thresholds of the policy (stream_bytes=0, say) for a block."""
    before = built.policy.set_thresholds(**values)
    try:
        yield
    finally:
        built.policy.set_thresholds(**before)


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
    """`out=` as the function wants it: one array, or a tuple of as many as it writes, None for those not given."""
    most = len(OPERATIONS[name].writes)
    return (*arrays, *(None,) * (most - len(arrays))) if most > 1 else arrays[0]


# ---- what is expected -----------------------------------------------------------------------------


def result_dtype(op, x):
    """The dtype of an operation's elementwise result."""
    if x.dtype.kind in "biu" and not op.integers:
        return np.dtype(np.float64)
    return x.dtype.newbyteorder("=")


def computing_of(dtype):
    """The dtype that a result of this dtype is computed in."""
    return np.dtype(np.float32) if dtype in map(np.dtype, HALVES) else np.dtype(dtype)


def computing(op, x):
    """The dtype that an operation computes in."""
    return computing_of(result_dtype(op, x))


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
    """The elementwise result, by the reference, rounded once to its dtype."""
    op = OPERATIONS[name]
    ready = prepared(name, ops, channel_axis)
    args = [ready[read] for read in (*op.reads, "alpha") if read in ready]
    with np.errstate(all="ignore"):
        result = np.asarray(getattr(reference, op.reference)(*args))
        return result.astype(result_dtype(op, np.asarray(ops["x"])), copy=False)


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


def unit(a, dtype):
    """The distance between neighbours of a dtype at these float64 values."""
    if dtype in map(np.dtype, HALVES):
        digits, least = (11, -24) if dtype == np.float16 else (8, -133)
        return np.ldexp(1.0, np.maximum(np.frexp(a)[1] - digits, least))
    with np.errstate(all="ignore"):
        return np.spacing(abs(a).astype(dtype)).astype(np.float64)


def rounded_to(a, dtype):
    """float64 values rounded once: bfloat16's own conversion rounds to float32 first."""
    with np.errstate(all="ignore"):
        if dtype in map(np.dtype, HALVES):
            grid = unit(a, dtype)
            a = np.where(np.isfinite(a) & (a != 0), np.rint(a / grid) * grid, a)
        return a.astype(np.float32).astype(dtype) if dtype in map(np.dtype, HALVES) else a.astype(dtype)


def exact_sum(row):
    """One row: rounded once, inf where that is beyond float64."""
    try:
        return math.fsum(row)
    except OverflowError:
        total = sum(map(Fraction, row))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf  # no float is as large as the sum


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
            assert_same_bits(flat, rounded_to(0.0 + rows[:, 0], got.dtype), note or "single terms")
    finite = np.isfinite(rows).all(axis=1)
    with np.errstate(all="ignore"):
        # Terms of a row that are not finite decide its sum, unless a partial sum of the others overflows as well.
        want = np.where(np.isfinite(rows), 0, rows).sum(axis=1)
        overflows = ~finite & np.isinf(np.where(np.isfinite(rows), abs(rows), 0).sum(axis=1))
        want[finite] = exact_sums(rows[finite])
        rounded = rounded_to(want, got.dtype)
        flat = flat.astype(np.float64)
        size = np.zeros(len(rows))
        size[finite] = abs(rows[finite]).sum(axis=1) * (1 - 2.0**-20)
        bound = unit(flat, got.dtype) / 2 + (2.0**-45 - 2.0**-52) * size
        within = abs(flat - want) <= bound
        same = np.where(np.isnan(rounded) | (overflows & np.isnan(flat)), np.isnan(flat), flat == rounded)
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
    if a.dtype.kind != "f" and a.dtype not in map(np.dtype, HALVES):
        return a
    a = np.array(a, dtype=a.dtype.newbyteorder("="), order="C")
    with np.errstate(all="ignore"):  # a signalling NaN
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
    Answer(name, ops, channel_axis).check(got, note)


class Answer:
    """What an operation gives for some operands: made once, and compared with as many results as there are.

    A dalpha whose bits were within the bound before is not summed exactly again.
    """

    def __init__(self, name, ops, channel_axis=1):
        self.name, self.ops, self.channel_axis = name, ops, channel_axis
        self.want, self.within = expected(name, ops, channel_axis), set()

    def check(self, got, note=""):
        """As `assert_right`."""
        __tracebackhide__ = True
        note = f"{self.name} {note}"
        assert_same_bits(got[OPERATIONS[self.name].writes[0]], self.want, note)
        dalpha = got.get("dalpha")
        if dalpha is not None and (sums := (dalpha.dtype.str, dalpha.shape, dalpha.tobytes())) not in self.within:
            assert_dalpha(dalpha, self.ops, self.channel_axis, self.name, note)
            self.within.add(sums)


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


def python(*arguments, **variables):
    """A fresh interpreter with some variables set: the finished process.

    A first argument that ends in .py is a file of tests/scripts; else the arguments are the interpreter's own.
    """
    first, *others = map(str, arguments)
    command = [sys.executable, SCRIPTS / first if first.endswith(".py") else first, *others]  # a whole path stays
    return subprocess.run(command, env=clean_environment() | variables, capture_output=True, text=True, timeout=120)


def output_of(*arguments, **variables):
    """What a fresh interpreter printed; it must succeed."""
    __tracebackhide__ = True
    done = python(*arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def gradients_of(backend):
    """The bits of dx and of some hard sums, as text: for processes that are to agree.  They are right here already."""
    lines = []
    for shape, alpha, axis in (
        ((300_001,), (), 1),
        ((40, 30, 70), (30,), 1),
        ((3000, 33), (33,), 1),
        ((2, 3, 17_000), (3,), 1),
        ((90, 300), (90,), 0),
        ((6, 50, 7), (7,), -1),
    ):
        for dtype in FLOATS:
            whole = operands("prelu_backward", shape, alpha, dtype)
            powers = np.asarray(2.0 if dtype in HALVES else 10.0) ** whole["x"].astype(np.float64).round()
            whole["dy"] = (whole["dy"].astype(np.float64) * powers).astype(dtype)
            cut = {k: a[1:, ::2] if len(shape) > 1 else a[::2] for k, a in whole.items() if k != "alpha"}
            cut["alpha"] = whole["alpha"][: cut["x"].shape[axis]] if alpha else whole["alpha"]
            for ops in (whole, cut):
                with fastact.use_backend(backend):
                    got = call("prelu_backward", ops, channel_axis=axis, n_threads=2)
                assert_right("prelu_backward", ops, got, axis, backend)
                lines.append(got["dalpha"].tobytes().hex()[:400] + hashlib.sha256(got["dx"].tobytes()).hexdigest())
    return " ".join(lines)
