"""Packed masks: relu and leaky_relu that return one, their backwards that take it in x's place.

Every test runs over the operations of the table that have a mask, and is held to NumPy: np.packbits for the bits, the
reference with x for the gradients.
"""

import itertools
import sys

import numpy as np
import pytest
from cases import LENGTHS, THREADS
from helpers import (
    COMPILED,
    HALVES,
    HAS_CORE,
    OPERATIONS,
    VARIANTS,
    assert_same_bits,
    expected,
    launch_module,
    python_driver,
    tables,
    using,
    values,
)
from layouts import WRITABLE, laid_out
from test_guard_pages import between_guards
from test_parity import every_pair, specials

import fastact

MASKED = [op.name for op in OPERATIONS.values() if op.masked and not op.backward]
pytestmark = pytest.mark.parametrize("name", MASKED)
ALPHAS = (0.3, -2.0, 0.0, float("inf"), float("nan"))


def alphas(name):
    """Keywords: the slopes that the operation is tried with."""
    return [{"alpha": alpha} for alpha in ALPHAS] if OPERATIONS[name].alpha else [{}]


def bits_of(name, x):
    """The mask of x, by NumPy."""
    computing = x.astype(np.float32) if x.dtype in map(np.dtype, HALVES) else x
    with np.errstate(all="ignore"):
        kept = computing > 0 if OPERATIONS[name].alpha else ~(computing <= 0)
    return np.packbits(kept, bitorder="little")


def assert_both_ways(name, x, dy, variant, keywords, note="", **options):
    """y, mask and dx of a call."""
    y, mask = call_masked(name, x, variant, return_mask=True, **keywords, **options)
    assert_same_bits(y, expected(name, {"x": x} | keywords), f"y {note}")
    assert_same_bits(mask, bits_of(name, x), f"mask {note}")
    given = mask.copy()
    if x.size % 8:
        given[-1] |= 0xFF << x.size % 8 & 0xFF  # bits behind the last element are not looked at
    dx = call_masked(f"{name}_backward", dy, variant, mask=given, **keywords, **options)
    if x.dtype.kind not in "biu":
        assert_same_bits(dx, expected(f"{name}_backward", {"x": x, "dy": dy} | keywords), f"dx {note}")


def call_masked(name, first, variant, **options):
    """A call without a floating-point warning."""
    with using(variant), np.errstate(all="raise"):
        return getattr(fastact, name)(first, **options)


def test_every_length(name, dtype):
    for n, variant in itertools.product(LENGTHS, VARIANTS):
        for keywords in alphas(name)[:1]:
            assert_both_ways(name, values(n, dtype), values(n, dtype, 1), variant, keywords, f"n={n} {variant}")


def test_special_values_in_every_lane(name, dtype):
    pairs = every_pair(dtype)
    for variant, cut, keywords in itertools.product(VARIANTS, (0, 1, 13), alphas(name)):
        x, dy = (pairs[k][: len(pairs[k]) - cut] for k in ("x", "dy"))
        assert_both_ways(name, x, dy, variant, keywords, f"{keywords} {variant}")


def test_special_values_in_dy_where_nothing_passes(name, dtype):
    dy = specials(dtype)
    x = np.full(dy.shape, -1, dtype)
    for variant, keywords in itertools.product(VARIANTS, alphas(name)):
        assert_both_ways(name, x, dy, variant, keywords, f"{keywords} {variant}")


@pytest.mark.parametrize("layout", WRITABLE)
def test_every_layout(name, dtype, layout):
    """Bits are in C order of x's shape, whatever its order in memory; results keep the order of np.empty_like."""
    for shape, variant in itertools.product(((5,), (3, 41), (2, 3, 4, 33)), VARIANTS):
        x, dy = laid_out(values(shape, dtype), layout), laid_out(values(shape, dtype, 1), layout)
        assert_both_ways(name, x, dy, variant, alphas(name)[0], f"{layout} {variant}")
        y, _ = call_masked(name, x, variant, return_mask=True, **alphas(name)[0])
        assert y.strides == np.empty_like(x).strides


