"""Every error of the public functions: its type, and that its message names what is needed to mend it.

A row of a table is a call and the words that its message must hold (the argument, both shapes or dtypes, a way
out).  Each row runs in every backend, with outputs given, and nothing may be written before all arguments
are checked.  Wrong calls for one argument (an unknown backend, n_threads=0, a masked array) go through every
operation of the table.  Errors of settings and environment variables are in test_settings.py.
"""

import array
import collections
import contextlib

import numpy as np
import pytest
from helpers import BACKWARD, OPERATIONS, SUMMED, WITH_SLOPES, backends, call, operands, out_for, using

import fastact

NUMBERS = [op.name for op in OPERATIONS.values() if op.alpha == "number"]
OPERANDS = [(op.name, which) for op in OPERATIONS.values() for which in (*op.reads, *(["alpha"] if op.alpha else []))]
f4 = np.float32


def fails(error, words, function, *args, **options):
    """The call raises exactly this kind of error, and its message has these words."""
    __tracebackhide__ = True
    with pytest.raises(error) as caught, np.errstate(all="raise"):
        function(*args, **options)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{message!r} lacks {missing}"
    return message


def wrong(name, changes, error, words, variant, **options):
    """The operation on (2, 3) floats with some operands changed fails, and given outputs stay as they were."""
    __tracebackhide__ = True
    ops = operands(name, (2, 3), (), f4) | changes
    before = {k: v.tobytes() for k, v in ops.items() if isinstance(v, np.ndarray)}
    message = fails(error, words, call, name, ops, variant, **options)
    for k, v in before.items():
        assert ops[k].tobytes() == v, f"{k} was written to"
    return message


# ---- kinds of array that no operation takes -------------------------------------------------------


UNSUPPORTED = [
    np.ones((2, 3), complex),
    np.ones((2, 3), "c8"),
    np.ones((2, 3), object),
    np.full((2, 3), "a"),
    np.full((2, 3), b"a"),
    np.zeros((2, 3), "M8[s]"),
    np.zeros((2, 3), "m8[s]"),
    np.zeros((2, 3), [("a", "f4")]),
    np.zeros((2, 3), "V4"),
    np.zeros((2, 3), np.longdouble),
]


@pytest.mark.parametrize("bad", UNSUPPORTED, ids=lambda a: str(a.dtype))
@pytest.mark.parametrize(("name", "which"), OPERANDS)
def test_dtypes_that_are_refused(name, variant, bad, which):
    bad = bad.flat[:1].reshape(()) if which == "alpha" else bad
    wrong(name, {which: bad}, TypeError, [which, str(bad.dtype)], variant)


@pytest.mark.parametrize("bad", [None, "0.5", 1j, object(), {}], ids=lambda bad: type(bad).__name__)
def test_objects_that_are_no_numbers(name, variant, bad):
    wrong(name, {"x": bad}, TypeError, ["x"], variant)
    if OPERATIONS[name].backward:
        wrong(name, {"dy": np.full((2, 3), bad)}, TypeError, ["dy"], variant)
    if OPERATIONS[name].alpha:
        wrong(name, {"alpha": bad}, TypeError, ["alpha"], variant)


class Masking:
    """An object that NumPy makes a masked array of."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class MaskedInterface:
    """One whose mask is in the array interface (version 3 has a field for it), which np.asarray does not look at."""

    def __init__(self, array):
        self.kept = array.data
        self.__array_interface__ = self.kept.__array_interface__ | {"mask": np.ma.getmaskarray(array)}


class MaskedKind(np.ndarray):
    """A subclass with a mask of its own, such as astropy's."""

    mask = True


def nested_object_array(held_array):
    held = np.empty(1, object)
    held[0] = held_array
    return held


