"""Who is timed: fastact's backends, the limit, NumPy's common and best spelling, first attempts, and the peers.

A contestant has one method per operation or, failing that, per kernel (so leaky_relu falls back to prelu);
the method sets everything up and returns the call to time.  With an operation it does not know, a peer
stays out and NumPy falls back to the reference's expression.  Peers are imported on first use, their
warnings are not ours, and each is set to the same number of threads; fastact's results must be exact.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import fastact
from fastact import reference
from fastact._tables import OPERATIONS, Operation
from fastact.onnx import library_path

from .workloads import Task, Workload

Call = Callable[[], Any]
Outputs = tuple[np.ndarray, ...] | None


class Contestant:
    """The interface; by default a contestant writes fresh results and takes what out= form it lists."""

    name = ""
    modules: tuple[str, ...] = ()  # what must be importable
    exact = False  # results must equal the reference bit for bit
    out: tuple[str, ...] = ()  # operations that can write into existing arrays
    dtypes: tuple[str, ...] = ("float32", "float64", "int32")
    halves: tuple[str, ...] = ()  # the 16-bit floats that it takes as well

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.name

    def missing(self) -> str:
        """Why it cannot take part, or an empty string."""
        if absent := [module for module in self.modules if find_spec(module) is None]:
            return f"{', '.join(absent)} not installed"
        most = self.most_threads()
        return f"it was started with {most} threads at most" if most < fastact.get_num_threads() else ""

    def most_threads(self) -> float:
        """How many threads it can be set to: everybody has the same number, or stays out."""
        return math.inf

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call] | None:
        """What prepares the operation, or None."""
        return getattr(self, op.name, None) or getattr(self, op.kernel, None)

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        """Whether it does the operation in this form ("fresh" or "out") with "all" threads or "one"."""
        known = dtype in self.dtypes + self.halves
        return self.method(op) is not None and known and (form == "fresh" or op.name in self.out)

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        """Hold the contestant to a number of threads."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def prepare(self, task: Task, out: Outputs) -> Call:
        """The call to time."""
        return self.method(task.op)(task, out)

    def arrays(self, task: Task, result: Any) -> tuple[np.ndarray, ...]:
        """A call's result as (y,), (dx,) or (dx, dalpha)."""
        return result if isinstance(result, tuple) else (result,)


class NumPy(Contestant):
    """What people write without a library: the baseline.  bfloat16 is ml_dtypes', and not NumPy's own."""

    name = "numpy"
    halves = ("float16",)
    out = tuple(OPERATIONS)

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call]:
        return super().method(op) or self.spelled_as_reference

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        known = dtype in self.dtypes + self.halves
        return known and (form == "fresh" or self.method(op) != self.spelled_as_reference)

    def spelled_as_reference(self, task: Task, out: Outputs) -> Call:
        operands = [getattr(task, name) for name in task.op.reads] + [task.broadcast] * bool(task.op.alpha)
        return partial(getattr(reference, task.op.reference), *operands)

    def relu(self, task: Task, out: Outputs) -> Call:
        return partial(np.maximum, task.x, 0, out=out and out[0])

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        dy, x, dx = task.dy, task.x, out and out[0]
        return lambda: np.multiply(dy, x > 0, out=dx)

    def prelu(self, task: Task, out: Outputs) -> Call:
        x, alpha = task.x, task.broadcast
        return partial(self._select, x, x, alpha, out[0]) if out else lambda: np.where(x > 0, x, alpha * x)

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        dy, x, alpha = task.dy, task.x, task.broadcast
        dx, *dalpha = out or (None,)
        if not task.op.summed:
            return partial(self._select, x, dy, alpha, dx) if out else lambda: np.where(x > 0, dy, alpha * dy)
        shape = (1,) * (x.ndim - alpha.ndim) + alpha.shape
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
        sums = dalpha[0].reshape(np.delete(shape, axes)) if dalpha else None

        def call() -> tuple[np.ndarray, ...]:
            gradient = self._select(x, dy, alpha, dx) if out else np.where(x > 0, dy, alpha * dy)
            total = np.sum(np.where(x > 0, 0, x * dy), axis=axes, out=sums)
            return gradient, np.reshape(total, task.alpha.shape)

        return call

    @staticmethod
    def _select(x: np.ndarray, v: np.ndarray, alpha: np.ndarray | float, out: np.ndarray) -> np.ndarray:
        """where(x > 0, v, alpha * v) with one temporary, the mask."""
        np.multiply(alpha, v, out=out)
        np.copyto(out, v, where=x > 0)
        return out


