"""What changed between saved runs, beyond the noise: `python -m bench.compare BEFORE AFTER [AGAIN ...]`.

Runs are files of pytest-benchmark's (`--benchmark-json`, `--benchmark-save`).  The rule:

- The time of a case is a low quantile, a fifth, of its rounds: where a second thread is late now and then, rounds are
  of two kinds, and a median falls into either.
- A case has changed if its time did by more than the floor and by more than three standard errors of both runs, which
  its rounds tell when they are drawn again and again.
- Machines drift, by as much for everybody: the case must have changed by as much against the others of its comparison
  group, too (the median of their changes).
- Each further run AGAIN, of the same code as AFTER, must show the same change.
- Cases without others, or of fewer than five rounds, are not judged.

The exit status is 0 if nobody got slower, 1 if somebody did, 2 if a file is missing or is no saved run.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from .contestants import LIMIT
from .timing import low
from .views import duration, ratio

FLOOR = 10.0  # percent: what two runs of the same code differ by in most cases
SURE = 3.0  # standard errors
FEWEST = 5  # rounds that say something about the error
DRAWS = 200  # samples of the rounds
NINETY = 2 * 1.645  # standard deviations hold 90 % of a normal distribution


class Saved(NamedTuple):
    """A case of a saved run."""

    group: str
    time: float
    error: float  # standard error of the time, relative; infinite where the rounds are too few to tell


class Change(NamedTuple):
    """A case of two runs."""

    name: str
    before: Saved
    after: Saved
    ratio: float  # of the times, after / before
    relative: float  # the same over the median ratio of the group's others; nan without any

    @property
    def error(self) -> float:
        """Of the ratio."""
        return math.hypot(self.before.error, self.after.error)

    @property
    def least(self) -> float:
        """The smaller of both changes, as a logarithm; 0 where they contradict each other or nothing can be told."""
        both = math.log(self.ratio), math.log(self.relative)
        return min(both, key=abs) if self.judged and (both[0] > 0) == (both[1] > 0) else 0.0

    def beyond(self, floor: float) -> bool:
        """The noise."""
        return abs(self.least) > math.log1p(max(floor / 100, SURE * self.error))

    @property
    def judged(self) -> bool:
        """Whether there is enough to tell."""
        return math.isfinite(self.error) and math.isfinite(self.relative)


class Unreadable(Exception):
    """Which file is no saved run, and why."""


def read(path: Path) -> tuple[dict, dict[str, Saved]]:
    """A run's facts about its machine, and its cases by name."""
    try:
        run = json.loads(path.read_text())
        return run["machine_info"], {b["name"].removeprefix("test_operation"): _saved(b) for b in run["benchmarks"]}
    except Exception as error:  # whatever is in it, status 1 is for those who got slower
        raise Unreadable(f"{path} is no saved run of pytest-benchmark: {type(error).__name__}: {error}") from None


def _saved(benchmark: dict) -> Saved:
    stats = benchmark["stats"]
    rounds = np.array(stats.get("data") or [])
    if rounds.size:
        time = low(rounds.tolist())
        drawn = np.random.default_rng(0).choice(rounds, (DRAWS, rounds.size))
        # Not their standard deviation: one draw of slow rounds only would be most of it.
        first, last = np.quantile(np.log([low(sample) for sample in drawn.tolist()]), (0.05, 0.95))
        error = (last - first) / NINETY
    else:  # saved by others: the quartiles stand for the rounds
        time, error = stats["q1"], stats["iqr"] / stats["median"] / math.sqrt(stats["rounds"])
    if not time > 0:
        raise ValueError(f"{benchmark['name']} took {time} s")
    return Saved(benchmark["group"], time, float(error) if stats["rounds"] >= FEWEST else math.inf)


def changes(before: dict[str, Saved], after: dict[str, Saved]) -> Iterator[Change]:
    """The cases of both."""
    ratios = {name: after[name].time / before[name].time for name in before.keys() & after.keys()}
    groups: dict[str, list[str]] = {}
    for name in ratios:
        groups.setdefault(before[name].group, []).append(name)
    for names in groups.values():
        for name in names:
            others = [ratios[other] for other in names if other != name]
            relative = ratios[name] / median(others) if others else math.nan
            yield Change(name.strip("[]"), before[name], after[name], ratios[name], relative)


def confirmed(before: dict[str, Saved], runs: list[dict[str, Saved]]) -> list[Change]:
    """Of each case that all runs have, the change in the run that shows it least; none where two contradict."""
    found: dict[str, list[Change]] = {}
    for run in runs:
        for change in changes(before, run):
            found.setdefault(change.name, []).append(change)
    weakest = []
    for same in found.values():
        if len(same) == len(runs):
            change = min(same, key=lambda change: abs(change.least))
            opposed = len({other.least > 0 for other in same}) > 1
            weakest.append(change._replace(relative=1.0) if opposed else change)
    return sorted(weakest, key=lambda change: change.ratio)


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
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, metavar="BEFORE")
    parser.add_argument("after", type=Path, metavar="AFTER")
    parser.add_argument("again", type=Path, metavar="AGAIN", nargs="*", help="more runs of AFTER's code, to confirm")
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
    try:
        (machine, before), *others = map(read, (options.before, options.after, *options.again))
    except Unreadable as error:
        parser.error(str(error))
    for text in dict.fromkeys(text for other, _ in others for text in _differences(machine, other)):
        console.print(text, markup=False)
    found = confirmed(before, [cases for _, cases in others])
    if not found:
        parser.error("the runs have no case in common")
    # The limit is no contestant.
    beyond = [c for c in found if LIMIT not in c.name.split("-") and c.beyond(options.floor)]
    table = Table("case", box=None, pad_edge=False)
    for name in ("before", "after", "time", "to the others", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for change in found:
        if change in beyond or options.all:
            verdict = "" if change not in beyond else "faster" if change.ratio < 1 else "SLOWER"
            times = duration(change.before.time), duration(change.after.time), f"x {ratio(change.ratio)}"
            relative = f"x {ratio(change.relative)}" if change.judged else "not judged"
            table.add_row(change.name, *times, relative, verdict)
    if table.row_count:
        console.print(table)
    slower = sum(change.ratio > 1 for change in beyond)
    alone = max(len(before.keys() ^ cases.keys()) for _, cases in others)
    console.print(f"{len(found)} cases in all runs: {slower} slower, {len(beyond) - slower} faster beyond the noise"
                  f" (at least {options.floor:g} %); {alone} not in all.")  # fmt: skip
    if few := sum(not change.judged for change in found):
        console.print(f"{few} were not judged: timed alone, or in fewer than {FEWEST} rounds (as with --quick).")
    raise SystemExit(int(slower > 0))


if __name__ == "__main__":
    main()