@pytest.mark.parametrize("kind", [">f4", ">f8", ">f2", "i1", "i8", "u2", "?"])
def test_other_dtypes(name, kind):
    x, dy = values((7, 33), kind), values((7, 33), kind, 1)
    for variant in VARIANTS:
        assert_both_ways(name, x, dy, variant, alphas(name)[0], f"{kind} {variant}")


def test_threads_and_streaming(name, dtype, policy):
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=4096)
    x, dy = values((301, 1003), dtype), values((301, 1003), dtype, 1)
    for variant, n_threads in itertools.product(COMPILED, THREADS):
        assert_both_ways(name, x, dy, variant, alphas(name)[0], f"{variant} {n_threads}", n_threads=n_threads)


@pytest.mark.parametrize("n", [5, 31, 100, 1301])
def test_streamed_results_at_every_address(name, dtype, n, policy):
    """A result begins anywhere in a cache line, so the vectors that are streamed begin anywhere in the mask's bytes."""
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=4096)
    x, dy, keywords = values(n, dtype), values(n, dtype, 1), alphas(name)[0]
    want = {"x": expected(name, {"x": x} | keywords), "mask": bits_of(name, x)}
    want["dy"] = expected(f"{name}_backward", {"x": x, "dy": dy} | keywords)
    memory = np.empty(x.nbytes + 2 * tables.LINE, np.uint8)
    to_line = -memory.ctypes.data % tables.LINE
    mask = np.empty_like(want["mask"])
    offsets = (*range(0, tables.LINE, x.itemsize), 1)  # the last one within an element: there nothing can be streamed
    for offset, variant, n_threads in itertools.product(offsets, COMPILED, THREADS):
        y = memory[to_line + offset :][: x.nbytes].view(dtype)
        options = {"n_threads": n_threads} | keywords
        call_masked(name, x, variant, return_mask=True, out=(y, mask), **options)
        assert_same_bits(y, want["x"], f"{variant} {offset} {n_threads}")
        assert_same_bits(mask, want["mask"], f"{variant} {offset} {n_threads}")
        call_masked(f"{name}_backward", dy, variant, mask=mask, out=y, **options)
        assert_same_bits(y, want["dy"], f"{variant} {offset} {n_threads}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
def test_nothing_outside_is_touched(name, dtype, policy):
    """Of elements and of masks, at both ends of pages of their own; streamed and not."""
    most = max(LENGTHS)
    pages = {
        (key, at_end): between_guards(np.zeros(most if key != "mask" else -(-most // 8), kind), at_end)
        for key, kind in (("x", dtype), ("y", dtype), ("mask", np.uint8))
        for at_end in (False, True)
    }
    for stream_bytes, n, at_end in itertools.product((1 << 40, 0), LENGTHS, (False, True)):
        policy(stream_bytes=stream_bytes, stream_bytes_per_thread=0, bytes_per_thread=1)
        sizes = {"x": n, "y": n, "mask": -(-n // 8)}
        x, y, mask = (pages[k, at_end][len(pages[k, at_end]) - m if at_end else 0 :][:m] for k, m in sizes.items())
        x[...] = values(n, dtype)
        keywords = alphas(name)[0]
        want, bits = expected(name, {"x": x} | keywords), bits_of(name, x)
        gradient = expected(f"{name}_backward", {"x": x, "dy": x} | keywords)
        for variant in COMPILED:
            call_masked(name, x, variant, return_mask=True, out=(y, mask), **keywords)
            assert_same_bits(y, want, f"{variant} {n} {at_end}")
            assert_same_bits(mask, bits, f"{variant} {n} {at_end}")
            call_masked(f"{name}_backward", x, variant, mask=mask, out=y, **keywords)
            assert_same_bits(y, gradient, f"{variant} {n} {at_end}")


def test_into_out_and_in_place(name, dtype):
    x, dy = values((9, 17), dtype), values((9, 17), dtype, 1)
    want, bits = expected(name, {"x": x} | alphas(name)[0]), bits_of(name, x)
    for variant in VARIANTS:
        for y, mask in itertools.product((None, np.empty_like(x), "x"), (None, np.empty(20, np.uint8), "strided")):
            given = x.copy()
            y = given if isinstance(y, str) else y
            mask = np.empty(40, np.uint8)[::2] if isinstance(mask, str) else mask
            got = call_masked(name, given, variant, return_mask=True, out=(y, mask), **alphas(name)[0])
            assert y is None or got[0] is y
            assert mask is None or got[1] is mask
            assert_same_bits(np.array(got[0]), want, str(variant))
            assert_same_bits(np.array(got[1]), bits, str(variant))
        into = dy.copy()
        got = call_masked(f"{name}_backward", into, variant, mask=bits, out=into, **alphas(name)[0])
        assert got is into
        assert_same_bits(got, expected(f"{name}_backward", {"x": x, "dy": dy} | alphas(name)[0]), str(variant))


@pytest.mark.skipif(not HAS_CORE, reason="nothing is compiled: it is the driver already")
def test_the_driver_without_a_compiler(name, dtype, monkeypatch):
    monkeypatch.setattr(launch_module, "launch_masked", python_driver.launch_masked)
    for n, variant in itertools.product((0, 1, 9, 1003), COMPILED):
        assert_both_ways(name, values(n, dtype), values(n, dtype, 1), variant, alphas(name)[0], f"n={n} {variant}")


def test_errors(name):
    """Each names what is wrong, and nothing was written."""
    x = np.ones((2, 3), np.float32)
    y, mask = np.full((2, 3), 7, np.float32), np.full(1, 7, np.uint8)
    back = f"{name}_backward"
    for variant in VARIANTS:
        for function, given, options, error, words in (
            (name, x, {"out": y}, TypeError, "a tuple of two, (y, mask)"),
            (name, x, {"out": (y, mask, None)}, TypeError, "a tuple of 3"),
            (name, x, {"out": (y[:1], mask)}, ValueError, "out[0] (y) has shape (1, 3)"),
            (name, x, {"out": (y.astype("f8"), mask)}, TypeError, "out[0] (y) has dtype float64"),
            (name, x, {"out": (y, np.zeros(2, np.uint8))}, ValueError, "out[1] (mask) has shape (2,)"),
            (name, x, {"out": (y, np.zeros(1, bool))}, TypeError, "out[1] (mask) has dtype bool"),
            (name, x, {"out": (None, x.view(np.uint8)[0, :1])}, ValueError, "out[1] (mask) of shape (1,) shares"),
            (name, x, {"out": (y, y.view(np.uint8)[0, :1])}, ValueError, "out[0] (y) of shape (2, 3) shares"),
            (name, x.astype(complex), {}, TypeError, "complex128"),
            (back, x, {"mask": np.zeros(2, np.uint8)}, ValueError, "6 elements take 1 bytes"),
            (back, x, {"mask": np.zeros((1, 1), np.uint8)}, ValueError, "mask of shape (1, 1)"),
            (back, x, {"mask": np.zeros(1, np.int8)}, TypeError, "mask has dtype int8"),
            (back, x, {"mask": mask, "x": x}, ValueError, "takes x or mask, and both were given"),
            (back, x, {}, TypeError, "x is None, and must be an array"),
            (back, x, {"mask": mask, "out": y[:1]}, ValueError, "out has shape (1, 3)"),
            (back, x, {"mask": mask, "out": mask.view(np.uint8)}, ValueError, "out has shape (1,)"),
            (back, None, {"mask": mask}, TypeError, "dy is None"),
        ):
            if function == name:
                options = options | {"return_mask": True}
            with pytest.raises(error) as raised:
                call_masked(function, given, variant, **options)
            assert words in str(raised.value), (words, raised.value)
    assert (y == 7).all() and (mask == 7).all()
