"""How contestants take turns: rounds within a budget, with no other contestant's threads spinning meanwhile.

The first call compiles, allocates and starts thread pools, so it is never timed.  The calls after it give an estimate
of a call's time, which determines how often a round repeats the call.  The contestants alternate, and a ratio is the
median of the rounds' ratios, so that a machine that drifts slows down both sides of it.  Where the rounds disagree
among themselves, more rounds follow, within a time limit.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from timeit import Timer
from typing import Any

ROUND = 0.5e-3  # a round repeats a shorter call until it lasts about this long
ROUNDS = (3, 150)  # the least and the most; the median needs no more
LEAST = 4.0  # a loop that takes less time than this many empty calls says nothing about memory
FAR = 1.5  # a median of more than this many times the minimum is no typical time
CLEAR = 0.10  # if two figures for the same time differ by more, the reader is told
TICK = 0.005  # seconds; the kernel books a running thread's time every 4 ms where it ticks 250 times a second
# Untimed calls before a turn's timed ones: (a call's time in seconds is below this, calls).  After somebody else's
# streaming stores arrays of 4 to 16 MB take three calls to be back in their cache.  The arrays of longer calls do not
# stay in it anyway.
WARMING = ((0.005, 3), (0.05, 1))
# Seconds of untimed calls before a turn of several threads, and before an estimate during which threads may have slept.
# A kernel that packs threads on few virtual processors, as this machine's does, lets a thread that was woken wait up to
# 8 ms behind the thread that woke it.  That is not a contestant's steady state.
AWAKE = 0.01


class Statement:
    """A call as text, timed without a Python function around it, which would add a third to a call of 0.1 us."""

    def __init__(self, text: str, names: dict[str, Any], keep: bool = False) -> None:
        self.text, self.names = text, names
        self.keep = keep  # whether a result lives on until the next one is made

    def __call__(self) -> Any:
        return eval(self.text, self.names)

    def timer(self) -> Timer:
        """The timer of the call."""
        return Timer(f"result = {self.text}" if self.keep else self.text, globals=self.names)


@dataclass(frozen=True)
class Effort:
    """How long the contestants of one figure take turns."""

    budget: float  # seconds that the turns take at least
    rounds: int  # rounds that they take at least
    longest: float  # seconds after which three rounds are enough
    patience: float = 0.0  # within these seconds, more rounds follow if rounds disagree


FULL = Effort(0.4, 9, 8.0, 4.0)
SHORT = Effort(0.05, 5, 10.0, 0.5)
QUICK = Effort(0.02, 5, 1.0)  # fewer rounds are not compared with another run


class TurnFailed(Exception):
    """Names the contestant whose call raised; the exception's cause says why."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Turns:
    """Each contestant's seconds per call, round by round."""

    times: dict[str, list[float]]

    def seconds(self, name: str) -> float:
        """The median."""
        return statistics.median(self.times[name])

    def best(self, *names: str) -> str:
        """The contestant with the least median."""
        return min(names, key=self.seconds)

    def ratio(self, name: str, *baselines: str) -> float:
        """The median over the rounds of its time over the best baseline's in the same round."""
        best = self.best(*baselines)
        return statistics.median(a / b for a, b in zip(self.times[name], self.times[best], strict=True))


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    effort: Effort = FULL,
    session: Callable[[str], AbstractContextManager] = lambda name: nullcontext(),
    resting: bool = False,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> Turns:
    """Time the contestants in turns, each within its session; with `resting` nobody's threads spin meanwhile.

    A turn repeats its call until it lasts about `ROUND`.  A few untimed calls come first (`WARMING`): they bring the
    call's arrays into the caches and wake its threads.  The calls of a contestant that is in `before` are timed one at
    a time, each right after an untimed call of its function in `before`.  The order changes from round to round: a
    contestant that always follows the same heavy one takes 10 to 20 % longer, because that one has emptied the caches.
    """
    timers = {name: call.timer() if isinstance(call, Statement) else Timer(call) for name, call in calls.items()}
    once = {}
    rest()
    for name, timer in timers.items():
        with _turn_of(name), session(name):
            once[name] = estimate(timer)
    times: dict[str, list[float]] = {name: [] for name in calls}
    start, order, shuffled = time.perf_counter(), list(calls), random.Random(0)
    for done in range(ROUNDS[1]):
        spent = time.perf_counter() - start
        enough = done >= (effort.rounds if spent < effort.longest else ROUNDS[0]) and spent > effort.budget
        if enough and (spent > effort.patience or not any(map(disagree, times.values()))):
            break
        shuffled.shuffle(order)
        for name in order:
            with _turn_of(name), session(name):
                if before and name in before:
                    times[name].append(_one_after(timers[name], before[name]))
                else:
                    times[name].append(_turn(timers[name], once, name, resting))
    return Turns(times)


def _turn(timer: Timer, once: dict[str, float], name: str, resting: bool) -> float:
    """Seconds per call in one turn."""
    if resting:
        rest()
    untimed = next((least for seconds, least in WARMING if once[name] < seconds), 0)
    if resting and untimed:
        once[name] = _awaken(timer, untimed)
    else:
        timer.timeit(untimed)
    iterations = max(1, round(ROUND / once[name]))
    return timer.timeit(iterations) / iterations


def _one_after(timer: Timer, before: Callable[[], object]) -> float:
    """Seconds of one call after `before`."""
    before()
    return timer.timeit(1)


def low(times: Sequence[float]) -> float:
    """The 20 % quantile: a quick round's time, even where a second thread is late in many of the rounds."""
    return statistics.quantiles(times, n=5, method="inclusive")[0] if len(times) > 1 else times[0]


def two_kinds(times: Sequence[float]) -> bool:
    """Whether the median is far from the minimum."""
    return statistics.median(times) > FAR * min(times)


def disagree(times: Sequence[float]) -> bool:
    """Whether there are quick and slow rounds, or the two halves of the rounds have different medians."""
    half = len(times) // 2
    first, second = (statistics.median(part) for part in (times[:half], times[half:]))
    return two_kinds(times) or far_apart(first, second)


def far_apart(a: float, b: float) -> bool:
    """Whether two figures for the same thing differ by more than a reader expects."""
    return max(a, b) > (1 + CLEAR) * min(a, b)


@contextmanager
def _turn_of(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise TurnFailed(name) from error


def rest() -> None:
    """Wait until no thread of this process spins: OpenMP's spin for 4 ms after their work, ONNX Runtime's for 25 ms."""
    for _ in range(20):
        before = time.process_time()
        time.sleep(TICK)
        if time.process_time() - before < TICK / 4:
            return


def estimate(call: Callable[[], object] | Timer) -> float:
    """The approximate seconds of a call, after a first call that is not timed."""
    _elapsed(call, 1)
    once = _elapsed(call, 1)
    if ROUND <= once < WARMING[-1][0]:
        # The call may have waited for its threads to wake: that takes milliseconds, and the call perhaps microseconds.
        _awaken(call)
        once = _elapsed(call, 1)
    if once < ROUND:
        repeats = 2
        while (total := _elapsed(call, repeats)) < ROUND:
            repeats *= 2
        once = total / repeats
    return once


def _awaken(call: Callable[[], object] | Timer, least: int = 1) -> float:
    """Make at least `least` calls, for as long as threads need to wake; return seconds per call of the last ones."""
    spent, repeats = 0.0, least
    while (spent := spent + (total := _elapsed(call, repeats))) < AWAKE:
        repeats *= 2
    return total / repeats


def _elapsed(call: Callable[[], object] | Timer, times: int) -> float:
    if isinstance(call, Timer):
        return call.timeit(times)
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
