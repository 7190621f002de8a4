"""What the comparison says about its figures: how often a call is repeated, marks, claims, and who else was at work."""

import itertools
import os
import timeit
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench import others, timing
from bench.cases import Selection, choose
from bench.heats import Heat
from bench.rows import Row
from bench.timing import QUICK, SHORT, TICK, estimate, take_turns
from bench.views import legend, views
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
    calls, session = in_turns(clock, 0.0, 0.006, 0.006, 0.006)
    assert min(take_turns(calls, QUICK, session, resting=True).times["one"]) > 0.005


@pytest.mark.parametrize("patience", [0.0, 0.6])
def test_rounds_that_disagree_are_followed_by_more(clock, patience):
    """As far as the effort has patience."""
    calls, session = in_turns(clock, 0.002, 0.008)
    rounds = len(take_turns(calls, replace(SHORT, patience=patience), session).times["one"])
    assert rounds > SHORT.rounds + 2 if patience else rounds == SHORT.rounds


def tables_of(workload, dtype="float32", **times):
    """The tables of one operation on one workload, by the rounds of each contestant."""
    selection = Selection((workload,), tuple(times), (dtype,))
    cases = [c for c in choose(selection) if (c.operation, c.form) == ("prelu", "fresh")]
    return list(views([Row(case, Heat(times, 1000)) for case in cases], "numpy"))


def cells_of(tables, label):
    return [cell for line in tables[0].lines if line.label == label for cell in line.cells]


def test_a_row_that_contradicts_itself_is_marked():
    """The median time is 1.95 times the limit's and the median of the rounds' ratios 0.96."""
    tables = tables_of(WORKLOADS[0], limit=[1.0, 1.0, 1.0, 1.92, 1.92], fastact_cython=[1.04, 1.95, 1.95, 2.0, 2.0],
                       numpy=[9.0] * 5)  # fmt: skip
    share = cells_of(tables, "fastact cython")[4].text
    assert share.endswith("?")
    assert not cells_of(tables, "numpy")[5].text.endswith("?")
    assert "quotient of the two median times" in " ".join(legend(tables, "numpy"))


def test_a_median_far_from_its_minimum_is_marked():
    tables = tables_of(WORKLOADS[0], fastact_cython=[1.0, 4.0, 4.0, 4.1, 4.2], numpy=[9.0] * 5)
    assert cells_of(tables, "fastact cython")[0].text.endswith("~")
    assert not cells_of(tables, "numpy")[0].text.endswith("~")
    assert "no typical time" in " ".join(legend(tables, "numpy"))


@pytest.mark.parametrize(
    ("rounds", "star"),
    [([1.0] * 5, True), ([1.0] * 3, False), ([1.0, 1.0, 1.2, 1.4, 1.4, 1.4], False)],
    ids=["sure", "few rounds", "spread"],
)
def test_a_claim_needs_rounds_that_agree(rounds, star):
    """Without one the legend has no word of it."""
    tables = tables_of(WORKLOADS[0], fastact_cython=rounds, numpy=[9.0] * len(rounds))
    cells = cells_of(tables, "fastact cython")
    assert cells[0].best is star
    assert cells[2].text == str(len(rounds))
    assert ("nobody" in " ".join(legend(tables, "numpy"))) is star


@pytest.mark.parametrize(("dtype", "size"), [("float32", "26 MB"), ("float64", "51 MB")])
def test_sizes_follow_the_dtype(dtype, size):
    (table,) = tables_of(SCALING[0], dtype, numpy=[1.0] * 5)
    assert size in table.title and dtype in table.title


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
