"""Every operation of the table against the reference: all variants, dtypes, shapes, lanes and threads.

One test per kind of input, parametrised over the table; none is written for one operation.  y and dx are compared
bit for bit, dalpha within the contract's bound (whether its bits agree between variants is test_dalpha.py).  Shapes
come from cases.py.  Loops over shapes and over the machine's backends and SIMD levels stand inside the tests, so that
operands and answers are made once for all variants; a failure names its shape and variant.
"""

import contextlib
import importlib
import itertools
import math
import re
import warnings
from array import array
from collections import deque
from fractions import Fraction

import numpy as np
import pytest
from cases import CASES, LARGE, LENGTHS, THREADS, Case, per_channel
from helpers import (
    COMPILED,
    HAS_CORE,
    OPERATIONS,
    VARIANTS,
    WITH_SLOPES,
    Answer,
    assert_same_bits,
    bits,
    built,
    call,
    dispatch,
    finfo,
    front,
    operands,
    out_for,
    slopes,
    tables,
    values,
)
from layouts import Sub, laid_out, placed


def options(name, case):
    """What the operation wants to know about the case."""
    return {"channel_axis": case.channel_axis} if OPERATIONS[name].alpha == "array" else {}


def cases_for(name, cases):
    """Forms of alpha matter to operations that take any; the others need each shape once."""
    if OPERATIONS[name].alpha == "array":
        return cases
    return [Case(shape, ()) for shape in dict.fromkeys(case.shape for case in cases)]


def test_every_shape_and_form_of_alpha(name, dtype):
    for case in cases_for(name, CASES):
        ops = operands(name, case.shape, case.alpha, dtype)
        answer = Answer(name, ops, case.channel_axis)
        for variant in VARIANTS:
            answer.check(call(name, ops, variant, **options(name, case)), f"{case} {variant}")


def test_every_length(name, dtype):
    """Lengths around every vector width, whole and as rows of two channels."""
    for n in LENGTHS:
        for case in cases_for(name, [Case((n,), ()), Case((n,), (n,), 0), Case((2, n), (2,), 0)]):
            ops = operands(name, case.shape, case.alpha, dtype, seed=n)
            answer = Answer(name, ops, case.channel_axis)
            for variant in VARIANTS:
                answer.check(call(name, ops, variant, **options(name, case)), f"{case} {variant}")


def test_every_thread_count(name, dtype):
    for case in cases_for(name, LARGE):
        ops = operands(name, case.shape, case.alpha, dtype)
        answer = Answer(name, ops, case.channel_axis)
        for variant, n_threads in [(VARIANTS[0], 1), *itertools.product(COMPILED, THREADS)]:
            got = call(name, ops, variant, n_threads=n_threads, **options(name, case))
            answer.check(got, f"{case} {variant} threads {n_threads}")


