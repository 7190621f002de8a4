"""Memory layouts, kinds of array and dtypes: x, dy, alpha and out each in every way an array can lie.

A layout is a function from an array to another array with the same values; every operand of every operation
goes through every layout, and pairs of layouts are mixed.  Results have the strides of np.empty_like(x), are
plain native ndarrays (0-d ones too), and inputs keep their bytes.  In place and interleaved are here; what
is refused is in test_errors.py.
"""

import itertools

import numpy as np
import pytest
from helpers import (
    SUMMED,
    assert_dalpha,
    assert_right,
    assert_same_bits,
    call,
    expected,
    operands,
    out_for,
    placed,
    slopes,
    values,
)

import fastact
from fastact._operations import OPERATIONS


def permuted(a):
    """Channels last in memory, channels first in shape."""
    order = (0, *range(2, a.ndim), 1) if a.ndim > 1 else (0,)
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order)) if a.ndim else a.copy()


def within(a, index, grown):
    """The part `index` of a larger array whose axes are `grown(size)` long."""
    big = np.full([grown(size) for size in a.shape], 99, a.dtype)
    view = big[(index,) * a.ndim + (...,)]
    view[...] = a
    return view


def last_axis(a, step):
    """Every step-th element along the last axis only."""
    if not a.ndim:
        return a.copy()
    big = np.full((*a.shape[:-1], a.shape[-1] * abs(step)), 99, a.dtype)
    view = big[..., ::step]
    view[...] = a
    return view


def first_axis_reversed(a):
    return a[::-1].copy()[::-1] if a.ndim else a.copy()


def at_byte(a, offset):
    """Starts in the middle of an element."""
    return placed(a, offset)