class NumPyBest(NumPy):
    """What people write who have measured: no choice between arrays, which branches on every sign, but arithmetic.

    On random signs PReLU takes a quarter of the time so.  A product with a mask is no selection: an infinite dy of a
    dead unit becomes NaN.  `np.maximum(x, alpha * x)` would be faster still and is right for slopes from 0 to 1 only.
    """

    name = "numpy_best"
    dtypes = ("float32", "float64")
    halves = ()

    @property
    def label(self) -> str:
        return "numpy best"

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        other = op.name != "relu" and workload.alpha != "full" and dtype in self.dtypes  # relu is best as it is
        return other and super().can(op, workload, dtype, form, threads)

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        return lambda: self._kept(task, out)

    def prelu(self, task: Task, out: Outputs) -> Call:
        x, alpha = task.x, task.broadcast

        def call() -> np.ndarray:
            y, below = np.maximum(x, 0, out=out and out[0]), np.minimum(x, 0)
            below *= alpha
            y += below
            return y

        return call

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        dy, x, alpha = task.dy, task.x, task.broadcast

        def gradient() -> np.ndarray:
            kept = self._kept(task, None)
            dx = np.subtract(dy, kept, out=out and out[0])
            dx *= alpha
            dx += kept
            return dx

        def call() -> tuple[np.ndarray, ...]:
            below = task.by_channel(np.minimum(x, 0))
            dalpha = np.einsum("rci,rci->c", below, task.by_channel(dy), out=out and out[1].reshape(-1))
            return gradient(), dalpha.reshape(task.alpha.shape)

        return call if task.op.summed else gradient

    @staticmethod
    def _kept(task: Task, out: Outputs) -> np.ndarray:
        """dy where x > 0, else 0."""
        kept = out[0] if out else np.empty_like(task.dy)
        np.greater(task.x, 0, out=kept, casting="unsafe")
        kept *= task.dy
        return kept


class Fastact(Contestant):
    """One backend, called as its users do: what is not an argument of the operation is set beforehand."""

    exact = True
    out = tuple(OPERATIONS)
    halves = ("float16", "bfloat16")

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.name = f"fastact_{backend}"

    @property
    def label(self) -> str:
        return f"fastact {self.backend}"

    def missing(self) -> str:
        if self.backend in fastact.available_backends():
            return ""
        return str(fastact.config()["backends"].get(self.backend, "unknown backend"))

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call]:
        return self.call

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        # The process-wide settings: unlike the `with` forms they leave a call as quick as it is by default.
        before = fastact.get_backend(), fastact.get_num_threads()
        fastact.set_backend(self.backend)
        fastact.set_num_threads(threads)
        try:
            yield
        finally:  # not None: the user's choice of a backend or of a number of threads holds for the next one too
            fastact.set_backend(before[0])
            fastact.set_num_threads(before[1])

    @staticmethod
    def call(task: Task, out: Outputs) -> Call:
        op = task.op
        operands = [getattr(task, name) for name in op.reads] + [task.alpha] * bool(op.alpha)
        keywords: dict[str, Any] = {}
        if op.alpha == "array" and task.workload.channel_axis != 1:
            keywords["channel_axis"] = task.workload.channel_axis
        if out:
            keywords["out"] = out if op.summed else out[0]
        return partial(getattr(fastact, op.name), *operands, **keywords)


def _as_tensor(array: np.ndarray) -> Any:
    """torch's view of an array: NumPy's bfloat16 is unknown to it, so the bits go over as integers."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _as_array(tensor: Any, dtype: np.dtype) -> np.ndarray:
    """NumPy's view of a tensor."""
    import torch

    return tensor.view(torch.uint16).numpy().view(dtype) if tensor.dtype == torch.bfloat16 else tensor.numpy()


