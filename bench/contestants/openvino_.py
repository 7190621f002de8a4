"""OpenVINO: a model of one node on its CPU plugin, forward only."""

import numpy as np

from fastact._tables import Operation

from ..workloads import Task, Workload
from .base import Call, Configured, Outputs


class OpenVino(Configured):
    """New results are in OpenVINO's own buffer, where its users read them; with out= they are in the task's array."""

    name = "openvino"
    modules = ("openvino",)
    out = ("relu", "prelu")
    dtypes = ("float32",)
    seldom = True

    def relu(self, task: Task, out: Outputs) -> Call:
        from openvino import opset13

        return self._compiled(task, out, opset13.relu)

    def prelu(self, task: Task, out: Outputs) -> Call:
        from openvino import opset13

        slope = np.ascontiguousarray(task.broadcast)
        return self._compiled(task, out, lambda x: opset13.prelu(x, opset13.constant(slope)))

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        # Its PRelu takes slopes for axis 1, or one for all.
        known = workload.alpha == "shared" or (workload.alpha == "channel" and workload.channel_axis == 1)
        return (
            (op.alpha != "array" or known) and op.alpha != "number" and super().can(op, workload, dtype, form, threads)
        )

    def _compiled(self, task: Task, out: Outputs, node) -> Call:
        import openvino

        x = openvino.opset13.parameter(task.x.shape, np.float32)
        model = openvino.Model([openvino.opset13.result(node(x))], [x])
        settings = {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(task.x, shared_memory=True))
        if out is not None:
            request.set_output_tensor(openvino.Tensor(out[0], shared_memory=True))

        def call() -> np.ndarray:
            request.infer()
            return out[0] if out is not None else request.get_output_tensor().data

        return call
