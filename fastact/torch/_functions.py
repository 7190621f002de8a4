"""relu, leaky_relu and prelu with the meaning of torch.nn.functional's, and how a call finds its way.

- While compiling, a call is torch's own operation, which inductor fuses with its neighbours; or, for modules with
  opaque=True, our operator.
- A plain CPU tensor goes straight to fastact, or through an autograd.Function where gradients are recorded.  Small ones
  of relu and leaky_relu are recorded by torch itself: a Function adds 7 us to forward and backward.
- Everything else is the formula in torch's own operations: transforms of torch.func, forward AD, fake tensors, tracing,
  other devices and dtypes, subclasses of Tensor.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.nn import Parameter
from torch.nn import functional as F

from . import _compute, _host
from ._operators import OPERATORS

# ---- with gradients --------------------------------------------------------------------------------------------------


class _ReLU(torch.autograd.Function):
    """relu of a plain tensor, recorded."""

    @staticmethod
    def forward(ctx, x):
        y = _compute.forward("relu", x)
        ctx.save_for_backward(y)  # as torch: the next layer keeps y too, and x can go; both have the same signs
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        dx = _compute.attempt_backward(_compute.RELU, dy, y)
        return _backward("relu", dy, y) if dx is None else dx


class _LeakyReLU(torch.autograd.Function):
    """leaky_relu of a plain tensor, recorded."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        ctx.save_for_backward(x)
        return _compute.forward("leaky_relu", x, slope)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        dx = _compute.attempt_backward(_compute.LEAKY_RELU, dy, x, ctx.slope)
        return _backward("leaky_relu", dy, x, ctx.slope) if dx is None else dx, None


class _PReLU(torch.autograd.Function):
    """prelu of plain tensors, recorded."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _compute.forward("prelu", x, weight)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gradients = _compute.attempt_backward(_compute.PRELU, dy, x, weight, *needed)
        if gradients is None:
            return _backward("prelu", dy, x, weight, need_dx=needed[0], need_dalpha=needed[1])
        return gradients


class _InPlace(torch.autograd.Function):
    """relu or leaky_relu (by name) in the place of a plain tensor, recorded."""

    @staticmethod
    def forward(ctx, name, x, *more):
        ctx.name, ctx.more = name, more
        _compute.in_place(name, x, *more)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)  # y, in the place of x: both have the same signs
        return x

    @staticmethod
    def backward(ctx, dy):
        return None, _backward(ctx.name, dy, *ctx.saved_tensors, *ctx.more), *(None for _ in ctx.more)


_RECORDED = {"relu": _host.recorder(_ReLU), "leaky_relu": _host.recorder(_LeakyReLU), "prelu": _host.recorder(_PReLU)}
_record_relu, _record_leaky_relu, _record_prelu = _RECORDED.values()


def _backward(name: str, dy: Tensor, x: Tensor, *more: object, **need: bool):
    """A backward: in formulas where it is recorded itself, or not on plain tensors."""
    if not torch.is_grad_enabled() and _is_plain(dy) and _host.has_memory(dy) and _host.is_ordinary():
        return _compute.backward(name, dy, x, *more, **need)
    return OPERATORS[f"{name}_backward"].formula(dy, x, *more)


# ---- which way -------------------------------------------------------------------------------------------------------


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is a dense CPU tensor (no subclass) of a dtype that fastact takes."""
    return (
        (type(tensor) is Tensor or type(tensor) is Parameter)
        and tensor.dtype in _compute.DTYPES
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not (tensor.is_neg() or tensor.is_nested)
    )


_SPARSE = {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}


def _refuse(name: str, input: Tensor) -> None:
    """An error of torch's kind for a tensor that is sparse or quantised."""
    if not isinstance(input, Tensor) or not (input.layout in _SPARSE or input.is_quantized):
        return
    kind, cure = ("quantised", "dequantize") if input.is_quantized else ("sparse", "to_dense")
    raise NotImplementedError(
        f"fastact.torch.{name} takes dense tensors of floats, and this one is {kind} ({input.dtype}, {input.layout}): "
        f"pass input.{cure}(), or call torch.nn.functional.{name}"
    )