class Items:
    """A sequence by its methods alone."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class MaskingList(list):
    """NumPy asks __array__, not the items."""

    def __array__(self, dtype=None, copy=None):
        return self.masked


def masking_list(array):
    made = MaskingList([1.0])
    made.masked = array
    return made


class Plain(np.ndarray):
    """A subclass whose objects may be given a mask."""


def with_mask_attribute(array):
    made = np.asarray(array).view(Plain)
    made.mask = np.ma.getmaskarray(array)
    return made


MASKS = {  # ways in which a mask can come
    "masked array": lambda a: a,
    "in a list": lambda a: [a],
    "in a tuple in a list": lambda a: [(a, a)],
    "beside numbers": lambda a: [np.asarray(a), a],
    "single elements": lambda a: [[1.0, np.ma.masked]],
    "in a deque": lambda a: collections.deque([a]),
    "in an object array": nested_object_array,
    "made by __array__": Masking,
    "made by __array__ in a list": lambda a: [Masking(a)],
    "in the array interface": MaskedInterface,
    "in a sequence of its own kind": Items,
    "in such a sequence in a list": lambda a: [Items(a, a)],
    "single elements in such a sequence": lambda a: Items(1.0, np.ma.masked),
    "made by a list's __array__": masking_list,
    "an attribute of one object": with_mask_attribute,
    "another subclass": lambda a: np.asarray(a).view(MaskedKind),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("way", MASKS)
@pytest.mark.parametrize(("name", "which"), OPERANDS)
def test_masks_are_never_lost(name, which, way, masked):
    """Even where nothing is masked: the next one will be."""
    array = np.ma.array(np.ones((1,) if which == "alpha" else (2, 3), f4), mask=masked)
    wrong(name, {which: MASKS[way](array)}, TypeError, [which, "mask", "filled"], None)


def test_what_converts_itself_is_asked_once(name):
    """A lazy array does its work there."""

    class Lazy:
        asked = 0

        def __array__(self, dtype=None, copy=None):
            self.asked += 1
            return np.ones(3, f4)

    ops = {read: Lazy() for read in OPERATIONS[name].reads} | ({"alpha": 0.5} if OPERATIONS[name].alpha else {})
    call(name, ops)
    assert [ops[read].asked for read in OPERATIONS[name].reads] == [1] * len(OPERATIONS[name].reads)


def test_kinds_of_alpha_and_the_dtype_of_dalpha():
    """Lists are numbers, as Python's own are; a buffer is an array with a dtype."""
    x = np.ones((2, 3))
    for alpha, dtype in (
        ([1.0, 2.0, 3.0], "f8"), ((1.0, 2.0, 3.0), "f8"), (array.array("f", [1, 2, 3]), "f4"),
        (memoryview(np.ones(3, f4)), "f4"), (np.ones(3, f4), "f4"), (f4(0.5), "f8"), (0.5, "f8"),
    ):  # fmt: skip
        assert fastact.prelu_backward(x, x, alpha)[1].dtype == dtype, alpha
    assert fastact.prelu_backward(x.astype(f4), x.astype(f4), [1.0, 2.0, 3.0])[1].dtype == f4


def test_masked_arrays(name, variant):
    wrong(name, {"x": np.ma.array(np.ones((2, 3), f4))}, TypeError, ["x", "mask", "filled"], variant)


@pytest.mark.parametrize("out", [np.ma.array(np.ones((2, 3), f4)), np.ones((2, 3), f4).view(MaskedKind)], ids=type)
def test_masked_out(name, variant, out):
    wrong(name, {}, TypeError, ["out", "masked"], variant, out=out_for(name, out))


def test_a_list_that_contains_itself(name):
    """The search for masks ends as NumPy's own does."""
    endless = []
    endless.append(endless)
    wrong(name, {"x": endless}, (TypeError, ValueError), ["x"], None)


def test_ragged_sequences(name, variant):
    wrong(name, {"x": [[1.0, 2.0], [3.0]]}, ValueError, ["x"], variant)


