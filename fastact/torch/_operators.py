"""The operators fastact::relu, leaky_relu, prelu and their backward: what torch.compile and torch.export see of us.

An operator is a row of OPERATORS.  On plain CPU tensors it is fastact's function; for everything else (other devices,
dtypes that fastact does not take, vmap) it is a formula in torch's own operations, which can be differentiated to any
order.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _compute

# ---- formulas --------------------------------------------------------------------------------------------------------


def _relu(x):
    return torch.where(x <= 0, 0, x)


def _relu_backward(dy, x):
    return torch.where(x <= 0, 0, dy)


def _leaky_relu(x, slope):
    return F.leaky_relu(x, slope)


def _leaky_relu_backward(dy, x, slope):
    return torch.where(x > 0, dy, slope * dy)


def _prelu(x, weight):
    return F.prelu(x, weight) if x.dtype == weight.dtype else F.prelu(x.to(weight.dtype), weight).to(x.dtype)


def _along(x, weight):
    """The slopes in the shape that broadcasts with x."""
    return weight.reshape(()) if weight.numel() == 1 else weight.view(-1, *[1] * (x.dim() - 2))


def _summed(terms, weight):
    """The terms of each slope's gradient, added up."""
    axes = [0, *range(2, terms.dim())] if weight.numel() != 1 else []
    return (terms.sum(axes) if axes or weight.numel() == 1 else terms).reshape(weight.shape)


def _prelu_backward(dy, x, weight):
    terms = torch.where(x > 0, 0, x.to(weight.dtype) * dy)
    dx = torch.where(x > 0, dy, (_along(x, weight) * dy).to(x.dtype))
    return dx, _summed(terms, weight)


# ---- the backward of each operator -----------------------------------------------------------------------------------
# Given are the gradients of the results and the operator's arguments; the result is a gradient for each argument.  A
# first backward is an operator too.  Where it is recorded itself (create_graph), it is a formula, and so torch's.


def _of_relu(g, x):
    return (_relu_backward if torch.is_grad_enabled() else torch.ops.fastact.relu_backward)(g, x)


def _of_leaky_relu(g, x, slope):
    return (_leaky_relu_backward if torch.is_grad_enabled() else torch.ops.fastact.leaky_relu_backward)(
        g, x, slope
    ), None


def _of_prelu(g, x, weight):
    return (_prelu_backward if torch.is_grad_enabled() else torch.ops.fastact.prelu_backward)(g, x, weight)


def _of_relu_backward(g, dy, x):
    return _relu_backward(g, x), None


def _of_leaky_relu_backward(g, dy, x, slope):
    return _leaky_relu_backward(g, x, slope), None, None


def _of_prelu_backward(g, g_weight, dy, x, weight):
    w, gw = _along(x, weight), _along(x, g_weight)
    of_dy = torch.where(x > 0, g, (w * g + x * gw).to(dy.dtype))
    of_x = torch.where(x > 0, 0, (dy * gw).to(x.dtype))
    return of_dy, of_x, _summed(torch.where(x > 0, 0, dy.to(weight.dtype) * g), weight)


# ---- the table -------------------------------------------------------------------------------------------------------


class Operator(NamedTuple):
    """An operator: its schema, what it is on plain CPU tensors, its formula, its fake kernel and its backward."""

    schema: str
    plain: Callable
    formula: Callable
    fake: Callable
    backward: Callable
    keeps_result: bool = False  # for the backward, in the place of x


def _like_x(position: int) -> Callable:
    return lambda *arguments: torch.empty_like(arguments[position])


def _fake_gradients(dy, x, weight):
    return torch.empty_like(x), torch.empty_like(weight)


OPERATORS = {
    "relu": Operator("(Tensor x) -> Tensor", partial(_compute.forward, "relu"), _relu, _like_x(0), _of_relu, True),
    "relu_backward": Operator(
        "(Tensor dy, Tensor x) -> Tensor",
        partial(_compute.backward, "relu"),
        _relu_backward,
        _like_x(1),
        _of_relu_backward,
    ),
    "leaky_relu": Operator(
        "(Tensor x, float negative_slope) -> Tensor",
        partial(_compute.forward, "leaky_relu"),
        _leaky_relu,
        _like_x(0),
        _of_leaky_relu,
    ),
    "leaky_relu_backward": Operator(
        "(Tensor dy, Tensor x, float negative_slope) -> Tensor",
        partial(_compute.backward, "leaky_relu"),
        _leaky_relu_backward,
        _like_x(1),
        _of_leaky_relu_backward,
    ),
    "prelu": Operator(
        "(Tensor x, Tensor weight) -> Tensor",
        partial(_compute.forward, "prelu"),
        _prelu,
        _like_x(0),
        _of_prelu,
    ),
    "prelu_backward": Operator(
        "(Tensor dy, Tensor x, Tensor weight) -> (Tensor, Tensor)",
        partial(_compute.backward, "prelu"),
        _prelu_backward,
        _fake_gradients,
        _of_prelu_backward,
    ),
}


def _on_the_cpu(operator: Operator) -> Callable:
    """The operator's kernel for the CPU: fastact where it takes all dtypes, else the formula."""

    def kernel(*arguments):
        if all(a.dtype in _compute.DTYPES for a in arguments if isinstance(a, Tensor)):
            return operator.plain(*arguments)
        return operator.formula(*arguments)

    return kernel


def _register(library: torch.library.Library) -> None:
    """Make the operators known to torch."""
    for name, operator in OPERATORS.items():
        full = f"fastact::{name}"
        library.define(name + operator.schema, tags=torch.Tag.pt2_compliant_tag)
        library.impl(name, _on_the_cpu(operator), "CPU")
        library.impl(name, operator.formula, "CompositeExplicitAutograd")
        torch.library.register_fake(full, operator.fake, lib=library)

        def save(ctx, inputs, output, keeps_result=operator.keeps_result):
            if keeps_result:
                inputs = (output, *inputs[1:])
            ctx.numbers = [None if isinstance(value, Tensor) else value for value in inputs]
            ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))

        def backward(ctx, *gradients, of=operator.backward):
            saved = iter(ctx.saved_tensors)
            return of(*gradients, *(next(saved) if number is None else number for number in ctx.numbers))

        torch.library.register_autograd(full, backward, setup_context=save, lib=library)

        def batched(info, in_dims, *arguments, formula=operator.formula):
            return torch.vmap(formula, in_dims, randomness="same")(*arguments), 0

        torch.library.register_vmap(full, batched, lib=library)


_library = torch.library.Library("fastact", "DEF")
_register(_library)
