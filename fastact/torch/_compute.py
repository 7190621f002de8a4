"""Tensors that are plain numbers on the CPU, computed by fastact: as arrays, on torch's threads, without autograd."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import fastact
from fastact._built import policy

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
torch_memory = False  # whether results lie in torch's memory; _override sets it


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


def elementwise(function: Callable, x: Tensor, *operands: object) -> Tensor:
    """function(*operands) for operands that are tensors or numbers, of which x is the one that the result is like."""
    arrays = [_array(operand) if isinstance(operand, Tensor) else operand for operand in operands]
    if _in_torchs_memory(x):
        y = torch.empty_like(x, requires_grad=False)
        _call(function, x, *arrays, out=_array(y, written=True))
        return y
    return _tensor(_call(function, x, *arrays))


def in_place(function: Callable, x: Tensor, *more: object) -> Tensor:
    """function(x, *more) in the place of x."""
    array = _array(x, written=True)
    _call(function, x, array, *more, out=array)
    torch.autograd.graph.increment_version(x)
    return x


def prelu_backward(dy: Tensor, x: Tensor, weight: Tensor, need_dx: bool = True, need_dalpha: bool = True):
    """The gradients (or None) of prelu, the slopes' of weight's shape and dtype."""
    dx = torch.empty_like(x, requires_grad=False) if need_dx and _in_torchs_memory(x) else None
    result, dalpha = _call(
        fastact.prelu_backward, x, _array(dy), _array(x), _array(weight), need_dx=need_dx, need_dalpha=need_dalpha,
        out=(None if dx is None else _array(dx, written=True), None),
    )  # fmt: skip
    return (
        dx if dx is not None else None if result is None else _tensor(result),
        None if dalpha is None else _tensor(dalpha),
    )
