"""The reference itself: hand-written values, finite differences and the exact sum.

Everything else in this folder is compared with fastact.reference, so nothing here may be computed by it:
each table below is written by hand from the contract.  Values that the formulas must tell apart (NaN, both
infinities, both zeros, subnormals, the largest floats) stand in every table, for both computing dtypes.
Derivatives are checked by central differences away from the kink; at the kink the tables decide.
"""

import math

import numpy as np
import pytest
from helpers import OPERATIONS, SUMMED, WIDE, assert_dalpha, assert_same_bits, operands, prepared, values

from fastact import reference


@pytest.fixture(params=WIDE, ids=lambda d: d.__name__)
def dtype(request):
    """The computing types, which are all that the reference sees."""
    return request.param


nan, inf = np.nan, np.inf

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inf * 0 in the branch that is not taken


def check(got, want, dtype):
    assert_same_bits(np.asarray(got), np.array(want, dtype))


def limits(dtype):
    """The smallest and the largest positive number."""
    return np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max


def test_relu(dtype):
    tiny, huge = limits(dtype)
    x = np.array([nan, -inf, -huge, -1, -tiny, -0.0, 0.0, tiny, 2.5, huge, inf], dtype)
    check(reference.relu(x), [nan, 0, 0, 0, 0, 0, 0, tiny, 2.5, huge, inf], dtype)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8"])
def test_relu_of_integers(kind):
    lowest, highest = np.iinfo(kind).min, np.iinfo(kind).max
    check(reference.relu(np.array([lowest, -1, 0, 1, highest], kind)), [0, 0, 0, 1, highest], kind)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "?"])
def test_relu_of_unsigned_integers_changes_nothing(kind):
    x = np.array([0, 1, 1, 0], kind)
    check(reference.relu(x), x, kind)


def test_relu_backward(dtype):
    tiny, huge = limits(dtype)
    x = np.array([nan, nan, -inf, -1, -1, -1, -tiny, -0.0, 0.0, tiny, 3, 3, 3, inf], dtype)
    dy = np.array([5, nan, 7, inf, nan, -2, huge, 4, -4, -4, nan, -inf, -0.0, 9], dtype)
    check(reference.relu_backward(dy, x), [5, nan, 0, 0, 0, 0, 0, 0, 0, -4, nan, -inf, -0.0, 9], dtype)


@pytest.mark.parametrize(
    ("alpha", "want"),
    [  # x:  nan  -inf   -2    -0.0  0.0   2   inf
        (0.25, [nan, -inf, -0.5, -0.0, 0.0, 2, inf]),
        (0.0, [nan, nan, -0.0, -0.0, 0.0, 2, inf]),
        (-0.0, [nan, nan, 0.0, 0.0, -0.0, 2, inf]),
        (-3.0, [nan, inf, 6, 0.0, -0.0, 2, inf]),
        (inf, [nan, -inf, -inf, nan, nan, 2, inf]),
        (nan, [nan, nan, nan, nan, nan, 2, inf]),
    ],
)
def test_prelu(alpha, want, dtype):
    x = np.array([nan, -inf, -2, -0.0, 0.0, 2, inf], dtype)
    check(reference.prelu(x, np.array(alpha, dtype)), want, dtype)


def test_prelu_at_the_ends_of_the_range(dtype):
    tiny, huge = limits(dtype)
    x = np.array([-tiny, -tiny, tiny, -huge, -huge, huge], dtype)
    alpha = np.array([0.75, 0.25, 0.25, 0.5, 2, 2], dtype)
    check(reference.prelu(x, alpha), [-tiny, -0.0, tiny, -huge / 2, -inf, huge], dtype)


def test_published_examples():
    check(reference.prelu(np.array([4.0, -2.0]), np.array(0.2)), [4.0, -0.4], np.float64)
    check(reference.prelu(np.array([-2.0, 4.0]), np.array(0.25)), [-0.5, 4.0], np.float64)


@pytest.mark.parametrize(
    ("alpha", "want"),
    [  # x, dy: nan,4  -1,4  -1,inf  -0,8  0,8  2,8  2,nan  2,-inf  -1,nan  inf,3
        (0.25, [1, 1, inf, 2, 2, 8, nan, -inf, nan, 3]),
        (0.0, [0, 0, nan, 0, 0, 8, nan, -inf, nan, 3]),
        (inf, [inf, inf, inf, inf, inf, 8, nan, -inf, nan, 3]),
        (nan, [nan, nan, nan, nan, nan, 8, nan, -inf, nan, 3]),
    ],
)
def test_prelu_backward_dx(alpha, want, dtype):
    x = np.array([nan, -1, -1, -0.0, 0.0, 2, 2, 2, -1, inf], dtype)
    dy = np.array([4, 4, inf, 8, 8, 8, nan, -inf, nan, 3], dtype)
    check(reference.prelu_backward_dx(dy, x, np.array(alpha, dtype)), want, dtype)


