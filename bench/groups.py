"""A comparison group: contestants that take turns on the same work, and their times.

Everybody gets the same arrays and the same number of threads; results are allocated by all or written into `out=` by
all.  A contestant that cannot be set up, or whose result is wrong, is left out with the reason; the others go on.
`comparison`, `figures`, `off_plain` and `company` say which groups there are; `run` is the only place that measures.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastact import _limit

from .checks import WrongResult, check_result, ulp_error
from .contestants import COPY, Call
from .timing import LEAST, Effort, TurnFailed, Turns, take_turns
from .workloads import Task, expected_of, is_float, plain

NOTHING = "nothing"  # the copy's loop on a single element
CHECKED = 56 << 20  # bytes of x up to which results are checked: above, the reference takes longer than all rounds
SPOILED = -77  # results are filled with this before each contestant


@dataclass(frozen=True)
class Target:
    """A contestant's time over the best baseline's, and the most that it may be (None: for information only)."""

    name: str
    baselines: tuple[str, ...]
    most: float | None = None
    kind: str = ""  # targets of one kind are summarised together; empty: the name
    scale: float = 1.0  # a factor for the baseline's time, where its traffic is not the same
    mean: float | None = None  # the most that the geometric mean of the kind may be


@dataclass
class Work:
    """The work of a group's contestants, with its arrays."""

    prepare: Mapping[str, Callable[[], Call]]  # by contestant: a function that sets it up and returns the call
    task: Task | None = None  # the task whose result all must have
    out: tuple[np.ndarray, ...] = ()  # the arrays into which all write their results
    results: Callable[[str, Any], tuple[np.ndarray, ...]] = lambda name, found: (
        found if isinstance(found, tuple) else (found,)
    )
    exact: Callable[[str], bool] = lambda name: False
    bounds: Mapping[str, Call] = field(default_factory=dict)  # copies, or additions, of the same traffic
    before: Mapping[str, Callable[[], object]] = field(default_factory=dict)  # by contestant: untimed, before each call
    free: Sequence[str] = ()  # contestants whose results are not the task's: copies
    accuracy: bool = False  # the error of dalpha against the exact sums is wanted


@dataclass(frozen=True)
class Group:
    """Which contestants take turns on what; arrays are made when it runs."""

    part: str  # the part of the comparison; a table or a plot shows one part
    name: str
    members: tuple[str, ...]
    make: Callable[[], Work] | None = None
    measure: Callable[[Effort], dict[str, list[float]]] | None = None  # instead of `make`: it returns the figures
    facts: Mapping[str, Any] = field(default_factory=dict)  # saved with each contestant's times
    targets: tuple[Target, ...] = ()
    session: Callable[[str], AbstractContextManager] = lambda name: nullcontext()
    threads: int = 1  # the most threads that a contestant uses
    unit: str = "s"  # of the figures: seconds, or bytes ("B")
    patience: float = 1.0  # a factor for the effort's patience

    def id(self, member: str) -> str:
        """The name of a contestant's test."""
        return f"{self.part}: {self.name}, {member}".replace(" ", "_")


@dataclass
class Outcome:
    """The results of a group."""

    times: dict[str, list[float]] = field(default_factory=dict)  # seconds a call, round by round
    reasons: dict[str, str] = field(default_factory=dict)  # why contestants are left out
    errors: dict[str, float] = field(default_factory=dict)  # the largest error of the elementwise result, in ulp
    sums: dict[str, float] = field(default_factory=dict)  # the largest error of dalpha, in ulp
    first: dict[str, float] = field(default_factory=dict)  # seconds until the first result: imports, compilation
    nbytes: int = 0
    bound: str = ""  # the stores and threads that gave the bandwidth bound; empty: too small to have a bound


def ready(calls: Mapping[str, Call]) -> dict[str, Callable[[], Call]]:
    """Calls that need no setting up."""
    return {name: (lambda call=call: call) for name, call in calls.items()}


