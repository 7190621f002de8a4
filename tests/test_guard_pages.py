"""Every operand between two pages that may not be touched: no kernel reads or writes outside of its arrays.

An array lies at the end or at the beginning of its own pages (mprotect forbids the ones around them), so one
element too far ends the process.  Every row form, SIMD level and backend, and every length up to a few registers at
every misalignment; streamed by force and not, with one thread and three.  Results are compared too: the reference's
bits, and one dalpha for all, within the bound of the exact sum.
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np
import pytest
from cases import Case, per_channel
from helpers import (
    COMPILED,
    HALVES,
    OPERATIONS,
    assert_dalpha,
    assert_same_bits,
    call,
    expected,
    operands,
    out_for,
    tables,
)

PAGE = mmap.PAGESIZE
NAMES = ("relu", "relu_backward", "prelu", "prelu_backward")
LENGTHS = [*range(1, 69), 79, 80, 81]
FULL = -1
FORMS = [(name, slopes) for name in NAMES for slopes in ((1, FULL) if OPERATIONS[name].alpha else (0,))]
CASES = [
    *(Case((n,), ()) for n in (1, 3, 15, 16, 17, 31, 500, 513, 1040, 16385)),
    *(per_channel((2, c, m)) for c in (1, 3, 17, 131) for m in (1, 5, 16, 17, 49, 196, 1025)),
    *(per_channel((n, c), -1) for c in (1, 2, 16, 17, 131, 256, 300, 2049) for n in (1, 3, 33, 70)),
    *(Case(shape, shape) for shape in [(3, 7, 49), (1, 5000), (40, 17, 9)]),
]


def between_guards(array, at_end):
    """A copy of `array` on pages of its own, the pages before and after it forbidden; and what keeps them."""
    pages = -(-max(array.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for guard in (base, base + (pages + 1) * PAGE):
        assert protect(guard, PAGE, 0) == 0
    start = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("streamed", [False, True], ids=["ordinary", "streamed"])
@pytest.mark.parametrize("at_end", [False, True], ids=["at the beginning", "at the end"])
def test_nothing_outside_is_touched(dtype, at_end, streamed, policy):
    if streamed:
        policy(
            stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0
        )
    for case in CASES:
        ops = operands("prelu_backward", case.shape, case.alpha, dtype)
        ops = {k: between_guards(v, at_end) for k, v in ops.items()}
        out, dalpha = (between_guards(np.zeros_like(ops[k]), at_end) for k in ("x", "alpha"))
        of = {}
        for name in NAMES:
            op = OPERATIONS[name]
            mine = {k: v for k, v in ops.items() if k in op.reads or (k == "alpha" and op.alpha)}
            of[name] = mine, expected(name, mine, case.channel_axis)
        first = None
        for compiled in COMPILED:
            for n_threads in (1, 3):
                for name, (mine, want) in of.items():
                    more = {"channel_axis": case.channel_axis} if "alpha" in mine else {}
                    outs = (out, dalpha)[: len(OPERATIONS[name].writes)]
                    call(name, mine, compiled, out=out_for(name, *outs), n_threads=n_threads, **more)
                    assert_same_bits(out, want, f"{name} {compiled} {case} {n_threads}")
                if first is None:
                    first = dalpha.copy()
                    assert_dalpha(first, ops, case.channel_axis, note=f"{compiled} {case}")
                assert_same_bits(dalpha, first, f"{compiled} {case} {n_threads}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("streamed", [False, True], ids=["ordinary", "streamed"])
@pytest.mark.parametrize("kind", [*tables.INTEGERS, *HALVES], ids=lambda d: np.dtype(d).name)
def test_elements_that_are_moved_touch_nothing_outside(kind, streamed, policy):
    """Up to a cache line, and around the lengths from which they are aligned and streamed."""
    if streamed:
        policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_to_wake=0)
    size = np.dtype(kind).itemsize
    block, line = tables.STREAM_LINES * tables.LINE // size, tables.LINE // size
    most = 3 * block + line
    pages = {
        (name, at_end): between_guards(np.zeros(most, kind), at_end)
        for name in ("x", "dy", "y")
        for at_end in (False, True)
    }
    values = np.random.default_rng(0).integers(0, 256, (2, most * size), np.uint8).view(kind)
    names = [op.name for op in OPERATIONS.values() if (op.kernel, np.dtype(kind).name) in tables.MOVING]
    for name, n in itertools.product(
        names, (*range(1, line + 3), *range(block - 2, block + line + 3, 3), 2 * block + 1, most)
    ):
        for places in itertools.product((False, True), repeat=2 + ("dy" in OPERATIONS[name].reads)):
            put = {
                k: pages[k, end][most - n if end else 0 :][:n]
                for k, end in zip(("y", *OPERATIONS[name].reads), places, strict=True)
            }
            y, ops = put.pop("y"), put
            for given, value in zip(ops.values(), values, strict=False):
                given[...] = value[:n]
            want = expected(name, ops)
            for compiled, n_threads in itertools.product(COMPILED, (1, 3)):
                y[...] = 0
                call(name, ops, compiled, out=y, n_threads=n_threads)
                assert_same_bits(y, want, f"{name} {compiled} {n} {places} {n_threads}")
                for read in ops:  # in place of each operand
                    y[...] = ops[read]
                    call(name, ops | {read: y}, compiled, out=y, n_threads=n_threads)
                    assert_same_bits(y, want, f"{name} {compiled} {n} in place of {read}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("streamed", [False, True], ids=["ordinary", "streamed"])
def test_every_length_at_every_misalignment(dtype, streamed, policy):
    """Up to a few registers.  What ends at a page's end begins anywhere behind a cache line, the other things at one.

    x, dy and dx end or begin there independently of each other, so that each is misaligned to each other one.
    """
    more = {}
    if streamed:
        policy(
            stream_bytes=1, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0
        )
        more["n_threads"] = np.int64(1)  # the fast path leaves it to the Python text, which streams short rows too
    most = max(LENGTHS)
    pages = {
        (name, at_end): between_guards(np.zeros(most, dtype), at_end)
        for name in ("x", "dy", "alpha", "out", "dalpha")
        for at_end in (False, True)
    }
    for n, places in itertools.product(LENGTHS, itertools.product((False, True), repeat=3)):
        where = dict(zip(("x", "dy", "out", "alpha", "dalpha"), (*places, places[0], places[2]), strict=True))
        put = {k: pages[k, at_end][most - n :] if at_end else pages[k, at_end][:n] for k, at_end in where.items()}
        for k, value in operands("prelu_backward", (n,), (n,), dtype, seed=n).items():
            put[k][...] = value
        for name, slopes in FORMS:
            slopes = n if slopes == FULL else slopes
            op = OPERATIONS[name]
            mine = {read: put[read] for read in op.reads} | ({"alpha": put["alpha"][:slopes]} if slopes else {})
            outs = (put["out"], put["dalpha"][:slopes])[: len(op.writes)]
            want, first = expected(name, mine, 0), None
            for compiled in COMPILED:
                note = f"{name} {compiled} {n} {slopes} {where}"
                call(name, mine, compiled, out=out_for(name, *outs), **more, **({"channel_axis": 0} if slopes else {}))
                assert_same_bits(put["out"], want, note)
                if op.summed:
                    if first is None:
                        first = outs[1].copy()
                        assert_dalpha(first, mine, 0, name, note)
                    assert_same_bits(outs[1], first, note)
