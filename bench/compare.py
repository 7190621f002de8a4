"""What changed between two saved runs, beyond the noise: `python -m bench.compare BEFORE AFTER`.

Runs are files of pytest-benchmark's (`--benchmark-save`, `--benchmark-json`).  A change is told from the noise by the
standard errors of the medians of both runs, and never below a floor.  Machines drift, and the memory limit drifts with
them: whoever comes near it must have changed against the limit of the same heat as well.  The exit status is 1 if
somebody got slower.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from .contestants import LIMIT
from .rows import FEWEST, TO_ERROR
from .views import duration, ratio

FLOOR = 5.0  # percent: what runs of the same code on a quiet machine differ by
SURE = 3.0  # standard errors
NEAR = 0.2  # of the limit: who is farther away than this is bound by something else


class Saved(NamedTuple):
    """A case of a saved run."""

    median: float
    error: float  # standard error of the median, relative; infinite where the rounds are too few to tell
    share: float | None  # of the memory limit
    share_error: float  # the same of the share


class Change(NamedTuple):
    """A case of both runs."""

    name: str
    before: Saved
    after: Saved
    ratio: float  # of the times, after / before
    relative: float | None  # the same against the limit, where both are near it
    beyond: bool  # the noise


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
    error, info = stats["iqr"] * TO_ERROR / stats["median"] / math.sqrt(stats["rounds"]), benchmark["extra_info"]
    if stats["rounds"] < FEWEST:
        error = math.inf
    return Saved(stats["median"], error, info.get("share_of_limit"), info.get("share_error", error))


def changes(before: dict[str, Saved], after: dict[str, Saved], floor: float) -> Iterator[Change]:
    """The cases of both."""
    for name in before.keys() & after.keys():
        b, a = before[name], after[name]
        value, relative = a.median / b.median, None
        beyond = _beyond(value, floor, b.error, a.error)
        if min(b.share or 0, a.share or 0) >= NEAR:
            relative = b.share / a.share
            beyond &= _beyond(relative, floor, b.share_error, a.share_error) and (relative > 1) == (value > 1)
        yield Change(name.strip("[]"), b, a, value, relative, beyond)


def _beyond(value: float, floor: float, *errors: float) -> bool:
    return abs(math.log(value)) > math.log1p(max(floor / 100, SURE * math.hypot(*errors)))


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
    found = sorted(changes(before, after, options.floor), key=lambda change: change.ratio)
    if not found:
        raise SystemExit("the two runs have no case in common")
    table = Table("case", box=None, pad_edge=False)
    for name in ("before", "after", "time", "to limit", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for change in found:
        if change.beyond or options.all:
            verdict = "" if not change.beyond else "faster" if change.ratio < 1 else "SLOWER"
            table.add_row(
                change.name,
                duration(change.before.median),
                duration(change.after.median),
                f"x {ratio(change.ratio)}",
                f"x {ratio(change.relative)}" if change.relative else "",
                verdict,
            )
    if table.row_count:
        console.print(table)
    beyond = [change for change in found if change.beyond and LIMIT not in change.name.split("-")]
    slower = sum(change.ratio > 1 for change in beyond)
    if few := sum(math.isinf(change.before.error + change.after.error) for change in found):
        console.print(
            f"{few} cases have fewer than {FEWEST} rounds (--quick): too few to tell a change from the noise."
        )
    only = len(before.keys() ^ after.keys())
    console.print(f"{len(found)} cases in both runs: {slower} slower, {len(beyond) - slower} faster beyond the noise"
                  f" (at least {options.floor:g} %); {only} in one run only.")  # fmt: skip
    raise SystemExit(int(slower > 0))


if __name__ == "__main__":
    main()
