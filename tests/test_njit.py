"""The public functions inside @njit functions: what Numba compiles against the same call from Python.

Every test of results compares bits, dalpha's included, and strides.  What needs a process of its own (the cache, the
threads of prange, no compiled core) is in scripts/njit_calls.py.
"""

import inspect
import os
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import (
    BACKWARD,
    HAS_CORE,
    OPERATIONS,
    ROOT,
    SUMMED,
    WIDE,
    WITH_SLOPES,
    assert_right,
    assert_same_bits,
    clean_environment,
    operands,
    out_for,
    output_of,
    python,
    slopes,
    values,
)  # fmt: skip
from layouts import laid_out

import fastact

numba = pytest.importorskip("numba")
from numba import njit  # noqa: E402
from numba.core.errors import TypingError  # noqa: E402
from numba.core.runtime import _nrt_python, rtsys  # noqa: E402

from fastact import _njit  # noqa: E402


@pytest.fixture(params=WIDE, ids=lambda d: d.__name__)
def dtype(request):
    """What Numba has arrays of: no 16-bit floats on a CPU."""
    return request.param


_njit.init()  # as Numba does where the package is installed
SCRIPT = "njit_calls.py"
needs_core = pytest.mark.skipif(not HAS_CORE, reason="no compiled core")
SHAPES = [(), (0,), (1,), (61,), (3, 0, 2), (3, 4, 5), (_njit.SMALL,), (_njit.SMALL + 1,), (40, 30, 33)]


def made(name, keywords=""):
    """An @njit function of an operation's operands that calls it, perhaps with keywords of the same names."""
    op = OPERATIONS[name]
    names = [*op.reads, *(["alpha"] if op.alpha else [])]
    more = keywords.split()
    text = f"lambda {', '.join(names + more)}: call({', '.join([*names, *(f'{k}={k}' for k in more)])})"
    return njit(eval(text, {"call": getattr(fastact, name)}))


COMPILED = {
    (name, keywords): made(name, keywords)
    for name, op in OPERATIONS.items()
    for keywords in ("", "out", *(["channel_axis"] if op.alpha == "array" else []))
}


def in_order(name, ops):
    """The operands in the order of the signature."""
    return [ops[k] for k in (*OPERATIONS[name].reads, "alpha") if k in ops]


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def assert_same(name, ops, **keywords):
    """The compiled call gives what the call from Python gives: types, shapes, strides and bits."""
    args = in_order(name, ops)
    want = as_tuple(getattr(fastact, name)(*args, **keywords))
    got = as_tuple(COMPILED[name, " ".join(keywords)](*args, *keywords.values()))
    assert len(got) == len(want)
    for result, other in zip(got, want, strict=True):
        assert_same_bits(result, other, f"{name} {[getattr(a, 'shape', a) for a in args]} {keywords}")
        assert result.size == 0 or result.strides == other.strides


@pytest.fixture(autouse=True)
def _cython():
    """What is compared is the Cython variant, where it is there."""
    with fastact.use_backend(fastact.available_backends()[0]):
        yield


# Every case is compiled by itself, so the short form leaves most of them out.
FULL = os.environ.get("FASTACT_FULL_TESTS", "") not in ("", "0")
LEFT_OUT = {
    "dtype": {np.float64, "float64", np.dtype("float64")},
    "kind": {"int8", "uint16", "uint64", np.uint64, bool},
    "layout": {"permuted", "read-only", "all reversed"},
    "n": {4},
    "name": {"leaky_relu", "leaky_relu_backward", "relu_backward", "prelu"},
    "layer": {"tbb", "omp"},
}


@pytest.fixture(autouse=True)
def _short_form(request):
    """Skip what only FASTACT_FULL_TESTS=1 runs (`.ci/run full` does)."""
    chosen = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if not FULL and any(value in LEFT_OUT.get(name, ()) for name, value in chosen.items()):
        pytest.skip("part of the full form: FASTACT_FULL_TESTS=1")


