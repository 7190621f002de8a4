"""What people write first, in Numba and in Cython: one loop with an if, and threads over its outermost axis.

They are contestants like any other, to show the distance to the tuned kernels.  The loops are slower for these reasons.
GCC and LLVM keep the branch on x's sign, or widen the terms of dalpha's sum one by one.  Ordinary stores read every
line that they overwrite.  Each result is new memory, whose pages are touched for the first time.  A call starts threads
even if it is small.  PReLU has three forms: channels first as (rows, channels, columns), channels last as (rows,
channels), and one slope for all.  `textbook.pyx` has the same loops, and is built when it is first asked for.
"""

import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit, prange

from fastact._tables import Operation

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


@njit(parallel=True)
def prelu_last(x, alpha, y):
    for r in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[r, c] = x[r, c] if x[r, c] > 0 else alpha[c] * x[r, c]
    return y


@njit(parallel=True)
def prelu_backward_last(dy, x, alpha, dx, dalpha):
    for c in prange(x.shape[1]):
        total = 0.0
        for r in range(x.shape[0]):
            v, d = x[r, c], dy[r, c]
            if v > 0:
                dx[r, c] = d
            else:
                dx[r, c] = alpha[c] * d
                total += np.float64(v) * np.float64(d)
        dalpha[c] = total
    return dx, dalpha


@njit(parallel=True)
def prelu_shared(x, alpha, y):
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else alpha[0] * x[i]
    return y


@njit(parallel=True)
def prelu_backward_shared(dy, x, alpha, dx, dalpha):
    total = 0.0
    for i in prange(x.size):
        if x[i] > 0:
            dx[i] = dy[i]
        else:
            dx[i] = alpha[0] * dy[i]
            total += np.float64(x[i]) * np.float64(dy[i])
    dalpha[0] = total
    return dx, dalpha


def plain(op: Operation, form: str, fresh: bool) -> Callable:
    """The loop without threads, as somebody writes it for a few elements; with `fresh` it allocates its results.

    `form` is alpha's: "shared" (x has one dimension), "channel" (x has three) or empty.
    """
    loop = njit(globals()[op.name + "_shared" * (form == "shared")].py_func)

    def one(x):
        return loop(x, np.empty_like(x))

    def two(x, second):
        return loop(x, second, np.empty_like(x))

    def three(dy, x, alpha):
        return loop(dy, x, alpha, np.empty_like(x), np.empty_like(alpha))

    return njit((one, two, three)[len(op.reads) + bool(op.alpha) - 1]) if fresh else loop


def prepare(functions: Any, task: Task, out: tuple[np.ndarray, ...] | None, **keywords: Any) -> Any:
    """A call of the operation's loop, with new results or into `out`."""
    form, flat, slopes = "", (-1,), []
    if task.op.alpha:
        slopes = [task.alpha.reshape(-1)]
        rows, channels, columns = task.by_channel(task.x).shape
        if channels == 1:
            form = "_shared"
        elif columns == 1:
            form, flat = "_last", (rows, channels)
        else:
            flat = rows, channels, columns
    function = partial(getattr(functions, task.op.name + form), **keywords)
    operands = [getattr(task, name).reshape(flat) for name in task.op.reads] + slopes

    def call() -> tuple[np.ndarray, ...]:
        results = out or [np.empty_like(like) for like in (task.x, task.alpha)[: len(task.op.writes)]]
        function(*operands, results[0].reshape(flat), *(dalpha.reshape(-1) for dalpha in results[1:]))
        return tuple(results)

    return call


@lru_cache
def compiled() -> ModuleType:
    """textbook.pyx as a module, built beside the checkout's other builds."""
    source = Path(__file__).with_name("textbook.pyx")
    folder = source.parents[1] / "build" / "textbook"  # not a shared temporary folder, since what it holds is imported
    path = folder / f"textbook{sysconfig.get_config_var('EXT_SUFFIX')}"
    if path.exists() and path.stat().st_mtime > source.stat().st_mtime:
        return _load(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a checkout that cannot be written to
        folder = None
    with TemporaryDirectory(dir=folder) as work:  # two processes may build at the same time
        built = _build(source, work)
        return _load(built.replace(path) if folder else built)


def _build(source: Path, folder: str) -> Path:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
    extension = Extension("textbook", [str(source)], extra_compile_args=["-O3", *openmp], extra_link_args=openmp)
    command = Distribution(
        {"ext_modules": cythonize([extension], build_dir=folder, quiet=True, language_level=3)}
    ).get_command_obj("build_ext")
    command.build_lib = command.build_temp = folder
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath("textbook"))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("textbook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
