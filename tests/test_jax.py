"""fastact.jax: the contract's bits under jit, grad and vmap, JAX's other transformations, and the handlers alone.

Results are compared with the reference, and derivatives of higher order with those of the formula in jnp.
"""

import doctest
import inspect
import re
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from fake_xla import Failed, FakeXLA, new
from helpers import ROOT, assert_right, assert_same_bits, backends, expected, operands, output_of, values

import fastact

jax = pytest.importorskip("jax", reason="needs jax: pip install fastact[jax]")
if backends.missing("cython"):
    pytest.skip("needs the compiled core", allow_module_level=True)

import jax.numpy as jnp  # noqa: E402

import fastact.jax as ours  # noqa: E402
from fastact.jax import _handlers, _primitives  # noqa: E402

try:
    enable_x64 = jax.enable_x64
except AttributeError:
    from jax.experimental import enable_x64

DTYPES = (np.float16, jnp.bfloat16, np.float32, np.float64)


@pytest.fixture(params=DTYPES, ids=lambda d: np.dtype(d).name)
def dtype(request):
    with enable_x64(request.param is np.float64):
        yield request.param


def gradients(function, dy, *operands):
    """The results of a function's vjp, jitted."""
    return [np.asarray(a) for a in jax.jit(lambda dy, *given: jax.vjp(function, *given)[1](dy))(dy, *operands)]


def formula(x, alpha, channel_axis=1):
    """PReLU as JAX's users write it."""
    if jnp.ndim(alpha) == 1:
        alpha = alpha.reshape([-1 if k == channel_axis % x.ndim else 1 for k in range(x.ndim)])
    return jnp.where(x > 0, x, alpha * x)


def text_of(function, *given, platform="cpu"):
    return jax.jit(function).trace(*given).lower(lowering_platforms=(platform,)).as_text()


# ---- results and gradients --------------------------------------------------------------------------

# x, alpha, channel_axis; the large ones take several threads.
CASES = [
    ((), (), 1), ((5,), (), 1), ((7,), (7,), -1), ((4, 3), (3,), 1), ((2, 3, 4, 5), (1,), 1), ((2, 3, 4, 5), (1, 1), 1),
    ((2, 3, 4, 5), (3,), -3), ((2, 3, 4, 5), (5,), 3), ((2, 3, 4, 5), (3, 1, 1), 1), ((2, 3, 4, 5), (2, 1, 4, 1), 1),
    ((2, 3, 4, 5), (2, 3, 4, 5), 1), ((3,), (1, 1), 1), ((0, 3), (3,), 1), ((2, 0), (0,), 1), ((3, 0, 2), (), 1),
    ((4, 30, 70, 71), (30,), 1), ((900, 333), (333,), 1), ((300_001,), (), 1), ((4, 30, 70, 71), (4, 1, 70, 1), 1),
]  # fmt: skip


def test_prelu(dtype):
    """y, dx and dalpha, dalpha alone and dx alone; the bits of fastact's own functions."""
    for shape, alpha_shape, axis in CASES:
        ops = operands("prelu_backward", shape, alpha_shape, dtype)
        dy, x, alpha = ops["dy"], ops["x"], ops["alpha"]
        function = partial(ours.prelu, channel_axis=axis)
        y = np.asarray(jax.jit(function)(x, alpha))
        assert_same_bits(y, expected("prelu", {"x": x, "alpha": alpha}, axis), f"{shape} {alpha_shape}")
        dx, dalpha = gradients(function, dy, x, alpha)
        assert_right("prelu_backward", ops, {"dx": dx, "dalpha": dalpha}, axis, f"{shape} {alpha_shape}")
        assert_same_bits(dalpha, np.asarray(fastact.prelu_backward(dy, x, alpha, channel_axis=axis)[1]))
        assert_same_bits(gradients(lambda x, f=function, a=alpha: f(x, a), dy, x)[0], dx)
        assert_same_bits(gradients(lambda a, f=function, x=x: f(x, a), dy, alpha)[0], dalpha)
        assert_same_bits(np.asarray(function(x, alpha)), y, "without jit")