# ---- results ---------------------------------------------------------------------------------------------------------


def test_arrays_of_every_number_of_axes(name, dtype):
    for shape in SHAPES:
        ops = operands(name, shape, (), dtype)
        assert_same(name, ops)
        if OPERATIONS[name].alpha:
            assert_same(name, ops | {"alpha": 0.3})


FORMS = [
    ((6, 7), (7,), 1), ((6, 7), (6,), 0), ((60, 70), (70,), -1), ((6, 7), (6, 7), 1), ((0, 3), (3,), 1),
    ((7,), (1, 1, 1), 1),
]  # fmt: skip
FURTHER_FORMS = [
    ((3, 4, 5), (4,), 1), ((30, 40, 50), (40,), -2), ((60, 70), (60, 70), 1), ((6, 7), (1, 7), 1), ((3, 0), (3,), 0),
    ((3, 4, 5), (4, 1), 1), ((61,), (61,), 0), ((3, 4, 5), (3, 1, 5), 1), ((30, 40, 50), (40, 50), 1), ((), (1,), 5),
    ((6, 7), (1,), 1), ((0,), (0,), 0),
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_SLOPES)
@pytest.mark.parametrize(
    "forms", [FORMS, pytest.param(FURTHER_FORMS, marks=pytest.mark.full)], ids=["common", "further"]
)
def test_every_form_of_alpha(name, dtype, forms):
    """Numba compiles a function anew for each."""
    for shape, alpha, axis in forms:
        assert_same(name, operands(name, shape, alpha, dtype), channel_axis=axis)


@pytest.mark.parametrize("layout", ["fortran", "permuted", "strided", "all reversed", "read-only"])
def test_every_layout(name, layout):
    for shape in ((5, 6, 7), (15, 16, 17)):
        alpha = (shape[-1],) if OPERATIONS[name].alpha == "array" else ()
        ops = {k: laid_out(a, layout) for k, a in operands(name, shape, alpha).items()}
        assert_same(name, ops, **({"channel_axis": -1} if alpha else {}))


def test_special_values(name, dtype):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-310, -1e-310, 1.5, -1.5], dtype)
    x, dy = (a.ravel().copy() for a in np.meshgrid(special, special))
    ops = {k: {"x": x, "dy": dy}[k] for k in OPERATIONS[name].reads}
    for alpha in (0.0, np.inf, np.nan, -1e-300) if OPERATIONS[name].alpha else (None,):
        assert_same(name, ops | ({} if alpha is None else {"alpha": alpha}))


@pytest.mark.parametrize("kind", ["bool", "int8", "int64", "uint16", "uint64"])
def test_integers(name, kind):
    for shape in ((40,), (3000,)):
        whole = (values(shape, np.float64) * 50).astype(np.int64)
        x = whole.astype(bool if kind == "bool" else kind)
        ops = {k: {"x": x, "dy": values(shape, np.float64, 1)}[k] for k in OPERATIONS[name].reads}
        assert_same(name, ops | ({"alpha": 0.3} if OPERATIONS[name].alpha else {}))


@pytest.mark.parametrize("name", WITH_SLOPES)
def test_dtypes_that_differ(name, dtype):
    """alpha and dy are cast to x's dtype; dalpha has alpha's if that is an array of floats."""
    for shape in ((8, 9), (80, 90)):
        for kind in (np.float32, np.float64, np.int32):
            ops = operands(name, shape, (shape[1],), dtype)
            ops["alpha"] = (ops["alpha"] * 10).astype(kind)
            if "dy" in ops:
                ops["dy"] = (ops["dy"] * 10).astype(kind)
            assert_same(name, ops)


