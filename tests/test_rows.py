"""What the comparison says about its figures: how often a call is repeated, marks, claims, and who else was at work."""

import itertools
import os
import timeit
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench import others, timing
from bench.comparison import Selection, operation_groups
from bench.groups import Outcome, Target
from bench.results import entry, lines, table
from bench.tables import legend, question, tables
from bench.timing import QUICK, SHORT, TICK, estimate, take_turns
from bench.workloads import SCALING, WORKLOADS


class Clock:
    """Stands for the module `time` in bench.timing: time passes by sleeping, and a little by looking at the clock."""

    now = 0.0

    def perf_counter(self):
        self.now += 1e-7
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def process_time(self):
        return 0.0  # no thread spins


@pytest.fixture
def clock(monkeypatch):
    """A clock of our own, so that a busy machine makes no call late."""
    clock = Clock()

    class Timer(timeit.Timer):
        def __init__(self, call):
            super().__init__(call, timer=clock.perf_counter)

    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "Timer", Timer)
    return clock


class Sleeper:
    """A call of less than a microsecond, but of 6 ms where its threads are late, as some calls after a rest are."""

    def __init__(self, clock, late):
        self.clock, self.late, self.left, self.last = clock, late, late, 0.0

    def __call__(self):
        if self.clock.perf_counter() - self.last > TICK / 2:
            self.left = self.left or self.late
        if self.left:
            self.clock.sleep(0.006)
            self.left -= 1
        self.last = self.clock.perf_counter()


def test_an_estimate_waits_for_sleeping_threads(clock):
    assert estimate(timing.Timer(Sleeper(clock, 4))) < 1e-6


def test_a_turn_waits_for_sleeping_threads(clock):
    """After each rest anew."""
    assert max(take_turns({"sleeper": Sleeper(clock, 1)}, QUICK, resting=True).times["sleeper"]) < 1e-6


def in_turns(clock, *seconds):
    """A contestant, and its session: its calls take this long, turn by turn; not more than 300 take any time."""
    left, now = itertools.cycle(seconds), 0.0

    @contextmanager
    def session(name):
        nonlocal now
        now = next(left)
        yield

    counter = itertools.count()

    def call():
        assert not now or next(counter) < 300
        clock.sleep(now or 1e-7)

    return {"one": call}, session


def test_threads_that_are_late_for_good_are_not_waited_for(clock):
    """A call was quick when it was estimated; the calls that wake its threads are bounded by their time."""
    calls, session = in_turns(clock, 0.0, *[0.006] * 9)
    assert min(take_turns(calls, QUICK, session, resting=True).times["one"]) > 0.005


@pytest.mark.parametrize("patience", [0.0, 0.6])
def test_rounds_that_disagree_are_followed_by_more(clock, patience):
    """As far as the effort has patience."""
    calls, session = in_turns(clock, 0.002, 0.008)
    rounds = len(take_turns(calls, replace(SHORT, patience=patience), session).times["one"])
    assert rounds > SHORT.rounds + 2 if patience else rounds == SHORT.rounds


def frame_of(workload, dtype="float32", targets=(), **times):
    """The table of prelu on one workload, by the rounds of each contestant."""
    selection = Selection((workload,), tuple(times), (dtype,), chosen=True)
    found = [group for group in operation_groups(selection) if group.facts["operation"] == "prelu"]
    outcome = Outcome(times, nbytes=1000)
    rows = []
    for group in found:
        changed = replace(group, targets=targets)
        rows += [entry(changed, name, outcome, "numpy") | {"times": times[name]} for name in group.members]
    return table(rows)


def cells_of(frame, label):
    """A contestant's line in the first table: time, +-, n, GB/s, % of copy, x np."""
    first = next(tables(frame, "numpy")).frame
    return list(first.loc[label])


def test_a_row_that_contradicts_itself_is_marked():
    """The median time is 1.95 times the bound's and the median of the rounds' ratios 0.96."""
    frame = frame_of(WORKLOADS[0], copy_add=[1.0, 1.0, 1.0, 1.92, 1.92], fastact_cython=[1.04, 1.95, 1.95, 2.0, 2.0],
                     numpy=[9.0] * 5)  # fmt: skip
    assert cells_of(frame, "fastact cython")[4].endswith("?")
    assert not cells_of(frame, "numpy")[5].endswith("?")
    assert "quotient of the two median times" in " ".join(legend(list(tables(frame, "numpy")), "numpy"))


