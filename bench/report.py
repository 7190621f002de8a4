"""What a timed run shows: a line of progress per heat's group, tables at the end, and with --report a page.

The tables are views.py's, here for the terminal: in colour on one, plain where the output is piped.  A run that is
interrupted shows what it has; who failed is listed with the reason.  The races of the other modules end in a table
of the lines that miss their target.
"""

import io
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .cases import Case, absent
from .contestants import LIMIT
from .others import Others
from .races import Line
from .rows import Row
from .views import Table, duration, legend, views

WIDTH, LABEL = 100, 17  # of the tables and of their first column


class Report:
    """Collects the rows; a pytest plugin of one timed run."""

    def __init__(self, config: pytest.Config, cases: dict[str, Case]) -> None:
        self.config = config
        self.baseline: str = config.option.baseline
        self.folder: Path | None = config.option.report
        self.cases = cases  # by node id
        self.pending = Counter(case.group for case in cases.values())
        self.groups = len(self.pending)
        self.rows: list[Row] = []
        self.lines: list[Line] = []  # of the races
        self.start = time.perf_counter()
        self.first = 0.0  # when the first group was done: it has imported and compiled for all others
        self.others = Others()

    def add(self, row: Row) -> None:
        """Keep a finished case."""
        self.rows.append(row)

    # ---- progress ----

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:  # our lines take the place of the file's name and dots
            terminal.showfspath = False if nodeid in self.cases else None
            if nodeid in self.cases and not self.rows:
                terminal.write_line("setting up: the first group imports and compiles for all others")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        ours = report.nodeid in self.cases and self.config.get_verbosity() <= 0
        # The lines of progress take the letters' place.
        return (report.outcome, "", report.outcome.upper()) if ours and report.when == "call" else None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if nodeid not in self.cases or terminal is None:
            return
        group = self.cases[nodeid].group
        self.pending[group] -= 1
        rows = [row for row in self.rows if row.case.group == group]
        if self.pending[group] == 0 and rows:
            done, spent = sum(left == 0 for left in self.pending.values()), time.perf_counter() - self.start
            self.first = self.first or spent
            rate = (spent - self.first) / (done - 1) if done > 1 else math.nan
            left = f"{_clock(rate * (self.groups - done))} left" if done > 1 else "set up"
            terminal.write_line(f"{f'{done}/{self.groups}':>8} {_clock(spent)}, {left:>11}  {self._headline(rows)}")

    def _headline(self, rows: list[Row]) -> str:
        """A group in one line: the best of fastact and the best of the others."""
        case = rows[0].case
        text = f"{case.operation} {case.workload.name}" + f" {case.dtype}" * (case.dtype != "float32")
        text += f" {case.threads}" * (case.threads != "all")
        timed = [row for row in rows if row.times and row.case.competitor != LIMIT]
        for who in (True, False):
            some = [row for row in timed if row.case.contestant.exact is who]
            if some:
                best = min(some, key=lambda row: row.seconds)
                text += f"{': ' if who else '; '}{best.case.contestant.label} {duration(best.seconds)}"
                text += f" ({best.share:.0%} of the limit)" if who and best.share else ""
        failed = dict.fromkeys(row.case.contestant.label for row in rows if row.reason)
        return text + (f"; FAILED: {', '.join(failed)}" if failed else "")

    # ---- the end ----

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        text, plain = io.StringIO(), not terminalreporter.hasmarkup
        colours = None if plain else "standard"
        console = Console(file=text, width=WIDTH, force_terminal=not plain, color_system=colours, highlight=False)
        tables = list(views(self.rows, self.baseline))
        for table in tables:
            console.print(*_shown(table), sep="\n")
        if self.rows:
            console.print("", *legend(tables, self.baseline), sep="\n", markup=False)
        if self.lines:
            title = "Races: ratios of times, contestants taking turns; those over their target"
            console.print("", *line_tables(title, self.lines, misses_only=True), sep="\n")
        notes = list(self._notes())
        for note in notes:
            console.print(note, markup=False)
        terminalreporter.section("fastact benchmarks")
        for line in text.getvalue().splitlines():
            terminalreporter.write_line(line.rstrip())
        if self.folder and self.rows:
            from .page import write_report  # matplotlib takes its time

            try:
                page = write_report(self.folder, self.rows, tables, notes, self.baseline)
            except OSError as error:  # the tables are there, the saved run will be
                terminalreporter.write_line(f"report: not written: {error}", red=True)
            else:
                terminalreporter.write_line(f"report: {page}")

    def _notes(self) -> Iterator[str]:
        """What a reader has to know beside the figures."""
        left = sum(self.pending.values())
        if left and self.rows:
            yield f"The run ended early: {left} of {len(self.cases)} cases are missing."
        yield from self.others.note()
        for row in self.rows:
            if row.reason:
                yield f"failed: {row.case.contestant.label} in {row.case.heat}: {row.reason}"
        for label, why in absent().items():
            yield f"not timed: {label} ({why})"
        if absent():
            yield 'The peers come with `pip install -e ".[peers]"`, torch as its CPU build (README.md).'