# ---- dy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 1), (1, 3), (), (2, 0)], ids=str)
def test_dy_of_another_shape(variant, shape):
    for name in BACKWARD:
        wrong(name, {"dy": np.ones(shape, f4)}, ValueError, ["dy", str(shape), "x", "(2, 3)"], variant)


@pytest.mark.parametrize("x_dtype", ["f4", "f8", "i4"])
def test_dy_that_cannot_be_cast(variant, x_dtype):
    for name in BACKWARD:
        computing = "float32" if x_dtype == "f4" else "float64"
        changes = {"x": np.ones((2, 3), x_dtype), "dy": np.ones((2, 3), complex)}
        wrong(name, changes, TypeError, ["dy", "complex128", computing, "same_kind"], variant)


# ---- alpha and channel_axis -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_shape", "alpha_shape", "options", "words"),
    [
        ((2, 3), (2,), {}, ["alpha", "(2,)", "(2, 3)", "channel_axis"]),
        ((2, 3), (3,), {"channel_axis": 0}, ["alpha", "(3,)", "(2, 3)", "channel_axis=0"]),
        ((2, 3, 4), (4,), {}, ["alpha", "(4,)", "(2, 3, 4)", "channel_axis=1", "axis -1 has 4: channel_axis=-1?"]),
        ((4, 3, 5), (4,), {}, ["channel_axis=1", "axis 0 has 4: channel_axis=0?"]),
        ((2, 3, 4), (0,), {}, ["alpha", "(0,)", "(2, 3, 4)", "channel_axis=1"]),
        ((5,), (5,), {}, ["alpha", "(5,)", "channel_axis=-1"]),
        ((5,), (4,), {}, ["alpha", "(4,)", "(5,)", "channel_axis=-1"]),
        ((), (5,), {}, ["alpha", "(5,)", "()", "channel_axis"]),
        ((2, 3), (3,), {"channel_axis": 2}, ["channel_axis=2", "(2, 3)"]),
        ((2, 3), (3,), {"channel_axis": -3}, ["channel_axis=-3", "(2, 3)"]),
        ((2, 3), (3, 3), {}, ["alpha", "(3, 3)", "x", "(2, 3)"]),
        ((1, 3), (2, 3), {}, ["alpha", "(2, 3)", "x", "(1, 3)"]),
        ((2, 3), (1, 2, 3), {}, ["alpha", "(1, 2, 3)", "x", "(2, 3)"]),
        ((2, 3), (3, 2), {}, ["alpha", "(3, 2)", "x", "(2, 3)"]),
        ((2, 3), (0, 3), {}, ["alpha", "(0, 3)", "x", "(2, 3)"]),
    ],
    ids=str,
)
def test_alpha_that_does_not_fit(variant, x_shape, alpha_shape, options, words):
    for name in WITH_SLOPES:
        changes = {k: np.ones(x_shape, f4) for k in OPERATIONS[name].reads} | {"alpha": np.ones(alpha_shape, f4)}
        wrong(name, changes, ValueError, words, variant, **options)


@pytest.mark.parametrize("axis", [1.0, "1", None, (1,)], ids=repr)
def test_channel_axis_that_is_no_integer(variant, axis):
    for name in WITH_SLOPES:
        changes = {"alpha": np.ones(3, f4)}
        wrong(name, changes, TypeError, ["channel_axis", type(axis).__name__], variant, channel_axis=axis)


def test_leaky_relu_takes_one_number(variant):
    for name in NUMBERS:
        for shape in [(3,), (2, 3), (0,)]:
            wrong(name, {"alpha": np.ones(shape, f4)}, ValueError, ["alpha", "number", str(shape), "prelu"], variant)


# ---- out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 1), (1, 3), (2, 0)], ids=str)
def test_out_of_another_shape(name, variant, shape):
    out = np.full(shape, 7, f4)
    wrong(name, {}, ValueError, ["out", str(shape), "(2, 3)"], variant, out=out_for(name, out))
    assert (out == 7).all()


