"""LiteRT (the former TensorFlow Lite): a model of one operator, which its XNNPACK delegate computes, forward only."""

import numpy as np

from ..workloads import Task
from .base import Call, Configured, Outputs


class LiteRt(Configured):
    """x is copied to the interpreter's buffer before the timing; the result is the copy that `get_tensor` makes."""

    name = "litert"
    modules = ("ai_edge_litert",)
    dtypes = ("float32",)
    seldom = True

    def relu(self, task: Task, out: Outputs) -> Call:
        return self._interpreted(task, "RELU")

    def leaky_relu(self, task: Task, out: Outputs) -> Call:
        return self._interpreted(task, "LEAKY_RELU", alpha=task.alpha)

    def prelu(self, task: Task, out: Outputs) -> Call:
        return self._interpreted(task, "PRELU", slope=np.ascontiguousarray(task.broadcast))

    def _interpreted(self, task: Task, kind: str, slope: np.ndarray | None = None, alpha: float | None = None) -> Call:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=_model(task.x.shape, kind, slope, alpha), num_threads=self.threads)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], task.x)
        y = interpreter.get_output_details()[0]["index"]

        def call() -> np.ndarray:
            interpreter.invoke()
            return interpreter.get_tensor(y)

        return call


def _model(shape: tuple[int, ...], kind: str, slope: np.ndarray | None, alpha: float | None) -> bytes:
    """A model of one operator, as the bytes of a file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: tuple[int, ...], buffer: int) -> object:
        found = schema.TensorT()
        found.name, found.shape, found.buffer = name, list(shape), buffer
        found.type, found.shapeSignature = schema.TensorType.FLOAT32, list(shape)
        return found

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    operator, graph, model = schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
    empty, constant = schema.BufferT(), schema.BufferT()
    graph.tensors = [tensor("x", shape, 0), tensor("y", shape, 0)]
    operator.inputs, operator.outputs = [0], [1]
    if slope is not None:
        constant.data = slope.view(np.uint8).reshape(-1)
        graph.tensors.append(tensor("slope", slope.shape, 1))
        operator.inputs.append(2)
    if alpha is not None:
        operator.builtinOptionsType = schema.BuiltinOptions.LeakyReluOptions
        operator.builtinOptions = schema.LeakyReluOptionsT()
        operator.builtinOptions.alpha = alpha
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [empty, constant]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