def run(group: Group, effort: Effort | None) -> Outcome:
    """Set everybody up and check; then take turns, unless there is no effort."""
    found = Outcome()
    if group.measure:
        if effort:
            found.times = group.measure(effort)
        return found
    work = group.make()
    found.nbytes = work.task.nbytes if work.task else 0
    calls = _checked(group, work, found)
    if not effort:
        return found
    copies = dict(work.bounds) if COPY in group.members else {}
    effort, turns = replace(effort, patience=effort.patience * group.patience), None
    while turns is None:
        try:
            turns = take_turns(calls | copies, effort, group.session, group.threads > 1, work.before)
        except TurnFailed as failed:  # it failed only after it was set up; the others begin again without it
            if failed.name not in calls:
                raise
            del calls[failed.name]
            found.reasons[failed.name] = reason(failed.__cause__)
    found.times = {name: turns.times[name] for name in calls}
    _take_bound(copies, found, turns)
    return found


def _checked(group: Group, work: Work, found: Outcome) -> dict[str, Call]:
    """The calls of everybody whose result is right."""
    wanted = expected_of(plain(work.task)) if work.task and work.task.x.nbytes <= CHECKED else ()
    calls = {}
    for name in [name for name in group.members if name in work.prepare]:
        try:
            with group.session(name):
                start = time.perf_counter()
                call = work.prepare[name]()
                for array in work.out:
                    array.fill(SPOILED)  # so that nobody is credited with the previous contestant's result
                if name in work.before:
                    work.before[name]()
                results = call()
                found.first[name] = time.perf_counter() - start
                if wanted and name not in work.free:
                    if results is None:
                        raise WrongResult("the call returns nothing")
                    results = work.results(name, results)
                    found.errors[name], of_sums = check_result(results, wanted, work.exact(name))
                    found.sums |= {name: of_sums} if work.task.op.summed else {}
                if work.accuracy:
                    found.sums[name] = ulp_error(results[1], work.task)
        except Exception as error:  # whatever a peer does, the others go on
            found.reasons[name] = reason(error)
            continue
        calls[name] = call
        del results  # the memory must be free for the next contestant
    return calls


def reason(error: BaseException) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]


# ---- the bandwidth bound ---------------------------------------------------------------------------------------------


def bounds(
    inputs: Iterable[np.ndarray], out: np.ndarray, threads: Iterable[int], call: bool = False
) -> dict[str, Call]:
    """A copy (one input) or an addition (two) of the same traffic, with ordinary and with streaming stores.

    Arrays of 16-bit floats and integers are treated as float32 arrays of the same bytes.  With `call` there is also a
    call on a single element.
    """
    flat = [_as_words(array) for array in (out, *inputs)]
    found = {
        f"{stores} x{n}": _limit.Traffic(*flat, stream=stores == "streaming", n_threads=n).run
        for n in sorted(set(threads))
        for stores in ("ordinary", "streaming")
    }
    if call:
        found[NOTHING] = _limit.Traffic(*[np.ones(1, np.float32)] * len(flat), n_threads=1).run
    return found


def _as_words(array: np.ndarray) -> np.ndarray:
    """A one-dimensional float32 or float64 array of the same bytes (without the last of an odd number of halves)."""
    if not is_float(array.dtype.name) or not array.flags.c_contiguous:
        return np.ones(max(1, array.size * array.itemsize // 4), np.float32)
    flat = array.reshape(-1)
    return flat[: flat.size & ~1].view(np.float32) if flat.itemsize == 2 else flat


def _take_bound(copies: Mapping[str, Call], found: Outcome, turns: Turns) -> None:
    """The best of the bounds, less the cost of a call; no bound where a call is most of the time."""
    names = [name for name in copies if name != NOTHING]
    if not names:
        return
    best, call = turns.best(*names), turns.seconds(NOTHING) if NOTHING in copies else 0.0
    if turns.seconds(best) >= LEAST * call:
        found.bound = best
        found.times[COPY] = [max(seconds - call, 1e-9) for seconds in turns.times[best]]


class Groups:
    """The groups of a run.  A group runs when its first contestant is due, with the chosen contestants only."""

    def __init__(self, chosen: Iterable[tuple[Group, str]], effort: Effort | None) -> None:
        self.effort, self.found, self.members = effort, {}, {}
        for group, member in chosen:
            self.members.setdefault((group.part, group.name), []).append(member)

    def of(self, group: Group) -> Outcome:
        """The results of a group.  If the group cannot be made, all its contestants are out."""
        key = group.part, group.name
        if key not in self.found:
            try:
                self.found[key] = run(replace(group, members=tuple(self.members[key])), self.effort)
            except Exception as error:
                self.found[key] = Outcome(reasons=dict.fromkeys(group.members, reason(error)))
        return self.found[key]