@pytest.mark.parametrize(
    ("x", "dy", "want"),
    [
        ([-2, 3, -4], [5, 7, -1], -6),
        ([], [], 0.0),
        ([1, 2], [1, 2], 0.0),
        ([0.0, -0.0], [-1, 1], 0.0),  # -0.0 + -0.0 would be -0.0 without the +0.0 in front
        ([inf, -1], [1, 2], -2),
        ([3, -1], [inf, 2], -2),
        ([3, -1], [nan, 2], -2),
        ([nan, -1], [0, 2], nan),
        ([0.0], [inf], nan),
        ([-inf], [2], -inf),
        ([-inf], [0], nan),
        ([-inf, -inf], [1, -1], nan),
        ([-1e30, -1e30, -1], [1e30, -1e30, 3], -3),
    ],
)
def test_prelu_backward_dalpha(x, dy, want, dtype):
    got = reference.prelu_backward_dalpha(np.array(dy, dtype), np.array(x, dtype), np.array(0.25, dtype))
    check(got, want, np.float64)


def test_an_overflow_at_a_positive_x_leaks_nothing():
    x, dy = np.array([1e308, -1.0]), np.array([1e308, 2.0])
    check(reference.prelu_backward_dalpha(dy, x, np.array(0.25)), -2.0, np.float64)


def test_dalpha_by_hand_for_each_form_of_alpha(dtype):
    x = -np.arange(1, 13, dtype=dtype).reshape(2, 3, 2)
    dy = np.ones_like(x)
    for shape, want in {
        (): -78,
        (1,): [-78],
        (1, 1, 1, 1): [[[[-78]]]],
        (3, 1): [[-(1 + 2 + 7 + 8)], [-(3 + 4 + 9 + 10)], [-(5 + 6 + 11 + 12)]],
        (2, 1, 1): [[[-21]], [[-57]]],
        (1, 3, 1): [[[-18], [-26], [-34]]],
        (1, 1, 2): [[[-36, -42]]],
        (2,): [-36, -42],
        (3, 2): [[-8, -10], [-12, -14], [-16, -18]],
        (2, 3, 2): x,
    }.items():
        if len(shape) > x.ndim:
            continue  # a shared alpha reaches the reference as 0-d
        check(reference.prelu_backward_dalpha(dy, x, np.ones(shape, dtype)), want, np.float64)


@pytest.mark.parametrize("shape", [(3, 40, 5), (40000, 2), (2, 2, 33000)])
@pytest.mark.parametrize("seed", [0, 1])
def test_dalpha_is_within_the_bound(shape, seed, dtype):
    for name in SUMMED:
        for channel_axis in range(len(shape)):
            ops = operands(name, shape, shape[channel_axis], dtype, seed)
            ready = prepared(name, ops, channel_axis)
            got = getattr(reference, OPERATIONS[name].dalpha)(ready["dy"], ready["x"], ready["alpha"])
            assert_dalpha(got.reshape(-1), ops, channel_axis)


def test_dalpha_of_many_equal_terms_is_within_the_bound():
    """A naive sum is 21 times the bound off here, and 0.1 never sums to a round number."""
    for shape, axis in (((32768, 3), 1), ((3, 32768), 0)):
        ops = {"x": np.full(shape, -0.1), "dy": np.ones(shape), "alpha": np.ones(3)}
        ready = prepared("prelu_backward", ops, axis)
        got = reference.prelu_backward_dalpha(ready["dy"], ready["x"], ready["alpha"])
        assert_dalpha(got.reshape(-1), ops, axis)


def slope(f, at, step=1e-6):
    return (f(at + step) - f(at - step)) / (2 * step)


def test_derivatives_by_finite_differences():
    x, dy = values((4, 3, 5), np.float64, 1), values((4, 3, 5), np.float64, 2)
    x = np.where(abs(x) < 1e-3, 0.5, x)
    alpha = np.array([0.1, -0.5, 2.0]).reshape(3, 1)
    close = {"rtol": 1e-7, "atol": 1e-8}
    np.testing.assert_allclose(reference.relu_backward(dy, x), dy * slope(reference.relu, x), **close)
    by_x = slope(lambda x: reference.prelu(x, alpha), x)
    np.testing.assert_allclose(reference.prelu_backward_dx(dy, x, alpha), dy * by_x, **close)
    by_alpha = slope(lambda alpha: reference.prelu(x, alpha), alpha)
    total = (dy * by_alpha).sum(axis=(0, 2)).reshape(3, 1)
    np.testing.assert_allclose(reference.prelu_backward_dalpha(dy, x, alpha), total, **close)


def test_the_table_names_the_references_functions():
    for name, op in OPERATIONS.items():
        assert op.name == name
        assert callable(getattr(reference, op.reference))
        assert op.summed == ("dalpha" in op.writes)
        assert op.backward == name.endswith("_backward")
        assert math.prod(len(part) for part in (op.reads, op.writes)) > 0
