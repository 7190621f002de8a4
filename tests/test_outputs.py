"""Outputs that are more than their memory, or lie in it in an unusual way.

`out` is written as the memory that it is: a subclass's own __setitem__ (units that convert, say) is never asked, and
the object that was given is returned.  Elements may interleave as long as no two meet.
"""

import itertools
import time

import numpy as np
import pytest
from helpers import OPERATIONS, arguments, assert_dalpha, bits, call, expected, operands, out_for
from layouts import laid_out

import fastact


class Millimetres(np.ndarray):
    """Metres are expected from outside: what is assigned is converted.  No way of writing but the memory is right."""

    def __setitem__(self, where, value):
        super().__setitem__(where, np.asarray(value) * 1000)

    def fill(self, value):
        raise AssertionError("fill was called")

    def __array_wrap__(self, array, context=None, return_scalar=False):
        raise AssertionError("__array_wrap__ was called")

    def __array_ufunc__(self, *arguments, **options):
        raise AssertionError("__array_ufunc__ was called")

    def __array_function__(self, *arguments, **options):
        raise AssertionError("__array_function__ was called")


LAYOUTS = ("c", "axes swapped", "last axis strided", "first axis reversed", "byte-swapped")


@pytest.mark.parametrize("kind", [Millimetres, np.memmap, np.matrix], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_subclasses_are_written_as_their_memory(name, variant, layout, kind):
    op = OPERATIONS[name]
    ops = operands(name, (6, 40), (40,) if op.alpha == "array" else ())
    ops |= {read: laid_out(ops[read], layout) for read in op.reads}
    memory = np.full((6, 40), 7, np.float32)
    outs = (memory.view(kind),)
    if op.summed:
        outs += (np.zeros(40, np.float32).view(Millimetres),)
    got = call(name, ops, variant, out=out_for(name, *outs))
    for key, out in zip(op.writes, outs, strict=True):
        assert got[key] is out
    assert (bits(memory) == bits(expected(name, ops))).all()
    if op.summed:
        assert_dalpha(np.asarray(outs[1]), ops)


@pytest.mark.parametrize("name", [op.name for op in OPERATIONS.values() if op.integers])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_subclasses_of_integers(name, variant, dtype):
    x, memory = np.array([[0, 1, 1]], dtype), np.zeros((1, 3), dtype)
    out = memory.view(Millimetres)
    assert call(name, {"x": x}, variant, out=out)["y"] is out
    assert memory.tolist() == x.tolist()


INTERLEAVED = {  # (shape, strides in elements) whose elements do not meet
    "steps of two and three": ((3, 2), (2, 3)),
    "rows inside each other": ((4, 3), (1, 4)),
    "rows of two, between others": ((3, 2, 2), (4, 6, 1)),
    "backwards": ((3, 2), (-2, -3)),
}


@pytest.mark.parametrize("layout", INTERLEAVED)
def test_elements_that_interleave_without_meeting(name, variant, layout):
    shape, strides = INTERLEAVED[layout]
    base = np.full(64, 7, np.float32)
    start = base[32:]
    out = np.lib.stride_tricks.as_strided(start, shape, [4 * step for step in strides])
    ops = operands(name, shape)
    got = call(name, ops, variant, out=out_for(name, out))
    assert got[OPERATIONS[name].writes[0]] is out
    assert (bits(out) == bits(expected(name, ops))).all()
    touched = {32 + sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape)}
    assert all(base[i] == 7 for i in set(range(64)) - touched)


def test_the_search_for_meeting_elements_is_exact():
    """Against all elements, one by one, for many layouts, none of which is hard to decide."""
    base = np.zeros(4000, np.uint8)
    found = set()
    for shape in ((2, 3), (3, 2, 2), (4, 3, 2)):
        for strides in itertools.product(range(-9, 10, 3), range(0, 40, 4), repeat=len(shape) // 2 + len(shape) % 2):
            strides = strides[: len(shape)]
            array = np.ndarray(shape, np.float32, base, 2000, strides)
            starts = sorted(sum(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*shape))
            meets = any(b - a < 4 for a, b in itertools.pairwise(starts))
            assert arguments._meets_itself(array) == meets, (shape, strides)
            found.add(meets)
    assert found == {True, False}


def test_the_search_is_bounded(monkeypatch):
    """Deciding it is hard in general: what takes too long counts as meeting, and is refused."""
    steps = [8 * step for step in (10007, 20011, 30011, 40009, 50021, 60013, 70001, 80021)]
    base = np.zeros(sum(steps) + 1)
    hard = np.lib.stride_tricks.as_strided(base, (9,) * 8, steps)
    start = time.perf_counter()
    arguments._meets_itself(hard)
    assert time.perf_counter() - start < 2
    out = np.lib.stride_tricks.as_strided(base, (3, 2, 2), (32, 48, 8))
    x = np.full((3, 2, 2), 1.5)
    assert (fastact.relu(x, out=out) == x).all()

    def undecided(*_, max_work):
        raise np.exceptions.TooHardError

    monkeypatch.setattr(np, "shares_memory", undecided)
    assert arguments._meets_itself(out)