class Torch(Contestant):
    """torch on the CPU: public functions forward, autograd backward, its operators where out= is wanted."""

    name = "torch"
    modules = ("torch",)
    halves = ("float16", "bfloat16")
    out = ("relu", "relu_backward", "leaky_relu", "leaky_relu_backward")

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        known_alpha = workload.alpha == "shared" or (workload.alpha == "channel" and len(workload.shape) > 1)
        known = workload.layout.torch and (op.alpha != "array" or known_alpha)
        return known and super().can(op, workload, dtype, form, threads)

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import torch

            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                yield
            finally:
                torch.set_num_threads(before)

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
        """Views; torch's PReLU wants the channels on axis 1, so channels last becomes its own memory format."""
        tensors = [_as_tensor(array) for array in arrays]
        return [t.movedim(task.workload.channel_axis, 1) for t in tensors] if self._moved(task) else tensors

    @staticmethod
    def _gradient(function: Callable, dy: Any, *inputs: Any) -> Call:
        import torch

        inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)  # not clone(): some lie plainly then
        return partial(torch.autograd.grad, function(*inputs), inputs, dy, retain_graph=True)


class TorchEnabled(Torch):
    """torch's own PReLU after fastact.torch.enable()."""

    name = "torch_enabled"
    out = ()

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
    """oneDNN's own primitives through torch's mkldnn tensors; channels last is laid out as it likes best."""

    name = "onednn"
    out = ()
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
        """Whether the processor has what oneDNN asks of it for 16-bit floats."""
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