def elementwise(name: str, own: Callable, input: Tensor, more: tuple, inplace: bool, opaque: bool) -> Tensor:
    """relu or leaky_relu; `own` is torch's function of that name."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        if not opaque:
            return own(input, *more, inplace=inplace)
        y = getattr(torch.ops.fastact, name)(input, *more)
        return input.copy_(y) if inplace else y
    if _is_plain(input) and _host.has_memory(input) and _host.is_ordinary():
        recorded = input.requires_grad and torch.is_grad_enabled()
        if not inplace:
            return _RECORDED[name](input, *more) if recorded else _compute.forward(name, input, *more)
        # What torch says against writing to a tensor or about a negative slope in place, it says by itself.
        if recorded:
            torchs = input.is_leaf or input._is_view() or min(more, default=0) < 0
        else:
            torchs = input.is_inference() and not torch.is_inference_mode_enabled()
        if not (torchs or 0 in input.stride()):
            return _InPlace.apply(name, input, *more) if recorded else _compute.in_place(name, input, *more)
    _refuse(name, input)
    if inplace or type(input) is not Tensor or input.is_nested or not input.is_floating_point():
        return own(input, *more, inplace=inplace)
    return OPERATORS[name].formula(input, *more)


def parametric(input: Tensor, weight: Tensor, opaque: bool) -> Tensor:
    """Prelu."""
    if torch.compiler.is_compiling():
        return torch.ops.fastact.prelu(input, weight) if opaque else OPERATORS["prelu"].formula(input, weight)
    if all(_is_plain(tensor) and _host.has_memory(tensor) for tensor in (input, weight)) and _host.is_ordinary():
        dtype = input.dtype
        if _host.autocast_is_on() and torch.is_autocast_enabled("cpu") and dtype is not torch.float64:
            input = input.to(torch.get_autocast_dtype("cpu"))  # as torch's prelu; the slopes keep their digits
            if input.dtype not in _compute.DTYPES:
                return OPERATORS["prelu"].formula(input, weight)
        _check(input, weight)
        if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
            return _RECORDED["prelu"](input, weight)
        return _compute.forward("prelu", input, weight)
    _refuse("prelu", input)
    if isinstance(input, Tensor) and isinstance(weight, Tensor):
        if not (torch.jit.is_tracing() or input.is_nested):  # sizes are tensors there, and there are none here
            _check(input, weight)
        return OPERATORS["prelu"].formula(input, weight)
    return F.prelu(input, weight)


def _check(input: Tensor, weight: Tensor) -> None:
    """The errors of torch's prelu, which say what to do."""
    if input.dtype is not weight.dtype and not (input.dtype.itemsize == 2 and weight.dtype is torch.float32):
        raise RuntimeError(
            f"prelu: the input is {input.dtype} and the weight {weight.dtype}: convert one of them, as in "
            f"weight.to(input.dtype); only a 16-bit input goes with slopes of another dtype, torch.float32"
        )
    if weight.dim() > 1:
        raise RuntimeError(f"prelu: expected `weight` to be a scalar or 1D tensor, but got {weight.dim()} dimensions: "
                           "pass weight.flatten()")  # fmt: skip
    if (slopes := weight.numel()) != 1:
        channels = input.size(1) if input.dim() > 1 else 1
        if not input.dim() or channels != slopes:
            raise RuntimeError(
                f"prelu: mismatch of {slopes} slopes and {channels} channels (axis 1 of an input of shape "
                f"{tuple(input.shape)}): make the layer with num_parameters={channels}, or 1 for a shared slope"
            )


