"""Which operations are compared on which workloads: operation x workload x form x threads x dtype, a group for each.

The default answers what most people want to know, in three minutes with all peers installed.  `--full` has every form,
operation and dtype, `--quick` has four workloads, and an untimed run makes every operation once on smaller inputs.  The
groups of a workload follow one another, so that its arrays are made once.  A contestant that cannot do a case is not in
that case's group.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

import fastact
from fastact._tables import OPERATIONS

from .contestants import CONTESTANTS, COPY
from .groups import Group, Work, bounds
from .models import LAYERS
from .workloads import ACCURACY, LAYOUTS, SCALING, SIGNS, SIZES, WORKLOADS, Task, Workload, is_float, make_task

MAIN = tuple(op.name for op in OPERATIONS.values() if op.alpha != "number")  # leaky_relu has prelu's kernels
PRELU = ("prelu", "prelu_backward")
FORMS = ("new", "out", "in_place")  # a new result, out=, over x or dy
HALVES = ("float16", "bfloat16")
QUICK = ("arcface_r50_stem", "arcface_r50_stage3", "convtasnet_h512", "gtcrn_stream")
# The workloads of a plain run, with a call on 64 elements.  The contestants that are `seldom` take part in TWO only.
USUAL = {*WORKLOADS, *(size for size in SIZES if size.name == "n_64")}
TWO = ("arcface_r50_stage3", "convtasnet_h512")
# The contestants and operations of the part `layouts`: the operation in which NumPy comes closest, and the one with the
# most operands.
LAID_OUT_BY = ("fastact_cython", "fastact_numba", "numpy", "torch")
LAID_OUT = ("relu", "prelu_backward")
KNOWN = (*WORKLOADS, *LAYERS, *SIZES, *SIGNS, *SCALING, *ACCURACY, *LAYOUTS)


@dataclass(frozen=True)
class Selection:
    """What a run times or checks.  The defaults are those of a plain `pytest --benchmark-only`."""

    workloads: tuple[Workload, ...] = KNOWN
    contestants: tuple[str, ...] = tuple(CONTESTANTS)
    dtypes: tuple[str, ...] = ("float32",)
    forms: tuple[str, ...] = FORMS[:1]
    timed: bool = True
    full: bool = False
    quick: bool = False
    chosen: bool = False  # whether the user has chosen the workloads


def threads_of(threads: str) -> int:
    """The number that "all", "one" or digits stand for."""
    return fastact.get_num_threads() if threads == "all" else 1 if threads == "one" else int(threads)


def absent() -> dict[str, str]:
    """Contestants that cannot take part, and why."""
    return {contestant.label: why for contestant in CONTESTANTS.values() if (why := contestant.missing())}


def operation_groups(selection: Selection) -> Iterator[Group]:
    """The groups of a run."""
    present = [name for name in selection.contestants if not CONTESTANTS[name].missing()]
    if not (selection.full or selection.chosen) and len(present) > 1:
        present = [name for name in present if name != "fastact_numpy"]  # the reference: slower than anybody
    workloads: Iterable[Workload] = selection.workloads
    if not selection.timed:  # all workloads, and one of every other part
        present = [name for name in present if name != COPY]
        workloads = {w if w.part == "workloads" else w.part: w for w in reversed(workloads)}.values()
    elif not (selection.full or selection.chosen):
        workloads = [workload for workload in workloads if workload in USUAL]
    for workload in dict.fromkeys(w if selection.timed else w.small() for w in workloads):
        few = not (selection.full or selection.chosen or workload.name in TWO)
        yield from _groups(workload, [n for n in present if not (few and CONTESTANTS[n].seldom)], selection)


def _groups(workload: Workload, present: list[str], selection: Selection) -> Iterator[Group]:
    """The groups of one workload: what is timed on it follows from its part of the comparison."""
    full, several = selection.full, fastact.get_num_threads() > 1
    operations, forms, threads, dtypes = MAIN, selection.forms[:1], ("all",), selection.dtypes[:1]
    match workload.part:
        case "workloads" | "own":
            operations = tuple(OPERATIONS) if full or not selection.timed else MAIN
            threads = ("all", "one") if full and several and selection.timed else ("all",)
            forms, dtypes = selection.forms, selection.dtypes
        case "models":
            operations = PRELU
        case "sizes" | "signs" if not full and selection.timed:
            operations = PRELU
        case "threads":
            operations, threads = PRELU, scaling_threads()
        case "accuracy":
            halves = tuple(dtype for dtype in selection.dtypes if dtype in HALVES)
            operations, dtypes = PRELU[1:], ("float32", "float64", *halves)
        case "layouts":
            operations = tuple(name for name in LAID_OUT if workload.layout.concerns(OPERATIONS[name]))
            present = [name for name in present if name in LAID_OUT_BY]
    for dtype, name, number, form in product(dtypes, operations, threads, forms):
        if is_float(dtype) or OPERATIONS[name].integers:
            group = contest(name, workload, dtype, form, number, present)
            if group.members:
                yield group


def contest(operation: str, workload: Workload, dtype: str, form: str, threads: str, names: Iterable[str]) -> Group:
    """The group of one operation on one workload, with those of the contestants that can do it."""
    op, number = OPERATIONS[operation], threads_of(threads)
    members = tuple(name for name in names if CONTESTANTS[name].can(op, workload, dtype, form, threads))
    facts = {"operation": operation, **workload.facts(), "dtype": dtype, "form": form, "threads": number}

    def session(name: str) -> AbstractContextManager:
        return CONTESTANTS[name].session(number, dtype) if name in members else nullcontext()

    # There are many layouts, and for two tables only.  Less patience with rounds that disagree keeps them short.
    return Group(
        workload.part,
        f"{operation} {workload.name} {dtype} {threads} {form}",
        members,
        partial(_work, operation, workload, dtype, form, number, members),
        facts=facts,
        session=session,
        threads=number,
        patience=0.25 if workload.part == "layouts" else 1.0,
    )


def _work(operation: str, workload: Workload, dtype: str, form: str, threads: int, members: tuple[str, ...]) -> Work:
    task = make_task(operation, workload, dtype)
    out, before = None, {}
    if form == "out":
        out = outputs(task)
    elif form == "in_place":
        task, out, restore = _in_place(task)
        before = dict.fromkeys(members, restore)
    copies = {}
    if COPY in members:
        reads = [getattr(task, name) for name in task.op.reads]
        copies = bounds(reads, out[0] if out else np.ones_like(task.x), {1, threads}, call=True)
    others = [name for name in members if name != COPY]
    return Work(
        {name: partial(CONTESTANTS[name].prepare, task, out) for name in others},
        task,
        out if out and not before else (),
        results=lambda name, found: CONTESTANTS[name].arrays(task, found),
        exact=lambda name: CONTESTANTS[name].exact,
        bounds=copies,
        before=before,
        accuracy=workload.part == "accuracy",
    )


def outputs(task: Task) -> tuple[np.ndarray, ...]:
    """New arrays to write into, their pages already touched."""
    return tuple(np.full_like(like, 1) for like in (task.x, task.alpha)[: len(task.op.writes)])


def _in_place(task: Task):
    """A task with a copy of its first operand, results that overwrite this copy, and a function that restores it."""
    first = task.op.reads[0]
    given = getattr(task, first)
    written = given.copy()
    changed = Task(task.op, task.workload, *(written if name == first else getattr(task, name) for name in ("x", "dy")),
                   task.alpha, task.broadcast)  # fmt: skip
    return changed, (written, *outputs(task)[1:]), partial(np.copyto, written, given)


def scaling_threads() -> tuple[str, ...]:
    """1, 2, 4, ... and all."""
    bound, number, counts = fastact.get_num_threads(), 2, ["one"]
    while number < bound:
        counts.append(str(number))
        number *= 2
    return (*counts, "all") if bound > 1 else tuple(counts)
