"""How a case is timed within a budget, and the memory limit that it is held against.

The first call compiles, allocates and starts thread pools, so it is never timed; what follows it estimates
one call and fixes rounds and iterations such that a case costs about `BUDGET` seconds.  The limit is a
plain copy (one input) or add (two inputs) over arrays of the same size, by fastact's own vector code: the
best of ordinary and streaming stores with one thread and with as many as the contestants may use, less the
cost of the call itself.  Where the call is nearly all of it, there is no limit to speak of.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

import fastact
from fastact import _limit

BUDGET = 0.1  # seconds of timing per case
ROUND = 0.5e-3  # a round repeats a shorter call until it lasts about this long
ROUNDS = (3, 150)  # the least and the most; the median needs no more
LONGEST = 1.0  # seconds after which a case ends early: on a busy machine a call may take a thousand times the estimate
LEAST = 1.25  # a loop that takes less than this many empty calls says nothing about memory
REST = 0.01  # seconds for the previous contestant's spinning threads to go to sleep


@dataclass(frozen=True)
class Limit:
    """The time that memory alone takes for one traffic, and how it was reached."""

    seconds: float
    stores: str  # "ordinary" or "streaming"
    threads: int


def plan(call: Callable[[], object], budget: float = BUDGET) -> tuple[int, int]:
    """Warm up, then choose (rounds, iterations per round) for the budget."""
    call()
    once = _elapsed(call, 1)
    if once < ROUND:
        repeats = 2
        while (total := _elapsed(call, repeats)) < ROUND:
            repeats *= 2
        once = total / repeats
    iterations = max(1, round(ROUND / once))
    least, most = ROUNDS
    return min(max(int(budget / (iterations * once)), least), most), iterations


class OutOfTime(BaseException):
    """Ends a case between two rounds; no Exception, which pytest-benchmark would take for a failure."""


def deadline(seconds: float = LONGEST) -> Callable[[], None]:
    """A function to call after each round, which raises OutOfTime when it is time to stop."""
    end = time.perf_counter() + seconds

    def check_time() -> None:
        if time.perf_counter() > end:
            raise OutOfTime

    return check_time


def median(call: Callable[[], object], budget: float = BUDGET) -> float:
    """The median time of one call, without pytest-benchmark."""
    rounds, iterations = plan(call, budget)
    check_time, times = deadline(), []
    with suppress(OutOfTime):
        for _ in range(rounds):
            times.append(_elapsed(call, iterations))
            check_time()
    return statistics.median(times) / iterations


def memory_limit(n_inputs: int, nbytes: int, threads: int) -> Limit | None:
    """The limit for n_inputs arrays read and one written, each of nbytes; None without a compiled backend."""
    if fastact.available_backends() == ("numpy",):
        return None
    def measure(size: int, stream: bool, n: int) -> float:
        arrays = [np.ones(size, np.float32) for _ in range(n_inputs + 1)]
        return median(_limit.Traffic(*arrays, stream=stream, n_threads=n).run, BUDGET / 4)

    time.sleep(REST)
    variants = [(stream, n) for stream in (False, True) for n in sorted({1, threads})]
    size = max(1, nbytes // 4)
    seconds, stream, n = min((measure(size, *variant), *variant) for variant in variants)
    overhead = measure(1, False, 1)
    if seconds < LEAST * overhead:
        return None
    return Limit(seconds - overhead, "streaming" if stream else "ordinary", n)


def _elapsed(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