@pytest.mark.parametrize("out_dtype", ["f8", "f2", "i4", ">f4", "?"])
def test_out_of_another_dtype(name, variant, out_dtype):
    out = np.ones((2, 3), out_dtype)
    words = ["out", str(out.dtype), "float32"]
    wrong(name, {}, TypeError, words, variant, out=out_for(name, out))
    assert (out == 1).all()


def test_out_of_integers(name, variant):
    """The dtype of a result is not x's where integers are computed in float64."""
    ops = {"x": np.ones((2, 3), "i4")}
    wants = "int32" if OPERATIONS[name].integers else "float64"
    bad = np.ones((2, 3), "i8")
    wrong(name, ops, TypeError, ["out", "int64", wants], variant, out=out_for(name, bad))


def test_read_only_out(name, variant, tmp_path):
    out = np.full((2, 3), 7, f4)
    out.flags.writeable = False
    wrong(name, {}, ValueError, ["out", "read-only"], variant, out=out_for(name, out))
    broadcast = np.broadcast_to(f4(7), (2, 3))
    wrong(name, {}, ValueError, ["out"], variant, out=out_for(name, broadcast))
    file = np.memmap(tmp_path / "out", f4, "w+", shape=(2, 3))
    file.flush()
    mapped = np.memmap(tmp_path / "out", f4, "r", shape=(2, 3))
    wrong(name, {}, ValueError, ["out", "read-only", 'mmap_mode="r+"'], variant, out=out_for(name, mapped))
    x = np.full((2, 3), -7, f4)
    x.flags.writeable = False
    wrong(name, {"x": x}, ValueError, ["out", "read-only"], variant, out=out_for(name, x))
    assert (x == -7).all()


@pytest.mark.parametrize("out", [[[0.0] * 3] * 2, 1.0, "out", True], ids=str)
def test_out_that_is_no_array(name, variant, out):
    wrong(name, {}, TypeError, ["out", type(out).__name__], variant, out=out_for(name, out))


def test_out_that_overlaps_itself(name, variant):
    base = np.full(4, 7, f4)
    out = np.lib.stride_tricks.as_strided(base, (2, 3), (4, 4))
    wrong(name, {}, ValueError, ["out", "shares memory"], variant, out=out_for(name, out))
    assert (base == 7).all()