def test_relu_and_leaky_relu(dtype):
    for shape in ((), (7,), (3, 0), (2, 3, 5), (400, 700)):
        ops = operands("relu_backward", shape, dtype=dtype)
        assert_same_bits(np.asarray(ours.relu(ops["x"])), expected("relu", {"x": ops["x"]}))
        (dx,) = gradients(ours.relu, ops["dy"], ops["x"])
        assert_right("relu_backward", ops, {"dx": dx})
        ops["alpha"] = 0.3
        y = np.asarray(ours.leaky_relu(ops["x"], 0.3))
        assert_same_bits(y, expected("leaky_relu", {"x": ops["x"], "alpha": 0.3}))
        (dx,) = gradients(lambda x: ours.leaky_relu(x, 0.3), ops["dy"], ops["x"])
        assert_right("leaky_relu_backward", ops, {"dx": dx})


def test_edges(dtype):
    """Zeros, NaN, infinities and denormal numbers, which XLA's threads would take for zeros; in every operand."""
    tiny = np.finfo(dtype).smallest_subnormal if dtype is not jnp.bfloat16 else jnp.finfo(dtype).smallest_subnormal
    edges = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, tiny, -tiny, -9 * tiny, 3, -3], dtype)
    dy, x, alpha = (np.ascontiguousarray(a) for a in np.meshgrid(edges, edges, edges, indexing="ij"))
    ops = {"dy": dy, "x": x, "alpha": alpha}
    for repeated in (1, 400):  # the second one takes several threads
        ops = {name: np.tile(a, (repeated, 1, 1)) for name, a in ops.items()}
        assert_same_bits(np.asarray(ours.prelu(ops["x"], ops["alpha"])), expected("prelu", ops))
        dx, dalpha = gradients(ours.prelu, ops["dy"], ops["x"], ops["alpha"])
        assert_right("prelu_backward", ops, {"dx": dx, "dalpha": dalpha})
        assert_same_bits(np.asarray(ours.relu(ops["x"])), expected("relu", {"x": ops["x"]}))
        assert_same_bits(
            gradients(ours.relu, ops["dy"], ops["x"])[0], expected("relu_backward", {"dy": ops["dy"], "x": ops["x"]})
        )


def test_xla_keeps_its_own_floating_point_mode():
    tiny = np.float32(np.finfo(np.float32).tiny)
    flushed = jax.jit(lambda x: x * jnp.float32(0.5))
    before = np.asarray(flushed(np.full(8, tiny)))
    after = np.asarray(jax.jit(lambda x: ours.relu(x) * jnp.float32(0.5))(np.full(8, tiny)))
    assert_same_bits(after, before)


@pytest.mark.parametrize("alpha_dtype", [np.float16, np.float32, np.float64, np.int32, bool])
def test_dtypes_of_slopes(alpha_dtype, dtype):
    """Those of another dtype are not rounded to x's; their gradient has their dtype."""
    with enable_x64(True):
        ops = operands("prelu_backward", (2, 3, 5), (3,), dtype)
        ops["alpha"] = np.array([0.1, 0.7, 1]).astype(alpha_dtype)
        assert_same_bits(np.asarray(ours.prelu(ops["x"], ops["alpha"])), expected("prelu", ops))
        if alpha_dtype not in (np.int32, bool):
            dx, dalpha = gradients(ours.prelu, ops["dy"], ops["x"], ops["alpha"])
            assert dalpha.dtype == alpha_dtype
            assert_right("prelu_backward", ops, {"dx": dx, "dalpha": dalpha})


def test_numbers(dtype):
    """A number has the dtype that x is computed in, and is no constant of the compiled program."""
    x = values((4, 3), dtype)
    for alpha in (1 / 3, 3, True):
        want = expected("prelu", {"x": x, "alpha": alpha})
        assert_same_bits(np.asarray(ours.prelu(x, alpha)), want)
        assert_same_bits(np.asarray(ours.leaky_relu(x, alpha)), want)
    assert_same_bits(np.asarray(ours.prelu(x)), expected("prelu", {"x": x, "alpha": 0.25}))
    assert_same_bits(np.asarray(ours.leaky_relu(x)), expected("prelu", {"x": x, "alpha": 0.01}))
    assert float(ours.relu(-2.5)) == 0
    assert float(ours.prelu(-2.0, 0.5)) == -1
    assert jax.grad(lambda a: ours.leaky_relu(jnp.float32(-4), a))(0.5) == -4
    with enable_x64(True):  # a Python number is a float64 there, its gradient the sum that was rounded to float32
        x32 = values((4, 3)) / 3
        gradient = float(jax.grad(lambda a: ours.prelu(x32, a).sum())(0.5))
        assert gradient == float(fastact.prelu_backward(np.ones_like(x32), x32, 0.5)[1])
    traces = []
    counted = jax.jit(lambda x, a: (traces.append(0), ours.leaky_relu(x, a))[1])
    assert counted(x, 0.5).dtype == counted(x, 0.6).dtype == x.dtype
    assert len(traces) == 1


