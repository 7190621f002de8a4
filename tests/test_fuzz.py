"""Random calls of every kind, held to the reference: hypothesis draws a number, and the number decides everything.

By the million, if asked: operations, dtypes, any bits, shapes from 0-d to 32-d, layouts (layouts.py draws them), every
form of alpha, results that alias operands in every way, thread counts and sources, SIMD levels, streaming and threads
by force.  A call gives the reference's bits (dalpha: its bound, one value for all compiled variants) in an array laid
out like x, or an error that was foreseen, and writes nothing else.
`python tests/test_fuzz.py N [STRETCH]` runs N, in stretches of 10,000 that can be repeated one by one.
"""

import math
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
from helpers import (
    COMPILED,
    HALVES,
    HAS_CORE,
    OPERATIONS,
    VARIANTS,
    assert_dalpha,
    assert_same_bits,
    built,
    call,
    expected,
    out_for,
    thresholds,
)
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from layouts import lay, random_layout
from test_masks import assert_both_ways

import fastact

FORCED = {
    "stream_bytes": 1,
    "stream_bytes_per_thread": 0,
    "bytes_per_thread": 1,
    "bytes_per_summing_thread": 1,
    "bytes_to_wake": 0,
}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3e38, -3e38])
# What `out` is: nothing, arrays of its own (in a layout of their own), an operand, memory that overlaps an operand
# one element further on, memory that overlaps alpha, or a read-only array.
STRETCH = 10_000
OUTS = ("none", "none", "none", "own", "own", "x", "dy", "shifted", "alpha", "read-only", "other shape", "other dtype")


def shape_of(rng):
    """0-d to 32-d, mostly small, now and then past the boundaries inside the package."""
    kind = rng.integers(12)
    if kind == 0:
        return tuple(rng.choice([1, 1, 1, 2], rng.integers(6, 33)).tolist()) if rng.integers(2) else ()
    if kind == 1:
        long = rng.choice([255, 256, 1023, 1025, 2047, 16383, 16385, 33000])
        return (int(long), *rng.integers(1, 4, rng.integers(0, 2)).tolist())
    if kind == 2:
        sizes = rng.integers(1, 20), rng.choice([1, 3, 16, 17, 64, 131]), rng.choice([1, 3, 7, 16, 49])
        return tuple(int(n) for n in sizes)
    return tuple(rng.integers(0 if kind == 3 else 1, 9, rng.integers(0, 6)).tolist())


def numbers(rng, shape, dtype):
    """Normal values with a sprinkle of the special ones, or any bits; whole numbers for integers."""
    if np.dtype(dtype).kind in "iub":
        return rng.integers(-100, 100, shape).astype(dtype)
    if rng.integers(8) == 0:
        size = np.dtype(dtype).itemsize
        return np.frombuffer(rng.bytes(math.prod(shape) * size), f"u{size}").view(dtype).reshape(shape)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4)
    if rng.integers(3) == 0:
        values = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), values)
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(dtype)


def one_of(rng, values):
    """One of them; np.random's choice knows no bfloat16."""
    return values[rng.integers(len(values))]


def anywhere(rng, values):
    """The same values (where it repeats elements: some of them) in some memory layout."""
    values = np.asarray(values)
    return lay(values, **random_layout(rng, values.ndim))


def slopes(rng, op, shape, dtype):
    """An alpha of some form, and the options that go with it."""
    if op.alpha == "number":
        return float(rng.choice([0.01, 0.3, -2.0, 0.0, np.inf, np.nan])), {}
    form, wanted, options = rng.integers(5), (), {}
    if form == 1 and shape:
        axis = int(rng.integers(-len(shape), len(shape)))
        wanted, options = (shape[axis],), {"channel_axis": axis}
    elif form == 2:
        wanted = (1,) * int(rng.integers(4))
    elif form == 3 and len(shape) > 1:
        wanted = tuple(n if rng.integers(2) else 1 for n in shape)[int(rng.integers(len(shape) - 1)) :]
    elif form == 4 and len(shape) > 1:
        wanted = shape
    computing = "f8" if np.dtype(dtype).kind in "biu" else dtype
    return anywhere(rng, numbers(rng, wanted, one_of(rng, [computing, computing, "f8", "f4"]))), options


def case(rng):
    """An operation, its operands and options."""
    op = OPERATIONS[list(OPERATIONS)[rng.integers(len(OPERATIONS))]]
    shape, dtype = shape_of(rng), one_of(rng, ["f4", "f4", "f4", "f8", "f8", "i1", "i4", "u2", "?", *HALVES, *HALVES])
    ops, options = {"x": anywhere(rng, numbers(rng, shape, dtype))}, {}
    if op.backward:
        ops["dy"] = anywhere(rng, numbers(rng, shape, one_of(rng, [dtype, dtype, dtype, "f4", HALVES[0]])))
    if op.alpha:
        ops["alpha"], options = slopes(rng, op, shape, dtype)
    return op, ops, options


