"""JAX: its own functions, and those of fastact.jax."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fastact
from fastact._tables import Operation

from ..workloads import Task, Workload, computing
from .base import Call, Contestant, Outputs


class Jax(Contestant):
    """Jitted expressions and their vjp.  XLA fixes its threads at start-up, so it has the run's own number only."""

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
    seldom = True
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
    def _alpha(task: Task) -> np.ndarray:
        # A number is not rounded to 16 bits, because fastact computes 16-bit floats in float32.
        array = task.op.alpha == "array"
        return task.broadcast if array else np.asarray(task.broadcast, computing(task.x).dtype)

    @staticmethod
    def _functions() -> Any:
        import fastact.jax

        return fastact.jax
