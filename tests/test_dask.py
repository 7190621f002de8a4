"""Dask arrays: lazy results with the bits of plain calls, on every scheduler, and what is refused before any graph.

CASES says which arrays in which chunks, BAD which calls fail.  What is compared with what is in helpers.py.
Skipped where dask is not installed; the tests of a cluster also need distributed, those of xarray need xarray.
"""

import functools
import importlib.util
import os
import pickle
import re
import signal
import time
import uuid
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from helpers import FLOATS, HALVES, OPERATIONS, SANITIZED, Answer, assert_same_bits, call, operands, output_of

dask = pytest.importorskip("dask", reason="dask is not installed (pip install 'fastact[dask]')")
da = pytest.importorskip("dask.array", reason="dask.array does not import")

import fastact  # noqa: E402
from fastact import _dispatch  # noqa: E402

ROOT = Path(__file__).parents[1]
# distributed's own, on a busy machine and where a worker is killed.
of_a_cluster = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed"),
]


class Case(NamedTuple):
    """An array in chunks, with the shape of its slopes."""

    shape: tuple
    chunks: tuple
    alpha: tuple = ()
    axis: int = 1


CASES = [
    Case((6, 4, 5), (2, 4, 5), (4,)),
    Case((6, 4, 5), (4, 3, 2), (4,)),  # chunks along the channel axis
    Case((7, 30), (2, 7), (30,)),
    Case((7, 30), (7, 30), (30,)),  # one chunk
    Case((3, 5, 6), (2, 2, 2), (6,), -1),
    Case((3, 5, 6), (2, 2, 2), (3,), 0),
    Case((3, 5, 6), (1, 1, 1), ()),
    Case((3, 5, 6), (1, 1, 1), (1,)),
    Case((3, 5, 6), (2, 2, 2), (1, 1, 1, 1)),  # one element, more axes than x has
    Case((3, 5, 6), (2, 2, 2), (5, 1)),
    Case((3, 5, 6), (2, 2, 2), (5, 6)),
    Case((3, 5, 6), (2, 2, 2), (3, 1, 6)),
    Case((3, 5, 6), (2, 2, 2), (3, 5, 6)),  # a slope for each element: nothing is summed
    Case((40,), (7,), (40,), 0),
    Case((1000,), (9,), ()),  # a tree of several levels
    Case((), (), ()),
    Case((0, 4), (0, 3), (4,)),
    Case((6, 0), (4, 0), (0,)),
    Case((6, 4), ((0, 3, 0, 3), (0, 4)), (4,)),  # some chunks of size 0
    Case((6, 1), (4, 1), (1,)),
]


def in_chunks(ops, chunks, names=("x", "dy", "alpha")):
    """The operands with dask arrays in the places of some arrays; slopes in chunks of their own."""
    made = dict(ops)
    for name in names:
        value = ops.get(name)
        if name == "alpha" and isinstance(value, np.ndarray):
            made[name] = da.from_array(value, chunks=2)
        elif name in ops and name != "alpha":
            made[name] = da.from_array(value, chunks=chunks)
    return made


def computed(results, **options):
    """The results of a call, all computed at once."""
    return dict(zip(results, dask.compute(*results.values(), **{"scheduler": "synchronous"} | options), strict=True))


def unready(block):
    """What no graph may run while it is made."""
    raise AssertionError(f"a block of shape {block.shape} was computed")


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_those_of_plain_calls(name, case):
    """y and dx bit for bit, dalpha within the bound; shape, dtype and chunks are known before anything is computed."""
    for dtype in FLOATS:
        ops = operands(name, case.shape, case.alpha, dtype)
        options = {"channel_axis": case.axis} if OPERATIONS[name].alpha == "array" else {}
        lazy = call(name, in_chunks(ops, case.chunks), **options)
        results = computed(lazy)
        Answer(name, ops, case.axis).check({k: np.asarray(v) for k, v in results.items()}, str(case))
        for key, promised in lazy.items():
            assert type(promised) is da.Array and type(promised._meta) is np.ndarray
            assert (promised.shape, promised.dtype) == (results[key].shape, results[key].dtype)
            assert promised._meta.dtype == promised.dtype and promised._meta.ndim == promised.ndim
            blocks = dask.compute(*promised.to_delayed().ravel(), scheduler="synchronous")
            assert [block.shape for block in blocks] == shapes_of(promised)
        assert next(iter(lazy.values())).chunks == da.from_array(ops["x"], chunks=case.chunks).chunks


