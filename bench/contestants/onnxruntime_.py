"""ONNX Runtime: its own operators, and PRelu of fastact's library."""

from functools import partial
from typing import Any

import numpy as np

from fastact._tables import Operation
from fastact.onnx import library_path

from ..workloads import Task, Workload
from .base import Call, Configured, Outputs


class OnnxRuntime(Configured):
    """A model of one node, forward only.  With out= its input and output are bound to the task's arrays."""

    name = "onnxruntime"
    modules = ("onnxruntime", "onnx")
    out = ("relu", "leaky_relu", "prelu")
    dtypes = ("float32",)

    def arrays(self, task: Task, result: Any) -> tuple[np.ndarray, ...]:
        return tuple(result)

    def configure(self, options: Any) -> None:
        """Set more of a session's options."""

    def relu(self, task: Task, out: Outputs) -> Call:
        return self._node(task, out, "Relu")

    def leaky_relu(self, task: Task, out: Outputs) -> Call:
        return self._node(task, out, "LeakyRelu", alpha=task.alpha)

    def prelu(self, task: Task, out: Outputs) -> Call:
        return self._node(task, out, "PRelu", slope=task.broadcast)

    def _node(self, task: Task, out: Outputs, kind: str, slope: np.ndarray | None = None, **attributes: float) -> Call:
        import onnx
        import onnxruntime
        from onnx import helper

        value = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=task.x.shape)
        slopes = [] if slope is None else [onnx.numpy_helper.from_array(np.ascontiguousarray(slope), "slope")]
        node = helper.make_node(kind, ["x"] + ["slope"] * len(slopes), ["y"], **attributes)
        graph = helper.make_graph([node], kind, [value("x")], [value("y")], slopes)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.configure(options)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if out is None:
            return partial(session.run, None, {"x": task.x})
        binding = session.io_binding()
        for bind, name, array in ((binding.bind_input, "x", task.x), (binding.bind_output, "y", out[0])):
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def call() -> tuple[np.ndarray, ...]:
            session.run_with_iobinding(binding)
            return out

        return call


class OnnxRuntimeWithLibrary(OnnxRuntime):
    """The same with fastact's library of custom operators, which has PRelu."""

    name = "ort_fastact"
    seldom = True

    @property
    def label(self) -> str:
        return "ort + fastact"

    def missing(self) -> str:
        if absent := super().missing():
            return absent
        try:
            library_path()
        except RuntimeError as error:
            return str(error)
        return ""

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return op.name == "prelu" and super().can(op, workload, dtype, form, threads)

    def configure(self, options: Any) -> None:
        options.register_custom_ops_library(library_path())