@pytest.mark.parametrize("kind", [float, int, bool, np.float32, np.uint64])
def test_numbers(name, kind):
    """A number in, a number out, of the dtype that an array would have."""
    function, op = COMPILED[name, ""], OPERATIONS[name]
    for x in (-3, -0.0, 0, 0.1, 5, -1e-30, np.nan, -np.inf):
        if kind in (float, *WIDE) or (np.isfinite(x) and x == int(x) and x >= (kind in (bool, np.uint64)) - 9):
            if kind in (np.uint64, bool):
                x = abs(x)
            args = [{"x": kind(x), "dy": kind(3)}[k] for k in op.reads] + ([0.3] if op.alpha else [])
            got, want = as_tuple(function(*args)), as_tuple(getattr(fastact, name)(*args))
            for number, array in zip(got, want, strict=True):
                assert not isinstance(number, np.ndarray)
                assert_same_bits(np.asarray(number, array.dtype), array, f"{name} {args}")
                assert isinstance(number, float) == (array.dtype.kind == "f")


@pytest.mark.parametrize("name", SUMMED)
def test_gradients_that_are_not_needed(name):
    call = getattr(fastact, name)

    @njit
    def without_dx(dy, x, alpha):
        return call(dy, x, alpha, need_dx=False)

    @njit
    def without_dalpha(dy, x, alpha):
        return call(dy, x, alpha, need_dalpha=False)

    @njit
    def nothing(dy, x, alpha):
        return call(dy, x, alpha, need_dx=False, need_dalpha=False)

    for shape, alpha in (((3, 5), (5,)), ((300, 50), (50,)), ((61,), (1,))):
        args = in_order(name, operands(name, shape, alpha))
        dx, dalpha = call(*args)
        assert without_dx(*args)[0] is None
        assert_same_bits(without_dx(*args)[1], dalpha)
        assert without_dalpha(*args)[1] is None
        assert_same_bits(without_dalpha(*args)[0], dx)
        assert nothing(*args) == (None, None)
    assert without_dx(2.0, -3.0, 0.5)[0] is None


def test_the_defaults_are_the_public_ones(name):
    call, op = getattr(fastact, name), OPERATIONS[name]
    text = f"lambda {', '.join(op.reads)}: call({', '.join(op.reads)})"
    ops = operands(name, (5, 6))
    args = [ops[read] for read in op.reads]
    got, want = njit(eval(text, {"call": call}))(*args), call(*args)
    for result, other in zip(as_tuple(got), as_tuple(want), strict=True):
        assert_same_bits(result, other)


@pytest.mark.parametrize(("shape", "alpha"), [((7, 8), (8,)), ((7, 8), (1,)), ((70, 80), (80,))], ids=str)
def test_out(name, shape, alpha):
    function, op = COMPILED[name, "out"], OPERATIONS[name]
    ops = operands(name, shape, alpha if op.alpha == "array" else ())
    want = as_tuple(getattr(fastact, name)(*in_order(name, ops)))
    outs = [np.full_like(a, 9) for a in want]
    got = as_tuple(function(*in_order(name, ops), out_for(name, *outs)))
    for result, out, other in zip(got, outs, want, strict=True):
        assert result is out
        assert_same_bits(out, other)
    if op.summed:
        assert function(*in_order(name, ops), (None, outs[1]))[1] is outs[1]
    for read in op.reads:  # in place
        mine = {k: a.copy() if isinstance(a, np.ndarray) else a for k, a in ops.items()}
        got = as_tuple(function(*in_order(name, mine), out_for(name, mine[read])))
        assert_same_bits(mine[read], want[0])
        for result, other in zip(got, want, strict=True):
            assert_same_bits(result, other)


