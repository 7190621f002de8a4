"""The interface of a contestant.

A contestant has one method per operation or, failing that, per kernel (`leaky_relu` falls back to `prelu`).  The method
sets everything up and returns the call to time.  A contestant without a method for an operation takes no part in it.
Its modules are imported on first use, its warnings are ignored, and it has the same number of threads as everybody.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

import fastact
from fastact._tables import Operation

from ..workloads import Task, Workload

Call = Callable[[], Any]
Outputs = tuple[np.ndarray, ...] | None


class Contestant:
    """The interface.  A contestant allocates results; for the operations in `out` it can write into given arrays."""

    name = ""
    modules: tuple[str, ...] = ()  # what must be importable
    exact = False  # results must equal the reference bit for bit
    out: tuple[str, ...] = ()  # operations that can write into existing arrays
    in_place: tuple[str, ...] = ()  # ... and those that can write over x, or dy
    seldom = False  # whether a plain run has it on two workloads only
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
        """The most threads that it can be set to.  Everybody has the same number; who cannot, takes no part."""
        return math.inf

    def method(self, op: Operation) -> Callable[[Task, Outputs], Call] | None:
        """The method that prepares the operation, or None."""
        return getattr(self, op.name, None) or getattr(self, op.kernel, None)

    def can(self, op: Operation, workload: Workload, dtype: str, form: str, threads: str) -> bool:
        """Whether it does the operation in this form ("new", "out", "in_place"), with "all" threads or "one"."""
        known = dtype in self.dtypes + self.halves
        return self.method(op) is not None and known and (form == "new" or op.name in getattr(self, form))

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


class Configured(Contestant):
    """A contestant that takes its number of threads (`threads`) when a call is prepared."""

    threads = 1

    @contextmanager
    def session(self, threads: int, dtype: str) -> Iterator[None]:
        self.threads = threads
        with super().session(threads, dtype):
            yield


@contextmanager
def number_of_threads(get: Callable[[], int], set_it: Callable[[int], Any], threads: int) -> Iterator[None]:
    """Set a library's own number of threads for a while."""
    before = get()
    set_it(threads)
    try:
        yield
    finally:
        set_it(before)
