"""The results of a run as tables of text, which the terminal, the Markdown and the page show.

A table is a DataFrame of text with a contestant in each line; a line that begins with HEADING is a heading.
"""

import math
from collections.abc import Callable, Iterator
from statistics import geometric_mean
from typing import Any, NamedTuple

import pandas as pd

from .company import ALONE
from .comparison import FORMS, MAIN, PRELU
from .contestants import COPY
from .models import MODELS
from .results import CLOSE, NOISE, against, lines, pairs, torn
from .timing import CLEAR, FAR, ROUNDS

HEADING = "§ "
UNEVEN, TORN, OVER, BEST, MISSED = "~", "?", "!", "*", "#"  # `legend` explains these marks
FEW = 64  # elements of a small call
PASSES = {"forward": ("prelu",), "forward + backward": PRELU}


class Table(NamedTuple):
    """One table."""

    title: str
    frame: pd.DataFrame


# ---- figures as text -------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Three figures and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 999.5 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def amount(value: float, unit: str) -> str:
    """Seconds or bytes."""
    return duration(value) if unit != "B" else f"{value / 1024:.0f} KB"


def figures(value: float) -> str:
    """Three figures, never an exponent."""
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def times(value: float) -> str:
    """A ratio, with three figures."""
    return "-" if pd.isna(value) else f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def percent(value: float) -> str:
    """A share in per cent."""
    return "-" if pd.isna(value) else f"{value:.0%}"


def share(value: float) -> str:
    """A share of the bandwidth bound; above NOISE it is marked."""
    return percent(value) + OVER * bool(value > NOISE)


def threads_text(number: int) -> str:
    """1 thread, 2 threads."""
    return f"{number:.0f} thread" + "s" * bool(number != 1)


def legend(tables: list[Table], baseline: str) -> Iterator[str]:
    """How to read the tables; a mark that none of them has is left out."""
    columns = {str(name) for table in tables for name in table.frame.columns}
    cells = {str(cell)[-2:] for table in tables for cell in table.frame.to_numpy().ravel()}
    marks = {mark for cell in cells for mark in cell}
    if any("+-" in name for name in columns):
        yield (
            "Times are medians over the rounds, ratios are medians of the rounds' own ratios: the two need not agree. "
            "+-: half the distance between the quartiles. n: rounds. GB/s counts every array of x's size once. "
            "copy / add: this machine's bandwidth bound, a copy (one input) or an addition (two) of the same traffic "
            "in the same comparison group, the best of ordinary and streaming stores; % of it: its time over the "
            f"contestant's. x {short(baseline)}: speed-up over {baseline} in the same comparison group."
        )
    if OVER in marks:
        yield f"{OVER}: more than {NOISE:.0%} of the bandwidth bound is noise of this line."
    if TORN in marks:
        yield f"{TORN}: the quotient of the two median times differs from this ratio by more than {CLEAR:.0%}."
    if UNEVEN in marks:
        yield f"{UNEVEN}: the median is more than {FAR:g} times the minimum, so it is no typical time."
    if MISSED in marks:
        yield f"{MISSED}: the target is missed."
    if BEST in marks:
        yield (
            f"{BEST}: nobody but the bound is faster by more than {CLOSE - 1:.0%}. The mark needs more than "
            f"{ROUNDS[0]} rounds and a spread (+-) of {CLEAR:.0%} at most."
        )


def short(name: str) -> str:
    """A contestant in a column's heading."""
    known = {"numpy": "np", "onnxruntime": "ort", "ort_fastact": "ort+fa", "jax_fastact": "jax+fa"}
    return known.get(name, name.removeprefix("fastact_"))[:8]


# ---- all tables ------------------------------------------------------------------------------------------------------