@pytest.mark.parametrize("n", [8, 80])
def test_who_owns_the_memory(name, n):
    """An `out` lives as long as the result, whoever else lets go of it, and no memory is kept."""
    call, op = getattr(fastact, name), OPERATIONS[name]
    names = ", ".join([*op.reads, *(["alpha"] if op.alpha else [])])
    outs = "(np.empty_like(x), np.empty_like(alpha))" if op.summed else "np.empty_like(x)"
    text = f"lambda {names}: (call({names}, out={outs}), call({names.replace('x', 'x.copy()')}))"
    function = njit(eval(text, {"call": call, "np": np}))
    args = in_order(name, operands(name, (n, n), (n,) if op.alpha == "array" else ()))
    want = as_tuple(call(*args))
    function(*args)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(3):
        results = function(*args)
        others = [np.full_like(a, 9) for a in (*want, *want)]  # which would get memory that is free
        for got in results:
            for result, other in zip(as_tuple(got), want, strict=True):
                assert_same_bits(result, other)
        del results, got, result, others
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_inside_a_larger_function():
    """Numbers in a loop, an array that is made there, and a call inside a function that is called."""

    @njit
    def layer(x, w):
        return fastact.leaky_relu(x @ w, 0.1)

    @njit
    def model(x, w):
        h = layer(x, w)
        total = 0.0
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                total += fastact.relu(h[i, j])
        return h, total

    x, w = values((30, 20), np.float64), values((20, 10), np.float64, 1)
    h, total = model(x, w)
    assert_same_bits(h, layer(x, w))
    want = np.where(h > 0, h, 0)
    assert total == pytest.approx(want.sum(), rel=1e-12)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["backend", "n_threads", "mask", "return_mask"])
def test_keywords_that_only_python_has(name, keyword):
    op = OPERATIONS[name]
    text = f"lambda {', '.join(op.reads)}: call({', '.join(op.reads)}, {keyword}=None)"
    with pytest.raises(TypingError, match=f"{keyword} cannot be given inside an @njit function"):
        njit(eval(text, {"call": getattr(fastact, name)}))(*[np.ones(3)] * len(op.reads))


def typing_error(text, *args):
    with pytest.raises(TypingError) as caught:
        njit(eval(f"lambda {', '.join('abcd'[: len(args)])}: {text}", {"fastact": fastact}))(*args)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("fastact.relu(a)", [np.ones(3, complex)], "x is array(complex128, 1d, C), and must be"),
        ("fastact.relu(a)", [1j], "x is complex128"),
        ("fastact.prelu(a, b)", [np.ones(3), 1j], "alpha is complex128"),
        ("fastact.prelu(a, b)", [1.0, np.ones(1)], "alpha must be a number"),
        ("fastact.leaky_relu(a, b)", [np.ones(3), np.ones(1)], "alpha must be a number"),
        ("fastact.relu_backward(a, b)", [1.0, np.ones(3)], "both be arrays or both be numbers"),
        ("fastact.relu(a, b)", [np.ones(3), np.ones(3)], "too many positional arguments"),
        ("fastact.relu(x=a)", [np.ones(3)], "positional"),
        ("fastact.relu()", [], "missing a required"),
        ("fastact.relu(a, out=b)", [np.ones(3), np.ones(3, "f4")], "out has dtype float32"),
        ("fastact.relu(a, out=b)", [np.ones(3), 1.0], "out is float64, and must be an array or None"),
        ("fastact.relu(a, out=b)", [1.0, np.ones(3)], "out was given for a number"),
        ("fastact.relu(a, out=b)", [np.ones(3), laid_out(np.ones(3), "read-only")], "out is read-only"),
        ("fastact.prelu(a, b, channel_axis=1.0)", [np.ones(3), 0.1], "channel_axis must be an integer"),
        ("fastact.prelu_backward(a, a, out=a)", [np.ones(3)], "out must be a tuple of two"),
        ("fastact.prelu_backward(a, a, need_dx=b)", [np.ones(3), True], "need_dx must be True or False"),
        ("fastact.prelu_backward(a, a, need_dx=False, out=(a, None))", [np.ones(3)], "a gradient that is not needed"),
    ],
)
def test_typing_errors(text, args, words):
    assert words in typing_error(text, *args)


