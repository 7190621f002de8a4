"""The sum behind dalpha: its bound on hard data, its bits, and what does not change them.

The contract promises the same bits for every thread count, SIMD level, alignment and run, and in both compiled
variants; the tests compare all of them with one call of the first compiled variant, whose sums are compared with the
exact ones.  Which bits these are is spelled out in NumPy for one inner loop, and in _driver.py for many.  Data are
chosen to make orders visible: terms of very different sizes that cancel.  The exact sums and the bound are in
helpers.py.
The NumPy backend need only stay within the bound.
"""

import itertools
import threading

import numpy as np
import pytest
from cases import CASES, LARGE, THREADS, Case, per_channel
from helpers import (
    COMPILED,
    HAS_CORE,
    OPERATIONS,
    SUMMED,
    VARIANTS,
    Answer,
    assert_dalpha,
    assert_same_bits,
    backends,
    built,
    call,
    finfo,
    operands,
    plans,
    python_driver,
    thresholds,
    values,
)
from layouts import laid_out, placed

pytestmark = pytest.mark.parametrize("name", SUMMED)


def hard(name, case, dtype, seed=0):
    """Terms over 20 orders of magnitude (float16: 8), of both signs: another order of adding has other bits."""
    ops = operands(name, case.shape, case.alpha, dtype, seed)
    rng = np.random.default_rng(seed)
    reach = 2 if dtype == np.float16 else 5
    for read in ("x", "dy"):
        ops[read] = np.asarray(ops[read] * 10.0 ** rng.uniform(-reach, reach, case.shape), dtype)
    if np.dtype(dtype).itemsize == 2:
        ops["alpha"] = ops["alpha"].astype(np.float64)  # a dalpha of 16 bits would hide the order
    return ops


def sums(name, ops, variant, axis, **options):
    return call(name, ops, variant, channel_axis=axis, need_dx=False, **options)["dalpha"]


def agreed(name, ops, axis, **options):
    """The bits that every variant is to have: the first one's, after a look at the exact sums."""
    want = sums(name, ops, COMPILED[0], axis, **options)
    assert_dalpha(want, ops, axis, name, str(ops["x"].shape))
    return want


def cases_of(cases):
    return [case for case in cases if np.prod(case.shape) > 16]


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_in_every_compiled_variant(name, dtype):
    for case in cases_of(CASES):
        ops = hard(name, case, dtype)
        want = agreed(name, ops, case.channel_axis)
        for compiled in COMPILED:
            assert_same_bits(sums(name, ops, compiled, case.channel_axis), want, f"{compiled} {case}")
            both = call(name, ops, compiled, channel_axis=case.channel_axis)
            assert_same_bits(both["dalpha"], want, f"{compiled} {case} with dx")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_same_bits_for_every_thread_count(name, dtype, case):
    ops = hard(name, case, dtype)
    want = agreed(name, ops, case.channel_axis, n_threads=1)
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
def test_same_bits_for_every_alignment(name, dtype, case):
    ops = hard(name, case, dtype)
    want = agreed(name, ops, case.channel_axis)
    size = np.dtype(dtype).itemsize
    for start, which in itertools.product([*range(0, 64, size), 1, 3, size // 2], ("x", "dy", "out", "all")):
        moved = {k: placed(a, start if which in (k, "all") else 0) for k, a in ops.items() if k != "alpha"}
        out = placed(np.empty(case.shape, dtype), start if which in ("out", "all") else 0)
        for compiled in COMPILED:
            got = call(name, moved | {"alpha": ops["alpha"]}, compiled, channel_axis=case.channel_axis, out=(out, None))
            assert_same_bits(got["dalpha"], want, f"{compiled} {case}: {which} starts at {start}")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("start", ["an element", "a byte"])
def test_same_bits_for_every_alignment_of_large_arrays(name, dtype, start):
    """An array that starts in the middle of an element lies in the same memory order as one that does not."""
    offset = 1 if start == "a byte" else np.dtype(dtype).itemsize
    for case in LARGE:
        ops = hard(name, case, dtype)
        want = agreed(name, ops, case.channel_axis)
        moved = {k: placed(a, offset) if k != "alpha" else a for k, a in ops.items()}
        for compiled in COMPILED:
            got = sums(name, moved, compiled, case.channel_axis, n_threads=3)
            assert_same_bits(got, want, f"{compiled} {case} starts {start} later")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_streamed_or_not(name, dtype, policy):
    cases = cases_of(CASES)[::3]
    want = [agreed(name, hard(name, c, dtype), c.channel_axis) for c in cases]
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=4096, bytes_per_summing_thread=4096)
    for case, first in zip(cases, want, strict=True):
        ops = hard(name, case, dtype)
        for compiled in COMPILED:
            got = call(name, ops, compiled, channel_axis=case.channel_axis, n_threads=3)
            assert_same_bits(got["dalpha"], first, f"{compiled} {case}")


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_same_bits_in_place_and_at_every_run(name, compiled, dtype):
    case = per_channel((3, 5, 49, 21))
    ops = hard(name, case, dtype)
    want = agreed(name, ops, 1)
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
    want = agreed(name, ops, LARGE[2].channel_axis, n_threads=1)
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
    for layout in ("fortran", "axes swapped", "first axis reversed"):
        turned = {k: laid_out(a, layout) if k != "alpha" else a for k, a in ops.items()}
        want = agreed(name, turned, case.channel_axis)
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
def test_bound_on_hard_data(name, dtype, case, fill):
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
    if dtype == np.float16:
        terms = np.cbrt(terms)  # within its range
    ops["x"] = np.full(case.shape, -1, dtype)
    ops["dy"] = terms.reshape(case.shape).astype(dtype)
    answer = Answer(name, ops, case.channel_axis)
    for variant in VARIANTS:
        answer.check(call(name, ops, variant, channel_axis=case.channel_axis), f"{variant} {case} {fill}")


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
    huge = finfo(dtype).max
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


@pytest.mark.skipif(not HAS_CORE, reason="nothing compiled to compare with")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape, alpha", [((2100, 3, 700), (1, 3, 1)), ((34_000, 33), (1, 33)), ((60, 3, 700), (1, 3, 1))]
)
def test_the_order_is_the_one_that_the_python_driver_spells_out(name, shape, alpha, threads):
    """The order of a sum, written twice: in the compiled driver and in _driver.py.

    All rows in one group, so that a few of them go through every level.
    """
    ops = hard(name, Case(shape, alpha), np.float32)
    slopes, order = ops["alpha"].reshape(alpha), tuple(range(len(shape)))
    kernel = backends.kernel_address(COMPILED[-1].backend, OPERATIONS[name].kernel, "float32")
    modules = plans, built.optional("plan")
    before = [plan.set_sizes(1 << 40, 1 << 40, 1) for plan in modules]
    try:
        operands = np.empty_like(ops["x"]), ops["dy"], ops["x"], slopes
        assert python_driver.make_plan(*operands, order, True).groups == 1
        sums = []
        for driver in (built.entry, python_driver):
            sums.append(np.empty(alpha))
            driver.launch_arrays(OPERATIONS[name].kernel, kernel, *operands, sums[-1], threads, 0)
    finally:
        for plan, sizes in zip(modules, before, strict=True):
            plan.set_sizes(*sizes)
    assert_same_bits(*sums)


