"""Memory layouts, kinds of array and dtypes: x, dy, alpha and out each in every way an array can lie.

Every operand of every operation goes through every layout of layouts.py, and pairs of layouts are mixed.  Results have
the strides of np.empty_like(x), are plain native ndarrays (0-d ones too), and inputs keep their bytes.  In place and
interleaved are here; what is refused is in test_errors.py.
"""

import itertools

import numpy as np
import pytest
from helpers import (
    BACKWARD,
    OPERATIONS,
    SUMMED,
    VARIANTS,
    WITH_SLOPES,
    Answer,
    assert_dalpha,
    assert_right,
    assert_same_bits,
    call,
    computing,
    computing_of,
    expected,
    operands,
    out_for,
    slopes,
    tables,
    values,
)
from layouts import LAYOUTS, WRITABLE, laid_out, nothing_beside, placed

import fastact

SHAPES = [
    ((5, 3, 4, 7), (3,)),
    ((9, 6, 35), (6,)),
    ((3, 1100), (1100,)),
    ((70, 2, 3), (3, 2, 3)[1:]),
    ((37,), ()),
    ((), ()),
]


def keep(ops):
    return {k: np.array(v, copy=True, subok=False) for k, v in ops.items()}


def assert_kept(ops, before):
    for k, v in ops.items():
        assert np.array_equal(np.asarray(v), before[k], equal_nan=True), f"{k} was written to"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_operand_in_every_layout(name, dtype, layout):
    for (shape, alpha), which in itertools.product(SHAPES, (*OPERATIONS[name].reads, "alpha", "all")):
        plain = operands(name, shape, alpha, dtype)
        ops = {k: laid_out(v, layout) if which in (k, "all") else v for k, v in plain.items()}
        before, answer = keep(ops), Answer(name, plain)
        strides = np.empty_like(np.asarray(ops["x"]), subok=False).strides
        for variant in VARIANTS:
            got = call(name, ops, variant)
            assert_kept(ops, before)
            answer.check(got, f"{shape} {which} {variant}")
            assert got[OPERATIONS[name].writes[0]].strides == strides, (shape, which, variant)
            assert all(result.dtype == dtype for result in got.values())


@pytest.mark.parametrize("out_layout", WRITABLE)
def test_out_in_every_layout(name, dtype, out_layout):
    """And nothing is written between its elements, before or behind them."""
    for shape, alpha in SHAPES[:4]:
        ops = operands(name, shape, alpha, dtype)
        answer, shapes = Answer(name, ops), {"dalpha": np.shape(ops.get("alpha"))}
        for layout in ("c", "permuted", "byte-swapped and strided"):
            turned = {k: laid_out(v, layout) for k, v in ops.items()}
            for variant in VARIANTS:
                outs = [laid_out(np.full(shapes.get(w, shape), 5, dtype), out_layout) for w in OPERATIONS[name].writes]
                got = call(name, turned, variant, out=out_for(name, *outs))
                for out, result in zip(outs, got.values(), strict=True):
                    assert result is out
                note = f"{shape} {layout} to {out_layout} {variant}"
                answer.check({k: np.array(v) for k, v in got.items()}, note)
                assert all(map(nothing_beside, outs)), note


def test_layouts_mixed(name, dtype):
    """Pairs of layouts, one for x and one for everything else."""
    ops = operands(name, (5, 3, 4, 7), (3,), dtype)
    answer = Answer(name, ops)
    turned = {layout: {k: laid_out(v, layout) for k, v in ops.items()} for layout in LAYOUTS}
    for one, other in itertools.permutations(LAYOUTS, 2):
        mixed = turned[other] | {"x": turned[one]["x"]}
        for variant in VARIANTS:
            answer.check(call(name, mixed, variant), f"x {one}, others {other} {variant}")


@pytest.mark.parametrize(
    ("shape", "alpha"), [((4, 64, 21, 37), (64,)), ((2000, 61), (61,)), ((150_001,), (1,))], ids=str
)
def test_large_arrays_in_awkward_layouts(name, shape, alpha):
    """More than one scratch block, in several threads."""
    plain = operands(name, shape, alpha, np.float32)
    answer = Answer(name, plain)
    for layout in ("strided", "byte-swapped", "off by a byte", "all reversed", "permuted", "fortran"):
        turned = {k: laid_out(v, layout) for k, v in plain.items()}
        for variant in VARIANTS:
            answer.check(call(name, turned, variant, n_threads=3), f"{layout} {variant}")