def with_out(rng, kind, op, ops, want):
    """Operands and `out` of this kind, and whether the call has to be refused; None where the kind cannot be made."""
    ops, out, refused = dict(ops), np.empty_like(want), False
    if kind == "own":
        out = anywhere(rng, want)
        if not out.dtype.isnative:
            out = np.array(want)
        refused = not out.flags.writeable  # broadcast
    elif kind in ("x", "dy"):
        if kind not in ops or ops[kind].dtype != want.dtype:
            return None
        ops[kind] = out = np.array(ops[kind])
    elif kind == "shifted":
        if want.ndim != 1 or want.size < 2 or ops["x"].dtype != want.dtype:
            return None
        big = np.empty(want.size + 1, want.dtype)
        big[:-1] = ops["x"]
        ops["x"], out, refused = big[:-1], big[1:], True
    elif kind == "alpha":
        alpha = ops.get("alpha")
        if not isinstance(alpha, np.ndarray) or alpha.shape != want.shape or alpha.dtype != want.dtype or not want.size:
            return None
        ops["alpha"] = out = np.array(alpha)
        refused = True
    elif kind == "read-only":
        out.flags.writeable, refused = False, True
    elif kind == "other shape":
        out, refused = np.empty((*want.shape[:-1], want.shape[-1] + 1) if want.ndim else (2,), want.dtype), True
    elif kind == "other dtype":
        out, refused = np.empty(want.shape, np.complex64), True
    return ops, out, refused


def check(number):
    """One call in some of the compiled variants."""
    rng = np.random.default_rng(number)
    op, ops, options = case(rng)
    axis, kind, force = options.get("channel_axis", 1), str(rng.choice(OUTS)), rng.integers(4) == 0
    threads = [None, 1, 2, 3][rng.integers(4)]
    source = [None, "own", "openmp"][rng.integers(3)]
    if source == "openmp" and not (HAS_CORE and built.driver.openmp_source()):  # some test or Numba loads a runtime
        source = None
    variants = [COMPILED[i] for i in rng.permutation(len(COMPILED))[:2]]
    if rng.integers(4) == 0:
        variants.append(VARIANTS[0])
    note = f"{number}: {op.name} {ops['x'].dtype} {ops['x'].shape} alpha {np.shape(ops.get('alpha'))} {options} {kind}"
    want, first = expected(op.name, ops, axis), None
    with thresholds(**FORCED if force else {}):
        if op.masked and not op.backward and rng.integers(3) == 0:
            dy = anywhere(rng, numbers(rng, ops["x"].shape, ops["x"].dtype.newbyteorder("=")))
            given = {k: v for k, v in ops.items() if k == "alpha"}
            for variant in variants:
                assert_both_ways(op.name, ops["x"], dy, variant, given, f"{note} {variant}", n_threads=threads)
        for variant in variants:
            mine, more, refused, out, dalpha = ops, options, False, None, None
            if kind != "none":
                made = with_out(np.random.default_rng(number), kind, op, ops, want)  # in one layout for all
                if made:
                    mine, out, refused = made
                    more = options | {"out": out_for(op.name, out, None) if op.summed else out}
            if first is not None:  # the other variant writes its sums where it is told to
                dalpha = anywhere(np.random.default_rng(number), np.empty_like(first))
                dalpha = dalpha if dalpha.flags.writeable and dalpha.dtype.isnative else np.empty_like(first)
                more = more | {"out": (out, dalpha)}
            kept = {k: v.tobytes() for k, v in mine.items() if isinstance(v, np.ndarray)}
            before = out.tobytes() if refused else None
            try:
                with fastact.thread_source(source) if source else nullcontext():
                    got = call(op.name, mine, variant, n_threads=threads, **more)
            except (ValueError, TypeError):
                assert refused, note
                assert out.tobytes() == before, note
            else:
                assert not refused, note
                assert out is None or got[op.writes[0]] is out, note
                if out is None:
                    like = np.empty_like(ops["x"], want.dtype)
                    assert got[op.writes[0]].strides == like.strides, note
                assert_same_bits(np.array(got[op.writes[0]]), want, f"{note} {variant}")
                if "dalpha" in got:
                    assert dalpha is None or got["dalpha"] is dalpha, note
                    got["dalpha"] = np.array(got["dalpha"])
                    first = got["dalpha"] if first is None else first
                    assert_dalpha(got["dalpha"], mine if out is None else ops, axis, op.name, f"{note} {variant}")
                    if variant in COMPILED:
                        assert_same_bits(got["dalpha"], first, f"{note} {variant} {threads} threads")
            for k, before in kept.items():
                assert mine[k] is out or mine[k].tobytes() == before, (note, k)


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@settings(max_examples=3000, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**64 - 1))
def test_random_calls(number):
    check(number)


if __name__ == "__main__":
    # In stretches, because hypothesis remembers every example of a run: a million of them take gigabytes.
    number, first, start = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, time.monotonic()
    stretch = settings(max_examples=min(number, STRETCH), deadline=None, database=None)
    for k in range(first, first + -(-number // STRETCH)):
        seed(k)(stretch(given(st.integers(0, 2**64 - 1))(check)))()
        done = min(number, (k + 1 - first) * STRETCH)
        print(
            f"{done} examples from stretch {first} on, {len(COMPILED)} variants, {time.monotonic() - start:.0f} s",
            flush=True,
        )
