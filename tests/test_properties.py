"""Laws that hold for any array, with examples made by hypothesis.

The strategies draw shapes, memory layouts and every bit pattern of a float (NaN, inf and subnormals included).  The
laws follow from the contract alone (idempotence, scaling by powers of two, sums of parts), so they would also find an
error that the reference shares; equality with the reference is test_fuzz.py's.  Runs are derandomised, so CI is
repeatable; HYPOTHESIS_PROFILE=search looks for new examples instead.
"""

import os

import numpy as np
from helpers import VARIANTS, assert_dalpha, assert_same_bits, bits, call, operands
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import lay, random_layout

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=100)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

variants = st.sampled_from(VARIANTS)
dtypes = st.sampled_from([np.dtype("f4"), np.dtype("f8")])
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=20)


def floats(dtype):
    """Any bit pattern."""
    return st.floats(width=8 * dtype.itemsize) | st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan])


@st.composite
def arrays(draw, shape, dtype):
    """An array of this shape in any layout."""
    values = draw(hnp.arrays(dtype, shape, elements=floats(dtype), fill=floats(dtype)))
    return lay(values, **random_layout(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), len(shape)))


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