def shapes_of(array):
    """The shapes that a dask array promises for its blocks."""
    return [tuple(c[i] for c, i in zip(array.chunks, at, strict=True)) for at in np.ndindex(array.numblocks)]


@pytest.mark.parametrize("seed", range(20))
def test_any_chunks(seed):
    """Random shapes, chunks (of size 0, too) and slopes."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, rng.integers(1, 4)))
    chunks = tuple(tuple(np.diff([0, *sorted(rng.integers(0, n + 1, 3)), n]).tolist()) for n in shape)
    axis = int(rng.integers(len(shape)))
    whole = tuple(n if keep else 1 for n, keep in zip(shape, rng.random(len(shape)) < 0.5, strict=True))
    for alpha in ((), (shape[axis],), whole if len(shape) > 1 else ()):
        ops = operands("prelu_backward", shape, alpha, np.float32, seed)
        lazy = call("prelu_backward", in_chunks(ops, chunks), channel_axis=axis)
        results = {k: np.asarray(v) for k, v in computed(lazy).items()}
        Answer("prelu_backward", ops, axis).check(results, f"{shape} in {chunks}, slopes {alpha}")


@pytest.mark.parametrize("lazily", [("x",), ("dy",), ("alpha",), ("x", "alpha"), ("dy", "alpha")], ids=str)
def test_one_dask_array_is_enough(lazily):
    """Whichever operand it is: ndarrays take its chunks, and all results are dask arrays."""
    ops = operands("prelu_backward", (6, 5), (5,))
    lazy = call("prelu_backward", in_chunks(ops, (4, 3), lazily))
    assert all(type(result) is da.Array for result in lazy.values())
    assert lazy["dx"].chunks == (((6,), (5,)) if lazily == ("alpha",) else ((4, 2), (3, 2)))
    assert lazy["dalpha"].chunks == lazy["dx"].chunks[1:]
    Answer("prelu_backward", ops).check(computed(lazy))
    as_list = in_chunks(ops, (4, 3), lazily) | {k: ops[k].tolist() for k in {"x", "dy"} - set(lazily)}
    if "x" in lazily:
        Answer("prelu_backward", ops).check(computed(call("prelu_backward", as_list)))


@pytest.mark.parametrize("dtype", [">f4", "i8", "?", "u1", "f2"])
def test_other_dtypes(name, dtype):
    ops = operands(name, (6, 5), (5,))
    ops["x"] = (ops["x"] * 3).astype(dtype)
    Answer(name, ops).check(computed(call(name, in_chunks(ops, (4, 3)))))


@pytest.mark.parametrize(
    "alpha", [0.3, 2, True, np.float64(0.3), np.float16(0.3), np.int64(2**60 + 2**36 + 1), [0.1] * 5], ids=repr
)
def test_dtypes_of_dalpha(alpha):
    """As for ndarrays: only a float array says what dalpha is."""
    ops = operands("prelu_backward", (6, 5)) | {"alpha": alpha}
    want = call("prelu_backward", ops)
    got = computed(call("prelu_backward", in_chunks(ops, (4, 3), ("x", "dy"))))
    assert_same_bits(got["dx"], want["dx"])
    assert got["dalpha"].dtype == want["dalpha"].dtype and got["dalpha"].shape == want["dalpha"].shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, *HALVES, np.int32])
def test_dtypes_of_a_lazy_alpha(dtype):
    ops = operands("prelu_backward", (6, 5), (5,))
    ops["alpha"] = (ops["alpha"] * 10).astype(dtype)
    want = call("prelu_backward", ops)["dalpha"].dtype
    lazy = call("prelu_backward", in_chunks(ops, (4, 3)))
    assert lazy["dalpha"].dtype == want
    Answer("prelu_backward", ops).check(computed(lazy))


def test_gradients_that_are_not_needed():
    ops = in_chunks(operands("prelu_backward", (6, 5), (5,)), (4, 3))
    both = call("prelu_backward", ops)
    for need_dx in (False, True):
        for need_dalpha in (False, True):
            got = call("prelu_backward", ops, need_dx=need_dx, need_dalpha=need_dalpha)
            for key, needed in (("dx", need_dx), ("dalpha", need_dalpha)):
                assert (got[key] is not None) == needed
                if needed:
                    assert_same_bits(got[key].compute(), both[key].compute(), key)


def test_unknown_sizes_where_no_shape_is_needed():
    """Rows that were chosen by a condition: their number is not known."""
    x = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    slopes = np.linspace(0.1, 0.5, 5, dtype=np.float32)
    chosen = da.from_array(x, chunks=(6, 3))[da.from_array(x[:, 0] > 0, chunks=6)]
    assert np.isnan(chosen.shape[0])
    for lazy, want in (
        (fastact.relu(chosen), fastact.relu(x[x[:, 0] > 0])),
        (fastact.leaky_relu(chosen, 0.2), fastact.leaky_relu(x[x[:, 0] > 0], 0.2)),
        (fastact.prelu(chosen, 0.2), fastact.prelu(x[x[:, 0] > 0], 0.2)),
        (fastact.prelu(chosen, slopes), fastact.prelu(x[x[:, 0] > 0], slopes)),
    ):
        assert_same_bits(lazy.compute(scheduler="synchronous"), want)


def test_precision_over_chunks():
    """Terms that nearly cancel, in many chunks: one rounding at the end.  Sums in float32 would be far off."""
    ops = operands("prelu_backward", (200, 3, 30), (3,))
    ops["dy"] = (ops["dy"] * np.float32(10) ** ops["x"].round()).astype(np.float32)
    ops["dy"][100:], ops["x"][100:] = -ops["dy"][:100], ops["x"][:100]
    ops["dy"][7, :, 3] += 1
    Answer("prelu_backward", ops).check(computed(call("prelu_backward", in_chunks(ops, (3, 2, 7)))))


# ---- when what is looked at ------------------------------------------------------------------------------------------


def test_nothing_is_computed_for_a_graph(name):
    x = da.ones((6, 4), chunks=3, dtype=np.float32).map_blocks(unready, dtype=np.float32, meta=np.empty((0, 0), "f4"))
    ops = {read: x for read in OPERATIONS[name].reads}
    if OPERATIONS[name].alpha:
        ops["alpha"] = 0.2 if OPERATIONS[name].alpha == "number" else x[0]
    for result in call(name, ops).values():
        assert type(result) is da.Array
        with pytest.raises(AssertionError, match="was computed"):
            result.compute(scheduler="synchronous")


@pytest.mark.parametrize("asked", [None, 3])
def test_backend_and_threads_travel_with_the_task(name, asked, monkeypatch):
    """Those of the time when the graph was made, and one thread unless the call says more."""
    lazy, seen = in_chunks(operands(name, (6, 4), (4,)), (3, 4)), []
    with fastact.use_backend("numpy"), fastact.threads(2):
        results = call(name, lazy, n_threads=asked)
    whole = _dispatch._run
    monkeypatch.setattr(_dispatch, "_run", lambda *args: seen.append(args[-2:]) or whole(*args))
    computed(results)
    assert seen == [("numpy", asked or 1)] * 2


def test_names_are_the_same_in_two_processes():
    program = """
