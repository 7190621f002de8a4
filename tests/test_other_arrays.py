"""Arrays of other libraries: read without a copy, written through, or refused with the way out named.

READ, WRITTEN and REFUSED are tables of kinds; a kind whose library is not installed is skipped.  Results are ndarrays.
dask is in test_dask.py.
"""

import array
import ctypes
import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, call, operands, out_for

import fastact
from fastact import _arguments


def library(name):
    """A library, or a skipped test."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


class Duck:
    """Has the attributes of an ndarray that it is asked to have, and no others."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __array__(self, dtype=None, copy=None):
        return self.array


class DLPack:
    """Exports its memory, and nothing else."""

    def __init__(self, array, device=1, fails=None):
        self.array, self.device, self.fails = array, device, fails

    def __dlpack__(self, **options):
        if self.fails:
            raise self.fails
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device, 0


class OldDLPack(DLPack):
    """As exporters of the first version of DLPack's protocol."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


class DLPackOrArray(DLPack, Duck):
    """DLPack fails, and NumPy knows another way."""


class WithFunctions(Duck):
    def __array_function__(self, *args):
        raise AssertionError("nobody asks")


class Shaped(WithFunctions):
    """What xarray takes as an array, as it takes pint's."""

    shape, ndim, dtype = (2,), 1, np.dtype(np.float32)

    def __array_ufunc__(self, *args, **options):
        raise AssertionError("nobody asks")


class WithNamespace(Duck):
    def __array_namespace__(self, api_version=None):
        raise AssertionError("nobody asks")


def of_buffer(kind):
    """A function that copies an ndarray into a buffer of some kind."""

    def make(a):
        if kind is array.array:
            return array.array(a.dtype.char, a.ravel().tolist())
        if kind is memoryview:
            return memoryview(bytearray(a.tobytes())).cast("B").cast(a.dtype.char, a.shape)
        if kind is mmap.mmap:
            memory = mmap.mmap(-1, max(a.nbytes, 1))
            memory.write(a.tobytes())
            return memoryview(memory).cast("B").cast(a.dtype.char, a.shape)
        buffer = (ctypes.c_float * a.size)()
        buffer[:] = a.ravel().tolist()
        return buffer

    return make


# Kinds that are read where they lie: how one is made of an ndarray.
READ = {
    "memoryview": of_buffer(memoryview),
    "array.array": of_buffer(array.array),
    "ctypes": of_buffer(ctypes),
    "mmap": of_buffer(mmap.mmap),
    "torch": lambda a: library("torch").from_numpy(a.copy()),
    "torch, transposed": lambda a: library("torch").from_numpy(np.array(a, order="F")),
    "jax": lambda a: library("jax").numpy.asarray(a),
    "DataFrame": lambda a: library("pandas").DataFrame(a),
    "Series": lambda a: library("pandas").Series(a.ravel()),
    "DataArray": lambda a: library("xarray").DataArray(a.copy(), dims=("n", "c")[: a.ndim]),
    "Variable": lambda a: library("xarray").Variable(("n", "c")[: a.ndim], a.copy()),
    "DLPack": lambda a: DLPack(a.copy()),
    "DLPack, pinned memory": lambda a: DLPack(a.copy(), device=3),
    "DLPack of the first version": lambda a: OldDLPack(a.copy()),
    "DLPack fails, __array__ works": lambda a: DLPackOrArray(a.copy(), fails=BufferError("no")),
    "__array__": lambda a: Duck(a.copy()),
}
FLAT = {"array.array", "ctypes", "Series"}


@pytest.mark.parametrize("kind", READ)
def test_read_where_it_lies(name, kind):
    """Every operand in turn; the result is an ndarray with the bits of a plain call."""
    make = READ[kind]
    ops = operands(name, (12,) if kind in FLAT else (4, 3), () if kind in FLAT else (3,))
    want = call(name, ops)
    for operand, value in ops.items():
        if not isinstance(value, np.ndarray) or (value.ndim == 0 and kind in ("DataFrame", *FLAT)):
            continue
        if operand == "alpha" and kind == "DataFrame":  # always of two dimensions
            continue
        other = make(value)
        got = call(name, ops | {operand: other})
        for key, result in got.items():
            assert_same_bits(result, want[key], f"{kind} as {operand}")
        first, second = (_arguments.as_array(other, operand) for _ in range(2))
        assert np.shares_memory(first, second), "it was copied"