def test_a_median_far_from_its_minimum_is_marked():
    frame = frame_of(WORKLOADS[0], fastact_cython=[1.0, 4.0, 4.0, 4.1, 4.2], numpy=[9.0] * 5)
    assert "~" in cells_of(frame, "fastact cython")[0]
    assert "~" not in cells_of(frame, "numpy")[0]


def test_a_share_beyond_noise_is_marked():
    """Nobody is faster than memory: what says so is noise."""
    frame = frame_of(WORKLOADS[0], copy_add=[1.2] * 5, fastact_cython=[1.0] * 5, fastact_numba=[1.1] * 5)
    assert cells_of(frame, "fastact cython")[4] == "120%!"
    assert cells_of(frame, "fastact numba")[4] == "109%"


@pytest.mark.parametrize(("rounds", "spread", "won"), [(5, 0.0, True), (3, 0.0, False), (5, 0.5, False)])
def test_who_wins_has_enough_rounds_that_agree(rounds, spread, won):
    own = [1.0 + spread * (i % 2) for i in range(rounds)]
    frame = frame_of(WORKLOADS[0], copy_add=[0.5] * rounds, fastact_cython=own, numpy=[9.0] * rounds)
    assert cells_of(frame, "fastact cython")[0].endswith("*") is won
    assert not cells_of(frame, "numpy")[0].endswith("*")


@pytest.mark.parametrize(
    ("numba", "says"), [(1.0, "no difference beyond noise"), (1.3, "cython is faster"), (0.7, "numba is faster")]
)
def test_the_question_that_most_people_have(numba, says):
    frame = frame_of(WORKLOADS[0], fastact_cython=[1.0] * 5, fastact_numba=[numba] * 5)
    (said,) = question(frame)
    assert said.startswith(f"prelu: numba / cython = {numba:.2f}") and said.endswith(says)


def test_ratios_are_held_against_their_targets():
    """Of the better baseline, times the scale."""
    targets = (Target("fastact_cython", ("numpy", "torch"), 0.6, "kind", scale=0.5), Target("numpy", ("absent",), 1.0))
    (line,) = lines(frame_of(WORKLOADS[0], targets=targets, fastact_cython=[1.0] * 5, numpy=[4.0] * 5)).itertuples()
    assert (line.who, line.ratio, line.missed) == ("fastact_cython / numpy", 0.5, False)
    tight = (replace(targets[0], most=0.4),)
    (line,) = lines(frame_of(WORKLOADS[0], targets=tight, fastact_cython=[1.0] * 5, numpy=[4.0] * 5)).itertuples()
    assert line.missed


def test_threads_are_columns():
    frame = frame_of(SCALING[0], numpy=[1.0] * 5)
    first = next(tables(frame, "numpy"))
    assert SCALING[0].name in first.title and first.frame.columns[0] == "1 thread"


def test_who_else_was_at_work(tmp_path, monkeypatch):
    """Our own time is nobody else's, and without the kernel's count nothing is said."""
    own, stat = [0.0], tmp_path / "stat"
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(others.os, "sched_getaffinity", lambda pid: {1}, raising=False)
    monkeypatch.setattr(others.os, "times", lambda: (own[0], 0.0, 0.0, 0.0, 0.0))

    def processor(busy, stolen, idle):
        mine = f"cpu1 {busy * ticks} 0 0 {idle * ticks} 0 0 0 {stolen * ticks} 0 0"
        stat.write_text(f"cpu 1 1 1 1 1 1 1 1 0 0\ncpu0 5 5 5 5 5 5 5 5 0 0\n{mine}\ncpu10 1 1 1 1 1 1 1 1 0 0\n")

    processor(100, 0, 100)
    counted = others.Others(stat)
    own[0] = 8.0
    processor(108, 0, 102)
    assert counted.share() == 0 and not list(counted.note())
    processor(109, 3, 108)
    assert counted.share() == pytest.approx(4 / 20)
    assert "20%" in next(counted.note())
    assert not list(others.Others(tmp_path / "none").note())
