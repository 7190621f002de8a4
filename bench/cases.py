"""Which cases there are: operation x workload x contestant x form x threads x dtype, in timing order.

One workload's cases stand side by side (its arrays and its limit are then made once), and so do the
contestants of one operation and form, the baseline first.  The default set is the four main operations
in float32 with all threads; the full set adds the rest; the untimed set is every operation once on
smaller inputs.  A contestant that cannot do a case has none.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import fastact
from fastact._operations import OPERATIONS

from .contestants import CONTESTANTS, Contestant
from .timing import Limit, memory_limit
from .workloads import Task, Workload, make_task

MAIN = ("relu", "relu_backward", "prelu", "prelu_backward")
FORMS = ("fresh", "out")  # a new result, or out=


@dataclass(frozen=True)
class Case:
    """One benchmark."""

    operation: str
    workload: Workload
    competitor: str
    form: str
    threads: str  # "all" or "one"
    dtype: str

    @property
    def id(self) -> str:
        """The name within pytest."""
        parts = (self.operation, self.workload.name, self.competitor, self.form, self.threads, self.dtype)
        return "-".join(parts)

    @property
    def group(self) -> str:
        """The contestants of one group do the same work."""
        return f"{self.operation} {self.workload.name} {self.dtype} {self.threads}"

    @property
    def kind(self) -> tuple[str, str, str]:
        """The cases of one kind make one table."""
        return self.operation, self.dtype, self.threads

    def parts(self) -> dict[str, Any]:
        """What a saved run says about it."""
        return {**asdict(self), "workload": self.workload.name, "shape": self.workload.shape}

    @property
    def contestant(self) -> Contestant:
        """Who is timed."""
        return CONTESTANTS[self.competitor]

    def task(self) -> Task:
        """The arrays."""
        return make_task(self.operation, self.workload, self.dtype)

    def outputs(self) -> tuple[np.ndarray, ...]:
        """New arrays to write into, their pages already touched."""
        task = self.task()
        outputs = np.zeros_like(task.x), np.zeros_like(task.alpha)
        for output in outputs:
            output.fill(1)
        return outputs[: len(task.op.writes)]

    def limit(self) -> Limit | None:
        """The memory limit for this traffic, measured once for a run of cases that share it."""
        task = self.task()
        return _limit(len(task.op.reads), task.x.nbytes, threads_of(self.threads), self.group)


@lru_cache(maxsize=1)
def _limit(n_inputs: int, nbytes: int, threads: int, group: str) -> Limit | None:
    return memory_limit(n_inputs, nbytes, threads)


def threads_of(threads: str) -> int:
    """The number behind "all" and "one"."""
    return fastact.get_num_threads() if threads == "all" else 1


def absent() -> dict[str, str]:
    """Contestants that cannot take part, and why."""
    return {contestant.label: why for contestant in CONTESTANTS.values() if (why := contestant.missing())}


def choose(workloads: Iterable[Workload], dtypes: tuple[str, ...], *, timed: bool, full: bool) -> list[Case]:
    """The cases of a run."""
    threads = ("all", "one") if timed and full and fastact.get_num_threads() > 1 else ("all",)
    operations = tuple(OPERATIONS) if full or not timed else MAIN
    if not timed:
        workloads = [workload.small() for workload in workloads]
    return list(_cases(workloads, operations, dtypes, threads))


def _cases(
    workloads: Iterable[Workload], operations: tuple[str, ...], dtypes: tuple[str, ...], threads: tuple[str, ...]
) -> Iterator[Case]:
    present = [contestant for contestant in CONTESTANTS.values() if not contestant.missing()]
    for workload in workloads:
        for dtype in dtypes:
            for op in map(OPERATIONS.__getitem__, operations):
                if np.dtype(dtype).kind != "f" and not op.integers:
                    continue
                for number in threads:
                    for form in FORMS:
                        for contestant in present:
                            if contestant.can(op, workload, dtype, form, number):
                                yield Case(op.name, workload, contestant.name, form, number, dtype)
