"""Contestants on NumPy arrays: fastact, NumPy (usual and best), numexpr, first attempts, the bandwidth bound."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import fastact
from fastact import reference
from fastact._tables import OPERATIONS, Operation

from ..workloads import Task, Workload
from .base import Call, Configured, Contestant, Outputs, number_of_threads


class NumPy(Contestant):
    """What people write in NumPy: the baseline.  It has no bfloat16, which is ml_dtypes' and not NumPy's own."""

    name = "numpy"
    halves = ("float16",)
    out = tuple(OPERATIONS)
    in_place = ("relu", "relu_backward")

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call]:
        return super().method(op) or self.spelled_as_reference

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and (
            form == "new" or self.method(op) != self.spelled_as_reference
        )

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
    """What people write in NumPy after measuring: arithmetic instead of np.where, which branches on every sign.

    With random signs PReLU takes a quarter of np.where's time this way.  To multiply by a mask is not quite to select:
    where x is negative, an infinite dy becomes NaN.  `np.maximum(x, alpha * x)` would be still faster, but it is right
    for slopes from 0 to 1 only.
    """

    name = "numpy_best"
    dtypes = ("float32", "float64")
    halves = in_place = ()

    @property
    def label(self) -> str:
        return "numpy best"

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        other = op.name != "relu" and workload.alpha != "full" and dtype in self.dtypes  # the usual relu is the best
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
    """One backend, called as users call it: the backend and the threads are set before the call."""

    exact = True
    out = in_place = tuple(OPERATIONS)
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
        # The process-wide settings are used because, unlike the `with` forms, they do not make a call slower.
        before = fastact.get_backend(), fastact.get_num_threads()
        fastact.set_backend(self.backend)
        fastact.set_num_threads(threads)
        try:
            yield
        finally:  # the values from before, not None: the user may have chosen them
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


class NumExpr(Contestant):
    """The expression as text.  numexpr has no sum over several axes, so there is no gradient of alpha."""

    name = "numexpr"
    modules = ("numexpr",)
    out = in_place = ("relu", "relu_backward", "leaky_relu", "leaky_relu_backward", "prelu")

    def most_threads(self) -> float:
        import numexpr

        return numexpr.MAX_THREADS

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and not op.summed

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import numexpr

            with number_of_threads(numexpr.get_num_threads, numexpr.set_num_threads, threads):
                yield

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


class Textbook(Contestant):
    """The loop that people write first, with threads over its outermost axis."""

    out = in_place = ("relu", "relu_backward", "prelu", "prelu_backward")
    dtypes = ("float32", "float64")

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call] | None:
        return self.loop if op.name in self.out else None

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return super().can(op, workload, dtype, form, threads) and (not op.alpha or workload.alpha != "full")


class TextbookNumba(Textbook):
    """The loop in Numba, with prange."""

    name = "textbook_numba"
    modules = ("numba",)

    def most_threads(self) -> float:
        import numba

        return numba.config.NUMBA_NUM_THREADS

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        with super().session(threads, dtype):
            import numba

            with number_of_threads(numba.get_num_threads, numba.set_num_threads, threads):
                yield

    def loop(self, task: Task, out: Outputs) -> Call:
        from .. import textbook

        return textbook.prepare(textbook, task, out)


class TextbookCython(Configured, Textbook):
    """The loop in Cython, which is built when it is first asked for."""

    name = "textbook_cython"
    modules = ("Cython", "setuptools")

    def loop(self, task: Task, out: Outputs) -> Call:
        from .. import textbook

        return textbook.prepare(textbook.compiled(), task, out, n_threads=self.threads)


class Copy(Contestant):
    """The bandwidth bound: a copy (one input) or an addition (two) of the same traffic, which no operation can beat.

    A comparison group times it with ordinary and streaming stores, with one thread and with all; the best one counts.
    """

    name = "copy_add"
    out = tuple(OPERATIONS)

    @property
    def label(self) -> str:
        return "copy / add"

    def missing(self) -> str:
        return "no compiled backend" if fastact.available_backends() == ("numpy",) else ""

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        return form != "in_place"  # it has no methods: groups.py makes its calls
