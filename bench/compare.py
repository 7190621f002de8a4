"""What changed between saved runs, beyond the noise: `python -m bench compare BEFORE AFTER [AGAIN ...]`.

The rule:

- The time of a case is a low quantile (20 %) of its rounds.  Where a second thread is late now and then, there are
  quick and slow rounds, and a median may be of either kind.
- A case has changed if its time has changed by more than the floor and by more than three standard errors of both runs.
  The errors are estimated from random samples of the rounds (a bootstrap).
- A machine that drifts slows everybody down alike.  So the case must also have changed by as much relative to the
  others of its comparison group (to the median of their changes).
- Each further run AGAIN, of the same code as AFTER, must show the same change.
- Cases without others, or of fewer than five rounds, are not judged.

The exit status is 0 if nobody got slower, 1 if somebody did, 2 if a file is missing or is no saved run.
"""

import argparse
import math
from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .contestants import COPY
from .results import Run
from .tables import duration, times
from .timing import low

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
    """The times of a case in two runs."""

    name: str
    before: Saved
    after: Saved
    ratio: float  # of the times, after / before
    relative: float  # the same over the median ratio of the group's others; nan without any

    @property
    def error(self) -> float:
        """The relative standard error of the ratio."""
        return math.hypot(self.before.error, self.after.error)

    @property
    def least(self) -> float:
        """The smaller of the two changes, as a logarithm; 0 where they contradict each other or cannot be judged."""
        both = math.log(self.ratio), math.log(self.relative)
        return min(both, key=abs) if self.judged and (both[0] > 0) == (both[1] > 0) else 0.0

    def beyond(self, floor: float) -> bool:
        """Whether the change is beyond the noise."""
        return abs(self.least) > math.log1p(max(floor / 100, SURE * self.error))

    @property
    def judged(self) -> bool:
        """Whether there are enough rounds and other contestants."""
        return math.isfinite(self.error) and math.isfinite(self.relative)


def cases(run: Run) -> dict[str, Saved]:
    """The cases of a run by name."""
    return {str(row.name).removeprefix("test_group"): _saved(row) for row in run.rows.itertuples(index=False)}


def _saved(row: Any) -> Saved:
    rounds = np.array(row.times)
    time = low(rounds.tolist())
    drawn = np.random.default_rng(0).choice(rounds, (DRAWS, rounds.size))
    # Quantiles and not a standard deviation: a single draw of slow rounds would dominate that.
    first, last = np.quantile(np.log([low(sample) for sample in drawn.tolist()]), (0.05, 0.95))
    error = (last - first) / NINETY
    return Saved(row.group, time, float(error) if row.rounds >= FEWEST else math.inf)


def changes(before: dict[str, Saved], after: dict[str, Saved]) -> Iterator[Change]:
    """The changes of the cases that both runs have."""
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
    """For each case that all runs have, the change in the run that shows it least; no change where two contradict."""
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


def differences(before: dict, after: dict) -> Iterator[str]:
    """What else differs between two runs."""
    for key in ("fastact", "peers", "cpu", "python_version"):
        b, a = before.get(key), after.get(key)
        if isinstance(b, dict) and isinstance(a, dict):
            yield from (f"{key} {k}: {b.get(k)} -> {a.get(k)}" for k in sorted({*b, *a}) if b.get(k) != a.get(k))
        elif b != a:
            yield f"{key}: {b} -> {a}"


def percentage(text: str) -> float:
    """A percentage from the command line, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no percentage")
    return value


def compared(before: Run, others: list[Run], floor: float = FLOOR, everything: bool = False) -> tuple[list[str], int]:
    """The lines to print about the runs, and how many cases got slower; ValueError if they have no case in common."""
    first, *rest = (cases(run) for run in (before, *others))
    said = list(dict.fromkeys(t for run in others for t in differences(before.about["machine"], run.about["machine"])))
    found = confirmed(first, rest)
    if not found:
        raise ValueError("the runs have no case in common")
    beyond = [c for c in found if COPY not in c.name and c.beyond(floor)]  # the bandwidth bound is not judged
    cells = {}
    for change in found:
        if change in beyond or everything:
            cells[change.name] = {
                "before": duration(change.before.time),
                "after": duration(change.after.time),
                "time": f"x {times(change.ratio)}",
                "to the others": f"x {times(change.relative)}" if change.judged else "not judged",
                "": "" if change not in beyond else "faster" if change.ratio < 1 else "SLOWER",
            }
    if cells:
        said.append(pd.DataFrame.from_dict(cells, orient="index").to_string())
    slower = sum(change.ratio > 1 for change in beyond)
    alone = max(len(first.keys() ^ other.keys()) for other in rest)
    said.append(f"{len(found)} cases in all runs: {slower} slower, {len(beyond) - slower} faster beyond the noise"
                f" (at least {floor:g} %); {alone} not in all.")  # fmt: skip
    if few := sum(not change.judged for change in found):
        said.append(f"{few} were not judged: timed alone, or in fewer than {FEWEST} rounds.")
    return said, slower