def tables(frame: pd.DataFrame, baseline: str) -> Iterator[Table]:
    """All tables of a run."""
    if frame.empty:
        return
    of = dict(tuple(frame.groupby("part", sort=False)))
    for part in ("workloads", "own"):
        yield from workload_tables(of.get(part), baseline)
    yield from mean_tables(of.get("workloads"), baseline)
    yield from model_tables(of.get("models"))
    yield from sweeps(of.get("sizes"), "ns per element over n", "workload", per_element)
    yield from sweeps(of.get("signs"), "time by offset of x: what a branch costs", "workload", time_text)
    if (found := of.get("threads")) is not None:
        yield from sweeps(found.assign(threads_text=found.threads.map(threads_text)), "time by threads",
                          "threads_text", time_text, ("operation", "dtype", "workload"))  # fmt: skip
    if (found := of.get("accuracy")) is not None:
        found = found[found.contestant != COPY]  # it has no sum
        title = "Error of dalpha in ulp, 401,408 terms (marked: at most 0.5, the exact sum rounded once)"
        yield Table(title, pivot(found.assign(key=found.workload + " " + found["dtype"]), "key", error_text))
    yield from sweeps(of.get("layouts"), "time by memory layout of the operands", "workload", time_text)
    if not (few := frame[(frame.workload == f"n_{FEW}") & (frame.form == FORMS[0])]).empty:
        yield Table(f"Cost of a small call: {FEW} elements, 16 channels", pivot(few, "operation", time_text))
    yield from company_tables(of.get("company"))
    yield from network_tables(of.get("networks"))
    yield from first_tables(frame)
    yield from target_tables(lines(frame))


def pivot(frame: pd.DataFrame, column: str, text: Callable[[Any], str]) -> pd.DataFrame:
    """A table of contestants by the values of a column, which keep the order of their first appearance."""
    frame = frame.assign(text=[text(row) for row in frame.itertuples()])
    labels = frame.sort_values("rank", kind="stable").label.unique()
    cells = frame.pivot_table(index="label", columns=column, values="text", aggfunc="first", sort=False)
    return cells.reindex(index=labels, columns=frame[column].unique()).fillna("-")


def mark(text: str, row: Any) -> str:
    """A figure with its marks."""
    return text + UNEVEN * bool(row.uneven) + BEST * bool(row.won)


def time_text(row: Any) -> str:
    """The time of a call."""
    return mark(amount(row.seconds, row.unit), row)


def per_element(row: Any) -> str:
    """Nanoseconds for an element."""
    return mark(figures(row.seconds / math.prod(row.shape) * 1e9), row)


def error_text(row: Any) -> str:
    """The error of dalpha in ulp."""
    error = row.dalpha_error_ulp
    if pd.isna(error):
        error = 0.0  # a file leaves zeros out
    return (f"{error:.2f}" if error < 99.5 else figures(error)) + BEST * bool(error <= 0.5)


def kind_text(operation: str, dtype: str, threads: float) -> str:
    """What the groups of one table have in common."""
    return f"{operation}, {dtype}, {threads_text(threads)}"


def workload_tables(frame: pd.DataFrame | None, baseline: str) -> Iterator[Table]:
    """For each operation, dtype and number of threads: the contestants under each workload."""
    if frame is None:
        return
    x = f"x {short(baseline)}"
    frame = frame.assign(
        speedup=against(frame, baseline), torn=torn(frame, baseline), torn_share=torn(frame, COPY)
    ).sort_values("rank", kind="stable")
    for kind, same in frame.groupby(["operation", "dtype", "threads"], sort=False):
        parts = []
        for workload in frame.workload.unique():
            found = same[same.workload == workload]
            if found.empty:
                continue
            one = found.iloc[0]
            heading = f"{HEADING}{workload} ({','.join(map(str, one['shape']))}), {one.alpha}"
            cells: dict[str, dict[str, str]] = {heading: {}}
            for row in found.itertuples():
                into, before = cells.setdefault(row.label, {}), "" if row.form == FORMS[0] else f"{row.form} "
                into[f"{before}time"] = time_text(row)
                into[f"{before}+-"] = percent(row.spread)
                into[f"{before}n"] = str(row.rounds)
                into[f"{before}GB/s"] = f"{row.bytes / row.seconds / 1e9:.1f}"
                into[f"{before}% of copy"] = (
                    "" if row.contestant == COPY else share(row.share) + TORN * bool(row.torn_share)
                )
                into[f"{before}{x}"] = times(row.speedup) + TORN * bool(row.torn)
            parts.append(pd.DataFrame.from_dict(cells, orient="index"))
        yield Table(kind_text(*kind), pd.concat(parts).fillna(""))


