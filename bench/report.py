"""What a run shows: a line of progress for each group, tables at the end, and with --report a page.

The tables come from tables.py, and are made of the same rows as a saved run has.  An interrupted run shows the results
so far.  Contestants that failed are listed with the reason.
"""

import math
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest

from .comparison import absent
from .contestants import COPY, label_of
from .groups import Group, Outcome
from .others import Others
from .results import FORMAT, kind, ratio, table
from .show import as_text, write_page
from .tables import Table, amount, duration, legend, question, tables
from .workloads import SEED


class Report:
    """Collects the rows; a pytest plugin of one run."""

    def __init__(self, config: pytest.Config, groups: dict[str, Group]) -> None:
        self.config = config
        self.baseline: str = config.option.baseline
        self.groups = groups  # by node id
        self.pending = Counter(_key(group) for group in groups.values())
        self.number = len(self.pending)
        self.rows: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.errors: dict[tuple[str, str], tuple[float, float]] = {}
        self.start = time.perf_counter()
        self.first = 0.0  # seconds until the first group was done, with imports and compilation for all others
        self.others = Others()

    def add(self, group: Group, row: dict[str, Any]) -> None:
        """Keep a contestant's results."""
        self.rows.append(row)

    def failed(self, group: Group, member: str, why: str) -> None:
        """Keep why a contestant is out."""
        facts = {"part": group.part, "case": group.name, "contestant": member, **group.facts}
        self.failures.append(facts | {"reason": why})

    def checked(self, group: Group, member: str, found: Outcome) -> None:
        """Keep the worst errors of a contestant in an operation."""
        key = member, group.facts.get("operation")
        if not key[1] or member not in found.errors:
            return
        worst = self.errors.get(key, (0.0, 0.0))
        self.errors[key] = max(worst[0], found.errors.get(member, 0.0)), max(worst[1], found.sums.get(member, 0.0))

    def about(self) -> dict[str, Any]:
        """The facts about the whole run that are saved with it."""
        option = self.config.option
        names = ("quick", "full", "workload", "contestant", "dtype", "form", "figures", "shape", "threads")
        return {
            "format": FORMAT,
            "baseline": self.baseline,
            "options": {name: str(value) for name in names if (value := getattr(option, name))},
            "seconds": time.perf_counter() - self.start,
            "missing_cases": sum(self.pending.values()),
            "failed": self.failures,
            "absent": absent(),
            "others_share": self.others.share(),
            "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
            "governor": governor(),
            "kernel": platform.release(),
            "seed": SEED,
        }

    # ---- progress ----

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:  # our lines replace pytest's line of the file's name and dots
            terminal.showfspath = False if nodeid in self.groups and self._timed else None
            if nodeid in self.groups and self._timed and not self.rows:
                terminal.write_line("setting up: the first group imports and compiles for all others")

    @property
    def _timed(self) -> bool:
        return not self.config.option.benchmark_disable

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        ours = report.nodeid in self.groups and self._timed and self.config.get_verbosity() <= 0
        # The lines of progress replace pytest's letters.
        return (report.outcome, "", report.outcome.upper()) if ours and report.when == "call" else None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if nodeid not in self.groups or terminal is None:
            return
        key = _key(self.groups[nodeid])
        self.pending[key] -= 1
        if self.pending[key] or not self._timed:
            return
        rows = [row for row in self.rows if (row["part"], row["case"]) == key]
        done, spent = sum(left == 0 for left in self.pending.values()), time.perf_counter() - self.start
        self.first = self.first or spent
        rate = (spent - self.first) / (done - 1) if done > 1 else math.nan
        left = f"{_clock(rate * (self.number - done))} left" if done > 1 else "set up"
        terminal.write_line(f"{f'{done}/{self.number}':>8} {_clock(spent)}, {left:>11}  {self._headline(key, rows)}")

    def _headline(self, key: tuple[str, str], rows: list[dict[str, Any]]) -> str:
        """A group in one line: the best of fastact and the best of the others."""
        text = key[1] if key[0] in ("workloads", "own", "models") else f"{key[0]}: {key[1]}"
        bound = next((row["times"] for row in rows if row["contestant"] == COPY), None)
        for what, sign in (("ours", ": "), ("", "; ")):
            if some := [row for row in rows if kind(row["contestant"]) == what]:
                best = min(some, key=lambda row: median(row["times"]))
                text += f"{sign}{label_of(best['contestant'])} {amount(median(best['times']), best['unit'])}"
                text += f" ({ratio(bound, best['times']):.0%} of copy / add)" if what and bound else ""
        out = dict.fromkeys(one["contestant"] for one in self.failures if (one["part"], one["case"]) == key)
        return text + (f"; FAILED: {', '.join(out)}" if out else "")

    # ---- the end ----

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        option = self.config.option
        if option.check and self.errors:
            terminalreporter.section("fastact: the worst errors, in units in the last place (ulp)")
            self._write(terminalreporter, as_text([self._errors()]))
        if not self._timed or option.collectonly:
            return
        frame = table(self.rows)
        found, notes = list(tables(frame, self.baseline)), list(self._notes())
        terminalreporter.section("fastact benchmarks")
        self._write(terminalreporter, as_text(found))
        explained = [*legend(found, self.baseline), *question(frame), *notes]
        for line in explained:
            terminalreporter.write_line(line)
        if option.csv:
            frame.drop(columns="times").to_csv(option.csv, index=False)
            terminalreporter.write_line(f"all results: {option.csv}")
        if option.report and self.rows:
            try:
                page = write_page(option.report, frame, self.about(), notes)
            except OSError as error:  # no reason to stop: the tables are shown, and the run will be saved
                terminalreporter.write_line(f"report: not written: {error}", red=True)
            else:
                terminalreporter.write_line(f"report: {page}")
        if option.benchmark_json:
            terminalreporter.write_line(f"saved run: {option.benchmark_json} (python -m bench show FILE)")

    @staticmethod
    def _write(terminal: Any, lines: Iterator[tuple[str, str]]) -> None:
        for what, line in lines:
            terminal.write_line(line, **{"title": {"bold": True}, "ours": {"green": True}}.get(what, {}))

    def _errors(self) -> Table:
        """The worst errors of each contestant."""
        cells: dict[str, dict[str, str]] = {}
        for (member, operation), (element, total) in self.errors.items():
            text = f"{element:.3g}" + (f", dalpha {total:.3g}" if total else "")
            cells.setdefault(label_of(member), {})[operation] = text
        return Table("Elements, and dalpha where it has one", pd.DataFrame.from_dict(cells, orient="index").fillna("-"))

    def _notes(self) -> Iterator[str]:
        """What a reader has to know beside the tables."""
        left = sum(self.pending.values())
        if left and self.rows:
            yield f"The run ended early: {left} of {len(self.groups)} cases are missing."
        spent = time.perf_counter() - self.start
        yield f"The run took {duration(spent)}, {duration(self.first)} of it until the first group was done."
        yield from self.others.note()
        for one in self.failures:
            yield f"failed: {label_of(one['contestant'])} in {one['case']}: {one['reason']}"
        for label, why in absent().items():
            yield f"not timed: {label} ({why})"
        if absent():
            yield 'The peers come with `pip install -e ".[peers]"`, torch as its CPU build (docs/benchmarks.md).'


def governor() -> str | None:
    """How the kernel sets the first processor's frequency."""
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _key(group: Group) -> tuple[str, str]:
    return group.part, group.name


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