# ---- transformations --------------------------------------------------------------------------------


def calls(function, *given):
    """The handlers that a compiled function calls."""
    return re.findall(r"@fastact_(\w+)", text_of(function, *given))


X, DY = values((4, 6, 5, 3)), values((4, 6, 5, 3), seed=1)
ALPHA, ALPHAS = values((6,), seed=2), values((4, 6), seed=3)
SAMPLE = partial(ours.prelu, channel_axis=0)


def test_gradient_of_a_batch_is_one_call():
    """Of slopes that the samples share: one sum over the batch; else one for each sample."""

    def loss(alpha, x, dy):
        return (jax.vmap(SAMPLE, (0, None))(x, alpha) * dy).sum()

    assert calls(jax.grad(loss), ALPHA, X, DY) == ["prelu_dalpha"]
    _, dalpha = fastact.prelu_backward(DY, X, ALPHA)
    assert_same_bits(np.asarray(jax.jit(jax.grad(loss))(ALPHA, X, DY)), dalpha)

    each = jax.vmap(lambda dy, x, alpha: jax.vjp(SAMPLE, x, alpha)[1](dy), (0, 0, None))
    assert calls(each, DY, X, ALPHA) == ["prelu_backward"]
    dx, dalphas = jax.jit(each)(DY, X, ALPHA)
    for k in range(len(X)):
        one = fastact.prelu_backward(DY[k], X[k], ALPHA, channel_axis=0)
        assert_same_bits(np.asarray(dx[k]), one[0])
        assert_same_bits(np.asarray(dalphas[k]), one[1])


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, 0, None), (0, None, 0), (None, 0, None), (None, None, 0), (1, 2, 1)])
def test_vmap(axes):
    """Whichever operands have a batch, and on which axis."""
    given = [
        np.moveaxis(a, 0, axis) if axis is not None else a[0] for a, axis in zip((DY, X, ALPHAS), axes, strict=True)
    ]
    got = jax.vmap(lambda dy, x, alpha: (SAMPLE(x, alpha), *jax.vjp(SAMPLE, x, alpha)[1](dy)), axes)(*given)
    ones = ()
    if axes[:2] != (None, None):
        ones = jax.vmap(lambda dy, x: (ours.relu(x), *jax.vjp(ours.relu, x)[1](dy)), axes[:2])(*given[:2])
    for k in range(4):
        dy, x, alpha = (a[0] if axis is None else a[k] for a, axis in zip((DY, X, ALPHAS), axes, strict=True))
        dx, dalpha = fastact.prelu_backward(dy, x, alpha, channel_axis=0)
        for array, want in zip(got, (fastact.prelu(x, alpha, channel_axis=0), dx, dalpha), strict=True):
            assert_same_bits(np.asarray(array[k]), want, f"{axes} {k}")
        for array, want in zip(ones, (fastact.relu(x), fastact.relu_backward(dy, x)), strict=bool(ones)):
            assert_same_bits(np.asarray(array[k]), want, f"relu {axes} {k}")


def test_vmap_of_vmap():
    x = values((2, 3, 4, 5))
    alphas = values((3, 4), seed=9)
    both = jax.vmap(jax.vmap(SAMPLE), (0, None))
    assert_same_bits(np.asarray(both(x, alphas)), np.where(x > 0, x, alphas[:, :, None] * x))
    got = jax.grad(lambda a: both(x, a).sum())(alphas)
    np.testing.assert_allclose(got, np.where(x > 0, 0, x).sum((0, 3)), rtol=1e-5)