# ---- broadcast views, other containers ------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_broadcast_inputs(name, dtype, axis):
    """Views with a stride of 0."""
    shape = [4, 3, 35]
    shape[axis] = 1
    ops = operands(name, tuple(shape), (), dtype)
    for which in (*OPERATIONS[name].reads, "all"):
        wide = {k: np.broadcast_to(v, (4, 3, 35)) for k, v in ops.items() if k != "alpha"}
        turned = ops | {k: v if which in (k, "all") else v.copy() for k, v in wide.items()}
        answer = Answer(name, turned)
        for variant in VARIANTS:
            answer.check(call(name, turned, variant), f"{which} {variant}")


@pytest.mark.parametrize("name", BACKWARD)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [5, 30, 300])
def test_one_number_as_dy_of_an_array_with_gaps(name, dtype, width):
    """A kernel takes many of x's short rows at once, and reads dy's number for each of them from the same place."""
    ops = operands(name, (3, 4, 50, width + 2), (4,), dtype)
    ops["x"] = ops["x"][:, :, 1:-1, 1:-1]
    ops["dy"] = np.broadcast_to(ops["dy"].dtype.type(-1.5), ops["x"].shape)
    answer = Answer(name, ops)
    for variant, n_threads in itertools.product(VARIANTS, (1, 2)):
        answer.check(call(name, ops, variant, n_threads=n_threads), f"{variant} {n_threads}")


def test_broadcast_alpha(variant, dtype):
    """A stride of 0 in alpha is just a strided alpha: dalpha has its whole shape."""
    for name in WITH_SLOPES:
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


def test_memmap(name, dtype, tmp_path):
    """Files as operands, opened in every mode, and as results: what is in the file afterwards counts."""
    op, ops = OPERATIONS[name], operands(name, (8, 16, 41, 37), (16,), dtype)
    answer, shapes = Answer(name, ops), {"dalpha": np.shape(ops.get("alpha"))}
    for k, v in ops.items():
        np.save(tmp_path / k, v)
    for mode, variant in itertools.product(("r", "c", "r+"), VARIANTS):
        mapped = {  # a file has no name for bfloat16
            k: np.load(tmp_path / f"{k}.npy", mmap_mode=mode).view(dtype) if np.ndim(v) else v for k, v in ops.items()
        }
        answer.check(call(name, mapped, variant), f"{mode} {variant}")
        outs = [np.memmap(tmp_path / w, dtype, "w+", shape=shapes.get(w, ops["x"].shape)) for w in op.writes]
        for out, result in zip(outs, call(name, mapped, variant, out=out_for(name, *outs)).values(), strict=True):
            assert result is out
            out.flush()
        files = {w: np.fromfile(tmp_path / w, dtype).reshape(shapes.get(w, ops["x"].shape)) for w in op.writes}
        answer.check(files, f"files {mode} {variant}")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrix_is_an_array(name, variant, dtype):
    ops = operands(name, (4, 5), (5,), dtype)
    turned = {k: np.matrix(v) if k != "alpha" else v for k, v in ops.items()}
    assert_right(name, ops, call(name, turned, variant))


@pytest.mark.parametrize(
    "x",
    [-1.5, [1.0, -2.0], [[-1.0, 2.0], [0.5, -0.5]], (1.0, -1.0), np.float32(-2), np.float64(3), [], range(0),
     range(-2, 2), [3, -4, 0], [True, False], [1, -2.5, True], 7, -7, False, 2**40],
    ids=str,
)  # fmt: skip
def test_lists_and_scalars(name, variant, x):
    """Anything that np.asarray takes, with the dtype that it gives; results of scalars are 0-d arrays."""
    ops = {k: x for k in OPERATIONS[name].reads}
    if OPERATIONS[name].alpha:
        ops["alpha"] = 0.5
    got = call(name, ops, variant)
    first = got[OPERATIONS[name].writes[0]]
    assert type(first) is np.ndarray
    assert first.dtype == computing(OPERATIONS[name], np.asarray(x))
    assert_right(name, ops, got)


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
def test_in_place(name, dtype, case):
    plain = operands(name, *case, dtype)
    answer = Answer(name, plain)
    for read, variant, n_threads in itertools.product(OPERATIONS[name].reads, VARIANTS, (1, 3)):
        for how in (lambda a: a, lambda a: a[:], lambda a: a.view()):
            ops = plain | {read: plain[read].copy()}
            out = how(ops[read])
            got = call(name, ops, variant, n_threads=n_threads, out=out_for(name, out))
            assert got[OPERATIONS[name].writes[0]] is out
            answer.check({k: np.array(v) for k, v in got.items()}, f"out is {read} {variant} threads {n_threads}")
    for k, v in operands(name, *case, dtype).items():
        assert np.array_equal(v, plain[k]), f"{k} was written to"


