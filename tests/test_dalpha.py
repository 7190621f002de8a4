"""The sum behind dalpha: its bound on hard data, its bits, and what does not change them.

The contract promises the same bits for every thread count, SIMD level, alignment and run, and in both compiled
variants; the tests compare all of them with one call of the first compiled variant.  Data are chosen to
make orders visible: terms of very different sizes that cancel.  The exact sums and the bound are in helpers.py.
The NumPy backend need only stay within the bound.
"""

import threading

import numpy as np
import pytest
from cases import CASES, LARGE, THREADS, Case, per_channel
from helpers import (
    COMPILED,
    SUMMED,
    VARIANTS,
    assert_dalpha,
    assert_same_bits,
    call,
    operands,
    placed,
    values,
)

from fastact import _backends, _built, _driver, _layout
from fastact._operations import OPERATIONS

pytestmark = pytest.mark.parametrize("name", SUMMED)


def hard(name, case, dtype, seed=0):
    """Terms over 20 orders of magnitude, of both signs: another order of adding has other bits."""
    ops = operands(name, case.shape, case.alpha, dtype, seed)
    rng = np.random.default_rng(seed)
    for read in ("x", "dy"):
        ops[read] = np.asarray(ops[read] * 10.0 ** rng.uniform(-5, 5, case.shape), dtype)
    return ops


def sums(name, ops, variant, axis, **options):
    return call(name, ops, variant, channel_axis=axis, need_dx=False, **options)["dalpha"]


def cases_of(cases):
    return [case for case in cases if np.prod(case.shape) > 16]


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_in_every_compiled_variant(name, compiled, dtype):
    for case in cases_of(CASES):
        ops = hard(name, case, dtype)
        want = sums(name, ops, COMPILED[0], case.channel_axis)
        assert_same_bits(sums(name, ops, compiled, case.channel_axis), want, f"{compiled} {case}")
        both = call(name, ops, compiled, channel_axis=case.channel_axis)
        assert_same_bits(both["dalpha"], want, f"{compiled} {case} with dx")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_same_bits_for_every_thread_count(name, dtype, case):
    ops = hard(name, case, dtype)
    want = sums(name, ops, COMPILED[0], case.channel_axis, n_threads=1)
    assert_dalpha(want, ops, case.channel_axis, name, str(case))
    for compiled in COMPILED:
        for n_threads in THREADS:
            for note, more in (("with dx", {}), ("alone", {"need_dx": False})):
                got = call(name, ops, compiled, channel_axis=case.channel_axis, n_threads=n_threads, **more)
                assert_same_bits(got["dalpha"], want, f"{compiled} {case} threads {n_threads} {note}")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize(
    "case",
    [
        Case((2500,), ()),
        per_channel((3, 5, 49)),
        per_channel((2, 3, 1100)),
        per_channel((40, 23)),
        per_channel((9, 6, 7)),
    ],
    ids=str,
)
def test_same_bits_for_every_alignment(name, compiled, dtype, case):
    ops = hard(name, case, dtype)
    want = sums(name, ops, COMPILED[0], case.channel_axis)
    size = np.dtype(dtype).itemsize
    for start in [*range(0, 64, size), 1, 3, size // 2]:
        for which in ("x", "dy", "out", "all"):
            moved = {k: placed(a, start if which in (k, "all") else 0) for k, a in ops.items() if k != "alpha"}
            out = placed(np.empty(case.shape, dtype), start if which in ("out", "all") else 0)
            got = call(name, moved | {"alpha": ops["alpha"]}, compiled, channel_axis=case.channel_axis, out=(out, None))
            assert_same_bits(got["dalpha"], want, f"{compiled} {case}: {which} starts at {start}")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("start", ["an element", "a byte"])
def test_same_bits_for_every_alignment_of_large_arrays(name, compiled, dtype, start):
    """An array that starts in the middle of an element lies in the same memory order as one that does not."""
    offset = 1 if start == "a byte" else np.dtype(dtype).itemsize
    for case in LARGE:
        ops = hard(name, case, dtype)
        want = sums(name, ops, COMPILED[0], case.channel_axis)
        moved = {k: placed(a, offset) if k != "alpha" else a for k, a in ops.items()}
        got = sums(name, moved, compiled, case.channel_axis, n_threads=3)
        assert_same_bits(got, want, f"{compiled} {case} starts {start} later")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_streamed_or_not(name, compiled, dtype, policy):
    cases = cases_of(CASES)[::3]
    want = [sums(name, hard(name, c, dtype), COMPILED[0], c.channel_axis) for c in cases]
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=4096, bytes_per_summing_thread=4096)
    for case, first in zip(cases, want, strict=True):
        got = call(name, hard(name, case, dtype), compiled, channel_axis=case.channel_axis, n_threads=3)
        assert_same_bits(got["dalpha"], first, str(case))


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_in_place_and_at_every_run(name, compiled, dtype):
    case = per_channel((3, 5, 49, 21))
    ops = hard(name, case, dtype)
    want = sums(name, ops, COMPILED[0], 1)
    for read in ("x", "dy"):
        again = ops | {read: ops[read].copy()}
        got = call(name, again, compiled, out=(again[read], None))
        assert_same_bits(got["dalpha"], want, f"out is {read}")
    for _ in range(20):
        assert_same_bits(sums(name, ops, compiled, 1, n_threads=2), want)


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_from_concurrent_callers(name, compiled, dtype):
    """Python threads that call at once, each with threads of its own."""
    ops = hard(name, LARGE[2], dtype)
    want = sums(name, ops, COMPILED[0], LARGE[2].channel_axis, n_threads=1)
    got = []

    def work():
        for _ in range(5):
            got.append(sums(name, ops, compiled, LARGE[2].channel_axis, n_threads=2))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 20
    for each in got:
        assert_same_bits(each, want)


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("case", [c for c in CASES + LARGE if c.shape and c.alpha][::7], ids=str)
def test_same_bits_for_views_of_every_memory_order(name, dtype, case):
    """F order and its friends: bits may differ from C order's, never between variants and threads."""
    ops = hard(name, case, dtype)
    for order in (np.asfortranarray, lambda a: np.swapaxes(np.swapaxes(a, 0, -1).copy(), 0, -1), lambda a: a[::-1]):
        turned = {k: order(a) if k != "alpha" else a for k, a in ops.items()}
        want = sums(name, turned, COMPILED[0], case.channel_axis)
        assert_dalpha(want, turned, case.channel_axis, name, str(case))
        for other in COMPILED[1:]:
            for n_threads in (1, 3):
                assert_same_bits(
                    sums(name, turned, other, case.channel_axis, n_threads=n_threads), want, f"{other} {case}"
                )


