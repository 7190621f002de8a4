"""Properties that hold for any array, with examples made by hypothesis.

The strategies draw shapes, memory layouts, forms of alpha and every bit pattern of a float (NaN, inf and
subnormals included).  Two kinds of property: equality with the reference, which needs no thought, and laws that
follow from the contract alone (idempotence, scaling by powers of two, sums of parts), which would also find an
error that the reference shares.  Runs are derandomised, so CI is repeatable; HYPOTHESIS_PROFILE=search looks for
new examples instead.
"""

import os

import numpy as np
from helpers import (
    COMPILED,
    VARIANTS,
    assert_dalpha,
    assert_right,
    assert_same_bits,
    bits,
    call,
    expected,
    operands,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastact
from fastact._operations import OPERATIONS

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

variants = st.sampled_from(VARIANTS)
dtypes = st.sampled_from([np.dtype("f4"), np.dtype("f8")])
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=20)
names = st.sampled_from(sorted(OPERATIONS))


def floats(dtype, finite=False):
    """Any bit pattern, or moderate numbers."""
    if finite:
        return st.floats(-1e6, 1e6, width=8 * dtype.itemsize)
    return st.floats(width=8 * dtype.itemsize) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan])


@st.composite
def arrays(draw, shape, dtype, finite=False):
    """An array of this shape in any memory order, stride, direction, byte order and start."""
    values = draw(hnp.arrays(dtype, shape, elements=floats(dtype, finite), fill=floats(dtype, finite)))
    order = draw(st.permutations(range(len(shape))))
    a = values.transpose(order).copy(order="C").transpose(np.argsort(order))
    if draw(st.booleans()):
        steps = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
        big = np.zeros([n * abs(s) + 1 for n, s in zip(shape, steps, strict=True)], dtype)
        index = tuple(
            slice(0, n * s, s) if s > 0 else slice(n * -s, 0, s) if n else slice(0, 0)
            for n, s in zip(shape, steps, strict=True)
        )
        view = big[(*index, ...)]
        view[...] = values
        a = view
    if draw(st.integers(0, 5)) == 0:
        a = a.astype(dtype.newbyteorder())
    if draw(st.integers(0, 5)) == 0:
        record = np.zeros(shape, [("pad", "u1"), ("a", a.dtype)])
        record["a"] = a
        a = record["a"]
    if draw(st.booleans()):
        a.flags.writeable = False
    return a


@st.composite
def calls(draw, names=names, finite=False):
    """An operation with operands and its options."""
    name = draw(names)
    op, dtype, shape = OPERATIONS[name], draw(dtypes), draw(shapes)
    ops, options = {read: draw(arrays(shape, dtype, finite)) for read in op.reads}, {}
    if op.alpha:
        form = draw(st.sampled_from(["number", "one", "channel", "broadcast"])) if op.alpha == "array" else "number"
        alpha_shape = ()
        if form == "one":
            alpha_shape = (1,) * draw(st.integers(0, 6))
        elif form == "channel" and shape:
            axis = draw(st.integers(-len(shape), len(shape) - 1))
            alpha_shape, options["channel_axis"] = (shape[axis],), axis
        elif form == "broadcast" and len(shape) > 1:
            alpha_shape = tuple(draw(st.sampled_from([1, n])) for n in shape)[draw(st.integers(0, len(shape) - 2)) :]
        ops["alpha"] = draw(floats(dtype, finite)) if form == "number" else draw(arrays(alpha_shape, dtype, finite))
    return name, ops, options


@given(calls(), variants, st.sampled_from([None, 1, 3]))
def test_equal_to_the_reference(made, variant, n_threads):
    name, ops, options = made
    got = call(name, ops, variant, n_threads=n_threads, **options)
    assert_right(name, ops, got, options.get("channel_axis", 1))
    first = got[OPERATIONS[name].writes[0]]
    assert first.strides == np.empty_like(ops["x"]).strides


@given(calls(st.sampled_from([op.name for op in OPERATIONS.values() if op.summed]), finite=True))
def test_compiled_variants_agree_on_dalpha(made):
    name, ops, options = made
    results = [call(name, ops, variant, **options)["dalpha"] for variant in COMPILED]
    for other in results[1:]:
        assert_same_bits(other, results[0])


