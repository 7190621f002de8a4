"""What a timed run shows: a line of progress per group of contestants, tables and a summary at the end.

A row is one contestant's figures for one case.  A table is one operation (with one dtype and number of
threads); in it, fresh result and out= stand side by side.  `GB/s` counts each array of x's size once;
`limit` is this machine's own time for the same traffic over the contestant's, measured in the same
minute; `x np` is the speed-up over NumPy's common spelling in the same form.
"""

import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .cases import FORMS, Case, absent, threads_of
from .contestants import BASELINE, CONTESTANTS, Contestant, available_cpus
from .races import Line
from .timing import Limit

WIDTH = 80
HEADINGS = ("fresh", "out=")  # of FORMS
LEGEND = """
GB/s counts every array of x's size once. limit: the share of this machine's own
memory limit: a copy (one input) or an add (two) of the same traffic, measured
in this run. x np: speed-up over NumPy's common spelling in the same form."""
BUSY = 0.5  # of the cores at work for others before the run spoils its times


@dataclass(frozen=True)
class Row:
    """One case's figures."""

    case: Case
    seconds: float  # median
    nbytes: int
    limit: Limit | None
    baseline: float | None  # NumPy's median

    @property
    def share(self) -> float | None:
        """1.0 is as fast as memory (or the cache that the arrays fit in) allows."""
        return self.limit and self.limit.seconds / self.seconds

    @property
    def speedup(self) -> float | None:
        """How many times as fast as NumPy."""
        return self.baseline and self.baseline / self.seconds

    def figures(self) -> dict[str, Any]:
        """What pytest-benchmark saves with the times."""
        figures = {
            "threads": threads_of(self.case.threads),
            "bytes": self.nbytes,
            "gb_per_s": self.nbytes / self.seconds / 1e9,
            "speedup_over_numpy": self.speedup,
            "share_of_limit": self.share,
        }
        if self.limit:
            figures["limit_gb_per_s"] = self.nbytes / self.limit.seconds / 1e9
            figures["limit_stores"] = self.limit.stores
            figures["limit_threads"] = self.limit.threads
        return figures


class Report:
    """Collects the rows; a pytest plugin of one timed run."""

    def __init__(self, config: pytest.Config, cases: dict[str, Case]) -> None:
        self.config = config
        self.cases = cases  # by node id
        self.pending = Counter(case.group for case in cases.values())
        self.groups = len(self.pending)
        self.rows: list[Row] = []
        self.lines: list[Line] = []  # of the races
        self.start = time.perf_counter()
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0

    def add(self, row: Row) -> None:
        """Keep a finished case."""
        self.rows.append(row)

    def baseline(self, case: Case, own: float) -> float | None:
        """NumPy's median for the same work, if it has been timed."""
        if case.competitor == BASELINE:
            return own
        for row in reversed(self.rows):
            if row.case.competitor == BASELINE and (row.case.group, row.case.form) == (case.group, case.form):
                return row.seconds
        return None

    # ---- progress ----

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:  # our lines take the place of the file's name and dots
            terminal.showfspath = False if nodeid in self.cases else None

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        ours = report.nodeid in self.cases and self.config.get_verbosity() <= 0
        return ("passed", "", "") if ours and report.passed and report.when == "call" else None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if nodeid not in self.cases or terminal is None:
            return
        group = self.cases[nodeid].group
        self.pending[group] -= 1
        rows = [row for row in self.rows if row.case.group == group]
        if self.pending[group] == 0 and rows:
            seconds = int(time.perf_counter() - self.start)
            count = f"{sum(left == 0 for left in self.pending.values())}/{self.groups}"
            terminal.write_line(f"{count:>7} {seconds // 60}:{seconds % 60:02}  {_headline(rows)}")

    # ---- tables ----

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.rows and not self.lines:
            return
        plain = not terminalreporter.hasmarkup
        text = io.StringIO()
        colours = None if plain else "standard"
        console = Console(file=text, width=WIDTH, force_terminal=not plain, color_system=colours, highlight=False)
        kinds = dict.fromkeys(row.case.kind for row in self.rows)
        for kind in kinds:
            console.print(*_tables(_title(*kind), [row for row in self.rows if row.case.kind == kind]), sep="\n")
        if len({row.case.workload for row in self.rows}) > 1:
            console.print(*_summary(kinds, self.rows), sep="\n")
        if self.rows:
            console.print(LEGEND, markup=False)
        if self.lines:
            title = "Races: ratios of times, contestants taking turns; those over their target"
            console.print("", *line_tables(title, self.lines, misses_only=True), sep="\n")
        if self.load > BUSY * available_cpus():
            console.print(f"The machine was busy when the run began (load {self.load:.1f}): distrust the times.")
        for label, why in absent().items():
            console.print(f"not timed: {label} ({why})", markup=False)
        terminalreporter.section("fastact benchmarks")
        for line in text.getvalue().splitlines():
            terminalreporter.write_line(line.rstrip())


