"""Tensors that are plain numbers on the CPU, computed by fastact: as arrays, on torch's threads, without autograd."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import fastact
from fastact._built import policy

from . import _host

try:
    from ml_dtypes import bfloat16
except ImportError:  # optional; without it bfloat16 stays torch's
    bfloat16 = None

_arrays: dict[torch.dtype, type | None] = {torch.float16: np.float16, torch.bfloat16: bfloat16}
# The dtypes that fastact takes: 16-bit floats where this fastact has them, which is asked once.
DTYPES = {torch.float32, torch.float64}
for _dtype, _array_dtype in _arrays.items():
    try:
        if _array_dtype is not None and fastact.prelu(np.zeros(1, _array_dtype)).dtype == _array_dtype:
            DTYPES.add(_dtype)
    except TypeError:
        pass

# Elements below which no call takes a second thread, whatever its dtype.
_ALONE = min(policy.thresholds()[name] for name in ("bytes_per_thread", "bytes_per_summing_thread")) // 8
torch_memory = False  # whether results lie in torch's memory


def _has_openmp() -> bool:
    """Whether torch's threads can be shared."""
    try:
        with fastact.thread_source("openmp"):
            return True
    except RuntimeError:
        return False


_HAS_OPENMP = _has_openmp()


def _array(tensor: Tensor, written: bool = False) -> np.ndarray:
    """The tensor's memory as an array.

    Not by Tensor.numpy(), after which the user's tensor could not be resized any more.
    """
    if tensor.requires_grad:
        tensor = tensor.detach()
    bits = tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor
    array = np.from_dlpack(bits)
    if written and not array.flags.writeable:  # NumPy 2.0
        array = bits.numpy()
    return array if bits is tensor else array.view(bfloat16)


def _tensor(array: np.ndarray) -> Tensor:
    """The array's memory as a tensor, which is no view of another one."""
    if array.dtype.kind == "f":
        return torch.from_numpy(array)
    bits = torch.from_numpy(array.view(np.int16))
    return torch.empty(0, dtype=torch.bfloat16).set_(bits.untyped_storage(), 0, bits.shape, bits.stride())


def _in_torchs_memory(x: Tensor) -> bool:
    """Whether a result like x is made by torch, which alone knows the strides for an x with gaps or overlaps."""
    return torch_memory or not (
        x.is_contiguous()
        or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))
        or (x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d))
    )


def _call(function: Callable, x: Tensor, *operands: object, **options: object) -> object:
    """A function of fastact's: a small call on this thread, a large one on torch's threads, as many as torch takes."""
    if x.numel() < _ALONE:
        return function(*operands, **options)
    n_threads = torch.get_num_threads()
    if n_threads == 1 or not _HAS_OPENMP:
        return function(*operands, n_threads=n_threads, **options)
    with fastact.thread_source("openmp"):
        return function(*operands, n_threads=n_threads, **options)


def forward(name: str, x: Tensor, *more: object) -> Tensor:
    """The result of an operation; `more` is a number for leaky_relu, the slopes for prelu."""
    if (y := _fast_forward(KINDS[name], x, *more)) is not None:
        return y
    arrays = [_array(operand) if isinstance(operand, Tensor) else operand for operand in more]
    function = getattr(fastact, name)
    if _in_torchs_memory(x):
        y = torch.empty_like(x, requires_grad=False)
        _call(function, x, _array(x), *arrays, out=_array(y, written=True))
        return y
    return _tensor(_call(function, x, _array(x), *arrays))


def in_place(name: str, x: Tensor, *more: float, is_new: bool = False) -> Tensor:
    """relu or leaky_relu in the place of x; if that is new, nobody has kept what was there."""
    if _fast_in_place(KINDS[name], x, *more) is None:
        array = _array(x, written=True)
        _call(getattr(fastact, name), x, array, *more, out=array)
    if not is_new:
        torch.autograd.graph.increment_version(x)
    return x


def backward(name: str, dy: Tensor, x: Tensor, *more: object, **need: bool) -> object:
    """The gradient of an operation; for prelu those of x and the slopes, or None (need_dx, need_dalpha)."""
    if (gradient := _fast_backward(KINDS[name], dy, x, *more, **need)) is not None:
        return gradient
    arrays = [_array(operand) if isinstance(operand, Tensor) else operand for operand in (dy, x, *more)]
    function = getattr(fastact, f"{name}_backward")
    dx = torch.empty_like(x, requires_grad=False) if need.get("need_dx", True) and _in_torchs_memory(x) else None
    out = None if dx is None else _array(dx, written=True)
    if name != "prelu":
        result, dalpha = _call(function, x, *arrays, out=out), None
    else:
        result, dalpha = _call(function, x, *arrays, **need, out=(out, None))
    dx = dx if dx is not None or result is None else _tensor(result)
    return dx if name != "prelu" else (dx, None if dalpha is None else _tensor(dalpha))


# ---- the way without arrays ------------------------------------------------------------------------------------------


def _nothing(*arguments: object, **options: object) -> None:
    """Nothing, in the place of a function of _exchange."""


KINDS = {"relu": 0, "leaky_relu": 1, "prelu": 2}  # as _exchange.pyx has them
RELU, LEAKY_RELU, PRELU = KINDS.values()


def use_exchange(on: bool) -> bool:
    """Go through DLPack's C exchange API, or not; whether it was used before.  For tests, and where it is missing."""
    global _fast_forward, _fast_in_place, _fast_backward, attempt, attempt_backward
    before = attempt is not _nothing
    names = ("forward", "in_place", "backward", "attempt", "attempt_backward")
    _fast_forward, _fast_in_place, _fast_backward, attempt, attempt_backward = (
        getattr(_exchange, name) if on else _nothing for name in names
    )
    return before


def set_torch_memory(on: bool) -> None:
    """Let results lie in torch's memory, or in fastact's."""
    global torch_memory
    torch_memory = on
    if _exchange is not None:
        _exchange.set_torch_memory(on)


_fast_forward = _fast_in_place = _fast_backward = attempt = attempt_backward = _nothing
try:
    from . import _exchange
except ImportError:  # it was not built
    _exchange = None
if _exchange is not None and _host.exchange_api is not None:
    _numbers = {torch.float16: 1, torch.bfloat16: 2, torch.float32: 3, torch.float64: 4}  # as fastact.h has them
    try:
        _exchange.connect(
            _host.exchange_api, Tensor, torch.nn.Parameter, [_numbers[dtype] for dtype in DTYPES],
            (torch.empty_like, torch.get_num_threads, torch.is_grad_enabled, _host.autocast_is_on,
             _host.EXTRAORDINARY, _host.FORWARD_AD),
        )  # fmt: skip
        use_exchange(True)
    except ValueError:  # of no version that is known here
        _host.exchange_api = _host.lacks(_host.EXCHANGE_API, _host.THROUGH_ARRAYS)
if _host.exchange_api is None:
    _exchange = None