OVERLAPS = {
    "one later": lambda b: (b[:-1], b[1:]),
    "one earlier": lambda b: (b[1:], b[:-1]),
    "reversed": lambda b: (b, b[::-1]),
    "another step": lambda b: (b[:12], b[::2]),
    "half of it": lambda b: (b[:12], b[6:18]),
    "transposed": lambda b: (b[:16].reshape(4, 4), b[:16].reshape(4, 4).T),
    "same start": lambda b: (b[:12].reshape(3, 4), b[: 2 * 12].reshape(3, 8)[:, :4]),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_out_that_overlaps_an_input(name, variant, overlap):
    for read in OPERATIONS[name].reads:
        buffer = -np.arange(24, dtype=f4)
        before = buffer.copy()
        one, out = OVERLAPS[overlap](buffer)
        changes = {k: np.ones(one.shape, f4) for k in OPERATIONS[name].reads} | {read: one}
        words = ["out", read, "shares memory", str(one.shape), "in place"]
        wrong(name, changes, ValueError, words, variant, out=out_for(name, out))
        np.testing.assert_array_equal(buffer, before)


@pytest.mark.parametrize("name", [op.name for op in OPERATIONS.values() if not op.integers])
def test_out_that_is_another_dtype_of_the_input(name, variant):
    """Integers computed in float64, in the memory of the input."""
    x = np.arange(6, dtype="i8").reshape(2, 3)
    out = x.view(np.float64)
    changes = {k: np.ones((2, 3)) for k in OPERATIONS[name].reads} | {"x": x}
    wrong(name, changes, ValueError, ["out", "x", "shares memory"], variant, out=out_for(name, out))


def test_out_in_alphas_memory(variant):
    for name in WITH_SLOPES:
        alpha = np.ones((2, 3), f4)
        words = ["out", "alpha", "shares memory"]
        wrong(name, {"alpha": alpha}, ValueError, words, variant, out=out_for(name, alpha))
        row = np.ones((3, 3), f4)
        wrong(name, {"alpha": row[1]}, ValueError, words, variant, out=out_for(name, row[:2]))


def test_out_is_a_tuple_where_there_are_two(variant):
    for name in SUMMED:
        out = np.full((2, 3), 7, f4)
        for bad in (None, out, [out, None], (out,), (out, None, None), ()):
            wrong(name, {}, TypeError, ["out", "tuple"], variant, out=bad)
        assert (out == 7).all()


def test_out_for_a_gradient_that_is_not_needed(variant):
    for name in SUMMED:
        dx, dalpha = np.full((2, 3), 7, f4), np.full((), 7, f4)
        wrong(name, {}, ValueError, ["out", "dx", "need_dx"], variant, out=(dx, dalpha), need_dx=False)
        wrong(name, {}, ValueError, ["out", "dalpha", "need_dalpha"], variant, out=(dx, dalpha), need_dalpha=False)
        assert (dx == 7).all()
        assert dalpha == 7


def test_out_of_dalpha(variant):
    for name in SUMMED:
        dx, alpha = np.full((2, 3), 7, f4), {"alpha": np.ones(3, f4)}
        for bad, error, words in (
            (np.zeros((), f4), ValueError, ["()", "(3,)"]),
            (np.zeros((1, 3), f4), ValueError, ["(1, 3)", "(3,)"]),
            (np.zeros(3), TypeError, ["float64", "float32"]),
            (np.broadcast_to(f4(0), (3,)), ValueError, ["read-only"]),
            (np.zeros(6, f4)[::2].tolist(), TypeError, ["list"]),
            (alpha["alpha"], ValueError, ["shares memory", "alpha"]),
            (dx[0], ValueError, ["shares memory", "dx"]),
        ):
            wrong(name, alpha, error, ["out", "dalpha", *words], variant, out=(dx, bad))
        float64 = {"alpha": np.ones(3)}
        wrong(name, float64, TypeError, ["dalpha", "float32", "float64"], variant, out=(dx, np.zeros(3, f4)))
        for read in ("x", "dy"):
            whole = np.ones((2, 3), f4)
            changes = alpha | {read: whole}
            wrong(name, changes, ValueError, ["dalpha", read, "shares memory"], variant, out=(None, whole[1]))
        assert (dx == 7).all()


# ---- backend, n_threads, and the call itself ------------------------------------------------------


def test_unknown_backend(name):
    out = np.full((2, 3), 7, f4)
    for bad in ("c", "", "NumPy", 3, b"numpy"):
        words = ["backend", "'cython'", "'numba'", "'numpy'", repr(bad)]
        wrong(name, {}, ValueError, words, None, backend=bad, out=out_for(name, out))
    assert (out == 7).all()


@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), ("2", TypeError)])
def test_wrong_n_threads(name, variant, bad, error):
    out = np.full((2, 3), 7, f4)
    words = ["n_threads", str(bad) if error is ValueError else type(bad).__name__]
    wrong(name, {}, error, words, variant, n_threads=bad, out=out_for(name, out))
    assert (out == 7).all()


def test_integers_of_any_kind_are_thread_counts(name, variant):
    for good in (np.int64(2), np.array(1), 10**6):
        call(name, operands(name, (2, 3), ()), variant, n_threads=good)