def line_tables(title: str, lines: Iterable[Line], misses_only: bool = False) -> Iterator[Table]:
    """Every line of some races, marked where it misses its target, and what the kinds of them come to."""
    lines = list(lines)
    table = Table("case", "who / against", title=title, box=None, title_justify="left", pad_edge=False)
    for name in ("time", "its time", "ratio", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        if line.missed or not misses_only:
            figures = (amount(value, line.unit) for value in (line.value, line.against))
            target = "-" if line.target is None else f"{line.target:.3g}"
            ratio = f"{line.ratio:.3f}{'*' if line.missed else ' '}"
            table.add_row(line.case, f"{line.name} / {line.baseline}", *figures, ratio, target)
    yield table
    summary = Table("kind", title="\nSummary", box=None, title_justify="left", pad_edge=False)
    for name in ("lines", "misses", "worst", "mean", "target"):
        summary.add_column(name, justify="right", no_wrap=True)
    for kind in dict.fromkeys(line.kind for line in lines):
        same = [line for line in lines if line.kind == kind]
        judged = [line for line in same if line.target is not None] or same
        misses = str(sum(line.missed for line in same))
        mean = geometric_mean(max(line.ratio, 1e-9) for line in judged)
        targets = "/".join(sorted({f"{line.target:.3g}" for line in judged if line.target is not None}))
        text, wanted = f"{mean:.3f} ", judged[0].mean_target
        if wanted is not None:
            text, targets = f"{mean:.3f}{'*' if mean > wanted else ' '}", f"{targets}, mean {wanted:.3g}"
        summary.add_row(kind, str(len(judged)), misses, f"{max(line.ratio for line in judged):.3f}", text, targets)
    yield summary


def amount(value: float, unit: str) -> str:
    """Seconds or bytes."""
    return duration(value) if unit == "s" else f"{value / 1024:.0f} KB"


def duration(seconds: float) -> str:
    """Three figures and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 999.5 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def _headline(rows: list[Row]) -> str:
    """A group in one line: the best of fastact and the best of the peers."""
    case = rows[0].case
    text = f"{case.operation} {case.workload.name}" + f" {case.dtype}" * (case.dtype != "float32")
    text += " one thread" * (case.threads == "one")
    ours = [row for row in rows if row.case.contestant.exact]
    if ours:
        best = min(ours, key=lambda row: row.seconds)
        text += f": {best.case.contestant.label} {duration(best.seconds)}"
        text += f", {best.share:.0%} of the limit" if best.share else ""
        text += f", {best.speedup:.1f} x numpy" if best.speedup else ""
    peers = [row for row in rows if not row.case.contestant.exact and row.case.competitor != BASELINE]
    if peers:
        best = min(peers, key=lambda row: row.seconds)
        text += f"; {best.case.contestant.label} {duration(best.seconds)}"
    return text


def _title(operation: str, dtype: str, threads: str) -> str:
    return f"{operation}, {dtype}, {_threads(threads_of(threads))}"


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"


def _tables(title: str, rows: list[Row]) -> Iterator[Text | Table]:
    """One operation: a heading, then per workload the limit and the contestants."""
    yield Text(f"\n{title}", style="bold underline")
    yield _grid([name for form in HEADINGS for name in (form, "GB/s", "limit", "x np")], [])
    for workload in dict.fromkeys(row.case.workload for row in rows):
        cells = {(row.case.competitor, row.case.form): row for row in rows if row.case.workload == workload}
        lines = [
            (contestant, [cell for form in FORMS for cell in _cells(cells.get((name, form)))])
            for name, contestant in CONTESTANTS.items()
        ]
        some = next(iter(cells.values()))
        yield Text(str(workload), style="bold")
        if some.limit:
            memory = f"  memory limit: {duration(some.limit.seconds)}, {_rate(some.nbytes, some.limit.seconds)} GB/s"
            yield Text(f"{memory} ({some.limit.stores} stores, {_threads(some.limit.threads)})", style="dim")
        yield _grid([], lines)


def _summary(kinds: Iterable[tuple[str, str, str]], rows: list[Row]) -> Iterator[Text | Table]:
    """Geometric means over the workloads."""
    yield Text("\nSummary: geometric means over the workloads", style="bold underline")
    yield _grid([name for form in HEADINGS for name in (form, "", "limit", "x np")], [])
    for kind in kinds:
        lines = []
        for name, contestant in CONTESTANTS.items():
            cells: list[str] = []
            for form in FORMS:
                same = [row for row in rows if row.case.kind == kind]
                same = [row for row in same if (row.case.competitor, row.case.form) == (name, form)]
                cells += [
                    "",
                    "",
                    _mean((r.share for r in same), "{:.0%}".format),
                    _mean((r.speedup for r in same), _ratio),
                ]
            lines.append((contestant, cells))
        yield Text(_title(*kind), style="bold")
        yield _grid([], lines)


def _grid(headings: list[str], lines: list[tuple[Contestant, list[str]]]) -> Table:
    """Lines of figures; every grid has the same columns, so that they stand under each other."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, width=17)
    for width in (8, 5, 5, 5) * len(FORMS):
        table.add_column(no_wrap=True, width=width, justify="right")
    if headings:
        table.add_row("", *headings, style="dim")
    for contestant, cells in lines:
        if any(cells):
            table.add_row(f"  {contestant.label}", *cells, style="green" if contestant.exact else "")
    return table


def _cells(row: Row | None) -> list[str]:
    if row is None:
        return [""] * 4
    share = "-" if row.share is None else f"{row.share:.0%}"
    speedup = "-" if row.speedup is None else _ratio(row.speedup)
    return [duration(row.seconds), _rate(row.nbytes, row.seconds), share, speedup]


def _ratio(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _rate(nbytes: int, seconds: float) -> str:
    return f"{nbytes / seconds / 1e9:.1f}"


def _mean(values: Iterable[float | None], write: Callable[[float], str]) -> str:
    present = [value for value in values if value]
    return write(geometric_mean(present)) if present else ""