@given(st.data(), names, variants, dtypes, shapes)
def test_out_of_any_layout(data, name, variant, dtype, shape):
    ops = operands(name, shape, (), dtype)
    writes = OPERATIONS[name].writes
    out = data.draw(arrays(shape, dtype))
    if not out.flags.writeable or not out.dtype.isnative:
        out = np.zeros(shape, dtype)
    outs = (out, *(None,) * (len(writes) - 1))
    got = call(name, ops, variant, out=outs if len(writes) > 1 else out)
    assert got[writes[0]] is out
    assert_same_bits(np.array(out), expected(name, ops))


@given(st.data(), variants, dtypes, shapes)
def test_laws_of_relu(data, variant, dtype, shape):
    x = data.draw(arrays(shape, dtype))
    y = call("relu", {"x": x}, variant)["y"]
    assert_same_bits(call("relu", {"x": y}, variant)["y"], y)  # idempotent
    assert not np.signbit(y[~np.isnan(y)]).any()
    assert (np.isnan(y) == np.isnan(x)).all()
    dx = call("relu_backward", {"dy": np.ones(shape, dtype), "x": x}, variant)["dx"]
    assert np.isin(dx, (0, 1)).all()
    assert ((dx == 1) == ~(np.asarray(x) <= 0)).all()
    assert_same_bits(call("relu_backward", {"dy": x, "x": x}, variant)["dx"], y)


@given(st.data(), variants, dtypes, shapes)
def test_laws_of_prelu(data, variant, dtype, shape):
    x = data.draw(arrays(shape, dtype))
    alpha = data.draw(floats(dtype))
    y = call("prelu", {"x": x, "alpha": alpha}, variant)["y"]
    x = np.array(x, dtype)
    kept = x > 0
    assert (bits(y)[kept] == bits(x)[kept]).all()  # whatever alpha is
    assert_same_bits(call("leaky_relu", {"x": x, "alpha": alpha}, variant)["y"], y)
    assert_same_bits(call("prelu", {"x": x, "alpha": 1.0}, variant)["y"], x)
    dx = call("prelu_backward", {"dy": x, "x": x, "alpha": alpha}, variant)["dx"]
    assert_same_bits(dx, y)  # with dy = x both are the same select
    assert_same_bits(call("leaky_relu_backward", {"dy": x, "x": x, "alpha": alpha}, variant)["dx"], y)


@given(st.data(), variants, dtypes)
def test_laws_of_dalpha(data, variant, dtype):
    """Small integers sum exactly, so every way to group them gives the same number."""
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=40))
    x, dy = (data.draw(hnp.arrays(np.int8, shape, fill=st.just(-3))).astype(dtype) for _ in range(2))
    n, c, w = shape

    def dalpha(alpha_shape, axis=1):
        ops = {"dy": dy, "x": x, "alpha": np.ones(alpha_shape, dtype)}
        got = call("prelu_backward", ops, variant, channel_axis=axis)["dalpha"]
        assert_dalpha(got, ops, axis)
        return got.astype(np.float64)

    single = dalpha(shape)
    np.testing.assert_array_equal(single, np.where(x > 0, 0, x * dy))
    for axis, size in enumerate(shape):
        others = tuple(i for i in range(3) if i != axis)
        np.testing.assert_array_equal(dalpha((size,), axis).reshape(size), single.sum(axis=others))
    np.testing.assert_array_equal(dalpha((c, 1)), single.sum(axis=(0, 2)).reshape(c, 1))
    np.testing.assert_array_equal(dalpha((n, 1, w)), single.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(dalpha(()), single.sum())


@given(st.data(), variants, dtypes, st.integers(0, 2000), st.integers(-20, 20))
def test_scaling_by_a_power_of_two_is_exact(data, variant, dtype, n, power):
    """Exact scaling of dy scales both gradients exactly, sums included."""
    ops = operands("prelu_backward", (n,), (), dtype, data.draw(st.integers(0, 10)))
    one = call("prelu_backward", ops, variant)
    scale = dtype.type(2.0**power)
    other = call("prelu_backward", ops | {"dy": ops["dy"] * scale}, variant)
    for k in one:
        assert_same_bits(other[k], np.asarray(one[k] * scale))


@given(
    st.lists(st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.booleans()), max_size=5),
    names,
)
def test_lists_are_arrays(x, name):
    dtype = np.asarray(x).dtype
    ops = {read: x for read in OPERATIONS[name].reads}
    got = call(name, ops | ({"alpha": 0.5} if OPERATIONS[name].alpha else {}))
    first = got[OPERATIONS[name].writes[0]]
    assert first.dtype == (dtype if OPERATIONS[name].integers else np.float64)
    assert fastact.relu(x).dtype == dtype