@pytest.mark.parametrize(
    "case",
    [
        Case((200_003,), ()),
        per_channel((2, 2, 50_001)),
        per_channel((32_768, 3)),
        per_channel((70_000, 2)),
        per_channel((2, 3, 33_000), 0),
        per_channel((3, 2, 17_001)),
        per_channel((2000, 3, 17)),
    ],
    ids=str,
)
@pytest.mark.parametrize("fill", [0.1, "cancel", "grow"])
def test_bound_on_hard_data(name, variant, dtype, case, fill):
    """Equal terms (a naive sum drifts), terms that cancel, terms that grow."""
    ops = operands(name, case.shape, case.alpha, dtype)
    size = int(np.prod(case.shape))
    if fill == "cancel":
        terms = values(size, np.float64, 5) * 1e6
        terms[1::2] = -terms[: size // 2 * 2 : 2] * (1 + 1e-9)
    elif fill == "grow":
        terms = np.geomspace(1e-12, 1e12, size)
    else:
        terms = np.full(size, fill)
    ops["x"] = np.full(case.shape, -1, dtype)
    ops["dy"] = terms.reshape(case.shape).astype(dtype)
    assert_dalpha(sums(name, ops, variant, case.channel_axis), ops, case.channel_axis, name, f"{case} {fill}")


@pytest.mark.parametrize("n", [0, 1, 5, 16, 40, 1025, 70_000])
def test_sums_of_nothing_are_positive_zero(name, variant, dtype, n):
    """Empty sums, sums without a term (x > 0), sums of -0.0."""
    one = np.ones((n, 3), dtype)
    for x, dy in ((one, one), (one, -one), (0 * one, -one), (-0.0 * one, one), (-one, 0 * one)):
        for alpha in (np.full(3, 0.5, dtype), np.array(0.5, dtype), np.full((n, 1), 0.5, dtype)):
            got = sums(name, {"x": x, "dy": dy, "alpha": alpha}, variant, 1)
            assert_same_bits(got, np.zeros(np.shape(alpha), dtype))


def test_products_are_in_float64(name, variant):
    """Products that overflow or vanish in float32 are neither inf nor zero."""
    for x, dy in (
        ([-3e38, -3e38, -1], [1e10, -1e10, 2]),
        ([-(2.0**-100)] * 3, [2.0**-90] * 3),
        ([-(2.0**99)] * 3, [2.0**99] * 3),
    ):
        ops = {"x": np.float32(x), "dy": np.float32(dy), "alpha": np.float64([0.5])}
        got = sums(name, ops, variant, 0)
        assert got.dtype == np.float64
        assert_dalpha(got, ops, 0, name)
        assert np.isfinite(got).all()
    assert got[0] == -3 * 2.0**198


def test_one_rounding_at_the_end(name, variant):
    """A sum just above the middle of two floats: a sum of floats would stay below it."""
    dy = np.array([1.0, 2.0**-24, 2.0**-50], np.float32)
    ops = {"x": np.full(3, -1, np.float32), "dy": dy, "alpha": np.float32([0.5])}
    assert_same_bits(sums(name, ops, variant, 0), np.float32([-(1 + 2.0**-23)]))


def test_sums_that_overflow_become_inf(name, variant, dtype):
    huge = np.finfo(dtype).max
    x = np.full(4, -huge, dtype)
    for sign in (1, -1):
        got = sums(name, {"x": x, "dy": np.full(4, sign * huge, dtype), "alpha": np.array([0.5], dtype)}, variant, 0)
        assert_same_bits(got, np.array([-sign * np.inf], dtype))


def test_variants_are_what_this_machine_has(name):
    """The parity above is not over an empty list."""
    assert VARIANTS
    assert VARIANTS[0].backend == "numpy"


def test_single_terms_that_underflow(name, variant):
    """A product is rounded once, as if it had been made in double: -0.0 where it is negative and too small."""
    x, dy = np.float32([-1e-30, -1e-30, -0.0, 0.0, -1e-30, 1e-30]), np.float32([1e-30, -1e-30, 1, 1, 0, 1e-30])
    for n in (1, 7):
        ops = {"x": np.tile(x, n), "dy": np.tile(dy, n), "alpha": np.ones(6 * n, np.float32)}
        dalpha = call(name, ops, variant, channel_axis=0)["dalpha"]
        assert_same_bits(dalpha, np.tile(np.float32([-0.0, 0, 0, 0, 0, 0]), n))


@pytest.mark.skipif(_built.driver is None, reason="nothing compiled to compare with")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape, alpha", [((2100, 3, 700), (1, 3, 1)), ((34_000, 33), (1, 33)), ((60, 3, 700), (1, 3, 1))]
)
def test_the_order_is_the_one_that_the_python_driver_spells_out(name, shape, alpha, threads, monkeypatch):
    """Cascade and fold, written twice: in the compiled driver and in _driver.py.

    All rows in one group, so that a few of them go through every level of the cascade.
    """
    monkeypatch.setattr(_layout, "MAX_GROUPS", 1)
    monkeypatch.setattr(_layout, "CHUNK", (1 << 40, 1 << 40))
    ops = hard(name, Case(shape, alpha), np.float32)
    strides = (ops["x"].strides,) * 3
    plan = _layout.make_plan(shape, strides, 4, alpha, tuple(range(len(shape))), True)
    assert plan.groups == 1
    pattern = np.ascontiguousarray(_layout.alpha_pattern(plan, ops["alpha"].reshape(-1)))
    out = np.empty_like(ops["x"])
    addresses = [array.ctypes.data for array in (out, ops["dy"], ops["x"], pattern)]
    kernel = _backends.kernel_address(COMPILED[-1].backend, OPERATIONS[name].kernel, np.dtype(np.float32))
    sums = []
    for execute in (_backends.execute, _driver.execute):
        sums.append(np.empty(ops["alpha"].size))
        execute(kernel, addresses, plan, 4, 0, threads, sums[-1])
    assert_same_bits(*sums)


def test_a_matrix_for_single_terms(name, variant):
    x, alpha = np.full((1, 3, 4), -1.0, np.float32), np.ones((3, 4), np.float32)
    out = np.zeros((3, 4), np.float32).view(np.matrix)
    dalpha = call(name, {"dy": x, "x": x, "alpha": alpha}, variant, out=(None, out))["dalpha"]
    assert dalpha is out and (np.asarray(out) == 1).all()