import dask.array as da, fastact, numpy as np
x, slopes = da.ones((6, 4), chunks=3, dtype="f4"), np.linspace(0, 1, 4, dtype="f4")
for alpha in (0.25, slopes, da.from_array(slopes)):
    for y in (fastact.prelu(x, alpha), *fastact.prelu_backward(np.ones((6, 4), "f4"), x, alpha)):
        print(*sorted(map(str, y.__dask_graph__())))
print(fastact.relu(x).name, fastact.leaky_relu(x, 0.1, n_threads=2).name, fastact.relu_backward(x, x).name)
"""
    first, second = (output_of("-c", program, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second
    x = da.ones((6, 4), chunks=3, dtype="f4")
    assert fastact.relu(x).name in first
    assert len({fastact.prelu(x, alpha, n_threads=n).name for alpha in (0.25, 0.5) for n in (None, 2)}) == 4
    assert fastact.prelu(x, backend="numpy").name != fastact.prelu(x, backend=fastact.available_backends()[0]).name


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (6, 4)], ids=str)
def test_slopes_are_those_of_the_call(shape):
    """As in a loop that changes them in place before the result is computed."""
    slopes = np.full(shape, 0.25, np.float32)
    y, dx = prelu(-X, slopes), prelu_backward(X, -X, slopes)[0]
    slopes[...] = 100
    assert (y.compute() == -0.25).all() and (dx.compute() == 0.25).all()


def test_an_import_brings_no_dask():
    """Nor does a call on anything but a dask array."""
    program = "import sys, fastact; fastact.relu([-1.0]); fastact.relu(memoryview(b'1')); print('dask' in sys.modules)"
    assert output_of("-c", program) == "False"


# ---- what is refused -------------------------------------------------------------------------------------------------

X = da.ones((6, 4), chunks=(3, 2), dtype=np.float32)
UNKNOWN = X[X[:, 0] > 0]
relu, relu_backward, prelu, prelu_backward = fastact.relu, fastact.relu_backward, fastact.prelu, fastact.prelu_backward
leaky_relu, leaky_relu_backward = fastact.leaky_relu, fastact.leaky_relu_backward
y24, mask = np.zeros((6, 4), np.float32), np.zeros(3, np.uint8)

BAD = {
    "out": (TypeError, "out does not go with a dask array", lambda: relu(X, out=y24)),
    "out of prelu_backward": (TypeError, "out does not go", lambda: prelu_backward(X, X, out=(y24, None))),
    "out beside a lazy alpha": (TypeError, "out does not go", lambda: prelu(y24, X[0], out=y24)),
    "a lazy out": (TypeError, "out must be a numpy.ndarray or None", lambda: relu(y24, out=X)),
    "return_mask": (TypeError, "return_mask=True does not go", lambda: relu(X, return_mask=True)),
    "return_mask of leaky_relu": (TypeError, "does not go", lambda: leaky_relu(X, return_mask=True)),
    "mask": (TypeError, "mask does not go", lambda: relu_backward(X, mask=mask)),
    "a lazy mask": (TypeError, "mask does not go", lambda: leaky_relu_backward(y24, mask=da.from_array(mask))),
    "x unknown": (ValueError, r"x of shape \(nan, 4\).*compute_chunk_sizes", lambda: relu_backward(X, UNKNOWN)),
    "dy unknown": (ValueError, r"dy of shape \(nan, 4\).*compute_chunk", lambda: prelu_backward(UNKNOWN, X)),
    "alpha unknown": (ValueError, r"alpha of shape \(nan,\).*compute_chunk", lambda: prelu(X, UNKNOWN[:, 0])),
    "slopes along what is unknown": (
        ValueError,
        "unknown sizes count as 1: call x.compute_chunk_sizes",
        lambda: prelu(UNKNOWN, y24[:, 0], channel_axis=0),
    ),
    "dy chunked differently": (
        ValueError,
        r"chunked differently along axis 1, \(3, 1\) and \(2, 2\): rechunk",
        lambda: prelu_backward(X.rechunk((3, 3)), X),
    ),
    "dy of another shape": (
        ValueError,
        r"dy of shape \(6, 3\) does not match x of shape \(6, 4\)",
        lambda: relu_backward(X[:, :3], X),
    ),
    "an ndarray of another shape": (ValueError, r"dy of shape \(3,\)", lambda: relu_backward(np.zeros(3), X)),
    "slopes that do not fit": (ValueError, r"alpha of shape \(5,\) does not match x", lambda: prelu(X, np.zeros(5))),
    "lazy slopes that do not fit": (ValueError, r"alpha of shape \(6,\).*axis 0 has 6", lambda: prelu(X, X[:, 0])),
    "lazy slopes of leaky_relu": (ValueError, "alpha must be one number", lambda: leaky_relu(X, X[0])),
    "channel_axis": (ValueError, "channel_axis=7 is out of range", lambda: prelu(X, X[0], channel_axis=7)),
    "complex": (TypeError, "x has dtype complex64", lambda: relu(X.astype("c8"))),
    "object": (TypeError, "x has dtype object", lambda: relu(X.astype(object))),
    "string": (TypeError, "x has dtype <U1", lambda: relu(X.astype("U1"))),
    "dy of strings": (TypeError, "dy has dtype <U1", lambda: prelu_backward(X.astype("U1"), X)),
    "alpha of complex numbers": (TypeError, "alpha has dtype complex64", lambda: prelu(X, X[0].astype("c8"))),
    "backend": (ValueError, "backend must be one of", lambda: relu(X, backend="fortran")),
    "n_threads": (ValueError, "n_threads must be at least 1", lambda: relu(X, n_threads=0)),
    "masked": (TypeError, r"x has a mask.*dask.array.ma.filled", lambda: relu(da.ma.masked_greater(X, 0))),
    "in a list": (TypeError, "x is a dask.array.core.Array, an array of another library", lambda: relu([X, X])),
    "other chunks": (
        TypeError,
        "x is a dask array of .*Strange, which is not converted",
        lambda: relu(da.Array(X.dask, X.name, X.chunks, dtype=X.dtype, meta=Strange())),
    ),
}


class Strange(np.lib.mixins.NDArrayOperatorsMixin):
    """A kind of chunk that is no ndarray."""

    shape, ndim, dtype = (0, 0), 2, np.dtype(np.float32)

    def __array_function__(self, *args):
        return NotImplemented

    def __array_ufunc__(self, *args, **kwargs):
        return NotImplemented

    def __getitem__(self, key):
        return self

    def astype(self, dtype, **options):
        return self


@pytest.mark.parametrize("bad", BAD)
def test_refused_before_the_graph_is_made(bad):
    error, words, wrong = BAD[bad]
    with pytest.raises(error, match=words) as caught:
        wrong()
    assert type(caught.value) is error


@pytest.mark.parametrize("operand", ["x", "dy", "alpha"])
def test_chunks_with_a_mask_that_nobody_announced(operand):
    """They are an error when they are computed: the mask would be lost."""
    made = dask.delayed(lambda: np.ma.masked_greater(np.ones((3, 4), np.float32), 0))()
    masked = da.from_delayed(made, (3, 4), meta=np.empty((0, 0), np.float32))
    ops = dict.fromkeys(("dy", "x", "alpha"), X[:3].rechunk(-1)) | {operand: masked}
    for result in prelu_backward(**ops):
        with pytest.raises(TypeError, match=f"{operand} has a mask"):
            result.compute(scheduler="synchronous")


def test_a_dask_frame_is_refused():
    """NumPy would compute it."""
    frames = pytest.importorskip("dask.dataframe", reason="dask.dataframe does not import")
    frame = frames.from_pandas(pytest.importorskip("pandas").DataFrame({"a": [1.0, -2.0], "b": [0.0, 3.0]}), 2)
    for value in (frame, frame.a, [frame]):
        with pytest.raises(TypeError, match=r"x is a dask\..*pass its .to_dask_array\(lengths=True\)"):
            fastact.relu(value)
    assert fastact.relu(frame.to_dask_array(lengths=True)).compute().tolist() == [[1, 0], [0, 3]]


def test_what_else_of_dask_is_refused():
    """NumPy would make objects of it, or compute it."""
    bag = pytest.importorskip("dask.bag", reason="dask.bag does not import").from_sequence([1.0, 2.0])
    for value in (dask.delayed(unready)(np.ones(2)), bag, bag.sum(), [bag]):
        with pytest.raises(TypeError, match=r"x is a dask\..*not computed unasked: make a dask array of it"):
            fastact.relu(value)


def test_objects_are_refused_at_once():
    """However many there are: nobody looks at the elements of an array that is not there."""
    x = da.zeros((10_000, 10_000), chunks=(1000, 10_000), dtype=object)
    start = time.perf_counter()
    with pytest.raises(TypeError, match="dy has dtype object"):
        fastact.relu_backward(x, X)
    assert time.perf_counter() - start < 2  # looking at them takes ten seconds and more


# ---- reproducible ----------------------------------------------------------------------------------------------------

LAYOUTS = {
    "as they are": lambda a: a,
    "cropped in memory": lambda a: da.concatenate([a, a], axis=2)[:, :, : a.shape[2]],
    "channels last in memory": lambda a: a.transpose(0, 2, 1).map_blocks(np.ascontiguousarray).transpose(0, 2, 1),
    "Fortran": lambda a: a.map_blocks(np.asfortranarray),
    "every other one": lambda a: a.map_blocks(lambda b: np.repeat(b, 2, axis=2)[:, :, ::2], dtype=a.dtype),
}


def gradients(change, steps=lambda block: block):
    """Dx and dalpha of hard sums, lazily; in float64, where the last rounding hides nothing."""
    ops = operands("prelu_backward", (40, 6, 70), (6,), np.float64)
    ops["dy"] = ops["dy"] * 10 ** ops["x"].round()
    x, dy = (change(da.from_array(ops[name], chunks=(4, 4, 70))).map_blocks(steps) for name in ("x", "dy"))
    return ops, fastact.prelu_backward(dy, x, ops["alpha"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_on_every_scheduler(layout):
    """However chunks lie in the memory of a worker: another one gets them in C order."""
    ops, lazy = gradients(LAYOUTS[layout])
    dx, dalpha = dask.compute(*lazy, scheduler="synchronous")
    Answer("prelu_backward", ops).check({"dx": dx, "dalpha": dalpha})
    plain = gradients(LAYOUTS["as they are"])[1][1].compute(scheduler="synchronous")
    assert_same_bits(dalpha, plain, "other strides")
    for options in ({"scheduler": "threads", "num_workers": n} for n in (1, 2, 5)):
        for _ in range(2):
            assert_same_bits(lazy[1].compute(**options), dalpha, str(options))
    with dask.config.set(split_every=9, **{"optimization.fuse.active": True}):
        assert_same_bits(gradients(LAYOUTS[layout])[1][1].compute(scheduler="threads"), dalpha, "other settings")
    assert_same_bits(fastact.prelu_backward(*lazy_operands(ops), need_dx=False)[1].compute(), dalpha, "without dx")


def lazy_operands(ops):
    return *(da.from_array(ops[name], chunks=(4, 4, 70)) for name in ("dy", "x")), ops["alpha"]


def test_the_same_bits_of_the_other_byte_order():
    """An array that was pickled, as for another process, comes back in the machine's own."""
    for seed in range(4):
        ops = operands("prelu_backward", (28, 17, 24), (17,), np.float64, seed)
        swapped = {name: da.from_array(ops[name].astype(">f8"), chunks=-1) for name in ("dy", "x")}
        pickled = {n: a.map_blocks(lambda b: pickle.loads(pickle.dumps(b))) for n, a in swapped.items()}
        first, second = (
            fastact.prelu_backward(**lazy, alpha=ops["alpha"])[1].compute(scheduler="synchronous")
            for lazy in (swapped, pickled)
        )
        assert_same_bits(first, second)