class Jax(Contestant):
    """Jitted expressions and their vjp; XLA's thread pool is sized at start-up, so the run's number of threads only."""

    name = "jax"
    modules = ("jax",)
    halves = ("float16", "bfloat16")

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and threads == "all"

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            os.environ["PJRT_NPROC"] = str(threads)  # read once, when the first array is made
            import jax

            with jax.enable_x64(dtype == "float64"):
                yield

    def arrays(self, task: Task, result: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(array) for array in super().arrays(task, result))

    def relu(self, task: Task, out: Outputs) -> Call:
        import jax

        return self._jit(jax.nn.relu, task.x)

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        import jax

        return self._jit(lambda dy, x: jax.vjp(jax.nn.relu, x)[1](dy), task.dy, task.x)

    def prelu(self, task: Task, out: Outputs) -> Call:
        return self._jit(self._formula, task.x, self._alpha(task))

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        import jax

        if task.op.summed:
            return self._jit(
                lambda dy, x, alpha: self._vjp_alpha_flat(task, dy, x, alpha), task.dy, task.x, self._alpha(task)
            )
        gradient = lambda dy, x, alpha: jax.vjp(lambda x: self._formula(x, alpha), x)[1](dy)  # noqa: E731
        return self._jit(gradient, task.dy, task.x, self._alpha(task))

    def _vjp_alpha_flat(self, task: Task, dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
        import jax

        dx, dalpha = jax.vjp(self._formula, x, alpha)[1](dy)
        return dx, dalpha.reshape(task.alpha.shape)

    @staticmethod
    def _formula(x: Any, alpha: Any) -> Any:
        import jax.numpy as jnp

        return jnp.where(x > 0, x, alpha * x)

    @staticmethod
    def _alpha(task: Task) -> np.ndarray:
        return np.asarray(task.broadcast, task.x.dtype)

    @staticmethod
    def _jit(function: Callable, *arrays: np.ndarray) -> Call:
        import jax

        compiled, operands = jax.jit(function), jax.device_put(arrays)
        return lambda: jax.block_until_ready(compiled(*operands))


class JaxWithFastact(Jax):
    """The same with the functions of fastact.jax."""

    name = "jax_fastact"
    exact = True
    dtypes = ("float32", "float64")

    @property
    def label(self) -> str:
        return "jax + fastact"

    def missing(self) -> str:
        return super().missing() or str(fastact.config()["missing_modules"].get("fastact.jax._handlers", ""))

    def relu(self, task: Task, out: Outputs) -> Call:
        return self._jit(self._functions().relu, task.x)

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        import jax

        return self._jit(lambda dy, x: jax.vjp(self._functions().relu, x)[1](dy)[0], task.dy, task.x)

    def _formula(self, x: Any, alpha: Any) -> Any:
        return self._functions().prelu(x, alpha)

    @staticmethod
    def _functions() -> Any:
        import fastact.jax

        return fastact.jax


class OnnxRuntime(Contestant):
    """A model of one node, forward only; with out= its input and output are bound to our arrays."""

    name = "onnxruntime"
    modules = ("onnxruntime", "onnx")
    out = ("relu", "leaky_relu", "prelu")
    dtypes = ("float32",)

    def __init__(self) -> None:
        self.threads = 1

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        self.threads = threads
        with super().session(threads, dtype):
            yield

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


class NumExpr(Contestant):
    """The expression as text; it has no sum over several axes, so no gradient of alpha."""

    name = "numexpr"
    modules = ("numexpr",)
    out = ("relu", "relu_backward", "leaky_relu", "leaky_relu_backward", "prelu")

    def most_threads(self) -> float:
        import numexpr

        return numexpr.MAX_THREADS

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and not op.summed

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import numexpr

            before = numexpr.set_num_threads(threads)
            try:
                yield
            finally:
                numexpr.set_num_threads(before)

    def relu(self, task: Task, out: Outputs) -> Call:
        return self._evaluate("where(x > 0, x, 0)", task, out)

    def relu_backward(self, task: Task, out: Outputs) -> Call:
        return self._evaluate("where(x > 0, dy, 0)", task, out)

    def prelu(self, task: Task, out: Outputs) -> Call:
        return self._evaluate("where(x > 0, x, alpha * x)", task, out)

    def prelu_backward(self, task: Task, out: Outputs) -> Call:
        return self._evaluate("where(x > 0, dy, alpha * dy)", task, out)

    @staticmethod
    def _evaluate(expression: str, task: Task, out: Outputs) -> Call:
        import numexpr

        names = {"x": task.x, "dy": task.dy, "alpha": np.asarray(task.broadcast, task.x.dtype)}
        return partial(numexpr.evaluate, expression, local_dict=names, global_dict={}, out=out and out[0])


class TextbookNumba(Contestant):
    """The loop that people write first, with prange."""

    name = "textbook_numba"
    modules = ("numba",)
    out = ("relu", "relu_backward", "prelu", "prelu_backward")
    dtypes = ("float32", "float64")

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call] | None:
        return self.loop if op.name in self.out else None

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and (not op.alpha or workload.alpha != "full")

    def most_threads(self) -> float:
        import numba

        return numba.config.NUMBA_NUM_THREADS

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import numba

            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            try:
                yield
            finally:
                numba.set_num_threads(before)

    def loop(self, task: Task, out: Outputs) -> Call:
        from . import textbook

        return textbook.prepare(textbook, task, out)


class TextbookCython(TextbookNumba):
    """The same loop in Cython, built when it is first asked for."""

    name = "textbook_cython"
    modules = ("Cython", "setuptools")

    def __init__(self) -> None:
        self.threads = 1

    def most_threads(self) -> float:
        return math.inf

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        self.threads = threads
        with Contestant.session(self, threads, dtype):
            yield

    def loop(self, task: Task, out: Outputs) -> Call:
        from . import textbook

        return textbook.prepare(textbook.compiled(), task, out, n_threads=self.threads)


class MemoryLimit(Contestant):
    """A copy (one input) or an add (two) of the same traffic: no operation, but what memory allows one.

    A heat times it with ordinary and with streaming stores, with one thread and with all, and takes the best.
    """

    name = "limit"
    out = tuple(OPERATIONS)

    def missing(self) -> str:
        return "no compiled backend" if fastact.available_backends() == ("numpy",) else ""

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return True  # without a method: heats.py has its loops


LIMIT = MemoryLimit.name
CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        MemoryLimit(),
        *(Fastact(backend) for backend in ("cython", "numba", "numpy")),
        NumPy(),
        NumPyBest(),
        NumExpr(),
        TextbookNumba(),
        TextbookCython(),
        Torch(),
        TorchEnabled(),
        OneDNN(),
        Jax(),
        JaxWithFastact(),
        OnnxRuntime(),
        OnnxRuntimeWithLibrary(),
    )
}
