"""A run's results as one tidy table, a row for each contestant in each comparison group, live or from a file.

`entry` says what is saved with a contestant's rounds (docs/benchmarks.md has the keys); `read` makes a table of a saved
run.  Times are medians over the rounds.  Ratios are medians of the rounds' ratios, because a machine that drifts slows
down both sides of a ratio.  Everything that is shown comes from this table.
"""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .company import ALONE
from .contestants import CONTESTANTS, COPY, label_of
from .groups import Group, Outcome
from .timing import CLEAR, ROUNDS, far_apart, two_kinds

FORMAT = 2  # the version of the files' format
CLOSE = 1.03  # a contestant within this multiple of the fastest time wins, too: the difference is noise
NOISE = 1.15  # a larger share of the bandwidth bound means that the row's times are noisy


class Run(NamedTuple):
    """The content of a saved run's file."""

    rows: pd.DataFrame
    about: dict[str, Any]  # the machine, the commit, the options, and the contestants that were absent or failed


class Unreadable(Exception):
    """A file is no saved run; the message names it and says why."""


def entry(group: Group, member: str, found: Outcome, baseline: str) -> dict[str, Any]:
    """What is saved with a contestant's rounds."""
    times = found.times[member]
    first, _, third = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    seconds = statistics.median(times)
    known = {
        "part": group.part,
        "case": group.name,
        "contestant": member,
        **group.facts,
        "unit": group.unit,
        "seconds": seconds,
        "spread": (third - first) / 2 / seconds,
        "bytes": found.nbytes,
        "gb_per_s": found.nbytes / seconds / 1e9,
        "baseline": baseline,
        "speedup": ratio(found.times.get(baseline), times),
        "share_of_copy_add": ratio(found.times.get(COPY), times),
        "copy_add": found.bound,
        "first_call_seconds": found.first.get(member),
        "error_ulp": found.errors.get(member),
        "dalpha_error_ulp": found.sums.get(member),
    }
    targets = [target.__dict__ for target in group.targets if target.name == member]
    return {name: value for name, value in known.items() if value not in (None, "")} | (
        {"targets": targets} if targets else {}
    )


def ratio(others: list[float] | None, own: list[float], part: float = 0.5) -> float | None:
    """How many times as fast as another contestant: the median of the rounds' ratios, or the quantile `part`."""
    if not others:
        return None
    ratios = [b / a for a, b in zip(own, others, strict=True)]
    return statistics.median(ratios) if part == 0.5 else float(np.quantile(ratios, part))


def read(path: str | Path) -> Run:
    """A saved run of these benchmarks, or of pytest-benchmark alone with the facts that it saves."""
    try:
        run = json.loads(Path(path).read_text())
        rows = [_row(benchmark) for benchmark in run["benchmarks"]]
        about = {
            "machine": run["machine_info"],
            "commit": run.get("commit_info") or {},
            "datetime": run.get("datetime"),
        }
        about |= run.get("fastact") or {}
    except Exception as error:  # the file may hold anything
        raise Unreadable(f"{path} is no saved run: {type(error).__name__}: {error}") from None
    if about.get("format", FORMAT) > FORMAT:
        raise Unreadable(f"{path} has format {about['format']}; this version reads up to {FORMAT}")
    return Run(table(rows), about)


def _row(benchmark: dict[str, Any]) -> dict[str, Any]:
    """A row of a file.  Plain --benchmark-save writes no rounds; then the quartiles stand for them."""
    stats, info = benchmark["stats"], benchmark.get("extra_info") or {}
    data = stats.get("data") or [stats["q1"], stats["median"], stats["q3"]]
    if not min(data) > 0:
        raise ValueError(f"{benchmark['name']} took {min(data)} s")
    unknown = {"part": "other", "case": benchmark["group"] or "", "contestant": benchmark["name"]}
    kept = {} if stats.get("data") else {"rounds": stats["rounds"]}
    return unknown | info | {"name": benchmark["name"], "times": data} | kept


COLUMNS = ("operation", "workload", "dtype", "threads", "form", "host", "unit", "bytes", "targets", "speedup")