def one_number(shape):
    """A dask array as sums give their gradient: one number, without memory for each element."""
    return da.full(shape, 1.7, dtype=np.float32, chunks=shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_same_bits_of_one_number(dtype):
    """Whether each element of dy has memory, as it has in another process, or not."""
    for seed in range(6):
        x = operands("relu", (29, 23, 29), dtype=dtype, seed=seed)["x"]
        lazy, slopes = da.from_array(x, chunks=-1), np.full(23, 0.5)
        first, second = (
            fastact.prelu_backward(dy, lazy, slopes)[1].compute(scheduler="synchronous")
            for dy in (one_number(x.shape), one_number(x.shape).map_blocks(np.array, meta=np.empty((0, 0, 0), "f4")))
        )
        assert_same_bits(first, second)


@pytest.mark.parametrize("variant", [v for v in ("cython", "numba") if v in fastact.available_backends()])
def test_the_same_bits_in_both_variants(variant):
    with fastact.use_backend(variant):
        got = gradients(LAYOUTS["as they are"])[1][1]
    assert_same_bits(got.compute(), gradients(LAYOUTS["as they are"])[1][1].compute())


def test_the_same_bits_in_processes():
    _, lazy = gradients(LAYOUTS["cropped in memory"])
    with dask.config.set({"multiprocessing.context": "spawn"}):
        got = lazy[1].compute(scheduler="processes", num_workers=2)
    assert_same_bits(got, lazy[1].compute(scheduler="synchronous"))


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process, and a client."""
    distributed = pytest.importorskip("distributed")
    with (
        # A nanny leaves OMP_NUM_THREADS=1 in this process, which the next library with OpenMP would obey.
        mock.patch.dict(os.environ),
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        yield client


def slow(folder, block):
    """The block, after a while; every time that it is made, there is one more file."""
    time.sleep(0.05)
    (Path(folder) / uuid.uuid4().hex).touch()
    return block


@functools.partial(functools.reduce, lambda function, mark: mark(function), of_a_cluster)
def test_the_same_bits_on_a_cluster(cluster):
    for layout in ("cropped in memory", "channels last in memory"):
        _, lazy = gradients(LAYOUTS[layout])
        want = dask.compute(*lazy, scheduler="synchronous")
        for workers in (list(cluster.scheduler_info()["workers"]), list(cluster.scheduler_info()["workers"])[:1]):
            got = [f.result() for f in cluster.compute(list(lazy), workers=workers)]
            for a, b in zip(got, want, strict=True):
                assert_same_bits(a, b, f"{layout}, {len(workers)} workers")


@functools.partial(functools.reduce, lambda function, mark: mark(function), of_a_cluster)
def test_a_worker_is_killed_in_the_middle(cluster, tmp_path):
    """What was lost is computed again, and the result has the same bits."""
    made = lambda: len(list(tmp_path.iterdir()))  # noqa: E731
    _, want = gradients(LAYOUTS["as they are"])
    want = dask.compute(*want, scheduler="synchronous")
    _, lazy = gradients(LAYOUTS["as they are"], functools.partial(slow, str(tmp_path)))
    pids = cluster.run(os.getpid)
    futures = cluster.compute(list(lazy))
    deadline = time.monotonic() + 30
    while made() < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made() < 40, "the middle was missed"
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    got = [future.result(timeout=60) for future in futures]
    assert made() > 40, "nothing was computed twice"
    assert set(cluster.run(os.getpid).values()) != set(pids.values())
    for a, b in zip(got, want, strict=True):
        assert_same_bits(a, b)


# ---- xarray ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["parallelized", "allowed"])
@pytest.mark.parametrize("order", ["nct", "ntc", "cnt"])
@pytest.mark.parametrize("sizes", [{"n": 2}, {"n": 2, "c": 3, "t": 2}], ids=str)
def test_xarray(mode, order, sizes):
    """Slopes along a named dimension, wherever it is, and however it is chunked."""
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    ops = operands("prelu", (6, 4, 5), (4,))
    x, slopes = xr.DataArray(ops["x"], dims=("n", "c", "t")).transpose(*order), xr.DataArray(ops["alpha"], dims="c")
    for alpha in (slopes, slopes.chunk({"c": 1})):
        y = xr.apply_ufunc(fastact.prelu, x.chunk(sizes), alpha, dask=mode, kwargs={"channel_axis": -1})
        assert type(y.data) is da.Array and y.dims == tuple(order)
        assert_same_bits(y.transpose("n", "c", "t").values, call("prelu", ops)["y"])


def test_a_lazy_data_array_stays_lazy():
    """What is read is the array in it; the result is a dask array."""
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    x = xr.DataArray(X, dims=("n", "c")).map_blocks(lambda a: a)
    results = fastact.relu(x), *fastact.prelu_backward(x, x, x[0])
    assert all(type(result) is da.Array for result in results)
    assert results[2].compute().tolist() == [0.0] * 4


def test_lazy_data_arrays_in_a_list_are_not_computed():
    xr = pytest.importorskip("xarray", reason="xarray is not installed")
    x = xr.DataArray(X, dims=("n", "c"))
    for several in ([x, x], np.array([x, None], object)):
        with pytest.raises(TypeError, match=r"x is a dask\.array\.core\.Array, an array of another library"):
            fastact.relu(several)


# ---- the pages and the example ---------------------------------------------------------------------------------------


@functools.partial(functools.reduce, lambda function, mark: mark(function), of_a_cluster)
@pytest.mark.parametrize("page", ["dask", "xarray"])
def test_the_pages(page):
    """Their blocks, one after the other; the last one of dask.md is a script of its own."""
    pytest.importorskip(page)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), re.DOTALL)
    names = {"__name__": "page"}
    for block in blocks:
        exec(block, names)
    assert np.isfinite(names["dalpha"]).all()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs several times the memory")
def test_the_example(tmp_path):
    """200 MB in chunks of 8: less memory than the array, and every number is right."""
    spec = importlib.util.spec_from_file_location("larger", ROOT / "examples" / "larger_than_memory.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    mine = tmp_path / "array.f32"
    mine.touch()
    printed = output_of(spec.origin, "--size", "200e6", "--chunk", "8e6", "--folder", str(tmp_path))
    assert list(tmp_path.iterdir()) == [mine], "a file stayed, or another one went"
    assert "100% Completed" in printed
    assert float(re.search(r"peak memory (\S+) GB", printed)[1]) < 0.4, "x, y, dx and the rest take 0.7"

    size = 64 * 56 * 56 * 4
    total, images = int(200e6 // size), int(8e6 // size)
    with open(tmp_path / "array", "wb") as file:
        file.truncate(total * size)
    slopes = np.linspace(0.05, 0.6, 64, dtype=np.float32)
    want, sums = {"y": 0, "dx": 0}, np.zeros(64)
    for number in range(-(-total // images)):
        x = example.read(str(tmp_path / "array"), images, (number,))
        y = np.where(x > 0, x, x * slopes[:, None, None])
        dx = np.where(x > 0, y, y * slopes[:, None, None])
        for name, array in (("y", y), ("dx", dx)):
            want[name] = (want[name] + int(array.view(np.uint32).sum(dtype=np.uint64))) % 2**64
        sums += np.where(x > 0, 0, np.float64(x) * y).sum(axis=(0, 2, 3))
    assert f"bits of y {want['y']:#018x}, of dx {want['dx']:#018x}" in printed
    first, last = map(float, re.search(r"dalpha (\S+) ... (\S+)", printed).groups())
    np.testing.assert_allclose([first, last], sums[[0, -1]], rtol=1e-7)


@pytest.mark.parametrize("axes", range(1, 6))
def test_the_costs_on_paper_are_those_of_the_graph(axes):
    """bench.scale counts the tasks and levels that a graph has, however many axes a chunk has."""
    scale = pytest.importorskip("bench.scale")
    x = da.ones((625, 2, 3, 3, 3)[:axes], chunks=(1, *[-1] * (axes - 1)), dtype=np.float32)
    graph = dask.array.Array.__dask_graph__(fastact.prelu_backward(x, x)[1])
    constants = scale.Constants(1, 1, 1, 1, 1, 1)
    row = scale.follows(constants, 625 * scale.CHUNK, 1)
    assert row["chunks"] == row["partials"] == 625
    layers = [name for name in graph.layers if "partial" in name or "aggregate" in name]
    assert row["tree"] == len(layers) == 3
    tasks = len([key for name, layer in graph.layers.items() for key in layer if "prelu" in name]) + 625  # and dx
    assert row["scheduler"] == pytest.approx(tasks, rel=0.01)
