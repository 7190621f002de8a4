"""A heat: the contestants of one operation on one workload in one form take turns, the limit among them.

Everybody gets the same arrays and the same number of threads, and results that are fresh for all or given for all.  Who
cannot be set up, or whose result is wrong, is out of the heat, with the reason; the others go on.  The first case of a
heat runs it, the others read their rounds.  pytest-benchmark times on a clock that a heat's rounds move (`Clock`), so
its statistics, files and comparisons are those of the rounds.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from fastact import _limit

from .cases import Case, threads_of
from .checks import check_result, ulp_error
from .contestants import CONTESTANTS, LIMIT, Call
from .races import limits
from .timing import LEAST, Effort, TurnFailed, Turns, take_turns
from .workloads import Task, expected, is_float

NOTHING = "nothing"  # the call of the limit's loop on a single element


class Out(Exception):
    """Why a contestant is out of its heat."""


@dataclass
class Heat:
    """What came out."""

    times: dict[str, list[float]]  # seconds a call, round by round
    nbytes: int
    reasons: dict[str, str] = field(default_factory=dict)  # of those that are out
    errors: dict[str, float] = field(default_factory=dict)  # of dalpha, in ulp
    limit: str = ""  # how it was reached; empty where the call is nearly all of it


class Clock:
    """Time as pytest-benchmark sees it: it passes by what a heat's rounds took, and by nothing else."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def replay(self, times: Iterable[float], then: Call | None = None) -> Callable[[], None]:
        """A function each of whose calls takes one of these times; after them it makes the call that took them."""
        left = iter(times)

        def call() -> None:
            seconds = next(left, None)
            if seconds is None:
                then()
            else:
                self.now += seconds

        return call


@contextmanager
def prepared(case: Case, limit: str = "") -> Iterator[Call]:
    """A case's call within its session; the limit's is the bound of this name."""
    task, out, threads = case.task(), case.outputs() if case.form == "out" else None, threads_of(case.threads)
    if case.competitor == LIMIT:
        bounds, kept = _bounds(task, out, threads)
        yield bounds[limit]
        del kept  # so far it had to live
        return
    with case.contestant.session(threads, case.dtype):
        yield case.contestant.prepare(task, out)


def run_heat(cases: list[Case], effort: Effort) -> Heat:
    """Set everybody up, check, take turns."""
    case = cases[0]
    task, out, threads = case.task(), case.outputs() if case.form == "out" else None, threads_of(case.threads)
    heat, calls = Heat({}, task.nbytes), {}

    def session(name: str):
        return CONTESTANTS[name].session(threads, case.dtype) if name in CONTESTANTS else nullcontext()

    for name in (case.competitor for case in cases if case.competitor != LIMIT):
        contestant = CONTESTANTS[name]
        try:
            with session(name):
                call = contestant.prepare(task, out)
                for array in out or ():
                    array.fill(-77)  # what the one before has written is no result
                results = contestant.arrays(task, call())
                check_result(results, expected(case.operation, case.workload, case.dtype), contestant.exact)
        except Exception as error:  # whatever a peer does, the others go on
            heat.reasons[name] = _reason(error)
            continue
        calls[name] = call
        if case.workload.part == "accuracy":
            heat.errors[name] = ulp_error(results[1], task)
        del results  # the memory is theirs who come next
    bounded = any(case.competitor == LIMIT for case in cases)
    bounds, kept = _bounds(task, out, threads) if bounded else ({}, [])  # `kept` lives as long as they run
    turns = None
    while turns is None:
        try:
            turns = take_turns(calls | bounds, effort, session, threads > 1)
        except TurnFailed as failed:  # later than when it was set up; without it the others begin anew
            if failed.name not in calls:
                raise
            del calls[failed.name]
            heat.reasons[failed.name] = _reason(failed.__cause__)
    del kept
    heat.times = {name: turns.times[name] for name in calls}
    if bounds:
        _take_limit(heat, turns, [name for name in bounds if name != NOTHING])
    return heat


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]


def _bounds(
    task: Task, out: tuple[np.ndarray, ...] | None, threads: int
) -> tuple[dict[str, Callable[[], object]], list[np.ndarray]]:
    """The limit's loops on the operation's own arrays (integers: on floats of the same size), and the arrays.

    `limits` takes 16-bit floats for float32 of the same bytes.
    """
    arrays = [getattr(task, name) for name in task.op.reads]
    written = out[0] if out else np.empty_like(task.x)
    if not is_float(task.x.dtype.name):
        arrays, written = [np.ones(a.shape, np.float32) for a in arrays], np.ones(task.x.shape, np.float32)
    one = np.ones(1, np.float32)
    nothing = _limit.Traffic(*[one] * (len(arrays) + 1), n_threads=1).run
    return limits(arrays, written, tuple(sorted({1, threads}))) | {NOTHING: nothing}, [*arrays, written, one]


def _take_limit(heat: Heat, turns: Turns, names: list[str]) -> None:
    """The best of the bounds less the call itself; where that is nearly all of it, there is no limit to speak of."""
    best, call = turns.best(*names), turns.seconds(NOTHING)
    if turns.seconds(best) >= LEAST * call:
        heat.limit = best
        heat.times[LIMIT] = [max(seconds - call, 1e-9) for seconds in turns.times[best]]


class Heats:
    """The heats of a run, each run when its first case is due."""

    def __init__(self, cases: Iterable[Case], effort: Effort) -> None:
        self.effort, self.members, self.found = effort, {}, {}
        for case in cases:
            self.members.setdefault(case.heat, []).append(case)

    def of(self, case: Case) -> Heat:
        """The heat of a case."""
        if case.heat not in self.found:
            # Many heats for two tables: less patience with rounds that disagree keeps them to some seconds of a run.
            patience = self.effort.patience / (4 if case.workload.part == "layouts" else 1)
            self.found[case.heat] = run_heat(self.members[case.heat], replace(self.effort, patience=patience))
        return self.found[case.heat]