def mean_tables(frame: pd.DataFrame | None, baseline: str) -> Iterator[Table]:
    """Geometric means over the workloads that a contestant can do."""
    if frame is None or frame.workload.nunique() < 2:
        return
    frame = frame.assign(speedup=against(frame, baseline)).sort_values("rank", kind="stable")
    several = [name for name in ("dtype", "threads") if frame[name].nunique() > 1]
    for form, same in frame.groupby("form", sort=False):
        cells: dict[str, dict[str, str]] = {}
        for (operation, *more, label), rows in same.groupby(["operation", *several, "label"], sort=False):
            what = " ".join(map(str, (operation, *more)))
            into = cells.setdefault(label, {})
            into[f"{what}, % of copy"] = _mean(rows.share, percent)
            into[f"x {short(baseline)} {what}"] = _mean(rows.speedup, times)
        columns = dict.fromkeys(name for line in cells.values() for name in line)
        title = f"Geometric means over the workloads, {form}: share of copy / add, speed-up over {baseline}"
        yield Table(title, pd.DataFrame.from_dict(cells, orient="index").reindex(columns=columns).fillna("-"))


def _mean(values: pd.Series, text: Callable[[float], str]) -> str:
    present = values.dropna()
    return text(geometric_mean(present)) if len(present) else "-"


def model_totals(frame: pd.DataFrame) -> pd.DataFrame:
    """The seconds that a contestant spends in a model's layers, if it can do all, with the sums of the quartiles."""
    found = []
    by = {key: row for key, row in frame.set_index(["operation", "workload", "contestant"]).iterrows()}
    for title, operations in PASSES.items():
        for model in MODELS:
            for name in frame.sort_values("rank", kind="stable").contestant.unique():
                parts = [(k, by.get((op, layer.name, name))) for op in operations for k, layer in model.layers]
                if all(row is not None for _, row in parts):
                    sums = {key: sum(k * row[key] for k, row in parts) for key in ("seconds", "low", "high")}
                    flags = {"sure": all(row.sure for _, row in parts), "uneven": any(row.uneven for _, row in parts)}
                    row = parts[0][1]
                    same = {"contestant": name, "label": row.label, "rank": row["rank"], "kind": row.kind}
                    found.append({"pass": title, "model": model.name, "count": model.count, "each": model.unit}
                                 | same | sums | flags)  # fmt: skip
    totals = pd.DataFrame(found)
    if len(totals):
        best = totals[totals.contestant != COPY].groupby(["pass", "model"]).seconds.min()
        key = pd.MultiIndex.from_frame(totals[["pass", "model"]])
        fastest = best.reindex(key).to_numpy()
        totals["won"] = totals.sure & (totals.contestant != COPY) & (totals.seconds <= fastest * CLOSE)
    return totals


def model_tables(frame: pd.DataFrame | None) -> Iterator[Table]:
    """Milliseconds of PReLU per image, or per other input of a model."""
    totals = model_totals(frame) if frame is not None else pd.DataFrame()
    if totals.empty:
        return
    totals["column"] = [f"{t.model} ({t.count}), {t.each}" for t in totals.itertuples(index=False)]
    for title, same in totals.groupby("pass", sort=False):
        yield Table(
            f"Whole models: ms of PReLU, {title}", pivot(same, "column", lambda t: mark(figures(1e3 * t.seconds), t))
        )


def sweeps(
    frame: pd.DataFrame | None,
    title: str,
    column: str,
    text: Callable[[Any], str],
    by: tuple[str, ...] = ("operation", "dtype", "threads"),
) -> Iterator[Table]:
    """For each operation, a table of the contestants by the values of a column."""
    if frame is not None:
        for kind, same in frame.groupby(list(by), sort=False):
            what = kind_text(*kind) if by[2] == "threads" else ", ".join(kind)
            yield Table(f"{what}: {title}", pivot(same, column, text))


