"""fastact in JAX: functions for `jax.jit`, `jax.grad` and `jax.vmap`, computed by fastact on CPUs.

On a CPU they are calls of compiled code inside XLA's programs, on XLA's own threads.  On other devices they are the
same formulas in jnp.  docs/jax.md has examples, and says when XLA's own fusion is the better choice.

`fastact` does not import this package; it needs jax 0.6 or newer.
"""

import operator
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastact.jax import _primitives

__all__ = ["leaky_relu", "prelu", "relu"]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_ACCEPTED = (np.ndarray, np.generic, bool, int, float, complex)  # what jax.jit makes arrays of


@partial(jax.jit, inline=True)
def relu(x: jax.typing.ArrayLike) -> jax.Array:
    """Rectified linear unit, ``where(x <= 0, 0, x)``.

    NaN stays NaN, and -0.0 gives +0.0.  The derivative is ``where(x <= 0, 0, dy)``: exactly 0 at x = 0 and below, even
    if dy is NaN or infinite, and dy where x is NaN.  That of `jax.nn.relu` differs only where x is NaN: it is 0 there.

    Parameters
    ----------
    x : array or float
        Input of float16, bfloat16, float32 or float64.

    Returns
    -------
    jax.Array
        y, of x's shape and dtype.

    Raises
    ------
    TypeError
        If x is no array or number, or of another dtype.

    Examples
    --------
    >>> import jax, fastact.jax
    >>> x = jax.numpy.array([-1.0, 0.0, 2.0])
    >>> fastact.jax.relu(x).tolist()
    [0.0, 0.0, 2.0]
    >>> jax.grad(lambda x: fastact.jax.relu(x).sum())(x).tolist()
    [0.0, 0.0, 1.0]
    """
    return _primitives.relu_p.bind(_input("relu", x))[0]


@partial(jax.jit, inline=True)
def leaky_relu(x: jax.typing.ArrayLike, alpha: jax.typing.ArrayLike = 0.01) -> jax.Array:
    """Leaky rectified linear unit, ``where(x > 0, x, alpha * x)`` with one alpha.

    x > 0 comes through bit for bit, whatever alpha is.  The derivative is ``where(x > 0, dy, alpha * dy)``: alpha * dy
    at x = 0 and where x is NaN.  That of `jax.nn.leaky_relu` is dy at x = 0.  The derivative by alpha is that of
    `prelu`.

    Parameters
    ----------
    x : array or float
        Input of float16, bfloat16, float32 or float64.
    alpha : number or array of one element
        The slope (PyTorch: negative_slope).  A number is an argument of the compiled program, not a part of it: JAX
        does not compile again for another one.

    Returns
    -------
    jax.Array
        y, of x's shape and dtype.

    Raises
    ------
    TypeError
        If an argument is no array or number, x has another dtype, or alpha has several elements.

    Examples
    --------
    >>> import jax, fastact.jax
    >>> x = jax.numpy.array([-2.0, 0.0, 4.0])
    >>> fastact.jax.leaky_relu(x, 0.5).tolist()
    [-1.0, 0.0, 4.0]
    >>> jax.grad(lambda x: fastact.jax.leaky_relu(x, 0.5).sum())(x).tolist()
    [0.5, 0.5, 1.0]
    """
    x, alpha = _inputs("leaky_relu", x, alpha)
    if alpha.size != 1:
        raise TypeError(f"leaky_relu requires one slope, got alpha of shape {alpha.shape}: prelu takes arrays.")
    return _prelu(x, alpha.reshape((1,) * x.ndim))


