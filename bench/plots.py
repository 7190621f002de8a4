"""The plots of a run, made of its table (results.py), for the page and as files.

A contestant has one colour in all of them; fastact's lines are thick.  Points are medians, and the bars through them
reach from the first to the third quartile of the rounds.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fastact import _cpu

from .comparison import FORMS
from .contestants import CONTESTANTS, COPY, label_of
from .results import NOISE, lines
from .tables import FEW, figures, model_totals, threads_text

WIDE = 10.0  # inches, the most: beside text a figure is shown about 1,000 pixels wide, and must be readable there
COLOURS = {
    "fastact_cython": "#d62728",
    "fastact_numba": "#ff7f0e",
    COPY: "black",
    "fastact_numpy": "#c7c7c7",
    "numpy": "#7f7f7f",
    "numpy_best": "#4d4d4d",
    "numexpr": "#8c564b",
    "textbook_numba": "#bcbd22",
    "textbook_cython": "#e377c2",
    "torch": "#1f77b4",
    "torch_enabled": "#aec7e8",
    "torch_compile": "#0b3c5d",
    "onednn": "#17becf",
    "jax": "#2ca02c",
    "jax_fastact": "#98df8a",
    "onnxruntime": "#9467bd",
    "ort_fastact": "#c5b0d5",
    "openvino": "#637939",
    "litert": "#e7ba52",
}
BARS = "Points are medians, bars the middle half of the rounds."
CLEAR = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}  # the background of a number
THICK = ("fastact_cython", "fastact_numba", COPY)
DASHED = {"fastact_numba": (0, (4, 2))}  # often lies on the other variant's line, which would hide it
Plot = tuple[str, str, Figure]  # name, caption, figure


def plots(frame: pd.DataFrame) -> Iterator[Plot]:
    """Every plot that a run allows."""
    with style.context("default"):  # whatever the user's matplotlibrc says
        yield from _plots(frame)


def _plots(frame: pd.DataFrame) -> Iterator[Plot]:
    of = dict(tuple(frame.groupby("part", sort=False))) if len(frame) else {}
    for part in ("workloads", "own"):
        if part in of:
            yield from share_plots(of[part][of[part].form == FORMS[0]])
    if "models" in of:
        yield from model_plots(of["models"])
    if "sizes" in of:
        for _, same in of["sizes"].groupby("operation", sort=False):
            yield from size_plots(same)
    if "signs" in of:
        yield from sign_plots(of["signs"])
    if "threads" in of:
        yield from thread_plots(of["threads"])
    if "accuracy" in of:
        yield from accuracy_plots(of["accuracy"])
    few = frame[(frame.workload == f"n_{FEW}") & (frame.form == FORMS[0])] if len(frame) else frame
    if len(few):
        panels = [(name, same, 1e6) for name, same in few.groupby("operation", sort=False)]
        yield from dot_plot("small", panels, f"The cost of a call: {FEW} elements, 16 channels", "us per call",
                            "There is next to no work: it is the call that takes the time. " + BARS)  # fmt: skip
    if "company" in of:
        yield from company_plots(of["company"])
    if "networks" in of:
        rows = of["networks"]
        panels = [
            (f"{n} {w}, {h}", same, 1e3) for (n, w, h), same in rows.groupby(["network", "what", "host"], sort=False)
        ]
        yield from dot_plot(
            "networks",
            panels,
            "Whole networks",
            "ms",
            "A training step, or an inference. " + BARS,
            log=False,
        )
    if "streaming" in of:
        yield from streaming_plots(lines(of["streaming"]))


# ---- parts of plots --------------------------------------------------------------------------------------------------


def colour_of(name: str) -> str:
    """The colour of a contestant; the user's own contestants share matplotlib's ten."""
    plain = name.removesuffix(" alone")
    if plain in COLOURS:
        return COLOURS[plain]
    if plain.startswith("fastact"):
        return COLOURS["fastact_cython"]
    return f"C{sum(map(ord, plain)) % 10}"


def line_style(name: str) -> dict[str, Any]:
    """How a contestant's line is drawn."""
    width = 2.2 if name in THICK else 1.2
    return {"color": colour_of(name), "lw": width, "label": label_of(name), "ls": DASHED.get(name, "-"),
            "zorder": 3 if name in THICK else 2}  # fmt: skip