def table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The tidy table, with the columns that follow from the rounds."""
    frame = pd.DataFrame(list(rows))
    if frame.empty:
        return frame
    for name in COLUMNS:
        if name not in frame:
            frame[name] = None
    if "rounds" not in frame:
        frame["rounds"] = None
    frame["rounds"] = [len(t) if pd.isna(n) else int(n) for n, t in zip(frame["rounds"], frame.times, strict=True)]
    frame["seconds"] = [statistics.median(times) for times in frame.times]
    quartiles = [statistics.quantiles(t, n=4, method="inclusive") if len(t) > 1 else t * 3 for t in frame.times]
    frame["low"], frame["high"] = [q[0] for q in quartiles], [q[2] for q in quartiles]
    frame["spread"] = (frame.high - frame.low) / 2 / frame.seconds
    frame["alone"] = frame.contestant.str.endswith(ALONE)
    plain = frame.contestant.str.removesuffix(ALONE)
    frame["label"] = plain.map(label_of) + frame.alone.map({True: ALONE, False: ""})
    frame["kind"] = plain.map(kind)
    rank = {name: place for place, name in enumerate(CONTESTANTS)}
    frame["rank"] = [rank.get(name, len(rank)) for name in plain]
    frame["group"] = frame.part + ": " + frame.case
    frame["share"], frame["share_low"], frame["share_high"] = (against(frame, COPY, part) for part in (0.5, 0.25, 0.75))
    frame["uneven"] = [two_kinds(times) for times in frame.times]
    frame["sure"] = (frame["rounds"] > ROUNDS[0]) & (frame.spread <= CLEAR)
    frame["won"] = _won(frame)
    return frame


def kind(name: str) -> str:
    """The kind of a contestant: "ours", "bound" (the bandwidth bound) or empty."""
    ours = (name in CONTESTANTS and CONTESTANTS[name].exact) or name.split()[0] in ("fastact", "cython", "numba")
    return "bound" if name == COPY else "ours" if ours else ""


def against(frame: pd.DataFrame, name: str, part: float = 0.5) -> pd.Series:
    """Each row's speed-up over this contestant of its group; nan where the group does not have it."""
    others = {row.group: row.times for row in frame[frame.contestant == name].itertuples()}
    found = [
        ratio(others.get(group), times, part) if len(others.get(group, times)) == len(times) else None
        for group, times in zip(frame.group, frame.times, strict=True)
    ]
    return pd.Series(found, frame.index, "float64")


def torn(frame: pd.DataFrame, name: str) -> pd.Series:
    """Whether the quotient of the median times contradicts the median of the rounds' ratios."""
    others = {row.group: row.seconds for row in frame[frame.contestant == name].itertuples()}
    quotient = frame.group.map(others) / frame.seconds
    found = against(frame, name)
    return pd.Series(
        [pd.notna(a) and pd.notna(b) and far_apart(a, b) for a, b in zip(quotient, found, strict=True)], frame.index
    )


def _won(frame: pd.DataFrame) -> list[bool]:
    """Whether it is sure that only the bandwidth bound is faster, both by the rounds' ratios and by the medians.

    Calls in company are not compared with calls alone.
    """
    won = pd.Series(False, frame.index)
    for _, same in frame[frame.contestant != COPY].groupby(["group", "alone"], sort=False):
        for row in same[same.sure].itertuples():
            rivals = [other for other in same.itertuples() if len(other.times) == len(row.times)]
            won[row.Index] = all(
                min(ratio(other.times, row.times), other.seconds / row.seconds) >= 1 / CLOSE for other in rivals
            )
    return list(won)


def pairs(frame: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """By operation: the ratios of one contestant's time to another's, over the groups that have both."""
    ratios = 1 / against(frame, other)
    both = frame.assign(ratio=ratios)[(frame.contestant == one) & ratios.notna()]
    if both.empty:
        return both
    return both.groupby("operation", sort=False).ratio.agg(
        mean=lambda r: geometric_mean(r),
        low=lambda r: r.quantile(0.25),
        high=lambda r: r.quantile(0.75),
        groups="size",
    )


def lines(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for every ratio that has a target or is measured for information."""
    found = []
    groups = {name: dict(zip(same.contestant, same.times, strict=True)) for name, same in frame.groupby("group")}
    for row in frame[frame.targets.notna()].itertuples():
        for target in row.targets:
            present = {n: groups[row.group][n] for n in target["baselines"] if n in groups[row.group]}
            if not present:
                continue
            best = min(present, key=lambda name: statistics.median(present[name]))
            scale, most = target["scale"], target["most"]
            quotient = 1 / ratio(present[best], row.times) / scale
            found.append(
                {
                    "row": row.part,
                    "case": row.case,
                    "kind": target["kind"] or row.contestant,
                    "who": f"{row.contestant} / {best}",
                    "value": row.seconds,
                    "against": statistics.median(present[best]) * scale,
                    "unit": row.unit,
                    "ratio": quotient,
                    "target": most,
                    "missed": most is not None and quotient > most,
                    "mean_target": target["mean"],
                }
            )
    return pd.DataFrame(found)