@pytest.mark.parametrize("n", [4, 50], ids=["small", "large"])
def test_value_errors_write_nothing(name, n):
    op, call = OPERATIONS[name], getattr(fastact, name)
    whole = operands(name, (n, n), (n,) if op.alpha == "array" else ())
    args = in_order(name, whole)
    result = values((n, n), seed=3)

    def refused(words, *args, out=result, rest=()):
        kept = [a.copy() for a in (*args, out, *rest) if isinstance(a, np.ndarray)]
        with pytest.raises(ValueError, match=words):
            COMPILED[name, "out"](*args, out_for(name, out, *rest))
        with pytest.raises(ValueError):  # from Python, too
            call(*args, out=out_for(name, out, *rest))
        left = [a for a in (*args, out, *rest) if isinstance(a, np.ndarray)]
        for before, after in zip(kept, left, strict=True):
            assert_same_bits(after.copy(), before)

    refused("out has another shape", *args, out=values((n, n + 1)))
    refused("out has another shape", *args, out=values((n * n,)))
    x = values((2 * n, n))
    shifted = dict(whole, x=x[:n])
    refused("out shares memory", *in_order(name, shifted), out=x[1 : n + 1])
    refused("out shares memory", *args, out=np.lib.stride_tricks.as_strided(result, (n, n), (0, 4)))
    if op.backward:
        refused("dy and x have different shapes", *in_order(name, dict(whole, dy=values((n, n + 1)))))
    if op.alpha == "array":
        refused("one slope for each channel", *in_order(name, dict(whole, alpha=slopes((n + 1,)))))
        refused("does not broadcast", *in_order(name, dict(whole, alpha=slopes((n, n + 1)))))
        refused("does not broadcast", *in_order(name, dict(whole, alpha=slopes((2, n, n)))))
        out = values((n, n))
        refused("out shares memory", *in_order(name, dict(whole, alpha=out[0])), out=out)
        for axis in (2, -3):
            with pytest.raises(ValueError, match="channel_axis is out of range"):
                COMPILED[name, "channel_axis"](*args, axis)
    if op.summed:
        refused("dalpha.* has another shape", *args, rest=[slopes((n + 1,))])
        refused("dalpha.* has another shape", *in_order(name, dict(whole, alpha=0.1)), rest=[slopes((n,))])
        one_slope = dict(whole, alpha=slopes((1,)))
        for ops in (whole, one_slope):
            for shared in (result[0], *(whole[read][1] for read in op.reads), ops["alpha"]):
                refused("out shares memory", *in_order(name, ops), rest=[shared[: ops["alpha"].size]])


# ---- surroundings ----------------------------------------------------------------------------------------------------


def test_the_arguments_are_those_of_the_public_functions():
    """Each keyword of a public signature is either taken or refused by name."""
    for name in OPERATIONS:
        public = set(inspect.signature(getattr(fastact, name)).parameters)
        taken = _njit._with_signature(
            OPERATIONS[name], inspect.signature(getattr(fastact, name)), lambda *arguments: None
        )
        assert public == set(inspect.signature(taken).parameters) | (public & _njit._REFUSED)


def test_operations_are_right(name, dtype):
    """Against the reference, without the package's own calls from Python."""
    for shape in ((7, 8), (70, 80)):
        ops = operands(name, shape, (shape[1],) if OPERATIONS[name].alpha == "array" else (), dtype)
        got = as_tuple(COMPILED[name, ""](*in_order(name, ops)))
        assert_right(name, ops, dict(zip(OPERATIONS[name].writes, got, strict=True)))


def test_nogil_functions_in_threads():
    """Without the GIL, several at once."""
    call = fastact.prelu_backward
    function = njit(nogil=True)(lambda dy, x, alpha: call(dy, x, alpha))
    args = in_order("prelu_backward", operands("prelu_backward", (300, 400), (400,)))
    want = call(*args)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: function(*args), range(40)):
            for result, other in zip(got, want, strict=True):
                assert_same_bits(result, other)


