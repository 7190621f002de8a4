"""The C interface: programs in C and C++, the same bits as Python's functions, every error, and hosts' threads.

A C program embeds Python and calls without the GIL.  All other tests call the exported functions through ctypes
(c_interface.py), which lets the GIL go as well.  What a function writes is compared with what the Python function of
its name gives for the same arrays; what that has to be is for the parity tests to say.
"""

import ctypes
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from helpers import (
    FLOATS,
    HAS_CORE,
    OPERATIONS,
    ROOT,
    SANITIZED,
    SCRIPTS,
    WITH_SLOPES,
    assert_same_bits,
    built,
    call,
    expected,
    operands,
    out_for,
    output_of,
    slopes,
    values,
)
from layouts import LAYOUTS, WRITABLE, laid_out, lay, nothing_beside

import fastact

if not HAS_CORE:
    pytest.skip("needs the compiled core", allow_module_level=True)

import c_interface as c
import test_fuzz
from c_interface import BAD_TYPE, BAD_VALUE, CALLER, DTYPES, OK

PATHS = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}  # for programs of tests/scripts
NATIVE = [name for name in LAYOUTS if not name.startswith("byte-swapped") and name != "subclass"]


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """The import that the header asks for."""
    fastact._interface.load_kernels()


def results_of(name):
    """The names of a function's results, in its order."""
    return OPERATIONS[name].writes


def python_call(name, ops, axis=1, **options):
    """The results of the Python function."""
    return call(name, ops, **({"channel_axis": axis} if name in WITH_SLOPES else {}), **options)


def c_call(name, ops, results, axis=1, **options):
    """Call the C function, which has to succeed; its results."""
    __tracebackhide__ = True
    assert c.call(name, ops | results, channel_axis=axis, **options) == (OK, "")
    return results


def empty_like(results):
    """Arrays of the same dtypes, shapes and orders of axes that have other bits."""
    return {name: np.full_like(a, 77) for name, a in results.items()}


def assert_as_python(name, ops, axis=1, note="", **options):
    """The C function gives the Python function's bits."""
    __tracebackhide__ = True
    want = python_call(name, ops, axis)
    got = c_call(name, ops, empty_like(want), axis, **options)
    for result, a in got.items():
        assert_same_bits(np.array(a), want[result], f"{name} {result} {note}")


# ---- programs in C and C++ -------------------------------------------------------------------------------------------