def test_operands_and_options(name):
    """x of a forward function is positional, dy and x of a backward one have names, options have nothing but names."""
    function, op = getattr(fastact, name), OPERATIONS[name]
    x, dy = np.array([[-1.0, 2.0]], f4), np.array([[3.0, 4.0]], f4)
    arrays = {"x": x, "dy": dy}
    named = {read: arrays[read] for read in reversed(op.reads)}
    fails(TypeError, [], function)
    if op.backward:
        want = call(name, {**arrays, "alpha": 0.5} if op.alpha else arrays)
        got = function(**named, **({"alpha": 0.5} if op.alpha else {}))
        np.testing.assert_array_equal(got[0] if op.summed else got, want["dx"])
        fails(TypeError, [], function, x)
    else:
        fails(TypeError, [], function, **named)
    positional = [arrays[read] for read in op.reads] + [0.5] * bool(op.alpha)
    many = f"{len(positional)} positional argument"
    fails(TypeError, [name, many, f"{len(positional) + 1} were", "keyword-only", "out=y"], function, *positional, x)
    fails(TypeError, ["colour"], function, *positional, colour=1)


def test_none_says_that_an_array_is_missing(name):
    for read in OPERATIONS[name].reads:
        wrong(name, {read: None}, TypeError, [f"{read} is None"], None)


def test_an_unknown_float_of_16_bits(name):
    """What has 16 bits and is not one of the two: a structure, and another type of ml_dtypes."""
    dtypes = [np.dtype([("a", "u1"), ("b", "u1")])]
    with contextlib.suppress(ImportError):
        import ml_dtypes

        dtypes.append(np.dtype(ml_dtypes.float8_e5m2))
    for dtype in dtypes:
        wrong(name, {"x": np.zeros((2, 3), dtype)}, TypeError, ["x has dtype", "float16, bfloat16, float32"], None)


def test_overlap_names_the_shape_that_was_given():
    """Of alpha as the user has it, not as it is broadcast."""
    alpha = np.ones((2, 3), f4)[:1].reshape(3)
    x = np.ones((1, 1, 1, 3), f4)
    out = alpha.reshape(1, 1, 1, 3)
    message = fails(ValueError, ["alpha of shape (3,)", "out"], fastact.prelu, x, alpha, channel_axis=-1, out=out)
    assert "alpha of shape (1, 1, 1, 3)" not in message


def test_one_wrong_argument_among_good_ones_writes_nothing(variant):
    """Everything else is right, and the outputs are large enough for threads and streams."""
    for name in SUMMED:
        ops = operands(name, (300, 1000), (1000,), f4)
        dx, dalpha = np.full((300, 1000), 7, f4), np.full(1000, 7, f4)
        for changes, options in (
            ({"alpha": np.ones(999, f4)}, {}),
            ({"dy": np.ones((300, 1001), f4)}, {}),
            ({}, {"channel_axis": 0}),
            ({}, {"n_threads": 0}),
            ({}, {"backend": "none"}),
            ({}, {"out": (dx, dalpha.astype("f8"))}),
            ({}, {"out": (dx.T, dalpha)}),
            ({}, {"need_dalpha": False}),
            ({}, {"need_dx": False}),
        ):
            with pytest.raises((ValueError, TypeError)):
                call(name, ops | changes, variant, **({"out": (dx, dalpha)} | options))
            assert (dx == 7).all()
            assert (dalpha == 7).all()


# ---- kernels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "dtype", "error", "words"),
    [
        ("gelu", f4, ValueError, ["'gelu'", "relu_backward"]),
        ("prelu_backward_dalpha", f4, ValueError, ["prelu_backward_dalpha"]),
        ("copy", np.float16, TypeError, ["'copy'", "float16"]),
        ("relu_backward", np.uint8, TypeError, ["'relu_backward'", "uint8"]),
        ("copy", bool, TypeError, ["'copy'", "bool"]),
        ("prelu", np.int8, TypeError, ["'prelu'", "int8"]),
        ("copy", complex, TypeError, ["'copy'", "complex128"]),
    ],
)
def test_kernels_that_there_are_not(compiled, kernel, dtype, error, words):
    """The same answer from both variants, and none of another kernel."""
    with using(compiled):
        fails(error, words, backends.kernel_address, compiled.backend, kernel, np.dtype(dtype).name)