def structured_field(a):
    """A field of a packed record: strided and unaligned."""
    records = np.zeros(a.shape, [("flag", "u1"), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


LAYOUTS = {
    "c": lambda a: a.copy(),
    "fortran": lambda a: a.copy(order="F"),
    "permuted": permuted,
    "axes swapped": lambda a: np.swapaxes(np.swapaxes(a, 0, -1).copy(), 0, -1) if a.ndim else a.copy(),
    "sliced": lambda a: within(a, slice(1, -1), lambda n: n + 2),
    "strided": lambda a: within(a, slice(None, None, 2), lambda n: 2 * n),
    "last axis strided": lambda a: last_axis(a, 3),
    "last axis reversed": lambda a: last_axis(a, -1),
    "first axis reversed": first_axis_reversed,
    "all reversed": lambda a: within(a, slice(None, None, -1), lambda n: n),
    "all reversed in steps": lambda a: within(a, slice(None, None, -2), lambda n: 2 * n),
    "off by a byte": lambda a: at_byte(a, 1),
    "off by half an element": lambda a: at_byte(a, a.itemsize // 2),
    "field of a record": structured_field,
    "read-only": read_only,
    "byte-swapped": swapped,
    "byte-swapped and strided": lambda a: last_axis(swapped(a), 2),
    "byte-swapped and permuted": lambda a: permuted(swapped(a)),
    "subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
}
WRITABLE = {k: f for k, f in LAYOUTS.items() if k not in ("read-only", "subclass") and not k.startswith("byte-swapped")}
SHAPES = [
    ((5, 3, 4, 7), (3,)),
    ((9, 6, 35), (6,)),
    ((3, 1100), (1100,)),
    ((70, 2, 3), (3, 2, 3)[1:]),
    ((37,), ()),
    ((), ()),
]


def options(name, alpha):
    return {"channel_axis": 1} if OPERATIONS[name].alpha == "array" and np.ndim(alpha) == 1 else {}


def keep(ops):
    return {k: np.array(v, copy=True, subok=False) for k, v in ops.items()}


def assert_kept(ops, before):
    for k, v in ops.items():
        assert np.array_equal(np.asarray(v), before[k], equal_nan=True), f"{k} was written to"


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """Every layout of an input."""
    return LAYOUTS[request.param]


def test_every_operand_in_every_layout(name, variant, dtype, layout):
    for (shape, alpha), which in itertools.product(SHAPES, (*OPERATIONS[name].reads, "alpha", "all")):
        plain = operands(name, shape, alpha, dtype)
        want = expected(name, plain)
        ops = {
            k: layout(v) if which in (k, "all") and isinstance(v, np.ndarray) else v  # leaky_relu's is a number
            for k, v in plain.items()
        }
        before = keep(ops)
        got = call(name, ops, variant)
        assert_kept(ops, before)
        first = got[OPERATIONS[name].writes[0]]
        assert_same_bits(first, want, f"{shape} {which}")
        assert first.strides == np.empty_like(np.asarray(ops["x"]), subok=False).strides, (shape, which)
        if "dalpha" in got:
            assert_dalpha(got["dalpha"], ops, name=name, note=f"{shape} {which}")
            assert got["dalpha"].dtype == dtype


@pytest.mark.parametrize("out_layout", WRITABLE)
def test_out_in_every_layout(name, variant, dtype, out_layout):
    layouts = ("c", "permuted", "byte-swapped and strided")
    for (shape, alpha), layout in itertools.product(SHAPES[:4], layouts):
        ops = operands(name, shape, alpha, dtype)
        turned = {k: LAYOUTS[layout](v) if isinstance(v, np.ndarray) else v for k, v in ops.items()}
        shapes = {"dalpha": np.shape(ops.get("alpha"))}
        outs = [WRITABLE[out_layout](np.full(shapes.get(w, shape), 5, dtype)) for w in OPERATIONS[name].writes]
        got = call(name, turned, variant, out=out_for(name, *outs))
        for out, result in zip(outs, got.values(), strict=True):
            assert result is out
        assert_right(name, ops, {k: np.array(v) for k, v in got.items()}, note=f"{layout} to {out_layout}")
        if out_layout == "sliced":
            for out in outs:
                assert np.count_nonzero(out.base == 99) >= out.base.size - out.size


def test_layouts_mixed(name, variant, dtype):
    """Pairs of layouts, one for x and one for everything else."""
    ops = operands(name, (5, 3, 4, 7), (3,), dtype)
    want = expected(name, ops)
    for one, other in itertools.permutations(LAYOUTS, 2):
        turned = {k: LAYOUTS[other](v) if isinstance(v, np.ndarray) else v for k, v in ops.items()}
        turned["x"] = LAYOUTS[one](ops["x"])
        got = call(name, turned, variant)
        assert_same_bits(got[OPERATIONS[name].writes[0]], want, f"x {one}, others {other}")
        if "dalpha" in got:
            assert_dalpha(got["dalpha"], ops, name=name, note=f"x {one}, others {other}")


@pytest.mark.parametrize("layout", ["strided", "byte-swapped", "off by a byte", "all reversed", "permuted", "fortran"])
@pytest.mark.parametrize(
    ("shape", "alpha"), [((4, 64, 21, 37), (64,)), ((2000, 61), (61,)), ((150_001,), (1,))], ids=str
)
def test_large_arrays_in_awkward_layouts(name, variant, layout, shape, alpha):
    """More than one scratch block, in several threads."""
    plain = operands(name, shape, alpha, np.float32)
    turned = {k: LAYOUTS[layout](v) if isinstance(v, np.ndarray) else v for k, v in plain.items()}
    got = call(name, turned, variant, n_threads=3)
    assert_right(name, plain, got, note=layout)


# ---- broadcast views, other containers ------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_broadcast_inputs(name, variant, dtype, axis):
    """Views with a stride of 0."""
    shape = [4, 3, 35]
    shape[axis] = 1
    ops = operands(name, tuple(shape), (), dtype)
    for which in (*OPERATIONS[name].reads, "all"):
        turned = {}
        for k, v in ops.items():
            if k == "alpha":
                turned[k] = v
            else:
                big = np.broadcast_to(v, (4, 3, 35))
                turned[k] = big if which in (k, "all") else big.copy()
        got = call(name, turned, variant)
        assert_right(name, turned, got, note=which)


def test_broadcast_alpha(variant, dtype):
    """A stride of 0 in alpha is just a strided alpha: dalpha has its whole shape."""
    for name in [op.name for op in OPERATIONS.values() if op.alpha == "array"]:
        ops = operands(name, (4, 3, 35), (), dtype)
        ops["alpha"] = np.broadcast_to(np.asarray(0.3, dtype), (3,))
        assert_right(name, ops, call(name, ops, variant))
        ops["alpha"] = np.broadcast_to(slopes((3, 1), dtype), (4, 3, 35))
        assert_right(name, ops, call(name, ops, variant))


def test_the_same_array_for_everything(name, variant, dtype):
    a = values((6, 6), dtype)
    ops = {k: a for k in OPERATIONS[name].reads}
    if OPERATIONS[name].alpha:
        ops["alpha"] = a if OPERATIONS[name].alpha == "array" else 0.5
    before = a.copy()
    assert_right(name, ops, call(name, ops, variant))
    assert_same_bits(a, before)


def test_memmap(name, variant, dtype, tmp_path):
    ops = operands(name, (40, 5, 30), (5,), dtype)
    for mode in ("r", "c", "r+"):
        mapped = {}
        for k, v in ops.items():
            if isinstance(v, np.ndarray):
                np.save(tmp_path / f"{k}.npy", v)
                mapped[k] = np.load(tmp_path / f"{k}.npy", mmap_mode=mode)
            else:
                mapped[k] = v
        assert_right(name, ops, call(name, mapped, variant))
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", dtype, (40, 5, 30))
    rest = (None,) * (len(OPERATIONS[name].writes) - 1)
    got = call(name, ops, variant, out=out_for(name, out, *rest))
    assert got[OPERATIONS[name].writes[0]] is out
    assert_same_bits(np.array(out), expected(name, ops))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrix_is_an_array(name, variant, dtype):
    ops = operands(name, (4, 5), (5,), dtype)
    turned = {k: np.matrix(v) if k != "alpha" else v for k, v in ops.items()}
    assert_right(name, ops, call(name, turned, variant))


def test_lists_and_scalars(name, variant):
    """Anything that np.asarray takes; results of scalars are 0-d arrays."""
    for x in (-1.5, [1.0, -2.0], [[-1.0, 2.0], [0.5, -0.5]], (1.0, -1.0), np.float32(-2), np.float64(3), [], range(0)):
        x64 = x if np.asarray(x).dtype.kind == "f" else [float(v) for v in x]
        ops = {k: x64 for k in OPERATIONS[name].reads}
        if OPERATIONS[name].alpha:
            ops["alpha"] = 0.5
        got = call(name, ops, variant)
        assert type(got[OPERATIONS[name].writes[0]]) is np.ndarray
        assert_right(name, ops, got, note=str(x))


class Wrapped:
    """Array-like through __array__ alone."""

    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a


def test_objects_with_the_array_protocol(name, variant, dtype):
    ops = operands(name, (3, 5), (5,), dtype)
    turned = {k: Wrapped(v) if isinstance(v, np.ndarray) else v for k, v in ops.items()}
    assert_right(name, ops, call(name, turned, variant))


# ---- in place -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [((40, 3, 7), (3,)), ((3, 5, 1100), (5,)), ((70, 130), (130,)), ((200_003,), ())], ids=str
)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_in_place(name, variant, dtype, case, n_threads):
    for read in OPERATIONS[name].reads:
        for how in (lambda a: a, lambda a: a[:], lambda a: a.view()):
            ops = operands(name, *case, dtype)
            want, before = expected(name, ops), keep(ops)
            rest = (None,) * (len(OPERATIONS[name].writes) - 1)
            out = how(ops[read])
            got = call(name, ops, variant, n_threads=n_threads, out=out_for(name, out, *rest))
            assert got[OPERATIONS[name].writes[0]] is out
            assert_same_bits(ops[read], want, f"{name} out is {read}")
            if "dalpha" in got:
                assert_dalpha(got["dalpha"], before, name=name)
            assert_kept({k: v for k, v in ops.items() if k != read}, {k: v for k, v in before.items() if k != read})


@pytest.mark.parametrize("layout", WRITABLE)
def test_in_place_in_every_layout(name, variant, dtype, layout):
    for read in OPERATIONS[name].reads:
        plain = operands(name, (9, 3, 37), (3,), dtype)
        ops = {k: WRITABLE[layout](v) if k == read else v for k, v in plain.items()}
        rest = (None,) * (len(OPERATIONS[name].writes) - 1)
        got = call(name, ops, variant, out=out_for(name, ops[read], *rest))
        assert_same_bits(np.array(ops[read]), expected(name, plain), f"{name} out is {read}")
        if "dalpha" in got:
            assert_dalpha(got["dalpha"], plain, name=name)


def test_in_place_when_x_and_dy_are_one_array(variant, dtype):
    for name in (op.name for op in OPERATIONS.values() if op.backward):
        ops = operands(name, (9, 3, 37), (3,), dtype)
        ops["dy"] = ops["x"]
        want, before = expected(name, ops), keep(ops)
        rest = (None,) * (len(OPERATIONS[name].writes) - 1)
        got = call(name, ops, variant, out=out_for(name, ops["x"], *rest))
        assert_same_bits(ops["x"], want)
        if "dalpha" in got:
            assert_dalpha(got["dalpha"], before, name=name)


@pytest.mark.parametrize("n", [10, 33, 70_001])
def test_interleaved_views_do_not_overlap(name, variant, dtype, n):
    reads, writes = OPERATIONS[name].reads, OPERATIONS[name].writes
    step = len(reads) + 1
    buffer = np.zeros(n * step, dtype)
    ops = operands(name, (n,), (), dtype)
    for i, read in enumerate(reads):
        buffer[i::step] = ops[read]
        ops[read] = buffer[i::step]
    before = keep(ops)
    got = call(name, ops, variant, out=out_for(name, buffer[step - 1 :: step], *(None,) * (len(writes) - 1)))
    assert_kept(ops, before)
    assert_same_bits(buffer[step - 1 :: step].copy(), expected(name, ops))
    if "dalpha" in got:
        assert_dalpha(got["dalpha"], ops, name=name)


def test_halves_of_one_array_do_not_overlap(name, variant, dtype):
    ops = operands(name, (8, 5), (5,), dtype)
    for columns in (False, True):
        both = np.zeros((8, 10) if columns else (16, 5), dtype)
        x, out = (both[:, :5], both[:, 5:]) if columns else (both[:8], both[8:])
        x[...] = ops["x"]
        turned = ops | {"x": x}
        call(name, turned, variant, out=out_for(name, out, *(None,) * (len(OPERATIONS[name].writes) - 1)))
        assert_same_bits(out.copy(), expected(name, ops))


# ---- forms of alpha -------------------------------------------------------------------------------


SCALARS = [
    0.3,
    2,
    True,
    np.float32(0.3),
    np.float64(0.3),
    np.int8(2),
    np.bool_(True),
    np.array(0.3),
    np.array(0.3, "f4"),
]


@pytest.mark.parametrize("alpha", SCALARS, ids=repr)
@pytest.mark.parametrize("name", [op.name for op in OPERATIONS.values() if op.alpha])
def test_scalar_alpha(name, variant, dtype, alpha):
    """One number in any dress gives the same bits as its value in the computing dtype."""
    ops = operands(name, (3, 5, 7), (), dtype) | {"alpha": alpha}
    got = call(name, ops, variant)
    assert_right(name, ops, got)
    if "dalpha" in got:
        array = isinstance(alpha, np.ndarray) and alpha.dtype.kind == "f"
        assert got["dalpha"].dtype == (alpha.dtype if array else dtype) or isinstance(alpha, np.floating)
        assert got["dalpha"].shape == ()


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("x_shape", [(), (7,), (1,), (3, 5, 7), (3, 0)], ids=str)
def test_one_element_of_any_number_of_dimensions_is_shared(variant, dtype, shape, x_shape):
    for name in (op.name for op in OPERATIONS.values() if op.alpha == "array"):
        ops = operands(name, x_shape, shape, dtype)
        got = call(name, ops, variant)
        assert_right(name, ops, got)
        got = call(name, ops, variant, channel_axis=-7)  # looked at for a per-channel alpha only
        assert_right(name, ops, got)


ALPHA_DTYPES = ["f4", "f8", ">f4", ">f8", "i1", "i8", "u4", "?"]


@pytest.mark.parametrize("alpha_dtype", ALPHA_DTYPES)
def test_dtypes_of_alpha(variant, dtype, alpha_dtype):
    """Alpha is cast to the computing dtype; dalpha has a float alpha's own dtype, native."""
    for name in (op.name for op in OPERATIONS.values() if op.alpha == "array"):
        ops = operands(name, (4, 5, 6), (5,), dtype)
        ops["alpha"] = (slopes(5, np.float64) * 4).astype(alpha_dtype)
        got = call(name, ops, variant)
        assert_right(name, ops, got)
        if "dalpha" in got:
            own = np.dtype(alpha_dtype)
            assert got["dalpha"].dtype == (own.newbyteorder("=") if own.kind == "f" else dtype)
            assert got["dalpha"].dtype.isnative


def test_dalpha_of_a_float64_alpha_is_not_rounded_to_float32(variant):
    for name in SUMMED:
        ops = operands(name, (50, 3, 70), (3,), np.float32)
        ops["alpha"] = ops["alpha"].astype(np.float64)
        got = call(name, ops, variant)
        assert got["dx"].dtype == np.float32
        assert got["dalpha"].dtype == np.float64
        assert_dalpha(got["dalpha"], ops, name=name)
        assert (got["dalpha"] != got["dalpha"].astype(np.float32)).any()


def test_alpha_above_the_range_of_float32(variant):
    """Casting it is not worth a warning: it becomes inf, as NumPy's cast makes it."""
    for name in (op.name for op in OPERATIONS.values() if op.alpha):
        for alpha in (1e300, np.float64(-1e300), np.array([1e300]))[: 3 if OPERATIONS[name].alpha == "array" else 1]:
            ops = operands(name, (3, 5), (), np.float32) | {"alpha": alpha}
            assert_right(name, ops, call(name, ops, variant))


# ---- dtypes of x and dy ---------------------------------------------------------------------------


INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("swap", [False, True])
def test_integers_and_booleans(name, variant, kind, swap):
    """relu keeps them, everything else computes in float64."""
    dtype = np.dtype(kind)
    rng = np.random.default_rng(0)
    if kind == "?":
        x = rng.random((40, 3, 33)) < 0.5
    else:
        info = np.iinfo(kind)
        x = rng.integers(info.min, info.max, (40, 3, 33), dtype, endpoint=True)
        x.flat[:4] = info.min, info.max, 0, 1
    if swap:
        x = x.astype(dtype.newbyteorder())
    ops = {k: x for k in OPERATIONS[name].reads}
    if OPERATIONS[name].alpha:
        ops["alpha"] = 0.3
    for layout in ("c", "permuted", "last axis strided", "last axis reversed", "off by a byte"):
        turned = ops | {"x": LAYOUTS[layout](x)}
        got = call(name, turned, variant)
        first = got[OPERATIONS[name].writes[0]]
        assert first.dtype == (dtype if OPERATIONS[name].integers else np.float64)
        assert_right(name, ops, got, note=layout)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_every_length_and_in_place(variant, kind):
    for name in (op.name for op in OPERATIONS.values() if op.integers):
        for n in [*range(0, 70), 127, 128, 129, 1025, 300_001]:
            x = np.random.default_rng(n).integers(0, 2 if kind == "?" else 256, n).astype("u1").astype(kind)
            want = expected(name, {"x": x})
            assert_same_bits(call(name, {"x": x}, variant, n_threads=2)["y"], want, f"{kind} {n}")
            out = np.empty_like(x)
            assert call(name, {"x": x}, variant, out=out)["y"] is out
            assert_same_bits(out, want, f"{kind} {n} out")
            call(name, {"x": x}, variant, out=x)
            assert_same_bits(x, want, f"{kind} {n} in place")


def test_relu_of_integers_returns_new_memory(variant):
    """Also where nothing changes (unsigned, bool)."""
    for kind in INTEGERS:
        x = np.ones(5, kind)
        assert not np.shares_memory(call("relu", {"x": x}, variant)["y"], x)


@pytest.mark.parametrize("kind", ["f4", "f8", ">f8", ">f4", "f2", "i1", "u8", "?"])
def test_dtypes_of_dy(variant, dtype, kind):
    """dy is cast to the computing dtype by the same_kind rule."""
    for name in (op.name for op in OPERATIONS.values() if op.backward):
        ops = operands(name, (40, 3, 33), (3,), dtype)
        ops["dy"] = (ops["dy"] * 10).clip(0).astype(kind)
        if kind == "f2":
            ops["dy"] = ops["dy"].astype(np.float16)
        assert_right(name, ops, call(name, ops, variant))


def test_a_large_dy_is_cast_without_a_warning(variant):
    for name in (op.name for op in OPERATIONS.values() if op.backward):
        ops = operands(name, (3, 5), (), np.float32)
        ops["dy"] = np.full((3, 5), 1e300)
        with np.errstate(all="ignore"):
            cast = ops | {"dy": ops["dy"].astype(np.float32)}
        assert_right(name, cast, call(name, ops, variant))


# ---- what is needed -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), (3,), (3, 1), (5, 3, 70), (1, 1, 70)], ids=str)
def test_gradients_that_are_not_needed_are_none(variant, dtype, form):
    for name in SUMMED:
        ops = operands(name, (5, 3, 70), form, dtype)
        both = call(name, ops, variant)
        dx = call(name, ops, variant, need_dalpha=False)
        dalpha = call(name, ops, variant, need_dx=False)
        neither = call(name, ops, variant, need_dx=False, need_dalpha=False)
        assert dx["dalpha"] is None
        assert dalpha["dx"] is None
        assert neither == {"dx": None, "dalpha": None}
        assert_same_bits(dx["dx"], both["dx"])
        assert_same_bits(dalpha["dalpha"], both["dalpha"])
        assert_right(name, ops, both)


@pytest.mark.parametrize("form", [(), (1,), (1, 1), (3,), (3, 1), (1, 3, 1), (5, 3, 70)], ids=str)
@pytest.mark.parametrize("alpha_dtype", ["f4", "f8", "i4"])
def test_out_for_each_gradient(variant, dtype, form, alpha_dtype):
    for name in SUMMED:
        ops = operands(name, (5, 3, 70), form, dtype)
        ops["alpha"] = (ops["alpha"] * 5).astype(alpha_dtype)
        want = call(name, ops, variant)
        dx, dalpha = (np.full_like(want[k], 9) for k in ("dx", "dalpha"))
        got = call(name, ops, variant, out=(dx, dalpha))
        assert got["dx"] is dx
        assert got["dalpha"] is dalpha
        for k, v in got.items():
            assert_same_bits(v, want[k], k)
        only = np.full_like(dalpha, 9)
        got = call(name, ops, variant, out=(None, only), need_dx=False)
        assert got["dalpha"] is only
        assert_same_bits(only, want["dalpha"])
        assert_same_bits(call(name, ops, variant, out=(None, only))["dx"], want["dx"])


def test_results_do_not_share_memory(name, variant, dtype):
    """Not with operands, not with each other, not with the results before."""
    ops = operands(name, (40, 3, 33), (3,), dtype)
    results = [a for _ in range(4) for a in call(name, ops, variant).values()]
    inputs = [a for a in ops.values() if isinstance(a, np.ndarray)]
    for one, other in itertools.combinations(inputs + results, 2):
        assert not np.shares_memory(one, other)
    for a in results:
        assert a.flags.writeable


def test_relu_is_not_prelu_with_alpha_0():
    x = np.array([-np.inf, -0.0])
    assert_same_bits(fastact.relu(x), np.array([0.0, 0.0]))
    assert_same_bits(fastact.prelu(x, 0.0), np.array([np.nan, -0.0]))


def test_the_default_slopes():
    assert_same_bits(fastact.leaky_relu([-2.0, 4.0]), np.array([-0.02, 4.0]))
    assert_same_bits(fastact.prelu([-2.0, 4.0]), np.array([-0.5, 4.0]))
    assert_same_bits(fastact.leaky_relu_backward([1.0, 1.0], [-2.0, 4.0]), np.array([0.01, 1.0]))
    dx, dalpha = fastact.prelu_backward([3.0, 1.0], [-2.0, 4.0])
    assert_same_bits(dx, np.array([0.75, 1.0]))
    assert_same_bits(dalpha, np.array(-6.0))


def test_plans_are_not_mixed_up():
    """The fast path finds plans by a number made of shape and axis: some of these pairs share their place."""
    alpha = np.linspace(0.1, 0.7, 7, dtype=np.float32)
    for n in range(1, 701):
        x = np.full((2, n, 7, 7), -1.0, np.float32)
        for axis in (2, 3, 2):
            y = fastact.prelu(x, alpha, channel_axis=axis)
            assert (y == -alpha.reshape((7, 1) if axis == 2 else (7,))).all(), (n, axis)