def compiled(source, output, *options, compiler="gcc"):
    """Compile a file with the header, without a warning."""
    include = [f"-I{fastact.get_include()}", f"-I{sysconfig.get_path('include')}"]
    command = [compiler, "-Wall", "-Wextra", "-Werror", *include, str(source), "-o", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def need(tool):
    """Skip the test where a tool is not installed."""
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


needs_python_h = pytest.mark.skipif(
    not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")), reason="Python.h is not installed"
)


def embedded(source, program, *options, compiler="gcc"):
    """What a program prints that embeds this Python."""
    need(compiler)
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("this Python has no shared library to embed")
    folder = sysconfig.get_config_var("LIBDIR")
    linked = [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-lpython{sysconfig.get_config_var('LDVERSION')}", "-lpthread"]
    compiled(source, program, *options, *linked, compiler=compiler)
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("-packages"))])
    environment = os.environ | {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": paths}
    done = subprocess.run([program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_python_h
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_program_that_embeds_python(compiler, tmp_path):
    printed = embedded(SCRIPTS / "embed.c", tmp_path / "embed", "-std=c11", compiler=compiler)
    numbers = np.array([float.fromhex(word) for word in printed.split()], np.float32)

    k = np.arange(12).astype(np.float32)
    x, dy = np.float32(0.3) * (k - 5), 1 / (k + 1)
    dx, dalpha = fastact.prelu_backward(dy.reshape(3, 4), x.reshape(3, 4), np.float32(0.1) * (k[:4] + 1))
    assert_same_bits(numbers[0:24:2], fastact.relu(x))
    assert_same_bits(numbers[1:24:2], dx.ravel())
    assert_same_bits(numbers[24:], dalpha)


@needs_python_h
@pytest.mark.parametrize(("language", "compiler"), [("c", "gcc -std=c11"), ("cpp", "g++ -std=c++17")])
def test_the_examples_of_the_page(language, compiler, tmp_path):
    """The first program in each language, which prints what the page says."""
    page = (ROOT / "docs" / "c-interface.md").read_text()
    program, says = re.search(rf"```{language}\n(.*?)```\n\nIt prints `(.*?)`", page, re.DOTALL).groups()
    source = tmp_path / f"example.{language}"
    source.write_text(program)
    command, *options = compiler.split()
    assert embedded(source, tmp_path / "example", *options, compiler=command) == says


@pytest.mark.parametrize(
    "before", [pytest.param("#include <Python.h>", marks=needs_python_h), "#define FASTACT_BY_NAME", ""]
)
@pytest.mark.parametrize(
    "language", ["gcc -std=c11 -x c", "clang -std=c11 -x c", "g++ -std=c++17 -x c++", "clang++ -std=c++17 -x c++"]
)
def test_the_header_alone(language, before, tmp_path):
    """A file that only includes it, in each of the ways that it allows."""
    compiler, *options = language.split()
    need(compiler)
    source = tmp_path / "alone"
    source.write_text(f'{before}\n#include "fastact.h"\n#include "fastact.h"\n')
    command = [compiler, *options, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{fastact.get_include()}"]
    command += [f"-isystem{sysconfig.get_path('include')}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """The library of scripts/hosts.c."""
    need("gcc")
    library = tmp_path_factory.mktemp("hosts") / "hosts.so"
    return ctypes.CDLL(str(compiled(SCRIPTS / "hosts.c", library, "-std=c11", "-shared", "-fPIC", "-O1", "-lpthread")))


def test_declarations_agree(hosts):
    """The header, its declarations for Cython, the table of operations, and what these tests make of it."""
    assert set(c.ARGUMENTS) == set(OPERATIONS)
    for struct, size in ((c.Array, "array"), (c.Options, "options"), (c.Scheduler, "scheduler")):
        assert ctypes.sizeof(struct) == getattr(hosts, f"size_of_{size}")()
    declared = re.sub(r"#.*", "", (ROOT / "fastact" / "__init__.pxd").read_text())
    assert set(re.findall(r"FASTACT_\w+", declared)) == set(c.CONSTANTS)
    for name, arguments in c.ARGUMENTS.items():
        found = re.search(rf"fastact_{name}\((.*?)\)", declared, re.DOTALL)[1]
        assert [re.findall(r"\w+", argument)[-1] for argument in found.split(",")] == arguments


def test_an_older_fastact_is_refused():
    """A header that has more functions than the package that is installed."""
    size = ctypes.pythonapi.PyCapsule_GetPointer
    size.restype, size.argtypes = ctypes.POINTER(ctypes.c_uint32), [ctypes.py_object, ctypes.c_char_p]
    functions = len(c.ARGUMENTS) + 1  # scheduled_for
    assert size(fastact._C_API, b"fastact._C_API").contents.value == 8 + functions * ctypes.sizeof(ctypes.c_void_p)
    assert "found->size < sizeof *found" in c.TEXT


# ---- the same bits as Python's functions -----------------------------------------------------------------------------

SHAPE = (2, 4, 5, 3)
# Shapes of alpha, with a channel_axis.
FORMS = [
    ((), 1), ((1,), 7), ((1,) * 6, 1), ((4,), 1), ((2,), -4), ((3,), -1), ((4, 1, 1), 1), ((1, 3), 1), ((5, 1), 1),
    ((1, 4, 1, 1), 1), ((4, 5, 1), 1), ((2, 1, 5, 1), 1), (SHAPE, 1)
]  # fmt: skip


def forms(name):
    """The forms of alpha that an operation takes."""
    return FORMS if name in WITH_SLOPES else FORMS[:1]


def made(name, shape=SHAPE, form=(), x="f4", dy=None, alpha=None):
    """Operands of some dtypes, those of integers with values that they can have."""
    ops = operands(name, shape, form, np.float64)
    for read, dtype in (("x", x), ("dy", dy or x), ("alpha", alpha or x)):
        if isinstance(ops.get(read), np.ndarray):
            scaled = ops[read] if np.dtype(dtype).kind == "f" else np.round(ops[read] * 50)
            ops[read] = np.asarray(abs(scaled) if np.dtype(dtype).kind == "u" else scaled).astype(dtype)
    return ops


def ready(operand, with_strides):
    """An operand for the C function: without strides where it may do without."""
    if not isinstance(operand, np.ndarray):
        return operand
    return c.array(operand, with_strides or not operand.flags.c_contiguous)


@pytest.mark.parametrize("layout", NATIVE)
def test_layouts(name, dtype, layout):
    """Of all operands, of the results, and of all; with strides and without."""
    for form, axis in forms(name):
        ops = operands(name, SHAPE, form, dtype)
        laid = {read: laid_out(a, layout) for read, a in ops.items()}
        for inputs in (ops, laid):
            shapes = python_call(name, inputs, axis)
            for where in ("c", layout if layout in WRITABLE else "strided"):
                # dalpha's order of summation follows all layouts, dx's among them.
                out = tuple(laid_out(a, where) for a in empty_like(shapes).values())
                want = python_call(name, inputs, axis, out=out if len(out) > 1 else out[0])
                want = {result: np.array(a) for result, a in want.items()}
                for with_strides in (True, False):
                    results = {result: laid_out(a, where) for result, a in empty_like(want).items()}
                    given = {argument: ready(a, with_strides) for argument, a in (inputs | results).items()}
                    assert c.call(name, given, channel_axis=axis) == (OK, "")
                    for result, a in results.items():
                        assert_same_bits(np.array(a), want[result], f"{result} {form} {where}")
                        assert nothing_beside(a)


@pytest.mark.parametrize("x", DTYPES, ids=str)
def test_dtypes(name, x):
    """Every dtype of x with every one of dy and alpha; dalpha in both floats."""
    for other in DTYPES:
        for form, axis in (((), 1), ((4,), 1), ((1, 3), 1)):
            ops = made(name, form=form, x=x, dy=other, alpha=other)
            if name not in WITH_SLOPES:
                assert_as_python(name, ops, axis, other)
            for dtype in FLOATS if name in WITH_SLOPES else ():
                want = python_call(name, ops, axis)
                if "dalpha" in want:  # dalpha does not depend on alpha's values, and Python's has alpha's dtype
                    want["dalpha"] = python_call(name, ops | {"alpha": ops["alpha"].astype(dtype)}, axis)["dalpha"]
                for result, a in c_call(name, ops, empty_like(want), axis).items():
                    assert_same_bits(a, want[result], f"{result} {other} {form} {dtype}")
        if not OPERATIONS[name].backward and not OPERATIONS[name].alpha:
            break


def extremes(dtype):
    """Every bit pattern of 16 bits or fewer; values at the ends and where a float rounds for the others."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.itemsize <= 2:
        return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        near = [0.0, 1 + 2**-23, 1 + 2**-24, 1 + 2**-52, 1e-45, 1e39, np.inf, np.nan, info.max, info.smallest_subnormal]
        with np.errstate(all="ignore"):
            return np.array([*near, *(-n for n in near)], np.float64).astype(dtype)
    info = np.iinfo(dtype)
    near = [n + k for n in (info.min, info.max, 2**24, 2**31, 2**53, 2**62, 2**63) for k in (-1, 0, 1, 257, 1025)]
    return np.array([n for n in near if info.min <= n <= info.max], dtype)


@pytest.mark.parametrize("other", DTYPES, ids=str)
def test_conversions(name, dtype, other):
    """x, dy or alpha of another dtype becomes the computing type's as NumPy converts it."""
    special = extremes(other)
    plain = np.where(np.arange(special.size) % 3 == 0, 1, -1).astype(dtype)
    for operand in set(operands_of(name)) - set(results_of(name)):
        ops = dict.fromkeys(OPERATIONS[name].reads, plain)
        if OPERATIONS[name].alpha:
            ops["alpha"] = plain if OPERATIONS[name].alpha == "array" else 0.3
        ops[operand] = special
        with np.errstate(all="ignore"):  # dalpha has the dtype of Python's alpha
            want = python_call(name, ops | ({"alpha": special.astype(dtype)} if operand == "alpha" else {}), 0)
        for result, a in c_call(name, ops, empty_like(want), 0).items():
            assert_same_bits(a, want[result], f"{result} {operand}")


@pytest.mark.parametrize("dy", ["f4", "f2", "i8"])
def test_large(name, dy):
    """Many tiles, where they cannot be run as they lie; else segments and groups of rows."""
    shape = (70, 33, 40)
    for form, axis in (((), 1), ((33,), 1), ((40,), -1), ((33, 1), 1), (shape, 1))[: 5 if name in WITH_SLOPES else 1]:
        for steps in ((1, 1, 1), (1, 1, 2), (-1, 2, 1)):
            ops = made(name, shape, form, dy=dy, alpha={"f4": "f8", "f2": "f4", "i8": "i2"}[dy])
            ops = {k: lay(a, steps=steps) if np.shape(a) == shape else a for k, a in ops.items()}
            assert_as_python(name, ops, axis, f"{form} {steps}")


@pytest.mark.parametrize(
    "shape", [(), (0,), (3, 0, 2), (2, 0), (0, 3), (1,), (1,) * 60 + (2, 3, 2, 2), (2,) * 7 + (1,) * 57], ids=len
)
def test_numbers_of_axes(name, dtype, shape):
    axis = min(1, len(shape) - 1)
    for form in {(), shape, (*shape[1:2],)} if name in WITH_SLOPES else {()}:
        assert_as_python(name, operands(name, shape, form, dtype), axis, form)
        assert_as_python(name, operands(name, shape, form, dtype) | {"x": values(shape, "i4")}, axis, form)


def test_expanded_operands(name, dtype):
    """A stride of 0, in one axis, in two, in all."""
    for form, axis in forms(name):
        ops = operands(name, SHAPE, form, dtype)
        for shape in ((1, 4, 5, 3), (2, 1, 5, 1), (1, 1, 1, 1)):
            part = tuple(slice(1) if n == 1 else slice(None) for n in shape)
            expanded = {k: np.broadcast_to(a[part], SHAPE) if np.shape(a) == SHAPE else a for k, a in ops.items()}
            assert_as_python(name, expanded, axis, f"{form} {shape}")
            assert_as_python(name, ops | {"x": expanded["x"]}, axis, f"{form} {shape}")


@pytest.mark.parametrize("layout", ["c", "strided", "last axis reversed", "fortran"])
def test_in_place(name, dtype, layout):
    for operand in OPERATIONS[name].reads:
        for form, axis in forms(name):
            ops = {k: laid_out(a, layout) for k, a in operands(name, SHAPE, form, dtype).items()}
            want = python_call(name, ops, axis)
            results = empty_like(want)
            # One of the two goes without strides where it is in C order.
            results[results_of(name)[0]] = ops[operand]
            given = {k: ready(a, with_strides=k != operand) for k, a in (ops | results).items()}
            assert c.call(name, given, channel_axis=axis) == (OK, "")
            for result, a in results.items():
                assert_same_bits(np.array(a), want[result], f"{result} {operand} {form}")


@pytest.mark.parametrize("left_out", ["dx", "dalpha"])
def test_one_gradient(dtype, left_out):
    for shape in (SHAPE, (2, 300, 70)):
        for form, axis in (((), 1), ((shape[1],), 1), ((shape[-1],), -1), (shape, 1)):
            ops = operands("prelu_backward", shape, form, dtype)
            both = python_call("prelu_backward", ops, axis)
            kept = {k: a for k, a in both.items() if k != left_out}
            for result, a in c_call("prelu_backward", ops, empty_like(kept), axis).items():
                assert_same_bits(a, both[result], form)


@pytest.mark.parametrize("level", built.levels())
def test_simd_levels(name, level):
    """The kernels of each level; the sums' bits are those of all."""
    try:
        with built.use_level(level):
            fastact._interface.load_kernels()
            for dtype in ("f4", "f8", "i1", "i2", "i4", "i8"):
                assert_as_python(name, made(name, (3, 70, 131), (), dtype), note=dtype)
    finally:
        fastact._interface.load_kernels()


@pytest.mark.parametrize("stretch", range(5))
def test_random_calls(stretch):
    """The calls that test_fuzz.py draws: the same results, or both refuse them and C says why."""
    done = refused = 0
    for number in range(2000 * stretch, 2000 * (stretch + 1)):
        rng = np.random.default_rng(number)
        op, ops, options = test_fuzz.case(rng)
        kind, axis = str(rng.choice(["own", "x", "dy", "shifted", "alpha"])), options.get("channel_axis", 1)
        found = test_fuzz.with_out(rng, kind, op, ops, expected(op.name, ops, axis))
        arrays = [a for a in ops.values() if isinstance(a, np.ndarray)]
        if found is None or not found[1].flags.writeable or not all(a.dtype.isnative for a in arrays):
            continue
        ops, out, refuse = found
        inputs = {k: np.array(a, copy=True) if a is out else a for k, a in ops.items()}
        before = out.copy()
        try:
            want = python_call(op.name, ops, axis, out=out_for(op.name, out))
        except ValueError:
            want = None
        assert (want is None) == refuse
        want = want and {k: np.array(a) for k, a in want.items()}
        out[...] = before
        sums = {"dalpha": np.empty_like(want["dalpha"])} if op.summed and want else {}
        got = c.call(op.name, ops | {op.writes[0]: out} | sums, channel_axis=axis)
        note = f"{number} {op.name} {kind} {out.shape} {got}"
        if refuse:
            assert got.status == BAD_VALUE and "shares memory" in got.message, note
            assert out.tobytes() == before.tobytes(), note
        else:
            assert got == (OK, ""), note
            for k, a in ({op.writes[0]: out} | sums).items():
                assert_same_bits(np.array(a), want[k], note)
        assert all(ops[k] is out or np.array_equal(a, ops[k], equal_nan=True) for k, a in inputs.items()), note
        done, refused = done + 1, refused + refuse
    assert done > 300
    assert refused > 10


# ---- errors ----------------------------------------------------------------------------------------------------------


def operands_of(name):
    """The names of a function's arrays: its results first."""
    op = OPERATIONS[name]
    return (*op.writes, *op.reads, *(["alpha"] if op.alpha == "array" else []))


def arguments(name, form=(4,)):
    """Arrays for a call in which nothing is wrong."""
    ops = operands(name, SHAPE, form if name in WITH_SLOPES else ())
    return ops | empty_like(python_call(name, ops))


def assert_refused(name, given, status, *words, **options):
    """The call returns this error and says these words; nothing is written."""
    __tracebackhide__ = True
    kept = {k: a.tobytes() for k, a in given.items() if isinstance(a, np.ndarray)}
    got = c.call(name, given, **options)
    assert got.status == status, got
    for word in words:
        assert word in got.message, (word, got.message)
    for k, before in kept.items():
        assert given[k].tobytes() == before, k


# What can be wrong with one array: its fields, the status, a word of the message, and whom it concerns.
ALL, RESULTS, INPUTS = "results inputs", "results", "inputs"
BROKEN = {
    "size": ({"size": ctypes.sizeof(c.Array) - 1}, BAD_VALUE, "must be sizeof(fastact_array)", ALL),
    "no size": ({"size": 0}, BAD_VALUE, "its size is 0", ALL),
    "65 axes": ({"ndim": 65}, BAD_VALUE, "has 65 axes; from 0 to 64 are allowed", ALL),
    "-1 axes": ({"ndim": -1}, BAD_VALUE, "has -1 axes", ALL),
    "no data": ({"data": None}, BAD_VALUE, "and its data is NULL", ALL),
    "no shape": ({"shape": None}, BAD_VALUE, "and its shape is NULL", ALL),
    "negative length": ({"shape": c.lengths([2, 4, -5, 3])}, BAD_VALUE, "axis 2 cannot have -5 elements", ALL),
    "too many": ({"shape": c.lengths([1 << 40, 1 << 40, 1, 1])}, BAD_VALUE, "axis 1 cannot have", ALL),
    "dtype 0": ({"dtype": 0}, BAD_TYPE, "has dtype 0, which is no dtype of fastact.h", ALL),
    "dtype 99": ({"dtype": 99}, BAD_TYPE, "has dtype 99", ALL),
    "dtype -1": ({"dtype": -1}, BAD_TYPE, "has dtype -1", ALL),
    "uint8": (
        {"dtype": DTYPES[np.dtype("u1")]},
        BAD_TYPE,
        "has dtype uint8, but the result has dtype float",
        RESULTS,
    ),
    "other shape": ({"shape": c.lengths([2, 4, 5, 2])}, BAD_VALUE, "(2, 4, 5, 2) ", "results dy alpha"),
    "fewer axes": ({"ndim": 3}, BAD_VALUE, "(2, 4, 5)", "results dy alpha"),
}


def concerned(operand, whom):
    """Whether a fault is one of this operand."""
    kind = RESULTS if operand in ("y", "dx", "dalpha") else INPUTS
    return kind in whom.split() or operand in whom.split()


@pytest.mark.parametrize("with_strides", [True, False], ids=["strides", "no strides"])
@pytest.mark.parametrize("fault", BROKEN)
def test_arrays_with_a_fault(name, fault, with_strides):
    fields, status, word, whom = BROKEN[fault]
    given = arguments(name, SHAPE)
    for operand in operands_of(name):
        if not concerned(operand, whom):
            continue
        broken = c.array(given[operand], with_strides)
        for field, value in fields.items():
            setattr(broken, field, value)
        others = {k: ready(a, with_strides) for k, a in given.items()}
        if operand == "alpha" and word.startswith("("):
            others["dalpha"] = None  # its shape would not match alpha's
        before = {k: given[k].tobytes() for k in results_of(name)}
        got = c.call(name, others | {operand: broken})
        assert got.status == status and operand in got.message and word in got.message, (operand, got)
        assert {k: given[k].tobytes() for k in results_of(name)} == before, operand


def test_arrays_that_are_null(name):
    given = arguments(name)
    for operand in operands_of(name):
        left = {k: a for k, a in given.items() if k != operand}
        if operand in ("dx", "dalpha") and "dalpha" in given:
            left = {k: a for k, a in left.items() if k not in ("dx", "dalpha")}  # both
            assert c.call(name, left) == (OK, "")  # nothing is needed
        else:
            assert_refused(name, left, BAD_VALUE, f"{operand} is NULL, and must be an array")
    number = {"alpha": 0.3} if OPERATIONS[name].alpha == "number" else {}
    wanted = OK if OPERATIONS[name].summed else BAD_VALUE  # neither gradient is needed
    assert c.call(name, number, options_are_null=True) == (wanted, "")


MASKED = [name for name in c.ARGUMENTS if "mask" in c.ARGUMENTS[name]]


@pytest.mark.parametrize("dtype", [*FLOATS, np.int16], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("masked", MASKED)
def test_masks(masked, dtype):
    """Written and read from C as from Python, in every layout and in place."""
    reads = "dy" if OPERATIONS[masked].backward else "x"
    where_y = OPERATIONS[masked].writes[0]
    alpha = {"alpha": 0.3} if OPERATIONS[masked].alpha else {}
    for shape, where in itertools.product(((), (5,), (3, 41), (0, 2), (7, 33, 40)), ("c", "permuted", "strided")):
        x = values(shape, np.float32).astype(dtype)
        mask = np.packbits(values(shape, np.float64, 3).ravel() > 0, bitorder="little")
        function = getattr(fastact, masked)
        if reads == "dy":
            want = function(x, mask=mask, **alpha)
        else:
            want, mask = function(x, return_mask=True, **alpha)
        for in_place in (False, True):
            given = laid_out(x, where)
            y = given if in_place and want.dtype == x.dtype else laid_out(np.zeros_like(want), where)
            made = mask.copy() if reads == "dy" else np.full_like(mask, 0xA5)
            assert c.call(masked, {where_y: y, "mask": made, reads: given} | alpha) == (OK, ""), (shape, where)
            assert_same_bits(np.array(y), want, f"{shape} {where} {in_place}")
            assert_same_bits(made, mask)


@pytest.mark.parametrize("masked", MASKED)
def test_masks_with_a_fault(masked):
    x = np.ones((3, 5), "f4")
    reads, where_y = "dy" if OPERATIONS[masked].backward else "x", OPERATIONS[masked].writes[0]
    good = {where_y: np.full_like(x, 7), "mask": np.zeros(2, "u1"), reads: x}
    good |= {"alpha": 0.3} if OPERATIONS[masked].alpha else {}
    faults = [
        ({"mask": np.zeros(3, "u1")}, BAD_VALUE, "mask of shape (3,) does not match 15 elements, which take 2 bytes"),
        ({"mask": np.zeros((1, 2), "u1")}, BAD_VALUE, "mask of shape (1, 2)"),
        ({"mask": np.zeros(2, bool)}, BAD_TYPE, "mask has dtype bool"),
        ({"mask": np.zeros(4, "u1")[::2]}, BAD_VALUE, "mask has a stride of 2 bytes"),
        ({"mask": good[where_y].view("u1")[0, :2]}, BAD_VALUE, "mask shares memory"),
        ({where_y: np.zeros((3, 4), "f4")}, BAD_VALUE, "(3, 4)"),
        ({where_y: np.zeros((3, 5), "f8")}, BAD_TYPE, "float64"),
    ]
    if reads == "dy":
        faults.append(({"x": x}, BAD_VALUE, "x and mask are both given"))
    for fault, status, words in faults:
        found, message = c.call(masked, good | fault)
        assert (found, words in message) == (status, True), (fault, message)
        assert (good[where_y] == 7).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_threads": -1}, "n_threads is -1, and must be at least 0"),
        ({"source": -1}, "source is -1"),
        ({"source": CALLER + 1}, f"source is {CALLER + 1}, which is no source"),
        ({"source": CALLER}, "source is FASTACT_SOURCE_CALLER, and parallel_for is NULL"),
    ],
)
def test_options_with_a_fault(name, fields, words):
    assert_refused(name, arguments(name), BAD_VALUE, words, **fields)


def test_options_of_another_size(name):
    """They may have no message, so there is none; a larger struct is a later version's."""
    size = ctypes.sizeof(c.Options)
    assert_refused(name, arguments(name), BAD_VALUE, size=size - 1)
    assert c.call(name, arguments(name), size=size - 1).message == ""
    assert c.call(name, arguments(name), size=size + 8).status == OK


@pytest.mark.parametrize("name", WITH_SLOPES)
def test_slopes_that_do_not_fit(name):
    given = arguments(name)
    for axis in (4, -5, 2**31 - 1, -(2**31)):
        words = f"channel_axis={axis} is out of range for x of shape (2, 4, 5, 3)"
        assert_refused(name, given, BAD_VALUE, words, channel_axis=axis)
    words = "alpha of shape (4,) does not match x of shape (2, 4, 5, 3) along channel_axis=2"
    assert_refused(name, given, BAD_VALUE, words, channel_axis=2)
    for shape in ((4, 1), (2, 3), (1, 2, 4, 5, 3), (0, 1)):
        bad = given | {"alpha": slopes(shape)} | ({"dalpha": slopes(shape)} if "dalpha" in given else {})
        assert_refused(name, bad, BAD_VALUE, f"alpha of shape {shape} does not broadcast to x of shape (2, 4, 5, 3)")


def test_messages_are_cut(name):
    """A buffer of any size holds the beginning, and its end."""
    given = arguments(name) | {"x": None}
    whole = c.call(name, given).message
    for size in (1, 2, 10, len(whole), len(whole) + 1):
        text = ctypes.create_string_buffer(b"#" * 300, 300)
        assert c.call(name, given, text, message_size=size).status == BAD_VALUE
        assert text.raw[:size] == whole.encode()[: size - 1] + b"\0"
        assert set(text.raw[size:]) == {ord("#")}
    text = ctypes.create_string_buffer(b"#" * 300, 300)
    assert c.call(name, given, text, message_size=0).status == BAD_VALUE
    assert set(text.raw) == {ord("#")}
    assert c.call(name, given, message=None).status == BAD_VALUE


def test_shapes_of_many_axes_in_a_message():
    """All of them would not fit."""
    x, y = (c.array(np.zeros((0,) * 64, np.float32)) for _ in range(2))
    x.shape, y.shape = c.lengths([0] + [123456789] * 63), c.lengths([0] + [123456788] * 63)
    assert_refused("relu", {"x": x, "y": y}, BAD_VALUE, "y of shape (0, 123456788, 1234", "6788, ...) does not match x")


# ---- shared memory ---------------------------------------------------------------------------------------------------


def over(raw, start, shape=(6,), steps=(1,)):
    """An array over part of another's memory; all numbers in elements."""
    return np.ndarray(shape, raw.dtype, raw, start * raw.itemsize, [step * raw.itemsize for step in steps])


def shared_pairs(name):
    """(result, input) that may not share memory unless they are the same array."""
    op = OPERATIONS[name]
    for result in op.writes:
        for other in operands_of(name):
            if other != result and (result, other) != ("dalpha", "dx"):
                yield result, other


def vectors(name):
    """Operands and results of one axis of six, where alpha is full."""
    ops = operands(name, (6,), (6,))
    return ops | empty_like(python_call(name, ops, 0))


# Two arrays that share memory, each as (start, shape, steps), and two that do not.
SHARING = {
    "shifted by one": ((0, (6,), (1,)), (1, (6,), (1,))),
    "shifted back": ((3, (6,), (1,)), (0, (6,), (1,))),
    "reversed": ((0, (6,), (1,)), (5, (6,), (-1,))),
    "every second, meeting": ((0, (6,), (2,)), (4, (6,), (2,))),
    "last and first": ((0, (6,), (1,)), (5, (6,), (1,))),
    "expanded": ((0, (6,), (1,)), (3, (6,), (0,))),
}
APART = {
    "side by side": ((0, (6,), (1,)), (6, (6,), (1,))),
    "every second": ((0, (6,), (2,)), (1, (6,), (2,))),
    "every second, backwards": ((0, (6,), (2,)), (11, (6,), (-2,))),
    "every third": ((0, (6,), (3,)), (2, (6,), (3,))),
}


def placed_over(given, result, other, places):
    """The arguments with these two over one memory; NumPy refuses nothing here."""
    raw = np.arange(1, 31, dtype=np.float32)
    first, second = (over(raw, *place) for place in places)
    return given | {result: first, other: second}


@pytest.mark.parametrize("how", SHARING)
def test_memory_that_is_shared(name, how):
    for result, other in shared_pairs(name):
        if other in ("dx", "dalpha") and how == "expanded":
            continue  # a result that meets itself
        given = placed_over(vectors(name), result, other, SHARING[how])
        words = [f"{result} shares memory with {other}"] if other != "dalpha" else ["dx and dalpha share memory"]
        if other in OPERATIONS[name].reads and result != "dalpha":
            words.append("it may be exactly that (in place), or apart from it")
        assert_refused(name, given, BAD_VALUE, *words, channel_axis=0)


@pytest.mark.parametrize("how", APART)
def test_memory_that_interleaves(name, how):
    for result, other in shared_pairs(name):
        given = placed_over(vectors(name), result, other, APART[how])
        ops = {k: np.array(a) for k, a in given.items() if k not in results_of(name)}
        results = {k: given[k] for k in results_of(name)}
        want = python_call(name, ops, 0)
        got = c.call(name, given, channel_axis=0)
        assert got == (OK, ""), (result, other, got)
        for k, a in results.items():
            assert_same_bits(np.array(a), want[k], f"{k} {result} {other}")


def test_sums_are_not_in_place():
    """dalpha may be neither alpha nor any other operand, not even exactly."""
    given = vectors("prelu_backward")
    for operand in ("x", "dy", "alpha", "dx"):
        word = "dx and dalpha share memory" if operand == "dx" else f"dalpha shares memory with {operand}"
        assert_refused("prelu_backward", given | {"dalpha": given[operand]}, BAD_VALUE, word, channel_axis=0)
    for name in WITH_SLOPES:
        given = vectors(name)
        result = results_of(name)[0]
        word = f"{result} shares memory with alpha"
        assert_refused(name, given | {result: given["alpha"]}, BAD_VALUE, word, channel_axis=0)
        one = np.ones((), np.float32)  # one slope inside the result
        given[result] = np.ones(6, np.float32)
        inside = c.array(one)
        inside.data = given[result].ctypes.data + 8
        given["alpha"], given["dalpha"] = inside, None
        assert_refused(name, given, BAD_VALUE, word, channel_axis=0)


@pytest.mark.parametrize(("shape", "steps"), [((2, 3), (1, 1)), ((2, 3), (0, 1)), ((2, 3), (2, 1)), ((3, 4), (3, -2))])
def test_a_result_that_meets_itself(name, shape, steps):
    ops = operands(name, shape, shape)
    for result, a in empty_like(python_call(name, ops)).items():
        others = empty_like(python_call(name, ops))
        bad = over(np.ones(40, a.dtype), 20, shape, steps)
        assert_refused(name, ops | others | {result: bad}, BAD_VALUE, f"{result} shares memory among its own elements")


def test_halves_of_a_matrix(name, dtype):
    """Columns 0 to 3 and 4 to 7, rows in between."""
    whole = values((5, 8), dtype)
    for operand in OPERATIONS[name].reads:
        ops = operands(name, (5, 4), (4,), dtype) | {operand: whole[:, :4]}
        want = python_call(name, ops)
        results = empty_like(want)
        results[results_of(name)[0]] = whole[:, 4:]
        for result, a in c_call(name, ops, results).items():
            assert_same_bits(np.array(a), want[result])


def test_empty_arrays_share_nothing():
    x = np.empty((0, 3), np.float32)
    sums = np.ones(3, np.float32)
    inside = c.array(x, with_strides=False)
    inside.data = sums.ctypes.data + 4
    given = {"x": inside, "dy": x, "alpha": slopes((3,)), "dx": inside, "dalpha": c.array(sums, with_strides=False)}
    assert c.call("prelu_backward", given) == (OK, "")
    assert not sums.any()


# ---- in processes of their own ---------------------------------------------------------------------------------------


def test_before_the_import():
    """The symbols are there with the module, but its kernels come with fastact_import()."""
    assert output_of("c_calls.py", "before_the_import", **PATHS) == "right"


def test_an_import_without_kernels_says_why(monkeypatch):
    monkeypatch.setattr(fastact._interface._backends, "missing", {"cython": "no compiler was found"}.get)
    with pytest.raises(ImportError, match="no C interface here: no compiler was found"):
        fastact._interface.load_kernels()


def test_a_library_without_python(tmp_path):
    need("gcc")
    library = compiled(SCRIPTS / "by_name.c", tmp_path / "by_name.so", "-std=c11", "-shared", "-fPIC")
    assert output_of("c_calls.py", "by_name", library, **PATHS) == "right"


def test_only_its_functions_are_exported():
    """By the modules of the package, beside what Python looks for."""
    need("nm")
    modules = list((ROOT / "fastact" / "_cython").rglob("*.so"))
    done = subprocess.run(["nm", "-D", "--defined-only", *modules], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in done.stdout.splitlines() if len(line.split()) == 3}
    exported = {name for name in names if not name.startswith(("PyInit_", "_"))}
    assert exported == {f"fastact_{name}" for name in (*c.ARGUMENTS, "scheduled_for")}


def test_no_runtime():
    assert output_of("c_calls.py", "no_runtime", **PATHS) == "right"


@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer has an allocator of its own")
def test_memory_that_runs_out(tmp_path):
    """Every allocation of a call fails once: there is an error, and nothing is written; or the right result."""
    need("gcc")
    shim = str(tmp_path / "shim.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", SCRIPTS / "shim.c", "-o", shim], check=True)
    assert int(output_of("c_calls.py", "memory_that_runs_out", LD_PRELOAD=shim, **PATHS)) >= 5


# ---- threads of a host -----------------------------------------------------------------------------------------------


class Host(ctypes.Structure):
    _fields_ = (("loops", ctypes.c_int), ("modes_lost", ctypes.c_int), ("mode", ctypes.c_uint))


LOOPS = ["in_order", "in_reverse", "on_a_thread_each", "on_two_threads"]
# Calls that are shared out, all ways to add up included: shape, alpha's shape, channel_axis, steps.
SHARED_OUT = [
    ((40_001,), (), 1, (1,)),
    ((3, 40, 170), (40,), 1, (1, 1, 1)),
    ((600, 33), (33,), 1, (1, 1)),
    ((20, 30, 31), (30, 1), 1, (1, 1, 2)),
    ((40, 600), (40, 600), 1, (1, 1)),
    ((9, 50, 70), (70,), -1, (1, -1, 2)),
]


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


@pytest.fixture
def shared_out(policy):
    """Teams for arrays of any size."""
    policy(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0, parallel_reduction=1)


def cases(name):
    for shape, form, axis, steps in SHARED_OUT:
        ops = operands(name, shape, form)
        if len(shape) == 3:
            ops["alpha"] = ops["alpha"].astype("f8") if name in WITH_SLOPES else 0.3
        yield {k: lay(a, steps=steps) if np.shape(a) == shape else a for k, a in ops.items() if a is not None}, axis


def cases_of(name):
    """The operands and their axis, without an alpha where the operation has none."""
    for ops, axis in cases(name):
        yield {k: a for k, a in ops.items() if k != "alpha" or OPERATIONS[name].alpha}, axis


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_hosts_loop(hosts, shared_out, name, loop, threads):
    """One that is delayed, in reverse order, on several threads, or on the calling one: the bits of one thread."""
    host = Host()
    for ops, axis in cases_of(name):
        want = python_call(name, ops, axis, n_threads=1)
        host.loops = 0
        options = {"parallel_for": address(getattr(hosts, loop)), "context": ctypes.addressof(host)}
        got = c_call(name, ops, empty_like(want), axis, source=CALLER, n_threads=threads, **options)
        assert host.loops > 0
        for result, a in got.items():
            assert_same_bits(a, want[result], f"{result} {ops['x'].shape}")


def scheduled(hosts, schedule, workers, pool):
    """The options of a call whose host only schedules."""
    scheduler = c.Scheduler(ctypes.sizeof(c.Scheduler), workers, address(getattr(hosts, schedule)), pool)
    found = {"source": CALLER, "parallel_for": address(c.library.fastact_scheduled_for)}
    return scheduler, found | {"context": ctypes.addressof(scheduler)}


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("schedule", ["refuse", "run_now", "keep", "start"])
def test_a_host_that_only_schedules(hosts, shared_out, name, schedule, workers):
    """Tasks that run at once, on threads, long after the call, or never."""
    pool = ctypes.create_string_buffer(hosts.size_of_pool())
    handed_over = ctypes.c_int.from_buffer(pool)
    scheduler, options = scheduled(hosts, schedule, workers, ctypes.addressof(pool))
    for ops, axis in cases_of(name):
        want = python_call(name, ops, axis, n_threads=1)
        handed_over.value = 0
        got = c_call(name, ops, empty_like(want), axis, n_threads=3, **options)
        assert bool(handed_over.value) == bool(workers)
        for result, a in got.items():
            assert_same_bits(a, want[result], f"{result} {ops['x'].shape}")
            a[...] = 5
        late = {"keep": hosts.run_kept, "start": hosts.join_all}.get(schedule, lambda pool: 0)(pool)
        assert bool(late) == (schedule in ("keep", "start") and workers > 0)
        assert all((a == 5).all() for a in got.values())  # a task that is late writes nothing
    assert scheduler.workers == workers


@pytest.mark.parametrize("schedule", ["refuse", "run_now", "keep", "start"])
def test_a_scheduled_loop_by_itself(hosts, schedule):
    """Each index is computed once, and when the loop returns: by slow helpers too."""
    pool = ctypes.create_string_buffer(hosts.size_of_pool())
    scheduler, options = scheduled(hosts, schedule, 3, ctypes.addressof(pool))
    loop, context = (ctypes.c_void_p(options[name]) for name in ("parallel_for", "context"))
    for n in (0, 1, 2, 3, 10, 40):
        assert hosts.faults_of_loop(loop, context, n) == 0
        {"keep": hosts.run_kept, "start": hosts.join_all}.get(schedule, lambda pool: 0)(pool)
    assert scheduler.pool == ctypes.addressof(pool)


FLUSHING, ORDINARY = 0x9FC0, 0x1F80  # flush-to-zero and denormals-are-zero; as a process begins


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the modes are x86's")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", [ORDINARY, FLUSHING], ids=["host flushes", "caller flushes"])
def test_the_callers_floating_point_mode(hosts, shared_out, name, mode, loop):
    """Threads of the host compute in the caller's mode and get their own back."""
    if not OPERATIONS[name].alpha:
        return  # nothing is computed that could be denormal
    ops = operands(name, (3, 40, 170), (40,))
    ops = {k: a * np.float32(1e-38) if k in ("x", "dy") else a for k, a in ops.items()}
    if OPERATIONS[name].backward:
        ops["x"] = ops["x"] * np.float32(1e38)
    host = Host(mode=ORDINARY + FLUSHING - mode)
    results = [empty_like(python_call(name, ops)) for _ in range(3)]
    options = {"parallel_for": address(getattr(hosts, loop)), "context": ctypes.addressof(host), "source": CALLER}
    c_call(name, ops, results[2], n_threads=1)
    hosts.set_mode(mode)
    try:
        done = [c.call(name, ops | results[0], n_threads=1), c.call(name, ops | results[1], n_threads=3, **options)]
    finally:
        hosts.set_mode(ORDINARY)
    assert done == [(OK, "")] * 2
    assert host.loops > 0
    assert host.modes_lost == 0
    for result, a in results[1].items():
        assert_same_bits(a, results[0][result], result)
    first = results_of(name)[0]
    assert (results[0][first].tobytes() == results[2][first].tobytes()) == (mode == ORDINARY)
