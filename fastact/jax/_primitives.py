"""JAX primitives for the functions: what JAX's transformations make of them, and how they are compiled.

Each has a formula in jnp, which is what devices other than CPUs compile.  On a CPU it is a call of a handler
(`_handlers.c`).  alpha always has x's number of axes, and broadcasts to x.

A *tangent* primitive is the derivative as a linear function of tangents; its transpose is the backward function.  So
forward mode, reverse mode and their combinations need no more than the rules here.  Derivatives of backward functions
are those of their formulas.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.xla import apply_primitive

PREFIX = "fastact_"  # of the names under which XLA knows the handlers: they are one list in a process


# ---- formulas --------------------------------------------------------------------------------------------------------


def computing(dtype: Any) -> Any:
    """The dtype in which the formulas are computed."""
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def relu_formula(x):
    """y, as in fastact.reference."""
    return [jnp.where(x <= 0, jnp.zeros_like(x), x)]


def relu_backward_formula(dy, x):
    """dx."""
    return [jnp.where(x <= 0, jnp.zeros_like(dy), dy)]


def prelu_formula(x, alpha):
    """y."""
    return prelu_tangent_formula(x, x, alpha, wrt=(True, False))


def prelu_tangent_formula(*operands, wrt):
    """y's tangent, from those of x and alpha that are wanted (`wrt`)."""
    *tangents, x, alpha = operands
    wide = computing(x.dtype)
    dy, slope = jnp.zeros((), wide), jnp.zeros((), wide)
    if wrt[0]:
        dy = tangents[0].astype(wide)
        slope = alpha.astype(wide) * dy
    if wrt[1]:
        slope = slope + tangents[-1].astype(wide) * x.astype(wide)
    return [jnp.where(x > 0, dy, slope).astype(x.dtype)]


def prelu_backward_formula(dy, x, alpha, *, wrt):
    """Those of dx and dalpha that are wanted."""
    wide = computing(x.dtype)
    axes = tuple(axis for axis, n in enumerate(alpha.shape) if n == 1)
    results = []
    if wrt[0]:
        results += prelu_tangent_formula(dy, x, alpha, wrt=(True, False))
    if wrt[1]:
        terms = jnp.where(x > 0, jnp.zeros((), wide), x.astype(wide) * dy.astype(wide))
        results.append(jnp.sum(terms, axes, keepdims=True).astype(alpha.dtype))
    return results


# ---- rules -----------------------------------------------------------------------------------------------------------


def _primitive(name: str, formula: Callable, results: Callable, target: Callable | None = None) -> Primitive:
    """A primitive: its formula, the types of its results, and its handler's name; the last two by functions."""
    primitive = Primitive(PREFIX + name)
    primitive.multiple_results = True
    primitive.def_abstract_eval(results)
    primitive.def_impl(partial(apply_primitive, primitive))
    mlir.register_lowering(primitive, mlir.lower_fun(formula, multiple_results=True))
    if target:

        def lowered(context, *operands, **parameters):
            return jax.ffi.ffi_lowering(PREFIX + target(**parameters))(context, *operands)

        mlir.register_lowering(primitive, lowered, platform="cpu")
    return primitive


def _derive_by_formula(primitive: Primitive, formula: Callable) -> None:
    """Make the derivative of a primitive that of its formula, by the operands that have a tangent."""

    def jvp(primals, tangents, **parameters):
        active = [k for k, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

        def of_active(*operands):
            operands = dict(zip(active, operands, strict=True))
            return formula(*(operands.get(k, primal) for k, primal in enumerate(primals)), **parameters)

        _, out = jax.jvp(of_active, [primals[k] for k in active], [tangents[k] for k in active])
        return primitive.bind(*primals, **parameters), out

    ad.primitive_jvps[primitive] = jvp


def _batch(primitive: Primitive, slopes: Callable[..., Sequence[bool]]) -> None:
    """A batch becomes the first axis of all operands; `slopes` says which of them broadcast to x.

    Each sample has a dalpha of its own, so where dalpha is computed alpha is repeated for each sample.
    """

    def batched(operands, axes, **parameters):
        number = next(a.shape[axis] for a, axis in zip(operands, axes, strict=True) if axis is not None)

        def first(a, axis, is_slope):
            if axis is not None:
                return jnp.moveaxis(a, axis, 0)
            repeated = not is_slope or parameters.get("wrt", (True, False))[1]
            return jnp.broadcast_to(a, (number if repeated else 1, *a.shape))

        moved = map(first, operands, axes, slopes(*operands, **parameters))
        results = primitive.bind(*moved, **parameters)
        return results, [0] * len(results)

    batching.primitive_batchers[primitive] = batched


def _wanted(parts: Sequence[Any], wrt: tuple[bool, bool]) -> list[Any]:
    return [part for part, is_wanted in zip(parts, wrt, strict=True) if is_wanted]


# ---- relu ------------------------------------------------------------------------------------------------------------

relu_p = _primitive("relu", relu_formula, lambda x: [x], lambda: "relu")
relu_backward_p = _primitive("relu_backward", relu_backward_formula, lambda dy, x: [x], lambda: "relu_backward")


def _relu_jvp(primals, tangents):
    return relu_p.bind(*primals), relu_backward_p.bind(*tangents, *primals)


def _relu_transpose(cotangents, dy, x):
    (ct,) = cotangents
    return [ct if type(ct) is ad.Zero else relu_backward_p.bind(ct, x)[0], None]


ad.primitive_jvps[relu_p] = _relu_jvp
ad.primitive_transposes[relu_backward_p] = _relu_transpose
_derive_by_formula(relu_backward_p, relu_backward_formula)
_batch(relu_p, lambda x: (False,))
_batch(relu_backward_p, lambda dy, x: (False, False))

# ---- prelu -----------------------------------------------------------------------------------------------------------

_BACKWARD = {(True, True): "prelu_backward", (True, False): "prelu_dx", (False, True): "prelu_dalpha"}

prelu_p = _primitive("prelu", prelu_formula, lambda x, alpha: [x], lambda: "prelu")
prelu_tangent_p = _primitive("prelu_tangent", prelu_tangent_formula, lambda *operands, wrt: [operands[-2]])
prelu_backward_p = _primitive(
    "prelu_backward",
    prelu_backward_formula,
    lambda dy, x, alpha, wrt: _wanted((x, alpha), wrt),
    lambda wrt: _BACKWARD[wrt],
)


def _prelu_jvp(primals, tangents):
    wrt = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    return prelu_p.bind(*primals), prelu_tangent_p.bind(*_wanted(tangents, wrt), *primals, wrt=wrt)


def _prelu_transpose(cotangents, *operands, wrt):
    *_, x, alpha = operands
    (ct,) = cotangents
    if type(ct) is ad.Zero:
        return [None] * len(operands)
    return [*prelu_backward_p.bind(ct, x, alpha, wrt=wrt), None, None]


ad.primitive_jvps[prelu_p] = _prelu_jvp
ad.primitive_transposes[prelu_tangent_p] = _prelu_transpose
_derive_by_formula(prelu_tangent_p, prelu_tangent_formula)
_derive_by_formula(prelu_backward_p, prelu_backward_formula)
_batch(prelu_p, lambda x, alpha: (False, True))
_batch(prelu_tangent_p, lambda *operands, wrt: (*_wanted((False, True), wrt), False, True))
_batch(prelu_backward_p, lambda dy, x, alpha, wrt: (False, False, True))