@pytest.mark.parametrize("layout", WRITABLE)
def test_in_place_in_every_layout(name, dtype, layout):
    plain = operands(name, (9, 3, 37), (3,), dtype)
    answer = Answer(name, plain)
    for read, variant in itertools.product(OPERATIONS[name].reads, VARIANTS):
        ops = plain | {read: laid_out(plain[read], layout)}
        got = call(name, ops, variant, out=out_for(name, ops[read]))
        answer.check({k: np.array(v) for k, v in got.items()}, f"out is {read} {variant}")


def test_in_place_when_x_and_dy_are_one_array(variant, dtype):
    for name in BACKWARD:
        ops = operands(name, (9, 3, 37), (3,), dtype)
        ops["dy"] = ops["x"]
        want, before = expected(name, ops), keep(ops)
        got = call(name, ops, variant, out=out_for(name, ops["x"]))
        assert_same_bits(ops["x"], want)
        if "dalpha" in got:
            assert_dalpha(got["dalpha"], before, name=name)


@pytest.mark.parametrize("n", [10, 33, 70_001])
def test_interleaved_views_do_not_overlap(name, dtype, n):
    reads = OPERATIONS[name].reads
    step = len(reads) + 1
    ops, buffer = operands(name, (n,), (), dtype), np.zeros(n * step, dtype)
    for i, read in enumerate(reads):
        buffer[i::step] = ops[read]
        ops[read] = buffer[i::step]
    before, answer, out = keep(ops), Answer(name, ops), buffer[step - 1 :: step]
    for variant in VARIANTS:
        out[...] = 7
        got = call(name, ops, variant, out=out_for(name, out))
        assert_kept(ops, before)
        answer.check({k: np.array(v) for k, v in got.items()}, str(variant))


def test_halves_of_one_array_do_not_overlap(name, variant, dtype):
    ops = operands(name, (8, 5), (5,), dtype)
    for columns in (False, True):
        both = np.zeros((8, 10) if columns else (16, 5), dtype)
        x, out = (both[:, :5], both[:, 5:]) if columns else (both[:8], both[8:])
        x[...] = ops["x"]
        turned = ops | {"x": x}
        call(name, turned, variant, out=out_for(name, out))
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
def test_scalar_alpha(name, dtype, alpha):
    """One number in any dress gives the same bits as its value in the computing dtype."""
    ops = operands(name, (3, 5, 7), (), dtype) | {"alpha": alpha}
    answer = Answer(name, ops)
    for variant in VARIANTS:
        got = call(name, ops, variant)
        answer.check(got, str(variant))
        if "dalpha" in got:
            array = isinstance(alpha, np.ndarray) and alpha.dtype.kind == "f"
            assert got["dalpha"].dtype == (alpha.dtype if array else computing_of(dtype)) or isinstance(
                alpha, np.floating
            )
            assert got["dalpha"].shape == ()


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("x_shape", [(), (7,), (1,), (3, 5, 7), (3, 0)], ids=str)
@pytest.mark.parametrize("name", WITH_SLOPES)
def test_one_element_of_any_number_of_dimensions_is_shared(name, dtype, shape, x_shape):
    ops = operands(name, x_shape, shape, dtype)
    answer = Answer(name, ops)
    for variant in VARIANTS:
        answer.check(call(name, ops, variant), str(variant))
        got = call(name, ops, variant, channel_axis=-7)  # looked at for a per-channel alpha only
        answer.check(got, f"{variant} channel_axis=-7")


ALPHA_DTYPES = ["f4", "f8", ">f4", ">f8", "i1", "i8", "u4", "?"]