@pytest.mark.full
def test_parallel_true():
    """Outside and inside prange, and where Numba makes its own parallel loops of array expressions."""

    @njit(parallel=True)
    def rows(x, alpha):
        y = np.empty_like(x)
        for i in numba.prange(x.shape[0]):
            y[i] = fastact.prelu(x[i], alpha)
        return y, fastact.prelu(x, alpha) + 1

    x = values((40, 3000), np.float64)
    inside, outside = rows(x, 0.3)
    assert_same_bits(inside, fastact.prelu(x, 0.3))
    assert_same_bits(outside, fastact.prelu(x, 0.3) + 1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for PYTHONPATH in which a distribution has the entry point of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name, hook), *others = project["entry-points"]["numba_extensions"].items()
    assert not others
    folder = tmp_path_factory.mktemp("installed")
    distribution = folder / "hook_of_a_test-1.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: hook-of-a-test\nVersion: 1\n")
    (distribution / "entry_points.txt").write_text(f"[numba_extensions]\n{name} = {hook}\n")
    return str(folder)


def script(installed, *arguments, **variables):
    """What a function of the script printed, in a process where Numba finds the entry point."""
    return output_of(SCRIPT, *arguments, FASTACT_TEST_PATH=installed, **variables)


def test_numba_finds_the_entry_point(installed):
    first, then = script(installed, "imports").splitlines()
    assert first == "False"  # import fastact imports no numba
    assert then == "True False"  # the first compilation has called init(), which left Numba's kernels alone


def test_the_example_of_the_page(installed, tmp_path):
    """It runs as it stands in docs/inside-njit.md."""
    text = (ROOT / "docs" / "inside-njit.md").read_text(encoding="utf-8")
    file = tmp_path / "example.py"
    file.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    path = os.pathsep.join([clean_environment()["PYTHONPATH"], installed])
    printed = output_of(file, PYTHONPATH=path).split()
    assert (printed[:2], printed[-1]) == (["[[-0.75", "-1.5"], "0.5")


@pytest.mark.full
def test_the_cache_of_another_process(installed, tmp_path):
    """The second process compiles nothing, and calls the same functions."""
    first, second = (script(installed, "cached", NUMBA_CACHE_DIR=str(tmp_path)).splitlines() for _ in range(2))
    assert first[0] == "0 hits, 2 misses"
    assert second[0] == "2 hits, 0 misses"
    assert first[1:] == second[1:]


@pytest.mark.full
@needs_core
def test_a_cache_from_before_the_core_was_gone(installed, tmp_path):
    """An error instead of an abort."""
    script(installed, "cached", NUMBA_CACHE_DIR=str(tmp_path))
    done = python(SCRIPT, "--no-core", "cached", FASTACT_TEST_PATH=installed, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "RuntimeError: fastact: its compiled core is gone" in done.stderr


@pytest.mark.full
def test_without_the_compiled_core(installed):
    """Everything in pure Numba: right, dalpha within the contract's bound, and the same errors."""
    assert script(installed, "--no-core", "without_core").splitlines()[-1] == "right"


@needs_core
@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_one_thread_inside_prange(installed, layer):
    """No thread but Numba's own comes while a parallel region calls; one comes when the same call is made outside."""
    done = python(SCRIPT, "threads", FASTACT_TEST_PATH=installed, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="3")
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"no {layer}")
    assert done.returncode == 0, done.stderr
    inside, outside = map(int, done.stdout.split())
    if layer == "tbb":
        assert outside >= 0  # the calling thread's own part may use more threads: docs/inside-njit.md
    else:
        assert (inside, outside) == (0, 2)


@pytest.mark.parametrize("name", BACKWARD)
def test_every_backward_function_is_here(name):
    assert (name, "") in COMPILED
