"""PyTorch: its own operators, the same with fastact enabled, and oneDNN through its mkldnn tensors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fastact._tables import Operation

from ..workloads import Task, Workload
from .base import Call, Contestant, Outputs, number_of_threads


def _as_tensor(array: np.ndarray) -> Any:
    """torch's view of an array.  torch does not know NumPy's bfloat16, so its bits are passed as integers."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _as_array(tensor: Any, dtype: np.dtype) -> np.ndarray:
    """NumPy's view of a tensor."""
    import torch

    return tensor.view(torch.uint16).numpy().view(dtype) if tensor.dtype == torch.bfloat16 else tensor.numpy()


class Torch(Contestant):
    """torch on the CPU: public functions forward, autograd backward, and torch's operators where there is an out=."""

    name = "torch"
    modules = ("torch",)
    halves = ("float16", "bfloat16")
    out = in_place = ("relu", "relu_backward", "leaky_relu", "leaky_relu_backward")

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        known_alpha = workload.alpha == "shared" or (workload.alpha == "channel" and len(workload.shape) > 1)
        known = workload.layout.torch and (op.alpha != "array" or known_alpha)
        return known and super().can(op, workload, dtype, form, threads)

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import torch

            with number_of_threads(torch.get_num_threads, torch.set_num_threads, threads):
                yield

    def arrays(self, task: Task, result: Any) -> tuple[np.ndarray, ...]:
        dx, *dalpha = (tensor.detach() for tensor in super().arrays(task, result))
        if self._moved(task):
            dx = dx.movedim(1, task.workload.channel_axis)
        return tuple(_as_array(tensor, task.x.dtype) for tensor in (dx, *dalpha))

    def relu(self, task: Task, out: Outputs) -> Call:
        import torch

        (x,) = self._tensors(task, task.x)
        if out is None:
            return partial(torch.relu, x)
        return partial(torch.clamp_min, x, 0, out=_as_tensor(out[0]))

    def leaky_relu(self, task: Task, out: Outputs) -> Call:
        import torch

        (x,) = self._tensors(task, task.x)
        if out is None:
            return partial(torch.nn.functional.leaky_relu, x, task.alpha)
        return partial(torch.ops.aten.leaky_relu.out, x, task.alpha, out=_as_tensor(out[0]))

    def prelu(self, task: Task, out: Outputs) -> Call:
        import torch

        return partial(torch.prelu, *self._tensors(task, task.x), self._alpha(task))

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        import torch

        x, dy = self._tensors(task, task.x, task.dy)
        if out is None:
            return self._gradient(torch.relu, dy, x)
        return partial(torch.ops.aten.threshold_backward.grad_input, dy, x, 0, grad_input=_as_tensor(out[0]))

    def leaky_relu_backward(self, task: Task, out: Outputs) -> Call:
        import torch

        x, dy = self._tensors(task, task.x, task.dy)
        if out is None:
            return self._gradient(partial(torch.nn.functional.leaky_relu, negative_slope=task.alpha), dy, x)
        operator = torch.ops.aten.leaky_relu_backward.grad_input
        return partial(operator, dy, x, task.alpha, False, grad_input=_as_tensor(out[0]))

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        import torch

        x, dy = self._tensors(task, task.x, task.dy)
        return self._gradient(torch.prelu, dy, x, self._alpha(task))

    @staticmethod
    def _alpha(task: Task) -> Any:
        return _as_tensor(task.alpha)

    @staticmethod
    def _moved(task: Task) -> bool:
        return task.op.alpha == "array" and task.workload.alpha == "channel"

    def _tensors(self, task: Task, *arrays: np.ndarray) -> list[Any]:
        """Views of arrays.  torch's PReLU needs the channels on axis 1, so they are moved there without a copy."""
        tensors = [_as_tensor(array) for array in arrays]
        return [t.movedim(task.workload.channel_axis, 1) for t in tensors] if self._moved(task) else tensors

    @staticmethod
    def _gradient(function: Callable, dy: Any, *inputs: Any) -> Call:
        import torch

        inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)  # clone() would change some layouts
        return partial(torch.autograd.grad, function(*inputs), inputs, dy, retain_graph=True)


class TorchEnabled(Torch):
    """torch's own PReLU after fastact.torch.enable()."""

    name = "torch_enabled"
    seldom = True
    out = in_place = ()

    @property
    def label(self) -> str:
        return "torch, fastact enabled"

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return op.alpha == "array" and super().can(op, workload, dtype, form, threads)

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        import fastact.torch

        with super().session(threads, dtype), fastact.torch.enabled():
            yield


class OneDNN(Torch):
    """oneDNN's own primitives through torch's mkldnn tensors, which have the memory layout that oneDNN prefers."""

    name = "onednn"
    out = in_place = ()
    dtypes = ("float32",)

    def missing(self) -> str:
        if absent := super().missing():
            return absent
        import torch

        return "" if torch.backends.mkldnn.is_available() else "torch was built without oneDNN"

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        known = op.alpha != "number" and 2 <= len(workload.shape) <= 5
        return known and super().can(op, workload, dtype, form, threads) and self._converts(dtype)

    @staticmethod
    def _converts(dtype: str) -> bool:
        """Whether the processor has the instructions that oneDNN needs for a dtype of 16-bit floats."""
        import torch

        asked = {"float16": "_is_mkldnn_fp16_supported", "bfloat16": "_is_mkldnn_bf16_supported"}
        return dtype not in asked or getattr(torch.ops.mkldnn, asked[dtype])()

    def arrays(self, task: Task, result: Any) -> tuple[np.ndarray, ...]:
        return super().arrays(task, tuple(tensor.to_dense() for tensor in Contestant.arrays(self, task, result)))

    def _tensors(self, task: Task, *arrays: np.ndarray) -> list[Any]:
        return [tensor.contiguous().to_mkldnn() for tensor in super()._tensors(task, *arrays)]

    @staticmethod
    def _alpha(task: Task) -> Any:
        return Torch._alpha(task).to_mkldnn()