@pytest.mark.parametrize("alpha_dtype", ALPHA_DTYPES)
def test_dtypes_of_alpha(variant, dtype, alpha_dtype):
    """Alpha is cast to the computing dtype; dalpha has a float alpha's own dtype, native."""
    for name in WITH_SLOPES:
        ops = operands(name, (4, 5, 6), (5,), dtype)
        ops["alpha"] = (slopes(5, np.float64) * 4).astype(alpha_dtype)
        got = call(name, ops, variant)
        assert_right(name, ops, got)
        if "dalpha" in got:
            own = np.dtype(alpha_dtype)
            assert got["dalpha"].dtype == (own.newbyteorder("=") if own.kind == "f" else computing_of(dtype))
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
def test_integers_and_booleans(name, kind, swap):
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
    ops = {k: x for k in OPERATIONS[name].reads} | ({"alpha": 0.3} if OPERATIONS[name].alpha else {})
    answer = Answer(name, ops)
    for layout in ("c", "permuted", "last axis strided", "last axis reversed", "off by a byte"):
        turned = ops | {"x": laid_out(x, layout)}
        for variant in VARIANTS:
            got = call(name, turned, variant)
            assert got[OPERATIONS[name].writes[0]].dtype == (dtype if OPERATIONS[name].integers else np.float64)
            answer.check(got, f"{layout} {variant}")


@pytest.mark.parametrize("streamed", [False, True], ids=["ordinary", "streamed"])
@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_every_length_and_in_place(variant, kind, streamed, policy):
    """Any bytes; `out` at a cache line, an element and a byte behind one, and in place."""
    if streamed:
        policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_to_wake=0)
    size = np.dtype(kind).itemsize
    block, line = tables.STREAM_LINES * tables.LINE // size, tables.LINE // size
    around = (block - 1, block, block + 1, block + line - 1, 2 * block + line)
    for name in (op.name for op in OPERATIONS.values() if op.integers):
        for n in (*range(70), 127, 128, 129, *around, 300_001):
            x = np.random.default_rng(n).integers(0, 256, n * size, np.uint8).view(kind)
            want = expected(name, {"x": x})
            note = f"{kind} {n}"
            assert_same_bits(call(name, {"x": x}, variant, n_threads=2)["y"].view("u1"), want.view("u1"), note)
            for offset in {0, size, 1}:
                out = placed(x, offset)
                assert call(name, {"x": x}, variant, out=out)["y"] is out
                assert_same_bits(np.array(out).view("u1"), want.view("u1"), f"{note} {offset}")
                assert nothing_beside(out), note
            call(name, {"x": x}, variant, out=x)
            assert_same_bits(x.view("u1"), want.view("u1"), f"{note} in place")


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_in_rows(variant, kind, policy):
    """Long and short rows, of which every second one is missing in x, in the result and in both; on three threads."""
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_to_wake=0)
    for rows, m in ((9, 5000), (40, 300), (2000, 17)):
        x = np.random.default_rng(m).integers(0, 256, 2 * rows * m * np.dtype(kind).itemsize, np.uint8).view(kind)
        x = x.reshape(2 * rows, m)
        for reads, writes in itertools.product((slice(rows), slice(0, None, 2)), repeat=2):
            out = np.ones_like(x)
            call("relu", {"x": x[reads]}, variant, out=out[writes], n_threads=3)
            want = np.ones_like(x)
            want[writes] = expected("relu", {"x": x[reads]})
            assert_same_bits(out.view("u1"), want.view("u1"), f"{kind} {m} {reads} {writes}")


def test_relu_of_integers_returns_new_memory(variant):
    """Also where nothing changes (unsigned, bool)."""
    for kind in INTEGERS:
        x = np.ones(5, kind)
        assert not np.shares_memory(call("relu", {"x": x}, variant)["y"], x)


@pytest.mark.parametrize("kind", ["f4", "f8", ">f8", ">f4", "f2", "i1", "u8", "?"])
def test_dtypes_of_dy(variant, dtype, kind):
    """dy is cast to the computing dtype by the same_kind rule."""
    for name in BACKWARD:
        ops = operands(name, (40, 3, 33), (3,), dtype)
        ops["dy"] = (ops["dy"] * 10).clip(0).astype(kind)
        if kind == "f2":
            ops["dy"] = ops["dy"].astype(np.float16)
        assert_right(name, ops, call(name, ops, variant))


def test_a_large_dy_is_cast_without_a_warning(variant):
    for name in BACKWARD:
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