@partial(jax.jit, inline=True, static_argnames="channel_axis")
def prelu(x: jax.typing.ArrayLike, alpha: jax.typing.ArrayLike = 0.25, *, channel_axis: int = 1) -> jax.Array:
    """Parametric rectified linear unit, ``where(x > 0, x, alpha * x)``.

    x > 0 comes through bit for bit, whatever alpha is.  The gradients are ``where(x > 0, dy, alpha * dy)`` for x, and
    ``sum(where(x > 0, 0, x * dy))`` for each slope, over the elements that it belongs to.  At x = 0 and where x is NaN
    x's gradient is alpha * dy; that of `jax.nn.leaky_relu` is dy at x = 0.  On a CPU alpha's gradient is summed in
    float64 and rounded once, with the same bits for every number of threads.

    Parameters
    ----------
    x : array or float
        Input of float16, bfloat16, float32 or float64.
    alpha : number or array
        The slopes (PyTorch: weight, ONNX: slope).  A number, or an array of one element, is the slope of all elements;
        a 1-D array has one slope for each channel; an array of more axes broadcasts to x.  A Python number becomes a
        float32 if x has 16-bit floats, else a number of x's dtype.  An array's gradient has the array's dtype.
    channel_axis : int
        The axis of x that a 1-D alpha belongs to; negative: from the end.  Under `jax.vmap` it is an axis of one
        sample.

    Returns
    -------
    jax.Array
        y, of x's shape and dtype.

    Raises
    ------
    TypeError
        If an argument is no array or number, x has another dtype, or alpha's shape does not fit.

    Examples
    --------
    >>> import jax, fastact.jax
    >>> x = jax.numpy.array([[-2.0, 4.0], [-6.0, -8.0]])
    >>> slopes = jax.numpy.array([0.5, 0.25])
    >>> fastact.jax.prelu(x, slopes).tolist()
    [[-1.0, 4.0], [-3.0, -2.0]]
    >>> jax.grad(lambda alpha: fastact.jax.prelu(x, alpha).sum())(slopes).tolist()
    [-8.0, -8.0]
    """
    x, alpha = _inputs("prelu", x, alpha)
    shape = (1,) * (x.ndim - alpha.ndim) + alpha.shape
    if alpha.size == 1:
        shape = (1,) * x.ndim
    elif alpha.ndim == 1:
        try:
            axis = operator.index(channel_axis)
        except TypeError:
            raise TypeError(f"prelu requires an integer channel_axis, got {channel_axis!r}.") from None
        if not -x.ndim <= axis < x.ndim:
            hint = "; for a 1-D x pass channel_axis=-1" if x.ndim == 1 else ""
            raise TypeError(
                f"prelu got channel_axis={axis}, which is out of range for x of shape {x.shape} "
                f"with alpha of shape {alpha.shape}{hint}."
            )
        if alpha.size != x.shape[axis]:
            raise TypeError(
                f"prelu got incompatible shapes: alpha of shape {alpha.shape} does not match x of shape {x.shape} "
                f"along channel_axis={axis}."
            )
        shape = tuple(n if k == axis % x.ndim else 1 for k, n in enumerate(x.shape))
    elif len(shape) != x.ndim or any(a not in (1, n) for a, n in zip(shape, x.shape, strict=True)):
        raise TypeError(f"prelu got incompatible shapes for broadcasting alpha to x: {alpha.shape}, {x.shape}.")
    return _prelu(x, alpha.reshape(shape))


@cache
def _register() -> None:
    """Register the handlers with XLA; RuntimeError if there are none, or if XLA does not take them."""
    try:
        handlers = import_module("fastact.jax._handlers")
    except ImportError as error:
        from fastact import _built

        reason = _built.missing_modules().get("fastact.jax._handlers") or error
        raise RuntimeError(f"fastact has no handlers for XLA here: {reason}") from error
    with suppress(RuntimeError):  # there may be no CPU backend
        # Start it first: if it started after the registration, its start would fail with the errors of that.
        jax.local_devices(backend="cpu")
    for name, capsule in handlers.capsules.items():
        try:
            jax.ffi.register_ffi_target(_primitives.PREFIX + name, capsule, platform="cpu", api_version=1)
        except Exception as error:
            raise RuntimeError(f"XLA of jax {jax.__version__} does not take fastact's handlers: {error}") from error


def _prelu(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """y, of an alpha with x's number of axes."""
    return _primitives.prelu_p.bind(*_varying_together(x, alpha))[0]


def _input(function: str, value: Any, name: str = "x") -> jax.Array:
    """x as an array.  Only a default is none yet, or any value under `jax.disable_jit`."""
    _register()
    if isinstance(value, _ACCEPTED):
        value = jnp.asarray(value)
    if not isinstance(value, jax.Array):
        raise TypeError(f"{function} requires an array or a number for {name}, got {type(value).__name__}.")
    if name == "x" and value.dtype.name not in _FLOATS:
        raise TypeError(
            f"{function} does not accept x of dtype {value.dtype.name} and shape {value.shape}. "
            f"Accepted dtypes are {', '.join(_FLOATS)}."
        )
    return value


def _inputs(function: str, x: Any, alpha: Any) -> tuple[jax.Array, jax.Array]:
    """x and alpha, which keeps its dtype if it is an array of floats."""
    x, alpha = _input(function, x), _input(function, alpha, "alpha")
    if alpha.dtype.name not in _FLOATS or alpha.aval.weak_type:
        if not (alpha.dtype.name in _FLOATS or jnp.issubdtype(alpha.dtype, jnp.integer) or alpha.dtype == bool):
            raise TypeError(
                f"{function} does not accept alpha of dtype {alpha.dtype.name} and shape {alpha.shape}. "
                f"Accepted dtypes are {', '.join(_FLOATS)}, integers and bool."
            )
        alpha = alpha.astype(_primitives.computing(x.dtype))
    return x, alpha


def _varying_together(*arrays: jax.Array) -> list[jax.Array]:
    """Under `jax.shard_map`: all of them marked as different on the devices, if one is."""
    axes = [_varying_axes(a) for a in arrays]
    every = frozenset().union(*axes)
    return [_mark(a, tuple(every - own)) if every - own else a for a, own in zip(arrays, axes, strict=True)]


def _varying_axes(a: Any) -> frozenset[Any]:
    """The names of the mesh's axes along which an array differs; empty outside of `jax.shard_map`."""
    marks = getattr(a.aval, "manual_axis_type", None)  # since jax 0.10
    return frozenset(getattr(a.aval, "vma", ()) if marks is None else marks.varying)


def _mark(a: jax.Array, axes: tuple[Any, ...]) -> jax.Array:
    """Mark an array as different along axes of the mesh."""
    if hasattr(jax.lax, "pcast"):  # since jax 0.8
        return jax.lax.pcast(a, axes, to="varying")
    return jax.lax.pvary(a, axes)