@pytest.mark.parametrize("kind", READ)
def test_in_lists(kind):
    rows = [READ[kind](np.float32([-1, 2])), READ[kind](np.float32([3, -4]))]
    if kind in ("DataFrame", "DLPack", "DLPack, pinned memory", "DLPack of the first version"):
        pytest.skip("a list of these is no array of two dimensions to NumPy itself")
    assert_same_bits(np.asarray(fastact.relu(rows), np.float32), np.float32([[0, 2], [3, 0]]))


# Kinds that an `out` may be, and how the ndarray on its memory is had afterwards.
WRITTEN = {
    "memoryview": (of_buffer(memoryview), np.asarray),
    "array.array": (of_buffer(array.array), np.asarray),
    "ctypes": (of_buffer(ctypes), np.ctypeslib.as_array),
    "mmap": (of_buffer(mmap.mmap), np.asarray),
    "torch": (lambda a: library("torch").from_numpy(a.copy()), np.asarray),
    "torch, transposed": (lambda a: library("torch").from_numpy(np.array(a, order="F")), np.asarray),
    "DLPack": (lambda a: DLPack(a.copy()), lambda out: out.array),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_written_through(name, kind):
    """The memory is written, and the same object is returned."""
    make, memory = WRITTEN[kind]
    ops = operands(name, (12,) if kind in FLAT else (4, 3), () if kind in FLAT else (3,))
    want = call(name, ops)
    for key, value in want.items():
        if value.ndim == 0:
            continue
        out = make(np.full_like(value, 7))
        given = out_for(name, *(out if key == k else None for k in want))
        got = call(name, ops, out=given)[key]
        assert got is out
        assert_same_bits(np.array(memory(out)).reshape(value.shape), value, kind)


@pytest.mark.parametrize("kind", ["memoryview", "torch", "array.array"])
def test_in_place(kind):
    make, memory = WRITTEN[kind]
    x = make(np.float32([-1, 2, np.nan]))
    assert fastact.relu(x, out=x) is x
    assert_same_bits(np.array(memory(x)), np.float32([0, 2, np.nan]))


@pytest.mark.parametrize("kind", ["memoryview", "array.array", "torch"])
def test_masks_are_written_through(kind):
    y, mask = WRITTEN[kind][0](np.zeros(3, np.float32)), WRITTEN[kind][0](np.zeros(1, np.uint8))
    got = fastact.relu(np.float32([-1, 2, 3]), return_mask=True, out=(y, mask))
    assert got[0] is y and got[1] is mask
    assert WRITTEN[kind][1](mask).tolist() == [6]


# ---- refused ---------------------------------------------------------------------------------------------------------


def jax_call(transform):
    """A call on what JAX gives a function that it traces."""

    def wrong():
        jax = library("jax")
        return getattr(jax, transform)(lambda x: fastact.prelu(x).sum())(jax.numpy.ones(2))

    return wrong


x2 = np.float32([-1, 2])
REFUSED = {
    "__array_function__": (
        TypeError,
        "x is a .*WithFunctions.*np.asarray.*fastact.torch.*fastact.jax",
        lambda: fastact.relu(WithFunctions(x2)),
    ),
    "__array_namespace__": (
        TypeError,
        "alpha is a .*WithNamespace.*np.asarray",
        lambda: fastact.prelu(x2, WithNamespace(x2), channel_axis=0),
    ),
    "in a DataArray": (
        TypeError,
        "x is a .*Shaped.*np.asarray",
        lambda: fastact.relu(library("xarray").DataArray(Shaped(x2), dims="n")),
    ),
    "SciPy's sparse": (
        TypeError,
        "x is a scipy.sparse.*csr_array.*toarray",
        lambda: fastact.relu(scipy_sparse().csr_array(x2[None])),
    ),
    "SciPy's sparse matrix": (
        TypeError,
        "dy is a scipy.sparse.*csr_matrix.*toarray",
        lambda: fastact.relu_backward(scipy_sparse().csr_matrix(x2), x2[None]),
    ),
    "in a list": (TypeError, "dy is a .*WithFunctions", lambda: fastact.relu_backward([WithFunctions(x2)], x2)),
    "in an object array": (
        TypeError,
        "x is a .*WithFunctions",
        lambda: fastact.relu(np.array([WithFunctions(x2), 1], object)),
    ),
    "another device": (
        TypeError,
        "x is a .*DLPack on another device: copy it to the CPU",
        lambda: fastact.relu(DLPack(x2, device=2)),
    ),
    "DLPack fails": (
        TypeError,
        "x is a .* cannot read through DLPack: no such thing",
        lambda: fastact.relu(DLPack(x2, fails=BufferError("no such thing"))),
    ),
    "JAX: jit": (TypeError, "x is a JAX tracer.*fastact.jax", jax_call("jit")),
    "JAX: grad": (TypeError, "x is a JAX tracer.*fastact.jax", jax_call("grad")),
    "JAX: vmap": (TypeError, "x is a JAX tracer.*fastact.jax", jax_call("vmap")),
    "torch: requires grad": (
        RuntimeError,
        "requires grad",
        lambda: fastact.relu(library("torch").ones(2, requires_grad=True)),
    ),
    "torch: bfloat16": (
        TypeError,
        "x is a tensor .*BFloat16.*fastact.torch",
        lambda: fastact.relu(library("torch").ones(2).bfloat16()),
    ),
    "torch: sparse": (
        TypeError,
        "x is a tensor .*Sparse.*fastact.torch",
        lambda: fastact.relu(library("torch").eye(2).to_sparse()),
    ),
    "torch: no memory": (
        TypeError,
        "dy is a tensor .*meta",
        lambda: fastact.relu_backward(library("torch").ones(2, device="meta"), x2),
    ),
    "out: a list": (
        TypeError,
        "out must be a numpy.ndarray or None, not list",
        lambda: fastact.relu(x2, out=[0.0, 0.0]),
    ),
    "out: bytes": (TypeError, "out must be a numpy.ndarray or None, not bytes", lambda: fastact.relu(x2, out=bytes(8))),
    "out: a number": (
        TypeError,
        "out must be a numpy.ndarray or None, not float32",
        lambda: fastact.relu(np.float32(-1), out=np.float32(0)),
    ),
    "out: read-only": (
        ValueError,
        "out of shape .2,. is read-only",
        lambda: fastact.relu(x2, out=memoryview(bytes(8)).cast("f")),
    ),
    "out: shape": (
        ValueError,
        "out has shape .8,., but the result has shape .2,.",
        lambda: fastact.relu(x2, out=bytearray(8)),
    ),
    "out: dtype": (TypeError, "out has dtype float64, but", lambda: fastact.relu(x2, out=array.array("d", [0, 0]))),
    "out: another device": (
        TypeError,
        "out must be a numpy.ndarray or None, not DLPack",
        lambda: fastact.relu(x2, out=DLPack(x2, device=2)),
    ),
    "out: JAX": (
        ValueError,
        "out of shape .2,. is read-only",
        lambda: fastact.relu(x2, out=library("jax").numpy.ones(2)),
    ),
    "out: DataFrame": (
        TypeError,
        "out must be a numpy.ndarray or None, not DataFrame",
        lambda: fastact.relu(x2, out=library("pandas").DataFrame(x2)),
    ),
    "out: DataArray": (
        TypeError,
        "out must be a numpy.ndarray or None, not DataArray",
        lambda: fastact.relu(x2, out=library("xarray").DataArray(x2)),
    ),
    "out: torch, requires grad": (
        RuntimeError,
        "requires grad",
        lambda: fastact.relu(x2, out=library("torch").ones(2, requires_grad=True)),
    ),
    "out: torch, bfloat16": (
        TypeError,
        "out is a tensor .*BFloat16",
        lambda: fastact.relu(x2, out=library("torch").ones(2).bfloat16()),
    ),
    "out: shares memory": (ValueError, "out of shape .* shares memory with x", lambda: overlapping()),
}


def scipy_sparse():
    return pytest.importorskip("scipy.sparse", reason="scipy is not installed")


def overlapping():
    memory = memoryview(bytearray(16)).cast("f")
    return fastact.relu(memory[:3], out=memory[1:])


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    error, words, wrong = REFUSED[case]
    with pytest.raises(error, match=words):
        wrong()


def test_subclasses_of_ndarray_are_read_although_they_have_functions():
    class Ours(np.ndarray):
        def __array_function__(self, *args):
            raise AssertionError("nobody asks")

    assert_same_bits(fastact.relu(x2.view(Ours)), np.float32([0, 2]))


def test_the_page_runs_as_it_stands():
    page = Path(__file__).parents[1] / "docs" / "other-arrays.md"
    for program in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(program, {})
