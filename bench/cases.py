"""Which cases there are: operation x workload x contestant x form x threads x dtype, in timing order.

One workload's cases stand side by side (its arrays are then made once), and so do those of one heat: the
contestants of one operation and form.  The default set is the four main operations on the workloads and every
other part of the comparison, in float32 with all threads; `--full` adds operations, dtypes and one thread,
`--quick` is four workloads; the untimed set is every operation once on smaller inputs.  A contestant that
cannot do a case has none.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

import fastact
from fastact._tables import OPERATIONS

from .contestants import CONTESTANTS, LIMIT, Contestant
from .models import LAYERS
from .workloads import ACCURACY, LAYOUTS, SCALING, SIGNS, SIZES, WORKLOADS, Task, Workload, is_float, make_task

MAIN = tuple(op.name for op in OPERATIONS.values() if op.alpha != "number")  # leaky_relu has prelu's kernels
PRELU = ("prelu", "prelu_backward")
FORMS = ("fresh", "out")  # a new result, or out=
HALVES = ("float16", "bfloat16")
QUICK = ("arcface_r50_stem", "arcface_r50_stage3", "convtasnet_h512", "gtcrn_stream")
# Who does what in the part `layouts`: the operation in which NumPy is nearest, and the one with the most operands.
LAID_OUT_BY = ("fastact_cython", "fastact_numba", "numpy", "torch")
LAID_OUT = ("relu", "prelu_backward")
KNOWN = (*WORKLOADS, *LAYERS, *SIZES, *SIGNS, *SCALING, *ACCURACY, *LAYOUTS)


@dataclass(frozen=True)
class Case:
    """One benchmark."""

    operation: str
    workload: Workload
    competitor: str
    form: str
    threads: str  # "all", "one" or a number
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
    def heat(self) -> str:
        """Those of one heat in the same form."""
        return f"{self.group} {self.form}"

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


def threads_of(threads: str) -> int:
    """The number behind "all" and "one"."""
    return fastact.get_num_threads() if threads == "all" else 1 if threads == "one" else int(threads)


def absent() -> dict[str, str]:
    """Contestants that cannot take part, and why."""
    return {contestant.label: why for contestant in CONTESTANTS.values() if (why := contestant.missing())}


@dataclass(frozen=True)
class Selection:
    """What a run is about; the defaults are a plain `pytest --benchmark-only`."""

    workloads: tuple[Workload, ...] = KNOWN
    contestants: tuple[str, ...] = tuple(CONTESTANTS)
    dtypes: tuple[str, ...] = ("float32",)
    timed: bool = True
    full: bool = False
    quick: bool = False


def choose(selection: Selection) -> list[Case]:
    """The cases of a run."""
    present = [CONTESTANTS[name] for name in selection.contestants if not CONTESTANTS[name].missing()]
    if selection.quick and len(present) > 1:  # the reference takes longer than anybody, and is no contestant to most
        present = [contestant for contestant in present if contestant.name != "fastact_numpy"]
    workloads: Iterable[Workload] = selection.workloads
    if not selection.timed:  # all workloads, and one of every other part
        present = [contestant for contestant in present if contestant.name != LIMIT]
        workloads = {w if w.part == "workloads" else w.part: w for w in reversed(workloads)}.values()
    cases: dict[str, Case] = {}
    for workload in workloads:
        for case in _cases(workload, present, selection):
            cases[case.id] = case
    return list(cases.values())


def _cases(workload: Workload, present: list[Contestant], selection: Selection) -> Iterator[Case]:
    """One workload's: what is timed on it follows from the part of the comparison that it belongs to."""
    full, several = selection.full, fastact.get_num_threads() > 1
    operations, forms, threads, dtypes = MAIN, FORMS, ("all",), selection.dtypes
    if workload.part == "workloads":
        operations = tuple(OPERATIONS) if full or not selection.timed else MAIN
        threads = ("all", "one") if full and several and selection.timed else ("all",)
        forms = FORMS[:1] if selection.quick else FORMS
    else:
        forms, dtypes = FORMS[:1], dtypes[:1]
    if workload.part in ("models", "threads"):
        operations = PRELU
    if workload.part == "threads":
        threads = scaling_threads()
    if workload.part == "accuracy":
        halves = tuple(dtype for dtype in selection.dtypes if dtype in HALVES)
        operations, dtypes = PRELU[1:], ("float32", "float64", *halves)
    if workload.part == "layouts":
        operations = tuple(name for name in LAID_OUT if workload.layout.concerns(OPERATIONS[name]))
        present = [contestant for contestant in present if contestant.name in LAID_OUT_BY]
    if not selection.timed:
        workload = workload.small()
    for dtype, name, number, form in product(dtypes, operations, threads, forms):
        op = OPERATIONS[name]
        if is_float(dtype) or op.integers:
            for contestant in present:
                if contestant.can(op, workload, dtype, form, number):
                    yield Case(name, workload, contestant.name, form, number, dtype)


def scaling_threads() -> tuple[str, ...]:
    """1, 2, 4, ... and all."""
    bound, number, counts = fastact.get_num_threads(), 2, ["one"]
    while number < bound:
        counts.append(str(number))
        number *= 2
    return (*counts, "all") if bound > 1 else tuple(counts)