AWKWARD = {
    "rows reversed": lambda a: a[..., ::-1],
    "all reversed": lambda a: a[(slice(None, None, -1),) * a.ndim],
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "every second column": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "cropped": lambda a: np.pad(a, 1)[(slice(1, -1),) * a.ndim],
    "Fortran order": np.asfortranarray,
    "doubles": lambda a: a.astype(np.float64),
    "one number": lambda a: np.broadcast_to(a[(0,) * a.ndim], a.shape),
    "one row": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.skipif(not HAS_CORE, reason="nothing compiled to compare with")
@pytest.mark.parametrize("layout", AWKWARD)
@pytest.mark.parametrize(
    "shape, alpha",
    [((1, 70, 1000), (1, 70, 1)), ((3, 40, 90), (1, 40, 1)), ((50, 1, 33), (1, 1, 33)), ((9, 50, 60), (1, 50, 60)),
     ((2, 30, 7, 20), (1, 30, 1, 1)), ((), ())],
)  # fmt: skip
def test_the_order_of_awkward_layouts_is_spelled_out(name, shape, alpha, layout):
    """The order of buffered sums, written twice: in layouts.pxi, and in _driver.py with _buffered.py.

    Also axes of one element, which have any stride, and arrays of no axes.
    """
    ops = hard(name, Case((3,), ()), np.float32)
    x, dy = (np.resize(ops[operand], shape).astype(np.float32) for operand in ("x", "dy"))
    slopes = np.linspace(-1, 1, max(1, int(np.prod(alpha))), dtype=np.float32).reshape(alpha)
    kernel = backends.kernel_address(COMPILED[-1].backend, OPERATIONS[name].kernel, "float32")
    awkward = AWKWARD[layout] if shape else np.array
    forms = [(x, awkward(dy)), (x.astype(x.dtype.newbyteorder()), awkward(dy))]
    if layout != "doubles":
        forms += [(awkward(x), dy), (awkward(x), awkward(dy))]
    for new_x, new_dy in forms:
        for y in (np.empty_like(new_x, np.float32), None):
            results = []
            for driver, threads in ((built.entry, 1), (built.entry, 2), (python_driver, 1)):
                out, sums = None if y is None else np.zeros_like(y), np.empty(alpha)
                driver.launch_arrays(
                    OPERATIONS[name].kernel, kernel, out, new_dy, new_x, slopes, sums, threads, 0
                )  # fmt: skip
                results.append((sums, out))
            for got in results[1:]:
                assert_same_bits(got[0], results[0][0], f"{new_x.strides} {new_dy.strides}")
                if y is not None:
                    assert_same_bits(got[1], results[0][1], f"{new_x.strides} {new_dy.strides}")


def test_a_streamed_dalpha_may_lie_anywhere(name, compiled, policy):
    """Single terms at an address that no streaming store takes, beside a dx that is streamed."""
    policy(stream_bytes=0, stream_bytes_per_thread=0)
    x = np.linspace(-1, 1, 3000, dtype=np.float32)
    raw = np.empty(x.nbytes + 1, np.uint8)
    ops = {"x": x, "dy": -x, "alpha": x.copy()}
    want = call(name, ops, compiled, channel_axis=0)["dalpha"]
    for start in (0, 1):
        dalpha = raw[start : x.nbytes + start].view(np.float32)
        call(name, ops, compiled, channel_axis=0, out=(None, dalpha))
        assert_same_bits(dalpha, want)


def in_pairs(terms):
    """The sum of a list: pairs, pairs of pairs, ...; what is left over at the end is added from the last one on."""
    half = 1
    while 2 * half < len(terms):
        half *= 2
    return terms[0] if len(terms) == 1 else in_pairs(terms[:half]) + in_pairs(terms[half:])


def row_sum(terms, start):
    """The sum of a row that begins `start` elements behind the loop's beginning, as _kernels.py says it.

    Element i of a loop goes to lane i mod 16.  A row's first block ends 1024 elements after its first multiple of 16,
    the next one 1024 later; a rest of less than 16 belongs to the last block.  Lanes are added by halves, blocks in
    pairs.
    """
    end = start + len(terms)
    ends = [*range(-(-start // 16) * 16 + 1024, end // 16 * 16, 1024), end]
    blocks = []
    for first, stop in zip([start, *ends], ends, strict=False):
        lanes = np.zeros(16)
        for i in range(first, stop):
            lanes[i % 16] += terms[i - start]
        for half in (8, 4, 2, 1):
            lanes = lanes[:half] + lanes[half:]
        blocks.append(lanes[0])
    return in_pairs(blocks)


def assert_spelled_out(name, ops, compiled, want):
    """Without dx, with it, and with it streamed."""
    streamed = {"stream_bytes": 0, "stream_bytes_per_thread": 0}
    for more, changed in (({"need_dx": False}, {}), ({}, {}), ({}, streamed)):
        with thresholds(**changed):
            got = call(name, ops, compiled, n_threads=1, **more)["dalpha"]
        assert_same_bits(got, want, f"{compiled} {more} {changed}")


@pytest.mark.parametrize(
    "rows, width", [(1, 17), (1, 1000), (1, 1024), (1, 1041), (1, 5003), (1, 16384), (3, 40), (3, 1029), (2, 4097)]
)
def test_the_order_along_rows_spelled_out(name, compiled, dtype, rows, width):
    """Of one inner loop, in NumPy: no variant is another one's oracle, and a product that is fused shows."""
    ops = hard(name, per_channel((1, rows, width)), dtype)
    ops["alpha"] = ops["alpha"].astype(np.float64)  # so the sums are not rounded
    x, dy = (ops[read][0].astype(np.float64) for read in ("x", "dy"))
    terms = np.where(x > 0, 0.0, x * dy)
    want = np.array([row_sum(terms[row], row * width) for row in range(rows)])
    assert_spelled_out(name, ops, compiled, want)


@pytest.mark.parametrize("rows, period", [(2, 256), (20, 300), (49, 331), (16, 1024), (3, 4100)])
def test_the_order_along_columns_spelled_out(name, compiled, dtype, rows, period):
    """The same where alpha runs along the loop: each slope's terms one after the other.  (All rows are one group.)"""
    ops = hard(name, per_channel((rows, period)), dtype)
    ops["alpha"] = ops["alpha"].astype(np.float64)
    x, dy = (ops[read].astype(np.float64) for read in ("x", "dy"))
    want = np.zeros(period)
    for row in np.where(x > 0, 0.0, x * dy):
        want += row
    assert_spelled_out(name, ops, compiled, want)


def test_a_matrix_for_single_terms(name, variant):
    x, alpha = np.full((1, 3, 4), -1.0, np.float32), np.ones((3, 4), np.float32)
    out = np.zeros((3, 4), np.float32).view(np.matrix)
    dalpha = call(name, {"dy": x, "x": x, "alpha": alpha}, variant, out=(None, out))["dalpha"]
    assert dalpha is out and (np.asarray(out) == 1).all()
