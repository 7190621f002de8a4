"""What changed between two saved runs, beyond the noise: `python -m bench.compare BEFORE AFTER`.

Runs are files of pytest-benchmark's (`--benchmark-save`, `--benchmark-json`).  A change is told from the noise by the
standard errors of the medians of both runs, and never below a floor; and because machines drift, by as much for
everybody in a heat, it must be one against the others of the heat as well.  Cases without others, or of too few
rounds, are not judged.  The exit status is 1 if somebody got slower.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from .contestants import LIMIT
from .views import duration, ratio

FLOOR = 10.0  # percent: what two runs of the same code differ by in most cases
SURE = 3.0  # standard errors
FEWEST = 5  # rounds whose quartiles say something about the median's error
TO_ERROR = 1.253 / 1.349  # times the quartiles' distance over the root of the rounds: the median's standard error


class Saved(NamedTuple):
    """A case of a saved run."""

    heat: str
    median: float
    error: float  # standard error of the median, relative; infinite where the rounds are too few to tell


class Change(NamedTuple):
    """A case of both runs."""

    name: str
    before: Saved
    after: Saved
    ratio: float  # of the times, after / before
    relative: float  # the same over the median ratio of the heat's others; nan without any
    error: float

    def beyond(self, floor: float) -> bool:
        """The noise, both in time and against the others."""
        least = math.log1p(max(floor / 100, SURE * self.error))
        logs = math.log(self.ratio), math.log(self.relative)
        return min(map(abs, logs)) > least and (logs[0] > 0) == (logs[1] > 0)

    @property
    def judged(self) -> bool:
        """Whether there is enough to tell."""
        return math.isfinite(self.error) and math.isfinite(self.relative)


def read(path: Path) -> tuple[dict, dict[str, Saved]]:
    """A run's facts about its machine, and its cases by name."""
    try:
        run = json.loads(path.read_text())
        cases = {b["name"].removeprefix("test_operation"): _saved(b) for b in run["benchmarks"]}
        return run["machine_info"], cases
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is no saved run of pytest-benchmark: {type(error).__name__}: {error}") from None


def _saved(benchmark: dict) -> Saved:
    stats = benchmark["stats"]
    enough = stats["rounds"] >= FEWEST
    if not stats["median"] > 0:
        raise ValueError(f"{benchmark['name']} has a median of {stats['median']}")
    error = stats["iqr"] * TO_ERROR / stats["median"] / math.sqrt(stats["rounds"]) if enough else math.inf
    return Saved(benchmark["group"], stats["median"], error)


def changes(before: dict[str, Saved], after: dict[str, Saved]) -> Iterator[Change]:
    """The cases of both."""
    ratios = {name: after[name].median / before[name].median for name in before.keys() & after.keys()}
    heats: dict[str, list[str]] = {}
    for name in ratios:
        heats.setdefault(before[name].heat, []).append(name)
    for names in heats.values():
        for name in names:
            b, a = before[name], after[name]
            others = [ratios[other] for other in names if other != name]
            relative = ratios[name] / median(others) if others else math.nan
            yield Change(name.strip("[]"), b, a, ratios[name], relative, math.hypot(b.error, a.error))


def _differences(before: dict, after: dict) -> Iterator[str]:
    """What else is not the same."""
    for key in ("fastact", "peers", "cpu", "python_version"):
        b, a = before.get(key), after.get(key)
        if isinstance(b, dict) and isinstance(a, dict):
            yield from (f"{key} {k}: {b.get(k)} -> {a.get(k)}" for k in sorted({*b, *a}) if b.get(k) != a.get(k))
        elif b != a:
            yield f"{key}: {b} -> {a}"


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no percentage")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, metavar="BEFORE")
    parser.add_argument("after", type=Path, metavar="AFTER")
    parser.add_argument("--all", action="store_true", help="show what did not change too")
    parser.add_argument(
        "--floor",
        type=_percent,
        default=FLOOR,
        metavar="PERCENT",
        help=f"least change to count (default: {FLOOR:g})",
    )
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    (machine, before), (other, after) = read(options.before), read(options.after)
    for text in _differences(machine, other):
        console.print(text, markup=False)
    found = sorted(changes(before, after), key=lambda change: change.ratio)
    if not found:
        raise SystemExit("the two runs have no case in common")
    contestants = [change for change in found if LIMIT not in change.name.split("-")]
    beyond = [change for change in contestants if change.judged and change.beyond(options.floor)]
    table = Table("case", box=None, pad_edge=False)
    for name in ("before", "after", "time", "to the others", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for change in found:
        if change in beyond or options.all:
            verdict = "" if change not in beyond else "faster" if change.ratio < 1 else "SLOWER"
            times = duration(change.before.median), duration(change.after.median), f"x {ratio(change.ratio)}"
            relative = f"x {ratio(change.relative)}" if change.judged else "not judged"
            table.add_row(change.name, *times, relative, verdict)
    if table.row_count:
        console.print(table)
    slower = sum(change.ratio > 1 for change in beyond)
    faster = len(beyond) - slower
    console.print(f"{len(found)} cases in both runs: {slower} slower, {faster} faster beyond the noise"
                  f" (at least {options.floor:g} %); {len(before.keys() ^ after.keys())} in one run only.")  # fmt: skip
    if few := sum(not change.judged for change in found):
        console.print(f"{few} were not judged: timed alone, or in fewer than {FEWEST} rounds (as with --quick).")
    raise SystemExit(int(slower > 0))


if __name__ == "__main__":
    main()