def _shown(table: Table) -> Iterator[Text | RichTable]:
    """One table for the terminal."""
    yield Text(f"\n{table.title}", style="bold underline")
    for part in _parts(table):
        yield from _shown_part(part)


def _parts(table: Table) -> Iterator[Table]:
    """The table in as many pieces as its columns need."""
    first, used = 0, LABEL
    for index, width in enumerate(_widths(table)):
        if used + width + 2 > WIDTH and index > first:
            yield _columns(table, slice(first, index))
            first, used = index, LABEL
        used += width + 2
    yield _columns(table, slice(first, None))


def _columns(table: Table, which: slice) -> Table:
    lines = (line._replace(cells=line.cells[which]) for line in table.lines)
    return table._replace(columns=table.columns[which], lines=tuple(lines))


def _widths(table: Table) -> list[int]:
    """Of each column: a heading may take several lines, a word is never cut."""
    cells = [[line.cells[index] for line in table.lines if line.cells] for index in range(len(table.columns))]
    return [
        max([len(cell.text) + 1 for cell in column] + [len(word) for word in name.split()])
        for column, name in zip(cells, table.columns, strict=True)
    ]


def _shown_part(table: Table) -> Iterator[Text | RichTable]:
    """Grids of the same columns under their headings."""
    yield _grid(table, [("", [*table.columns], "dim")])
    lines: list[tuple[str, list[str], str]] = []
    for line in table.lines:
        if not line.cells:
            if lines:
                yield _grid(table, lines)
            lines = []
            yield Text(line.label, style="bold")
            continue
        cells = [cell.text + "*" * cell.best for cell in line.cells]
        lines.append((f"  {line.label}", cells, {"ours": "green", "limit": "dim"}.get(line.kind, "")))
    yield _grid(table, lines)


def _grid(table: Table, lines: list[tuple[str, list[str], str]]) -> RichTable:
    grid = RichTable(box=None, show_header=False, pad_edge=False)
    grid.add_column(no_wrap=True, width=LABEL)
    for width in _widths(table):
        grid.add_column(width=width, justify="right", vertical="bottom")
    for label, cells, style in lines:
        grid.add_row(label, *cells, style=style)
    return grid


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def line_tables(title: str, lines: Iterable[Line], misses_only: bool = False) -> Iterator[RichTable]:
    """Every line of some races, marked where it misses its target, and what the kinds of them come to."""
    lines = list(lines)
    table = RichTable("case", "who / against", title=title, box=None, title_justify="left", pad_edge=False)
    for name in ("time", "its time", "ratio", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        if line.missed or not misses_only:
            figures = (amount(value, line.unit) for value in (line.value, line.against))
            target = "-" if line.target is None else f"{line.target:.3g}"
            ratio = f"{line.ratio:.3f}{'*' if line.missed else ' '}"
            table.add_row(line.case, f"{line.name} / {line.baseline}", *figures, ratio, target)
    yield table
    summary = RichTable("kind", title="\nSummary", box=None, title_justify="left", pad_edge=False)
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