@pytest.mark.parametrize("case", [Case((70,), ()), Case((3, 37), (3,), 0), Case((5, 23), (23,), 1)], ids=str)
def test_every_start(name, dtype, case):
    """Operands and results that start at every element of a cache line, and in the middle of an element."""
    size = np.dtype(dtype).itemsize
    plain = operands(name, case.shape, case.alpha if OPERATIONS[name].alpha == "array" else (), dtype)
    answer = Answer(name, plain, case.channel_axis)
    for start in [*range(0, 64, size), 1, size // 2, 61]:
        for which in (*OPERATIONS[name].reads, "out", "all"):
            reads = OPERATIONS[name].reads
            ops = plain | {read: placed(plain[read], start if which in (read, "all") else 0) for read in reads}
            out = placed(np.full(case.shape, 7, dtype), start if which in ("out", "all") else 0)
            for variant in VARIANTS:
                out[...] = 7
                got = call(name, ops, variant, out=out_for(name, out), **options(name, case))
                assert got[OPERATIONS[name].writes[0]] is out
                answer.check(got, f"{case} {variant}: {which} starts at {start}")


def test_nothing_is_written_outside_of_out(name, dtype):
    """Guards around out keep their values, whatever the length and the start."""
    for n, start in itertools.product([*range(1, 36), 63, 64, 65, 127, 1023, 1025], (0, 1, 3)):
        ops = operands(name, (n,), (), dtype)
        answer = Answer(name, ops)
        for variant in VARIANTS:
            guarded = np.full(n + 64, 123, dtype)
            out = guarded[start + 16 : start + 16 + n]
            answer.check(call(name, ops, variant, out=out_for(name, out)), f"n={n} {variant}")
            assert (guarded[: start + 16] == 123).all(), (n, start, variant)
            assert (guarded[start + 16 + n :] == 123).all(), (n, start, variant)


# ---- the ways through the package ----------------------------------------------------------------


class Converting:
    """NumPy asks it for its array: such operands do not take the compiled fast path."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def through_the_python_text(ops):
    return {k: Converting(v) if isinstance(v, np.ndarray) else v for k, v in ops.items()}


def test_the_short_way_and_the_long_way_have_the_same_bits(name, dtype):
    """The compiled fast path against the Python text, sums included."""
    for case in cases_for(name, CASES + LARGE[::4]):
        ops = operands(name, case.shape, case.alpha, dtype)
        forms = [ops["alpha"], float(ops["alpha"].flat[0])] if getattr(ops.get("alpha"), "size", 0) == 1 else [None]
        for alpha in forms:
            ops = ops if alpha is None else ops | {"alpha": alpha}
            wrapped = through_the_python_text(ops)
            for compiled in COMPILED:
                short = call(name, ops, compiled, **options(name, case))
                long = call(name, wrapped, compiled, **options(name, case))
                for k in short:
                    shape = np.shape(ops["alpha"]) if k == "dalpha" else case.shape
                    assert_same_bits(short[k], long[k].reshape(shape), f"{name} {case} {compiled} {k}")


def nested(depth, value=1.0):
    """A list in a list in a list."""
    return nested(depth - 1, [value]) if depth else value


def endless():
    made = [1.0]
    made.append(made)
    return made


def with_mask(array):
    made = np.asarray(array).view(Sub)
    made.mask = None
    return made


# What NumPy converts by itself.
PLAIN = {
    "bool": lambda: True,
    "int": lambda: -3,
    "float": lambda: -0.75,
    **{f"{kind.__name__} {kind().dtype.char}": lambda kind=kind: kind(1) for kind in (
        np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.longlong,
        np.float32, np.float64,
    )},
    "0-d": lambda: np.array(-0.5),
    "0-d float32": lambda: np.array(-0.5, "f4"),
    "list": lambda: [-1.5, 0.25, np.nan],
    "tuple": lambda: (-1.5, -np.inf, 1e-320),
    "one": lambda: [-2.5],
    "one in lists": lambda: [[(-2.5,)]],
    "empty": list,
    "empty rows": lambda: [(), []],
    "ints": lambda: [-1, 2, 3],
    "large ints": lambda: [2**62 + 1, -(2**53) - 1, 3],
    "unsigned": lambda: [2**63, 1, 2],
    "ints that need floats": lambda: [2**63, -1, 2],
    "bools": lambda: [True, False, True],
    "mixed": lambda: [True, -2, 0.5],
    "rows": lambda: [[-1.0, 2.0, -3.0], (4.0, -5.0, 6.0)],
    "numpy's numbers": lambda: [np.float32(-0.1), np.int8(-2), 0.1],
    "numpy's float32": lambda: [np.float32(-0.1), np.float32(0.3), np.float32(-2)],
    "arrays": lambda: [np.array([-1.0, 2, 3], "f4"), np.array([4.0, -5, 6], ">f4")],
    "0-d arrays": lambda: [np.array(-1.0), np.array(2, "i2"), np.array(True)],
    "arrays and lists": lambda: ([1.0, -2.0, 3.0], np.arange(3), (-7, 8, 9)),
    "range": lambda: range(-1, 2),
    "ranges": lambda: [range(-1, 2), range(3)],
    "deep": lambda: nested(31),
    "matrix": lambda: np.array([[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0]]).view(np.matrix),
    "subclass": lambda: np.array([[-1, 2, -3], [4, -5, 6]], ">f4").view(Sub),
    "strided subclass": lambda: np.arange(-6.0, 6.0).reshape(2, 6)[:, ::2].view(Sub),
}  # fmt: skip
# What Python has to look at, or refuses.
ODD = {
    "none": lambda: None,
    "text": lambda: "0.5",
    "bytes": lambda: b"0.5",
    "complex": lambda: 1j,
    "float16": lambda: np.float16(1),
    "long double": lambda: np.longdouble(1),
    "complex64": lambda: np.complex64(1),
    "date": lambda: np.datetime64("2026-01-01"),
    "large int": lambda: 2**40,
    "larger int": lambda: 2**70,
    "int beyond float": lambda: 10**400,
    "negative int beyond float": lambda: [-(10**400)],
    "fraction": lambda: Fraction(1, 2),
    "float of a class": lambda: type("Float", (float,), {})(-0.5),
    "float32 of a class": lambda: type("Float", (np.float64,), {})(-0.5),
    "list of a class": lambda: type("List", (list,), {})([-1.0, 2.0, 3.0]),
    "floats of a class": lambda: [type("Float", (float,), {})(-0.5), 2.0, 3.0],
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "ragged arrays": lambda: [np.ones(2), np.ones(3)],
    "number and row": lambda: [1.0, [2.0]],
    "with none": lambda: [1.0, None],
    "with text": lambda: [1.0, "2", 3.0],
    "with complex": lambda: [1.0, 2j, 3.0],
    "with a dict": lambda: [1.0, {}],
    "objects": lambda: np.array([1.0, 2, 3], object),
    "list of objects": lambda: [np.array([1.0, 2, 3], object)],
    "objects that hide a mask": lambda: [np.array([np.ma.masked, None], object)],
    "masked": lambda: np.ma.array([-1.0, 2.0, 3.0]),
    "masked in a list": lambda: [np.ma.array([-1.0, 2.0, 3.0])],
    "masked element": lambda: [1.0, np.ma.masked, 3.0],
    "masked far inside": lambda: [[1.0], [[np.ma.masked]]],
    "a mask of its own": lambda: with_mask([-1.0, 2.0, 3.0]),
    "a mask of its own in a list": lambda: [1.0, with_mask(2.0), 3.0],
    "records": lambda: np.zeros(3, [("a", "f4")]).view(np.recarray),
    "deque": lambda: deque([-1.0, 2.0, 3.0]),
    "array": lambda: array("f", [-1, 2, 3]),
    "buffer": lambda: memoryview(np.array([-1.0, 2.0, 3.0], "f4")),
    "converting": lambda: Converting(np.array([-1.0, 2.0, 3.0], "f4")),
    "list of converting ones": lambda: [Converting(np.array([-1.0, 2.0, 3.0], "f4"))],
    "set": lambda: {1.0, 2.0},
    "generator": lambda: (x for x in "ab"),
    "deeper than NumPy": lambda: nested(65),
    "deeper still": lambda: nested(200),
    "endless": endless,
}


def outcome(function, *arguments):
    """The results' types, dtypes, shapes, strides and bits; or the error's type and text."""
    try:
        results = function(*arguments)
    except Exception as error:
        return type(error), re.sub("0x[0-9a-f]+", "", str(error))
    results = results if isinstance(results, tuple) else (results,)
    return [(type(a), a.dtype, a.shape, a.strides, bits(a).tobytes()) for a in results]


def calls_with(name, make):
    """Arguments as ops.py has them, each place of an operand taken once by what `make` makes, and all of them."""
    op, one = OPERATIONS[name], np.array([[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0]], "f4")
    alphas = [0.25, make] if op.alpha else [None]
    for dy, x, alpha in itertools.product([one, make] if op.backward else [None], [one, make, make_like(make)], alphas):
        for axis in (1, -1):
            made = [name, *(a() if callable(a) else a for a in (dy, x, alpha)), axis]
            yield [*made, True, True, (None, None), None, None] if op.summed else [*made, None, None, None]


def make_like(make):
    """An ndarray of float64 and that shape, where that can be made."""
    with contextlib.suppress(Exception):
        shape = np.shape(make())
        return lambda: np.full(shape, -1.5)
    return make


@pytest.mark.skipif(not HAS_CORE, reason="no compiled fast path")
@pytest.mark.parametrize("kind", [*PLAIN, *ODD])
def test_array_likes_of_every_kind(name, kind):
    """The compiled fast path and the Python text have the same results, or the same error."""
    make = (PLAIN | ODD)[kind]
    way = "backward" if OPERATIONS[name].summed else "elementwise"
    for short, long in zip(calls_with(name, make), calls_with(name, make), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            want = outcome(getattr(dispatch, way), *long)
            assert outcome(getattr(front, way), *short) == want, short


@pytest.mark.skipif(not HAS_CORE, reason="no compiled fast path")
@pytest.mark.parametrize("kind", PLAIN)
def test_array_likes_that_need_no_python(name, kind, monkeypatch):
    """NumPy's numbers, and lists and tuples of them, are as cheap as NumPy's conversion."""
    x = PLAIN[kind]()
    for way in ("elementwise", "backward"):
        monkeypatch.delattr(dispatch, way)
    call(name, {read: x for read in OPERATIONS[name].reads} | ({"alpha": [0.25]} if OPERATIONS[name].alpha else {}))
    if OPERATIONS[name].alpha == "array" or (np.size(x) == 1 and OPERATIONS[name].alpha):
        alpha = x if np.size(x) < 4 else [0.25]
        call(name, {read: np.ones((2, np.size(alpha))) for read in OPERATIONS[name].reads} | {"alpha": alpha})
    if OPERATIONS[name].summed:
        call(name, {"x": x, "dy": x, "alpha": [0.25]}, need_dalpha=False)


def test_streaming_stores(name, dtype, policy):
    """With a threshold of nothing, every fresh result and every out apart from the inputs is streamed."""
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=4096, bytes_per_summing_thread=4096)
    for case in cases_for(name, CASES):
        ops = operands(name, case.shape, case.alpha, dtype)
        answer = Answer(name, ops, case.channel_axis)
        for way, compiled in itertools.product((ops, through_the_python_text(ops)), COMPILED):
            answer.check(call(name, way, compiled, n_threads=2, **options(name, case)), f"{case} {compiled}")
    rows = [Case((3, 1037), (3,), 0), per_channel((31, 40, 17)), Case((31, 131), (131,)), Case((3000,), ())]
    for case in cases_for(name, [*rows, Case((3, 7, 49), (3, 7, 49)), Case((9, 700), (1, 700))]):
        ops = operands(name, case.shape, case.alpha, dtype)
        answer = Answer(name, ops, case.channel_axis)
        for start, compiled in itertools.product((*range(0, 64, np.dtype(dtype).itemsize), 1), COMPILED):
            shapes = (case.shape, np.shape(ops.get("alpha")))[: len(OPERATIONS[name].writes)]
            raws = [placed(np.full(math.prod(shape) + 64, 123, dtype), start) for shape in shapes]
            outs = [raw[32:-32].reshape(shape) for raw, shape in zip(raws, shapes, strict=True)]
            got = call(name, ops, compiled, out=out_for(name, *outs), **options(name, case))
            answer.check(got, f"{case} {compiled} start {start}")
            for raw in raws:
                assert (raw[:32] == 123).all() and (raw[-32:] == 123).all(), f"{name} {case} {compiled} start {start}"


def test_results_that_are_streamed_by_default(name):
    """Larger than any threshold: 11 MB in rows of 49, so that streams meet unaligned rows."""
    case = Case((7, 512, 16, 49), (512,))
    ops = operands(name, case.shape, case.alpha if OPERATIONS[name].alpha == "array" else (), np.float32)
    answer = Answer(name, ops)
    for compiled, n_threads in itertools.product(COMPILED, (1, 2)):
        answer.check(call(name, ops, compiled, n_threads=n_threads), f"{compiled} threads {n_threads}")


def test_small_arrays_in_many_threads(name, dtype, policy):
    """Threads for next to nothing: shares of one chunk, more threads than chunks."""
    policy(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0)
    for case in cases_for(name, [c for c in CASES if 0 < np.prod(c.shape) <= 5000][::3]):
        ops = operands(name, case.shape, case.alpha, dtype)
        answer = Answer(name, ops, case.channel_axis)
        for compiled, n_threads in itertools.product(COMPILED, (2, 5)):
            got = call(name, ops, compiled, n_threads=n_threads, **options(name, case))
            answer.check(got, f"{case} {compiled} {n_threads}")


@pytest.mark.parametrize("n_dims", [12, 32, 64])
def test_as_many_dimensions_as_numpy_has(name, dtype, n_dims):
    """Dense, and as views that can be collapsed and cannot."""
    long = min(n_dims, 12)
    shape = (1,) * (n_dims - long) + (2,) * long
    alpha = (1,) * (n_dims - 5) + (2, 1, 2, 1, 2) if OPERATIONS[name].alpha == "array" else ()
    ops = operands(name, shape, alpha, dtype)
    answer = Answer(name, ops)
    gaps = np.zeros((1,) * (n_dims - long) + (3,) * long, dtype)[(..., *(slice(2),) * long)]
    gaps[...] = ops["x"]
    apart = {k: laid_out(v, "last axis strided") if k in OPERATIONS[name].reads else v for k, v in ops.items()}
    for variant, way in itertools.product(VARIANTS, (ops, apart, ops | {"x": gaps})):
        answer.check(call(name, way, variant), f"{n_dims} dimensions {variant}")


# ---- special values -------------------------------------------------------------------------------


def specials(dtype):
    """Values that a formula may treat wrongly."""
    info = finfo(dtype)
    small = [0.0, info.smallest_subnormal, 3 * float(info.smallest_subnormal), info.tiny, info.eps]
    positive = np.array([*small, 1.0, 0.1, float(info.max) / 2, info.max, np.inf, np.nan], dtype)
    both = np.concatenate([positive, -positive])
    signalling = np.array([np.inf], dtype).view(f"u{info.bits // 8}") + 1
    return np.concatenate([both, signalling.view(dtype)])


def every_pair(dtype):
    """Every (x, dy) of special values in every lane: the number of pairs is odd, so lanes rotate."""
    pairs = np.array(list(itertools.product(specials(dtype), repeat=2)), dtype)
    assert len(pairs) % 2 == 1
    return {"x": np.tile(pairs[:, 0], 16), "dy": np.tile(pairs[:, 1], 16)}


def test_special_values_in_every_lane(name, dtype):
    pairs = every_pair(dtype)
    alphas = specials(dtype) if OPERATIONS[name].alpha else [None]
    for alpha, cut in itertools.product(alphas, (0, 1, 13)):
        ops = {read: pairs[read][: pairs[read].size - cut] for read in OPERATIONS[name].reads}
        if alpha is not None:
            ops["alpha"] = float(alpha) if OPERATIONS[name].alpha == "number" else np.array(alpha)
        answer = Answer(name, ops)
        for variant in VARIANTS:
            answer.check(call(name, ops, variant), f"{variant} alpha={alpha} cut={cut}")


@pytest.mark.parametrize("form", ["rows", "short rows", "columns", "full"])
@pytest.mark.parametrize("name", WITH_SLOPES)
def test_special_slopes_in_every_lane(name, dtype, form):
    """A slope of its own for each row or column: specials must not reach their neighbours."""
    pairs, alpha = every_pair(dtype), specials(dtype)
    n = pairs["x"].size // (2 * alpha.size)
    shape, axis = {"rows": ((alpha.size, n), 0), "short rows": ((n // 5, alpha.size, 5), 1)}.get(
        form, ((n, alpha.size), 1)
    )
    size = int(np.prod(shape))
    ops = {read: pairs[read][:size].reshape(shape) for read in OPERATIONS[name].reads}
    ops["alpha"] = np.broadcast_to(alpha, shape).copy() if form == "full" else alpha
    answer = Answer(name, ops, axis)
    for variant in VARIANTS:
        answer.check(call(name, ops, variant, channel_axis=axis), f"{form} {variant}")


def test_one_special_value_among_normal_ones(name, dtype):
    """Row i has one special value in lane i: nothing leaks to other lanes, rows or sums."""
    width = 67
    plain = operands(name, (width, width), (width,), dtype)
    for special, read, axis in itertools.product(specials(dtype), OPERATIONS[name].reads, (0, 1)):
        ops = plain | {read: plain[read].copy()}
        np.fill_diagonal(ops[read], special)
        answer = Answer(name, ops, axis)
        for variant in VARIANTS:
            got = call(name, ops, variant, **options(name, Case((), (), axis)))
            answer.check(got, f"{variant} {read}={special} axis {axis}")


def test_subnormals_are_not_flushed(name, dtype):
    """Sums of subnormal products too: no flush-to-zero, in any thread."""
    tiny = finfo(dtype).tiny
    ops = {read: values(200_000, dtype, i) * tiny for i, read in enumerate(OPERATIONS[name].reads)}
    if OPERATIONS[name].alpha:
        ops["alpha"] = 0.5 if OPERATIONS[name].alpha == "number" else slopes(1, dtype)
    answer = Answer(name, ops)
    assert np.count_nonzero(answer.want) > 90_000
    for variant in VARIANTS:
        answer.check(call(name, ops, variant, n_threads=2), str(variant))


@pytest.mark.parametrize("level", built.levels())
@pytest.mark.parametrize("module", [kind.module for kind in tables.TYPES.values()])
def test_a_module_was_compiled_for_its_level(module, level):
    """Flags that leave out one instruction set would quietly give a lower level's code."""
    assert level == importlib.import_module(f"fastact._cython.{level}.{module}").LEVEL
