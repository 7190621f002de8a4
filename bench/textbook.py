"""What people write first, in Numba and in Cython: one loop with an if, threads over the outermost axis that there is.

Contestants like any other, so that the distance to the tuned kernels is seen.  What the loops leave to be had: GCC and
LLVM keep the branch on x's sign or widen every term of dalpha's sum one by one, ordinary stores fetch every line that
they overwrite, each result is new memory whose pages are touched for the first time, and a call starts its threads
however small it is.  Arrays come as (rows, channels, columns); one slope for all is one channel, channels last are
columns of one.  `textbook.pyx`, the same loops, is built when it is first asked for.
"""

import importlib.util
import sys
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit, prange

from .workloads import Task


@njit(parallel=True)
def relu(x, y):
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else 0
    return y


@njit(parallel=True)
def relu_backward(dy, x, dx):
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else 0
    return dx


@njit(parallel=True)
def prelu(x, alpha, y):
    rows, channels, columns = x.shape
    for r in prange(rows * channels):
        n, c = r // channels, r % channels
        for i in range(columns):
            v = x[n, c, i]
            y[n, c, i] = v if v > 0 else alpha[c] * v
    return y


@njit(parallel=True)
def prelu_backward(dy, x, alpha, dx, dalpha):
    rows, channels, columns = x.shape
    for c in prange(channels):
        total = 0.0
        for n in range(rows):
            for i in range(columns):
                v, d = x[n, c, i], dy[n, c, i]
                if v > 0:
                    dx[n, c, i] = d
                else:
                    dx[n, c, i] = alpha[c] * d
                    total += np.float64(v) * np.float64(d)
        dalpha[c] = total
    return dx, dalpha


def prepare(functions: Any, task: Task, out: tuple[np.ndarray, ...] | None, **keywords: Any) -> Any:
    """A call of the operation's loop, with new results or given ones."""
    function = partial(getattr(functions, task.op.name), **keywords)
    if task.op.alpha:
        operands = [task.by_channel(getattr(task, name)) for name in task.op.reads] + [task.alpha.reshape(-1)]
    else:
        operands = [getattr(task, name).reshape(-1) for name in task.op.reads]

    def call() -> tuple[np.ndarray, ...]:
        results = out or [np.empty_like(like) for like in (task.x, task.alpha)[: len(task.op.writes)]]
        flat = [task.by_channel(results[0]) if task.op.alpha else results[0].reshape(-1)]
        function(*operands, *flat, *(r.reshape(-1) for r in results[1:]))
        return tuple(results)

    return call


@lru_cache
def compiled() -> ModuleType:
    """textbook.pyx as a module, built beside the checkout's other builds."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    source = Path(__file__).with_name("textbook.pyx")
    folder = source.parents[1] / "build" / "textbook"  # not in a shared folder for temporary files: it is imported
    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    extension = Extension("textbook", [str(source)], extra_compile_args=["-O3", *openmp], extra_link_args=openmp)
    built = Distribution(
        {"ext_modules": cythonize([extension], build_dir=str(folder), quiet=True, language_level=3)}
    ).get_command_obj("build_ext")
    built.build_lib, built.build_temp = str(folder), str(folder)
    built.ensure_finalized()
    built.run()
    path = Path(built.get_ext_fullpath("textbook"))
    spec = importlib.util.spec_from_file_location("textbook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