def company_tables(frame: pd.DataFrame | None) -> Iterator[Table]:
    """What a call takes after an operation of the host, and alone."""
    if frame is None:
        return
    frame = frame.assign(
        label=frame.label.str.removesuffix(ALONE),
        column=frame.workload + frame.alone.map({True: ALONE, False: " there"}),
    )
    frame = frame.sort_values(["rank", "column"], kind="stable")
    for (operation, host), same in frame.groupby(["operation", "host"], sort=False):
        yield Table(f"In company: {operation} after {host}'s operation, and alone", pivot(same, "column", time_text))


def network_tables(frame: pd.DataFrame | None) -> Iterator[Table]:
    """Training steps and inferences."""
    if frame is not None:
        frame = frame.assign(column=frame.network + " " + frame.what + ", " + frame.host)
        yield Table("Whole networks: time of a step or an inference", pivot(frame, "column", time_text))


def first_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """What comes before the first result: imports and compilation, once."""
    if "first_call_seconds" not in frame or frame.first_call_seconds.isna().all():
        return
    frame = frame[frame.part.isin(("workloads", "own"))].dropna(subset="first_call_seconds")
    if frame.empty:
        return
    frame = frame.sort_values("rank", kind="stable")
    found = frame.groupby("label", sort=False).first_call_seconds.agg(["max", "median", "sum"]).map(duration)
    yield Table("Setting up a case until its first result, imports and compilation included (not in any time)", found)


def target_tables(found: pd.DataFrame, all_lines: bool = False) -> Iterator[Table]:
    """The ratios that miss their target, and a summary of each kind."""
    if found.empty:
        return
    shown = found if all_lines else found[found.missed]
    if len(shown):
        text = pd.DataFrame(
            {
                "case": shown.case,
                "ratio": [f"{r:.3f}" + MISSED * bool(m) for r, m in zip(shown.ratio, shown.missed, strict=True)],
                "target": [figures(t) if pd.notna(t) else "-" for t in shown.target],
                "time": [amount(v, u) for v, u in zip(shown.value, shown.unit, strict=True)],
                "its time": [amount(v, u) for v, u in zip(shown.against, shown.unit, strict=True)],
                "who": shown.who,
            }
        )
        yield Table("Ratios of times" + ", those that miss" * (not all_lines),
                    text.set_index(text.pop("case")))  # fmt: skip
    cells = {}
    for kind, same in found.groupby("kind", sort=False):
        judged = same[same.target.notna()] if same.target.notna().any() else same
        mean = geometric_mean(judged.ratio.clip(lower=1e-9))
        wanted = judged.mean_target.iloc[0]
        targets = "/".join(sorted({f"{t:.3g}" for t in judged.target.dropna()})) or "-"
        cells[kind] = {
            "lines": str(len(judged)),
            "misses": str(int(same.missed.sum())),
            "worst": f"{judged.ratio.max():.3f}",
            "mean": f"{mean:.3f}" + MISSED * bool(pd.notna(wanted) and mean > wanted),
            "target": targets + (f", mean {wanted:.3g}" if pd.notna(wanted) else ""),
        }
    yield Table(f"Summary of the targets ({MISSED}: missed)", pd.DataFrame.from_dict(cells, orient="index"))


def question(frame: pd.DataFrame) -> Iterator[str]:
    """The answer to the question that most people have: Numba or Cython?"""
    if frame.empty:
        return
    found = pairs(frame[frame.part.isin(("workloads", "own"))], "fastact_numba", "fastact_cython")
    if len(found) and frame["rounds"].max() <= ROUNDS[0]:
        yield f"numba / cython: {ROUNDS[0]} rounds are too few to tell noise from a difference."
        return
    for operation in [name for name in MAIN if name in found.index]:
        row = found.loc[operation]
        near = row.low <= CLOSE and row.high >= 1 / CLOSE
        verdict = "no difference beyond noise" if near else f"{'numba' if row['mean'] < 1 else 'cython'} is faster"
        yield (
            f"{operation}: numba / cython = {row['mean']:.2f} ({row.low:.2f} to {row.high:.2f}, the middle half of "
            f"{row.groups:.0f} groups): {verdict}"
        )