def grid(number: int, height: float, columns: int = 2, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with this number of panels."""
    columns = min(number, columns)
    rows = math.ceil(number / columns)
    width = max(WIDE / 2 if columns < 3 else WIDE / 3, 5.6 if number == 1 else 0) * columns
    figure, panels = plt.subplots(
        rows, columns, figsize=(width, height * rows + 0.7), squeeze=False, layout="constrained", **options
    )
    for panel in panels.flat[number:]:
        panel.set_visible(False)
    return figure, list(panels.flat[:number])


def logarithmic(panel: Axes, which: str = "x") -> None:
    """A logarithmic axis with plain numbers: powers of ten; if these are few, also 2 and 5 of each, or all digits."""
    panel.set(**{f"{which}scale": "log"})
    panel.autoscale_view()
    low, high = getattr(panel, f"get_{which}lim")()
    powers, axis = math.log10(high / low), getattr(panel, f"{which}axis")
    digits = (1.0,) if powers > 2.5 else (1.0, 2.0, 5.0) if powers > 0.5 else range(1, 10)
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def note(panel: Axes, text: str, x: float, y: float, right: bool = True) -> None:
    """A number beside a point, readable over lines."""
    panel.annotate(text, (x, y), (6 if right else -6, 0), textcoords="offset points", fontsize=7.5, va="center",
                   ha="left" if right else "right", bbox=CLEAR, zorder=4)  # fmt: skip


def dots(
    panel: Axes, rows: pd.DataFrame, scale: float, unit: str = "", log: bool = True, most: float = math.inf
) -> None:
    """A point for each contestant, with its spread as a bar and its number beside it; bars end at `most`."""
    rows = rows.sort_values("rank", kind="stable", ascending=False).reset_index(drop=True)
    for place, row in rows.iterrows():
        low, high = scale * row.low, min(scale * row.high, most)
        panel.plot([low, high], [place] * 2, color=colour_of(row.contestant), lw=2.5, alpha=0.4)
        panel.plot(scale * row.seconds, place, "o", ms=5, color=colour_of(row.contestant), zorder=5)
        note(panel, f"{figures(scale * row.seconds)}{unit}", max(min(scale * row.seconds, most), high), place)
    panel.set_yticks(range(len(rows)), rows.label, fontsize=8)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.margins(x=0.25)
    panel.set_ylim(-0.7, len(rows) - 0.3)
    if log:
        logarithmic(panel)
    else:
        panel.set_xlim(left=0)
    panel.grid(alpha=0.25, axis="x")
    panel.spines[["top", "right"]].set_visible(False)


def dot_plot(
    name: str, panels: Sequence[tuple[str, pd.DataFrame, float]], title: str, unit: str, caption: str, log: bool = True
) -> Iterator[Plot]:
    """A panel of points for each of the given rows."""
    figure, axes = grid(len(panels), 0.2 * max(len(rows) for _, rows, _ in panels) + 0.6)
    for axis, (what, rows, scale) in zip(axes, panels, strict=True):
        dots(axis, rows, scale, log=log)
        axis.set_title(what, fontsize=9)
        axis.set_xlabel(unit + (", logarithmic" if log else ""), fontsize=8)
    figure.suptitle(title, fontsize=11)
    yield name, caption, figure


def legend(figure: Figure) -> None:
    """All contestants of the panels, in the order of the tables."""
    found = {label: line for axis in figure.axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = [one.label for one in CONTESTANTS.values() if one.label in found]
    order += [label for label in found if label not in order]
    figure.legend([found[label] for label in order], order, loc="outside right upper", fontsize=9, frameon=False)


def over(panel: Axes, rows: pd.DataFrame, x: str, scale: float = 1.0, marker: str = ".") -> None:
    """A line for each contestant, its spread as a band."""
    for name, same in rows.sort_values("rank", kind="stable").groupby("contestant", sort=False):
        same = same.sort_values(x)
        panel.plot(same[x], scale * same.value, marker=marker, ms=4, **line_style(name))
        panel.fill_between(same[x], scale * same.value_low, scale * same.value_high, color=colour_of(name), alpha=0.12)


# ---- plots -----------------------------------------------------------------------------------------------------------


def share_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """The share of the bandwidth bound, a panel for each workload."""
    rows = rows[rows.share.notna() & (rows.contestant != COPY)]
    for (operation, dtype, threads), same in rows.groupby(["operation", "dtype", "threads"], sort=False):
        shares = same.assign(seconds=same.share, low=same.share_low, high=same.share_high)
        panels = [(f"{w}\n{','.join(map(str, one.iloc[0]['shape']))}", one)
                  for w, one in shares.groupby("workload", sort=False)]  # fmt: skip
        figure, axes = grid(len(panels), 0.2 * max(len(one) for _, one in panels) + 0.7, 3)
        for axis, (what, one) in zip(axes, panels, strict=True):
            most = max(100, 100 * one.seconds.max(), min(150, 100 * one.high.max()))
            dots(axis, one, 100, " %", log=False, most=most)
            axis.axvline(100, color="black", lw=0.8, ls=":", zorder=0)
            axis.set_xlim(0, 1.3 * most)
            axis.set_title(what, fontsize=8.5)
        figure.suptitle(f"{operation}: % of copy / add, {dtype}, {threads_text(threads)}, new results", fontsize=11)
        suffix = "" if dtype == "float32" and threads == rows.threads.max() else f"_{dtype}_{threads:.0f}"
        caption = (
            f"{operation}: 100 % (dotted) is a copy or an addition of the same traffic. A point is the median of the "
            f"rounds' ratios, its bar the middle half of them. More than {NOISE:.0%} is noise; longer bars are cut "
            "at 150 %."
        )
        yield f"share_{operation}{suffix}", caption, figure


def model_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """Milliseconds of PReLU in whole models."""
    totals = model_totals(rows)
    if len(totals):
        panels = [(f"{m}, {n} layers, {p}", same, 1e3)
                  for (m, n, p), same in totals.groupby(["model", "count", "pass"], sort=False)]  # fmt: skip
        caption = "Sums over the models' real layers, each timed by itself, batch 1; bars: the sums of the quartiles."
        yield from dot_plot("models", panels, "What whole models spend in PReLU", "ms", caption)


def _valued(rows: pd.DataFrame, by: pd.Series | float) -> pd.DataFrame:
    return rows.assign(value=rows.seconds / by, value_low=rows.low / by, value_high=rows.high / by)


def _own(rows: pd.DataFrame, where: pd.Series, keys: list[str]) -> pd.Series:
    """For each row, the time of the row chosen by `where` that has the same keys; nan where there is none."""
    chosen = rows[where].set_index(keys).seconds
    return pd.Series(chosen.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy(), rows.index)


def size_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """Nanoseconds per element over n."""
    if rows.workload.nunique() < 2:
        return
    one = rows.iloc[0]
    rows = rows.assign(n=[math.prod(shape) for shape in rows["shape"]])
    figure, panel = plt.subplots(figsize=(8.6, 4.8), layout="constrained")
    over(panel, _valued(rows, rows.n), "n", 1e9)
    panel.set(xlabel="elements, logarithmic", ylabel="ns per element, logarithmic")
    logarithmic(panel)
    logarithmic(panel, "y")
    for level, nbytes in _cpu.caches().items():
        filled = nbytes * rows.n.iloc[0] / one.bytes if one.bytes else 0  # elements at which all arrays fill the cache
        if rows.n.min() < filled < rows.n.max():
            panel.axvline(filled, color="0.75", lw=0.8, zorder=0)
            panel.text(filled, 1.0, f" {level}", color="0.5", va="bottom", transform=panel.get_xaxis_transform())
    panel.grid(alpha=0.25)
    panel.set_title(f"{one.operation}: {one['dtype']}, 16 channels, {threads_text(one.threads)}, new results", pad=16)
    legend(figure)
    caption = (
        f"{one.operation}: time per element, with the middle half of the rounds as a band. Grey lines are where the "
        f"arrays together fill a cache. Small sizes have no {label_of(COPY)}: the call would be nearly all of it."
    )
    yield f"sizes_{one.operation}", caption, figure


def sign_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """The time by offset, over the contestant's own time at offset 0."""
    rows = rows.assign(offset=rows.offset.fillna(0.0) if "offset" in rows else 0.0)
    base = _own(rows, rows.offset == 0, ["operation", "contestant"])
    if base.isna().all() or rows.offset.nunique() < 2:
        return
    rows = _valued(rows, base)
    figure, axes = grid(rows.operation.nunique(), 3.2, sharey=True)
    for axis, (operation, same) in zip(axes, rows.groupby("operation", sort=False), strict=True):
        over(axis, same, "offset", marker="o")
        axis.set(title=operation, xlabel="positive elements", ylabel="time / time at 50 %, logarithmic")
        axis.set_xticks((-1, 0, 1), ("16 %", "50 %", "84 %"))  # of normal values with these offsets
        logarithmic(axis, "y")
        axis.grid(alpha=0.25)
    legend(figure)
    figure.suptitle("Sign mixes: what a branch costs")
    caption = (
        "Positive and negative elements are in random order: without a branch on the sign a line is flat. Bands are "
        "the middle half of the rounds."
    )
    yield "signs", caption, figure


def thread_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """The speed-up by threads."""
    base = _own(rows, rows.threads == 1, ["operation", "workload", "contestant"])
    if base.isna().all() or rows.threads.nunique() < 2:
        return
    rows = rows.assign(value=base / rows.seconds, value_low=base / rows.high, value_high=base / rows.low).dropna(
        subset="value"
    )
    groups = list(rows.groupby(["operation", "workload"], sort=False))
    figure, axes = grid(len(groups), 3.2, sharey=True)
    for axis, ((operation, workload), same) in zip(axes, groups, strict=True):
        over(axis, same, "threads", marker="o")
        numbers = sorted(same.threads.unique())
        axis.plot(numbers, numbers, color="0.4", lw=1, ls=":", zorder=1)
        axis.set(title=f"{operation}, {workload}", xlabel="threads", xticks=numbers, ylabel="speed-up over 1 thread")
        axis.grid(alpha=0.25)
    legend(figure)
    figure.suptitle("Speed-up by threads, float32, new results")
    caption = (
        "Against the contestant's own median with one thread; bands are the middle half of the rounds. Dotted: twice "
        "the threads, half the time. Who cannot change its number of threads within a run (JAX) is left out."
    )
    yield "threads", caption, figure


def accuracy_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """dalpha's error."""
    rows = rows[rows.contestant != COPY]  # it has no sum
    error = rows.dalpha_error_ulp.fillna(0.0).clip(lower=1e-2)
    rows = rows.assign(seconds=error, low=error, high=error)
    panels = [(f"{w}, {d}", same, 1.0) for (w, d), same in rows.groupby(["workload", "dtype"], sort=False)]
    for name, caption, figure in dot_plot("accuracy", panels, "Largest error of dalpha", "ulp",
                                          "16_sums: one for each of 16 channels; 1_sum: one over everything. Against "
                                          "the exact sum, in units in its last place, the worst of all; an error of 0 "
                                          "is at 0.01. Dotted: the exact sum, rounded once."):  # fmt: skip
        for axis in figure.axes:
            axis.axvline(0.5, color="0.4", lw=0.8, ls=":", zorder=0)
            logarithmic(axis)  # again, because the line may have made the axis longer
        yield name, caption, figure


def company_plots(rows: pd.DataFrame) -> Iterator[Plot]:
    """What a call takes after the host's operation (full) and alone (hollow)."""
    groups = list(rows.groupby(["host", "operation", "workload"], sort=False))
    figure, axes = grid(len(groups), 0.26 * max(same.contestant.nunique() // 2 for _, same in groups) + 0.95)
    for axis, ((host, operation, workload), same) in zip(axes, groups, strict=True):
        names = list(same[~same.alone].sort_values("rank", kind="stable", ascending=False).contestant)
        by = same.set_index("contestant")[["low", "seconds", "high"]] * 1e6
        for place, name in enumerate(names):
            colour, there = colour_of(name), by.loc[name]
            before = by.loc[f"{name} alone"] if f"{name} alone" in by.index else there * math.nan
            for one, size, face in ((before, 8, "none"), (there, 5, colour)):
                axis.plot([one.low, one.high], [place] * 2, color=colour, lw=2.5, alpha=0.4)
                axis.plot(one.seconds, place, "o", ms=size, mfc=face, mec=colour, zorder=5)
            left = there.seconds < before.seconds
            beside = np.nanmin([there.low, before.low]) if left else np.nanmax([there.high, before.high])
            note(axis, figures(there.seconds), beside, place, right=not left)
        axis.set_yticks(range(len(names)), [label_of(name) for name in names], fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.margins(x=0.2)
        axis.set_ylim(-0.7, len(names) - 0.3)
        logarithmic(axis)
        axis.grid(alpha=0.25, axis="x")
        axis.set_title(f"{operation} {workload},\nafter {host}'s operation", fontsize=8.5)
        axis.set_xlabel("us, logarithmic", fontsize=8)
    figure.suptitle("In company (full points) and alone (hollow)", fontsize=11)
    caption = (
        "The figures are of calls right after an operation of another library, whose idle threads spin; bars are the "
        "middle half of the rounds. own, openmp, one thread: where fastact's threads come from."
    )
    yield "company", caption, figure


def streaming_plots(found: pd.DataFrame) -> Iterator[Plot]:
    """The time of streaming stores over that of ordinary ones, from which the threshold was chosen."""
    found = found[found.who.str.contains("streaming /")]
    units = {"KB": 2**10, "MB": 2**20}
    parts = found.case.str.extract(r"(?P<operation>\S+) (?P<size>\S+) (?P<unit>KB|MB) x(?P<threads>\d+)")
    found = found.assign(**parts, backend=found.who.str.split().str[0])
    found["nbytes"] = found["size"].astype(float) * found.unit.map(units)
    groups = list(found.groupby("threads", sort=False))
    if not groups:
        return
    figure, axes = grid(len(groups), 3.4, sharey=True)
    for axis, (threads, same) in zip(axes, groups, strict=True):
        for (operation, backend), curve in same.groupby(["operation", "backend"], sort=False):
            axis.plot(curve.nbytes / units["MB"], curve.ratio, marker=".", lw=1.2, label=f"{operation}, {backend}")
        axis.axhline(1, color="0.6", lw=0.8)
        axis.set(xlabel="MB of x, logarithmic", title=threads_text(int(threads)))
        logarithmic(axis)
        axis.set_ylabel("time with streaming stores / ordinary")
        axis.grid(alpha=0.25)
    legend(figure)
    figure.suptitle("Streaming stores against ordinary ones", fontsize=11)
    yield (
        "streaming",
        "Medians of the rounds' ratios, without their spread. Below 1 streaming stores are faster.",
        figure,
    )


@style.context("default")
def history_plot(runs: list[tuple[str, pd.DataFrame]]) -> Figure:
    """The share of the bandwidth bound over runs, its median over all cases: a panel for each operation."""
    rows = pd.concat([frame.assign(run=name, place=place) for place, (name, frame) in enumerate(runs)])
    rows = rows[(rows.kind == "ours") & rows.share.notna() & (rows.contestant != "fastact_numpy")]
    groups = list(rows.groupby("operation", sort=False))
    if not groups:
        raise ValueError("no run has a share of the bandwidth bound")
    figure, axes = grid(len(groups), 3.4)
    for axis, (operation, same) in zip(axes, groups, strict=True):
        mean = same.groupby(["contestant", "place"], sort=False).share.agg(
            value="median", value_low=lambda s: s.quantile(0.25), value_high=lambda s: s.quantile(0.75)
        )
        over(axis, mean.reset_index().assign(rank=0), "place", 100, "o")
        axis.set_xticks(range(len(runs)), [name for name, _ in runs], rotation=30, fontsize=7, ha="right")
        axis.set(title=operation, ylabel="% of copy / add")
        axis.grid(alpha=0.25)
    legend(figure)
    figure.suptitle("Share of copy / add over runs: the median and the middle half of all cases")
    return figure