def functions_and_formulas():
    """Scalar functions of x and alpha with derivatives of every order, by us and by jnp."""
    for each in (SAMPLE, partial(formula, channel_axis=0)):
        yield lambda x, alpha, each=each: jnp.sum(jnp.sin(each(x, alpha)) * each(x * x - 0.5, alpha * alpha))


OTHER_MODES = {
    "jvp": lambda f, x, a: jax.jvp(f, (x, a), (a[:, None] * x, a)),
    "jvp of x": lambda f, x, a: jax.jvp(lambda x: f(x, a), (x,), (a[:, None] * x,)),
    "jvp of alpha": lambda f, x, a: jax.jvp(lambda a: f(x, a), (a,), (a,)),
    "jacfwd": lambda f, x, a: jax.jacfwd(f, (0, 1))(x, a),
    "jacrev": lambda f, x, a: jax.jacrev(f, (0, 1))(x, a),
    "hessian": lambda f, x, a: jax.hessian(f, (0, 1))(x, a),
    "reverse over reverse": lambda f, x, a: jax.jacrev(jax.jacrev(f, (0, 1)), (0, 1))(x, a),
    "reverse over forward": lambda f, x, a: jax.jacrev(jax.jacfwd(f, (0, 1)), (0, 1))(x, a),
    "forward over forward": lambda f, x, a: jax.jacfwd(jax.jacfwd(f, (0, 1)), (0, 1))(x, a),
    "third order": lambda f, x, a: jax.jacfwd(jax.hessian(lambda a: f(x, a)))(a),
    "linearize": lambda f, x, a: jax.linearize(f, x, a)[1](x, 2 * a),
    "remat": lambda f, x, a: jax.grad(jax.checkpoint(f), (0, 1))(x, a),
    "transpose of a part": lambda f, x, a: jax.linear_transpose(lambda t: jax.jvp(f, (x, a), (t, 0 * a))[1], x)(2.0),
    "vmap of hessian": lambda f, x, a: jax.vmap(jax.hessian(f, (0, 1)), (0, None))(jnp.stack([x, 2 * x]), a),
    "vmap of jvp": lambda f, x, a: jax.vmap(lambda t: jax.jvp(f, (x, a), (x, t))[1])(jnp.stack([a, 2 * a])),
}


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_other_derivatives(mode):
    x, alpha = X[0, :, :2, 0] + np.float32(0.1), ALPHA
    with enable_x64(True):
        got, want = (
            jax.jit(partial(OTHER_MODES[mode], f))(x.astype(np.float64), alpha.astype(np.float64))
            for f in functions_and_formulas()
        )
    leaves = list(zip(*map(jax.tree.leaves, (got, want)), strict=True))
    assert len(leaves) > 0
    for ours_leaf, leaf in leaves:
        np.testing.assert_allclose(ours_leaf, leaf, rtol=1e-9, atol=1e-11)
        assert np.asarray(leaf).any(), "a derivative that is 0 says nothing"