# ---- the public functions --------------------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False, *, opaque: bool = False) -> Tensor:
    """Rectified linear unit, as torch.nn.functional.relu.

    Parameters
    ----------
    input : Tensor
        Of any shape and layout.  Other devices and dtypes than the CPU's floats go through to torch.
    inplace : bool
        Whether the result takes the place of the input.
    opaque : bool
        What torch.compile makes of it.  False: torch's own operation, which is fused with its neighbours.  True:
        fastact's, as an operator that nothing is fused with.

    Returns
    -------
    Tensor
        0 where input <= 0 (+0.0 for -0.0), else the input; NaN stays NaN.

    Raises
    ------
    NotImplementedError
        If the input is sparse or quantised.

    Examples
    --------
    >>> import fastact.torch, torch
    >>> fastact.torch.relu(torch.tensor([-2.0, 4.0]))
    tensor([0., 4.])
    """
    if not inplace and not is_dynamo_compiling():
        y = _compute.attempt(_compute.RELU, input)
        if y is True:
            return _record_relu(input)
        if y is False:
            y = torch.relu(input)
            _compute.in_place("relu", y, is_new=True)  # +0.0 for -0.0
        if y is not None:
            return y
    return elementwise("relu", F.relu, input, (), inplace, opaque)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False, *, opaque: bool = False) -> Tensor:
    """Leaky ReLU, as torch.nn.functional.leaky_relu.

    Parameters
    ----------
    input : Tensor
        As for `relu`.
    negative_slope : float
        The slope for input <= 0.
    inplace : bool
        Whether the result takes the place of the input.
    opaque : bool
        As for `relu`.

    Returns
    -------
    Tensor
        The input where it is > 0, else negative_slope * input.

    Raises
    ------
    NotImplementedError
        If the input is sparse or quantised.

    Examples
    --------
    >>> import fastact.torch, torch
    >>> fastact.torch.leaky_relu(torch.tensor([-2.0, 4.0]), 0.5)
    tensor([-1.,  4.])
    """
    if not inplace and not is_dynamo_compiling():
        y = _compute.attempt(_compute.LEAKY_RELU, input, negative_slope)
        if y is True:
            return _record_leaky_relu(input, float(negative_slope))
        if y is False:
            return F.leaky_relu(input, negative_slope)  # the same bits
        if y is not None:
            return y
    return elementwise("leaky_relu", F.leaky_relu, input, (float(negative_slope),), inplace, opaque)


def prelu(input: Tensor, weight: Tensor, *, opaque: bool = False) -> Tensor:
    """PReLU, as torch.nn.functional.prelu: channels are on axis 1.

    Parameters
    ----------
    input : Tensor
        As for `relu`.
    weight : Tensor
        One slope, or one for each channel, of the input's dtype; float32 slopes also go with a 16-bit input.
    opaque : bool
        As for `relu`.

    Returns
    -------
    Tensor
        The input where it is > 0, else weight * input.  The gradient of the weight is summed in float64.

    Raises
    ------
    NotImplementedError
        If the input is sparse or quantised.
    RuntimeError
        If the number of slopes does not fit, the weight has more than one axis, or the dtypes do not go together.

    Examples
    --------
    >>> import fastact.torch, torch
    >>> fastact.torch.prelu(torch.tensor([-2.0, 4.0]), torch.tensor(0.25))
    tensor([-0.5000,  4.0000])
    """
    if not is_dynamo_compiling():
        y = _compute.attempt(_compute.PRELU, input, weight)
        if y is True:
            return _record_prelu(input, weight)
        if y is not None:
            return y
    return parametric(input, weight, opaque)


def _scripted_prelu(input: Tensor, weight: Tensor) -> Tensor:
    return F.prelu(input, weight)  # which is no Python function


# What TorchScript compiles in the place of ours.
for _ours, _torchs in ((relu, F.relu), (leaky_relu, F.leaky_relu), (prelu, _scripted_prelu)):
    _ours.__prepare_scriptable__ = lambda _torchs=_torchs: _torchs
