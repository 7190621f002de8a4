"""torch.compile: the inductor's code for torch's functions and their gradients, which many people would choose."""

from typing import Any

from fastact._tables import Operation

from ..workloads import Task, Workload
from .base import Call, Outputs
from .torch_ import Torch


class TorchCompile(Torch):
    """Functions compiled for each shape.  Gradients are written as formulas, like those in a compiled backward pass."""

    name = "torch_compile"
    out = in_place = ()
    dtypes = ("float32", "float64")
    seldom = True  # a compilation takes seconds

    @property
    def label(self) -> str:
        return "torch.compile"

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        chosen = workload.part in ("workloads", "own")
        return chosen and op.alpha != "number" and super().can(op, workload, dtype, form, threads)

    def relu(self, task: Task, out: Outputs) -> Call:
        import torch

        return self._compiled(torch.relu, *self._tensors(task, task.x))

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        import torch

        return self._compiled(lambda dy, x: torch.where(x > 0, dy, 0), *self._tensors(task, task.dy, task.x))

    def prelu(self, task: Task, out: Outputs) -> Call:
        import torch

        return self._compiled(torch.prelu, *self._tensors(task, task.x), self._alpha(task))

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        import torch

        dy, x = self._tensors(task, task.dy, task.x)
        alpha = self._alpha(task)
        shape = [1] * x.dim()
        if alpha.numel() > 1:
            shape[1] = -1
        others = [axis for axis in range(x.dim()) if axis != 1 or alpha.numel() == 1]

        def gradients(dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
            positive = x > 0
            terms = torch.where(positive, 0, x * dy)
            return torch.where(positive, dy, alpha.reshape(shape) * dy), terms.sum(others).reshape(alpha.shape)

        return self._compiled(gradients, dy, x, alpha)

    @staticmethod
    def _compiled(function: Any, *operands: Any) -> Call:
        import torch

        torch.compiler.reset()  # the code of the case before is not needed any more
        compiled = torch.compile(function, dynamic=False)

        def call() -> Any:
            with torch.no_grad():
                return compiled(*operands)

        return call