def test_derivatives_of_relu():
    x = X[0, 0]

    def values_of(relu):
        def f(x):
            return (relu(x) ** 3).sum()

        return jax.hessian(f)(x), jax.jvp(f, (x,), (x,))[1], jax.jacrev(jax.jacrev(f))(x)

    for got, want in zip(*(jax.jit(partial(values_of, relu))() for relu in (ours.relu, jax.nn.relu)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert np.any(want)


def test_control_flow():
    """Inside of scan, cond and while_loop, and in a function that is not jitted."""
    got = jax.grad(lambda a: jax.lax.scan(lambda total, x: (total + SAMPLE(x, a).sum(), None), 0.0, X)[0])(ALPHA)
    np.testing.assert_allclose(got, np.where(X > 0, 0, X).sum((0, 2, 3)), rtol=1e-5)
    got = jax.lax.cond(True, ours.relu, lambda x: x, X)
    assert_same_bits(np.asarray(got), fastact.relu(X))
    got = jax.lax.fori_loop(0, 3, lambda _, x: ours.leaky_relu(x, 0.5), X)
    assert_same_bits(np.asarray(got), np.where(X > 0, X, X / 8))
    assert_same_bits(np.asarray(_primitives.relu_p.bind(X)[0]), fastact.relu(X))
    (dx,) = _primitives.prelu_backward_p.bind(DY, X, X, wrt=(True, False))
    assert_same_bits(np.asarray(dx), fastact.prelu_backward(DY, X, X)[0])


def test_without_jit():
    """Under `jax.disable_jit`, where arguments come as they were given."""
    with jax.disable_jit():
        assert_same_bits(np.asarray(ours.prelu(X, ALPHA)), fastact.prelu(X, ALPHA))
        dx, dalpha = jax.vjp(ours.prelu, X, ALPHA)[1](DY)
        for alpha in (0.5, np.float64(0.5), jnp.asarray(0.5)):
            assert_same_bits(np.asarray(ours.leaky_relu(jnp.asarray(X), alpha)), fastact.leaky_relu(X, 0.5))
        assert float(ours.relu(-2.0)) == 0
        assert float(ours.prelu(-2.0, 1)) == float(ours.prelu(np.float32(-2), True)) == -2
        each = jax.vmap(jax.grad(lambda x, alpha: SAMPLE(x, alpha).sum(), 1), (0, None))(X, ALPHA)
        second = jax.hessian(lambda x: (ours.prelu(x, 0.5) ** 2).sum())(jnp.array([-1.0, 1.0]))
        for bad in ([1.0], None, 3, FLOAT.astype(np.int32), FLOAT.astype(object)):
            with pytest.raises(TypeError):
                ours.relu(bad)
    want = fastact.prelu_backward(DY, X, ALPHA)
    assert_same_bits(np.asarray(dx), want[0])
    assert_same_bits(np.asarray(dalpha), want[1])
    np.testing.assert_allclose(each, np.where(X > 0, 0, X).sum((2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(second, [[0.5, 0], [0, 2]])


def test_debug_nans():
    """JAX's way to find the operation that made a NaN names ours."""
    given, wrong = jnp.array([1, np.nan], jnp.float32), jnp.full(2, np.nan, jnp.float32)
    below = jnp.array([-np.inf, -1], jnp.float32)
    with jax.debug_nans(True):
        for function, name in (
            (lambda: ours.relu(given), "fastact_relu"),
            (lambda: jax.jit(ours.relu)(given), "fastact_relu"),
            (lambda: ours.prelu(below, 0.0), "fastact_prelu"),
            (lambda: jax.vjp(ours.relu, below + 4)[1](wrong), "fastact_relu_backward"),
        ):
            with pytest.raises(FloatingPointError, match=name):
                function()
        assert ours.relu(jnp.float32(1)) == 1
    with jax.debug_infs(True), pytest.raises(FloatingPointError, match="fastact_prelu"):
        ours.prelu(below, 1.0)


def test_donated_buffers():
    """x may be overwritten afterwards, never before it was read."""
    for shape in ((4, 6, 5, 3), (8, 64, 50, 50)):
        x, dy, alpha = values(shape), values(shape, seed=1), values(shape[1:2])
        given = jnp.array(x)
        assert_same_bits(np.asarray(jax.jit(ours.prelu, donate_argnums=0)(given, alpha)), fastact.prelu(x, alpha))
        assert given.is_deleted()
        backward = jax.jit(lambda dy, x, a: jax.vjp(ours.prelu, x, a)[1](dy), donate_argnums=0)
        dx, dalpha = backward(jnp.array(dy), jnp.array(x), alpha)
        want = fastact.prelu_backward(dy, x, alpha)
        assert_same_bits(np.asarray(dx), want[0])
        assert_same_bits(np.asarray(dalpha), want[1])


def test_other_layouts():
    """Transposed operands, and arrays that do not lie in C order."""
    turned = jax.jit(lambda x, a: ours.prelu(x.transpose(0, 3, 1, 2), a).transpose(0, 2, 3, 1))
    channels_last = np.ascontiguousarray(np.moveaxis(X, 1, -1))
    assert_same_bits(np.asarray(turned(channels_last, ALPHA)), fastact.prelu(channels_last, ALPHA, channel_axis=-1))
    layouts = pytest.importorskip("jax.experimental.layout")
    if hasattr(layouts, "DeviceLocalLayout"):
        pytest.skip("needs jax 0.7: layouts")
    form = layouts.Format(layouts.Layout((0, 2, 3, 1)), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    x = jax.device_put(X, form)
    for options in ({}, {"in_shardings": (form, None), "out_shardings": form}):
        y = jax.jit(ours.prelu, **options)(x, ALPHA)
        assert_same_bits(np.ascontiguousarray(y), fastact.prelu(X, ALPHA))


def test_two_devices():
    assert output_of("jax_devices.py") == "two devices"


def test_several_callers():
    """Threads of Python that call compiled functions at once."""
    x, alpha = values((8, 64, 40, 40)), values((64,))
    want, wrong = fastact.prelu(x, alpha), []
    function = jax.jit(ours.prelu)

    def work():
        for _ in range(20):
            if not np.array_equal(np.asarray(function(x, alpha)), want):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_unknown_lengths():
    """Exported with a batch of any length."""
    export = pytest.importorskip("jax.export")
    batch = jax.ShapeDtypeStruct((export.symbolic_shape("b")[0], 6, 5, 3), np.float32)
    allowed = [export.DisabledSafetyCheck.custom_call("fastact_prelu")]
    exported = export.export(jax.jit(ours.prelu), platforms=("cpu", "cuda"), disabled_checks=allowed)(batch, ALPHA)
    assert_same_bits(np.asarray(exported.call(X, ALPHA)), fastact.prelu(X, ALPHA))


# ---- other devices ----------------------------------------------------------------------------------


def test_other_devices_get_the_formula():
    def everything(dy, x, alpha):
        return ours.relu(x), jax.vjp(ours.relu, x)[1](dy), ours.prelu(x, alpha), jax.vjp(ours.prelu, x, alpha)[1](dy)

    assert "custom_call" not in text_of(everything, DY, X, ALPHA, platform="cuda")
    names = {"relu", "relu_backward", "prelu", "prelu_backward"}
    assert set(calls(everything, DY, X, ALPHA)) == names


def test_the_formulas(dtype):
    """Elementwise as the contract says, on a CPU too."""
    ops = operands("prelu_backward", (2, 6, 5), (6, 1), dtype)
    ops["x"] = ops["x"].copy()
    ops["x"][0, 0, 0] = np.nan
    dy, x, alpha = ops["dy"], ops["x"], ops["alpha"][None]
    (y,) = jax.jit(_primitives.prelu_formula)(x, alpha)
    assert_same_bits(np.asarray(y), expected("prelu", ops))
    for wrt in ((True, True), (True, False), (False, True)):
        got = dict(
            zip(
                _primitives._wanted(("dx", "dalpha"), wrt),
                jax.jit(partial(_primitives.prelu_backward_formula, wrt=wrt))(dy, x, alpha),
                strict=True,
            )
        )
        assert len(got) == sum(wrt)
        if "dx" in got:
            assert_same_bits(np.asarray(got["dx"]), expected("prelu_backward", ops))
        if "dalpha" in got:
            want = fastact.prelu_backward(dy, x, ops["alpha"])[1].astype(np.float64)
            tolerance = 1e-5 if dtype in (np.float32, np.float64) else 1e-2
            np.testing.assert_allclose(np.asarray(got["dalpha"], np.float64)[0], want, rtol=tolerance, atol=1e-5)
    assert_same_bits(np.asarray(jax.jit(_primitives.relu_formula)(x)[0]), expected("relu", {"x": x}))
    got = jax.jit(_primitives.relu_backward_formula)(dy, x)[0]
    assert_same_bits(np.asarray(got), expected("relu_backward", {"dy": dy, "x": x}))


# ---- errors -----------------------------------------------------------------------------------------

FLOAT = np.zeros((2, 3, 4), np.float32)
BAD = {
    "number of slopes": (lambda: ours.prelu(FLOAT, FLOAT[0, 0]), r"alpha of shape \(4,\).*\(2, 3, 4\).*channel_axis=1"),
    "broadcasting": (lambda: ours.prelu(FLOAT, FLOAT[:, :2]), r"alpha to x: \(2, 2, 4\), \(2, 3, 4\)"),
    "more axes": (lambda: ours.prelu(FLOAT[0], FLOAT), r"alpha to x: \(2, 3, 4\), \(3, 4\)"),
    "axis": (lambda: ours.prelu(FLOAT, FLOAT[0, 0], channel_axis=3), r"channel_axis=3.*\(2, 3, 4\).*\(4,\)"),
    "1-D x": (lambda: ours.prelu(FLOAT[0, 0], FLOAT[0, 0]), r"\(4,\).*for a 1-D x pass channel_axis=-1"),
    "no axis": (lambda: ours.prelu(FLOAT, FLOAT[0, 0], channel_axis="C"), "integer channel_axis, got 'C'"),
    "integers": (lambda: ours.relu(np.zeros((2, 3), np.int32)), r"dtype int32 and shape \(2, 3\).*float16, bfloat16"),
    "complex x": (lambda: ours.leaky_relu(FLOAT.astype(complex)), "dtype complex64"),
    "complex slope": (lambda: ours.prelu(FLOAT, 1j), r"alpha of dtype complex64 and shape \(\).*integers and bool"),
    "list": (lambda: ours.relu([1.0]), "requires an array or a number for x, got list"),
    "nothing": (lambda: ours.prelu(FLOAT, None), "requires an array or a number for alpha, got NoneType"),
    "several slopes": (lambda: ours.leaky_relu(FLOAT, FLOAT[0, 0]), r"one slope, got alpha of shape \(4,\)"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(what):
    """A TypeError when JAX traces, so before anything runs."""
    function, message = BAD[what]
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(function)
    with pytest.raises(TypeError, match=message):
        function()


def test_without_handlers(monkeypatch):
    """A RuntimeError that says why: they were not built, or XLA does not take them."""
    refused = SimpleNamespace(capsules={"relu": "no capsule"})

    def missing(name):
        raise ImportError("not built")

    for module, message in ((lambda name: refused, "does not take fastact's handlers"), (missing, "not built")):
        monkeypatch.setattr(ours, "import_module", module)
        ours._register.cache_clear()
        with pytest.raises(RuntimeError, match=message):
            ours.relu(np.zeros(1234, np.float32))
    monkeypatch.undo()
    assert ours.relu(FLOAT).shape == FLOAT.shape, "they are taken again"


# ---- handlers alone ---------------------------------------------------------------------------------


def test_declarations_of_xla():
    assert output_of("xla_layout.py").endswith("checks")


@pytest.mark.parametrize(
    ("version", "answer"),
    [((0, 1), (0, 1)), ((0, 2), (0, 2)), ((0, 3), (0, 3)), ((0, 9), (0, 3)), ((0, 0), (0, 1)), ((1, 2), (0, 1))],
)
def test_version_of_the_interface(version, answer):
    """XLA learns which one the handlers know, and refuses them itself; if it does not, a call is an error."""
    xla = FakeXLA(_handlers.capsules, version)
    assert all(xla.ask(name) == answer for name in _handlers.capsules)
    assert xla.ask("relu", with_api=False) == (0, 1)
    x, y = values((5,)), new(5)
    if version[0] == 0 and version[1] > 0:
        xla.call("relu", [y], [x])
        assert_same_bits(y, fastact.relu(x))
        return
    with pytest.raises(Failed, match=f"fastact: relu: .* version {version[0]}.{version[1]} here") as error:
        xla.call("relu", [y], [x])
    assert error.value.args[0] == 12
    assert (y == 99).all()


@pytest.mark.parametrize(
    ("options", "helped"),
    [
        ({}, True), ({"when": "now"}, True), ({"when": "late"}, True), ({"when": "never"}, False),
        ({"threads": 2}, True), ({"threads": 9}, True), ({"threads": 1}, False), ({"threads": None}, False),
        ({"threads": 0}, False), ({"api_size": 100}, False),
    ],
)  # fmt: skip
def test_threads_are_xlas(options, helped):
    """Its pool is given tasks where it has one; the results never depend on it, nor on when the tasks run."""
    xla = FakeXLA(_handlers.capsules, **options)
    shape = (16, 32, 50, 50)
    dy, x, alpha = values(shape, seed=1), values(shape), values((1, 32, 1, 1))
    dx, dalpha = new(*shape), new(1, 32, 1, 1)
    xla.call("prelu_backward", [dx, dalpha], [dy, x, alpha])
    assert bool(xla.tasks) is helped
    want = fastact.prelu_backward(dy, x, alpha)
    xla.run_late()
    assert_same_bits(dx, want[0])
    assert_same_bits(dalpha, want[1])
    assert not xla.alive, "each error was given back"


X4 = values((2, 3))
WRONG = {
    "results": ("relu", [new(2, 3), new(2, 3)], [X4], 3, 3, "another number of buffers"),
    "arguments": ("prelu", [new(2, 3)], [X4], 3, 3, "another number of buffers"),
    "dtype": ("relu", [new(2, 3, dtype=np.int32)], [X4], 3, 3, "a buffer's type"),
    "stage": ("relu", [new(2, 3)], [X4], 0, 13, "another stage"),
    "shapes": ("relu_backward", [new(2, 3)], [X4[:1], X4], 3, 3, r"dy of shape \(1, 3\)"),
    "slopes": ("prelu", [new(2, 3)], [X4, X4[:, :2]], 3, 3, r"alpha of shape \(2, 2\)"),
    "two dtypes": ("relu", [new(2, 3, dtype=np.float64)], [X4], 3, 3, "y has dtype float64"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_buffers(what):
    name, results, arguments, stage, code, message = WRONG[what]
    xla = FakeXLA(_handlers.capsules)
    with pytest.raises(Failed, match=f"fastact: {name}: .*{message}") as error:
        xla.call(name, results, [np.ascontiguousarray(a) for a in arguments], stage)
    assert error.value.args[0] == code
    assert all((a == 99).all() for a in results)
    assert not xla.alive


def test_errors_in_xla():
    """A handler's error becomes one of JAX, and the next call is right."""
    ours.relu(X4)
    for alpha, message in ((X4.astype(np.int32), "a buffer's type"), (X4[:, :2], r"alpha of shape \(2, 2\)")):
        call = jax.ffi.ffi_call("fastact_prelu", jax.ShapeDtypeStruct(X4.shape, np.float32))
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"fastact: prelu: .*{message}"):
            jax.block_until_ready(jax.jit(call)(X4, alpha))
        assert_same_bits(np.asarray(jax.jit(ours.relu)(X4)), fastact.relu(X4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": 2**32 + 2}, "a buffer has too many axes"), ({"axes": -1}, "-1 axes"), ({"axes": 65}, "65 axes"),
        ({"size": 8}, "an operand is no buffer"), ({"type": -1}, "a buffer's type"), ({"data": None}, "data is NULL"),
    ],
)  # fmt: skip
def test_unexpected_fields(fields, message):
    """Errors, where XLA's structs hold what they should not."""
    xla, y = FakeXLA(_handlers.capsules, fields=fields), new(2, 3)
    with pytest.raises(Failed, match=f"fastact: relu: .*{message}"):
        xla.call("relu", [y], [X4])
    assert (y == 99).all()
    assert not xla.alive


# ---- the interface, the page and the example ----------------------------------------------------------


def test_names_and_signatures():
    assert sorted(ours.__all__) == ["leaky_relu", "prelu", "relu"]
    for name in ours.__all__:
        signature, whole = (inspect.signature(getattr(module, name)) for module in (ours, fastact))
        assert list(signature.parameters) == [p for p in whole.parameters if p in ("x", "alpha", "channel_axis")]
        for parameter in signature.parameters.values():
            assert parameter.default == whole.parameters[parameter.name].default
        assert "x = 0" in getattr(ours, name).__doc__
    assert "jax" not in output_of("-c", "import sys, fastact; print(*sys.modules)").split()


def test_docstrings():
    for name in ours.__all__:
        (examples,) = doctest.DocTestFinder(recurse=False).find(getattr(ours, name), name, globs={})
        results = doctest.DocTestRunner().run(examples)
        assert (results.failed, results.attempted) == (0, len(examples.examples))
        assert results.attempted >= 4, name


def test_the_page():
    """Its blocks, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "jax.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for block in blocks:
        exec(block, names)


def test_the_example():
    """Both networks learn, and compute the same."""
    lines = output_of(str(ROOT / "examples" / "jax_network.py"), "--steps", "12", "--batch", "8").splitlines()
    assert len(lines) == 3
    losses = [[float(number) for number in line.split()[-3:-1]] for line in lines[1:]]
    assert all(after < before for before, after in losses)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
