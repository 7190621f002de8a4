"""The plots of a run: each a figure made of its rows, for the page and as files.

Time per element over n, the share of the memory limit on every workload, sign mixes, threads, dalpha's error, the cost
of a small call and whole models.  A contestant has one colour in all of them; fastact's lines are thick.
"""

import math
from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastact import _cpu

from .cases import MAIN, PRELU, threads_of
from .checks import DIGITS
from .contestants import CONTESTANTS, LIMIT
from .models import MODELS
from .rows import Row
from .views import FEW, PASSES, array_text, figures, model_totals, threads_text
from .workloads import ACCURACY, SCALING

COLOURS = {  # the first are thick
    "fastact_cython": "#d62728",
    "fastact_numba": "#ff7f0e",
    LIMIT: "black",
    "fastact_numpy": "#c7c7c7",
    "numpy": "#7f7f7f",
    "numpy_best": "#4d4d4d",
    "numexpr": "#8c564b",
    "textbook_numba": "#bcbd22",
    "textbook_cython": "#e377c2",
    "torch": "#1f77b4",
    "torch_enabled": "#aec7e8",
    "onednn": "#17becf",
    "jax": "#2ca02c",
    "jax_fastact": "#98df8a",
    "onnxruntime": "#9467bd",
    "ort_fastact": "#c5b0d5",
}
THICK = tuple(COLOURS)[:3]
WIDE = 10.0  # inches, at most: beside text a figure is shown about 1,000 pixels wide, and has to be read there


def plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure of every plot that these rows allow."""
    rows = [row for row in rows if row.times]
    yield from share_plots([r for r in rows if r.case.workload.part == "workloads" and r.case.form == "fresh"])
    yield from model_plots([r for r in rows if r.case.workload.part == "models"])
    for operation in MAIN:
        yield from size_plots([r for r in rows if (r.case.workload.part, r.case.operation) == ("sizes", operation)])
    yield from sign_plots([r for r in rows if r.case.workload.part == "signs"])
    yield from scaling_plots([r for r in rows if r.case.workload.part == "threads"])
    yield from accuracy_plots([r for r in rows if r.error is not None])
    yield from small_plots([r for r in rows if r.case.workload.name == f"n_{FEW}"])


def _named(rows: list[Row]) -> list[str]:
    """The contestants that these rows have, in the order of the colours."""
    present = {row.case.competitor for row in rows}
    return [name for name in COLOURS if name in present]


def _label(name: str) -> str:
    return CONTESTANTS[name].label


def _style(name: str) -> dict:
    return {"color": COLOURS[name], "lw": 2.2 if name in THICK else 1.2, "label": _label(name)}


def _bars(panel: Axes, values: dict[str, float], unit: str = "") -> None:
    """A bar for each contestant, its figure beside it, the first on top."""
    names = list(values)[::-1]
    found = panel.barh([_label(n) for n in names], [values[n] for n in names], color=[COLOURS[n] for n in names])
    panel.bar_label(found, [f"{figures(values[name])}{unit}" for name in names], fontsize=7.5, padding=2)
    panel.tick_params(axis="y", length=0, labelsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.margins(x=0.18)
    panel.spines[["top", "right"]].set_visible(False)


def _grid(number: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, two in a line."""
    lines, columns = math.ceil(number / 2), min(number, 2)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(WIDE / 2 * columns, height * lines + 0.5),
        squeeze=False,
        layout="constrained",
        **options,
    )
    for panel in panels.flat[number:]:
        panel.set_visible(False)
    return figure, list(panels.flat[:number])


def _legend(figure: Figure) -> None:
    """Everybody whom any of the panels has, in the order of the colours."""
    found = {
        label: line for panel in figure.axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    labels = [label for name in COLOURS if (label := _label(name)) in found]
    figure.legend([found[x] for x in labels], labels, loc="outside right upper", fontsize=9, frameon=False)


def share_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Bars: the share of the limit, a panel for each workload."""
    for kind in dict.fromkeys(row.case.kind for row in rows):
        same = [row for row in rows if row.case.kind == kind and row.share]
        workloads = list(dict.fromkeys(row.case.workload for row in same))
        if not workloads:
            continue
        columns = min(3, len(workloads))
        lines = math.ceil(len(workloads) / columns)
        figure, panels = plt.subplots(
            lines,
            columns,
            figsize=(WIDE / 3 * columns, 2.6 * lines + 0.5),
            squeeze=False,
            layout="constrained",
            sharey=True,
        )
        everybody = [name for name in _named(same) if name != LIMIT]
        for panel, workload in zip(panels.flat, workloads, strict=False):
            found = {row.case.competitor: 100 * row.share for row in same if row.case.workload == workload}
            _bars(panel, {name: round(found.get(name, 0.0)) for name in everybody}, " %")
            panel.axvline(100, color="black", lw=0.8, ls=":")
            panel.set_xlim(0, max(118, 1.18 * max(found.values())))
            panel.set_title(f"{workload.name}\n{','.join(map(str, workload.shape))}", fontsize=8.5)
        for panel in list(panels.flat)[len(workloads) :]:
            panel.set_visible(False)
        operation, dtype, threads = kind
        figure.suptitle(
            f"{operation}: share of the memory limit, {dtype}, {threads_text(threads_of(threads))}, fresh results"
        )
        suffix = "" if (dtype, threads) == ("float32", "all") else f"_{dtype}_{threads}"
        yield f"share_{operation}{suffix}", f"{operation}: 100 % is a copy or an add of the same traffic.", figure


def model_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Bars: milliseconds of PReLU in whole models."""
    found = model_totals(rows)
    models = [model for model in MODELS if any(name == model.name for _, name, _ in found)]
    if not models:
        return
    figure, panels = plt.subplots(
        len(models), len(PASSES), figsize=(WIDE, 2.75 * len(models) + 0.3), squeeze=False, layout="constrained"
    )
    for line, title in zip(panels.T, PASSES, strict=True):
        for panel, model in zip(line, models, strict=True):
            values = {
                name: 1e3 * found[title, model.name, name].seconds
                for name in COLOURS
                if (title, model.name, name) in found
            }
            _bars(panel, values)
            panel.set_xscale("log")
            panel.margins(x=0.3)
            panel.set_title(f"{model.name}, {model.count} layers, {title}: ms per {model.unit}", fontsize=8.5)
    figure.suptitle(f"What whole models spend in PReLU, batch 1, {rows[0].case.dtype}")
    yield "models", "Sums over the models' real layers, each timed by itself; the axes are logarithmic.", figure


def size_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Lines: nanoseconds per element over n."""
    if len({row.case.workload for row in rows}) < 2:
        return
    operation = rows[0].case.operation
    figure, panel = plt.subplots(figsize=(8.6, 4.8), layout="constrained")
    for name in _named(rows):
        line = [(math.prod(r.case.workload.shape), r.seconds) for r in rows if r.case.competitor == name]
        panel.plot([n for n, _ in line], [1e9 * seconds / n for n, seconds in line], marker=".", **_style(name))
    sizes = [math.prod(row.case.workload.shape) for row in rows]
    for level, nbytes in _cpu.caches().items():
        filled = nbytes * sizes[0] / rows[0].heat.nbytes  # so many elements of inputs and result together
        if min(sizes) < filled < max(sizes):
            panel.axvline(filled, color="0.75", lw=0.8, zorder=0)
            panel.text(filled, 0.99, f" {level}", color="0.5", va="top", transform=panel.get_xaxis_transform())
    panel.set(xscale="log", yscale="log", xlabel="elements", ylabel="ns per element")
    panel.grid(alpha=0.25)
    panel.set_title(f"{operation}: {rows[0].case.dtype}, 16 channels, {threads_text(threads_of(rows[0].case.threads))}")
    _legend(figure)
    yield f"sizes_{operation}", f"{operation}: time per element; grey lines are where all arrays fill a cache.", figure


def sign_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Lines: the time by offset, against the contestant's own at offset 0."""
    operations = [name for name in MAIN if any(row.case.operation == name for row in rows)]
    if not operations:
        return
    figure, panels = _grid(len(operations), 3.2, sharey=True)
    for panel, operation in zip(panels, operations, strict=True):
        for name in _named(rows):
            times = {
                row.case.workload.offset: row.seconds
                for row in rows
                if (row.case.operation, row.case.competitor) == (operation, name)
            }
            if len(times) > 1 and 0.0 in times:
                panel.plot(list(times), [t / times[0.0] for t in times.values()], marker="o", ms=4, **_style(name))
        panel.set(title=operation, xticks=(-1, 0, 1), xlabel="offset of x", yscale="log")
        panel.grid(alpha=0.25)
    low, high = panels[0].get_ylim()
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 30, 100) if low <= tick <= high]
    panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0].minorticks_off()
    for panel in panels[::2]:
        panel.set_ylabel("time / time at offset 0")
    _legend(figure)
    figure.suptitle("Sign mixes: what a branch costs")
    yield (
        "signs",
        "16 %, 50 % and 84 % of x positive, in random order: without a branch on the sign the line is flat.",
        figure,
    )


def scaling_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Lines: the speed-up by threads."""
    numbers = sorted({threads_of(row.case.threads) for row in rows})
    if len(numbers) < 2:
        return
    panels_of = [(operation, workload) for operation in PRELU for workload in SCALING]
    figure, panels = _grid(len(panels_of), 3.2, sharey=True)
    for panel, (operation, workload) in zip(panels, panels_of, strict=True):
        for name in _named(rows):
            times = {
                threads_of(row.case.threads): row.seconds
                for row in rows
                if (row.case.operation, row.case.workload, row.case.competitor) == (operation, workload, name)
            }
            if 1 in times and len(times) > 1:
                line = sorted(times.items())
                panel.plot([n for n, _ in line], [times[1] / t for _, t in line], marker="o", ms=4, **_style(name))
        panel.plot(numbers, numbers, color="0.8", lw=0.8, ls=":", zorder=0)
        size = next((array_text(row) for row in rows if row.case.workload == workload), workload.name)
        panel.set(title=f"{operation}, {size}", xlabel="threads", xticks=numbers)
        panel.grid(alpha=0.25)
    for panel in panels[::2]:
        panel.set_ylabel("speed-up over one thread")
    _legend(figure)
    figure.suptitle("Threads")
    yield (
        "threads",
        "Against the contestant's own time with one thread; dotted: twice the threads, half the time.",
        figure,
    )


def accuracy_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Points: dalpha's error."""
    keys = [(w, d) for w in ACCURACY for d in DIGITS if any((r.case.workload, r.case.dtype) == (w, d) for r in rows)]
    if not keys:
        return
    names = _named(rows)[::-1]
    figure, panels = _grid(len(keys), 0.27 * len(names) + 0.6, sharey=True)
    for panel, (workload, dtype) in zip(panels, keys, strict=True):
        errors = {r.case.competitor: r.error for r in rows if (r.case.workload, r.case.dtype) == (workload, dtype)}
        panel.set_xscale("log")
        for place, name in enumerate(names):
            if name in errors:
                panel.plot(max(errors[name], 1e-2), place, "o", color=COLOURS[name])
                panel.annotate(
                    f"{errors[name]:.3g}",
                    (max(errors[name], 1e-2), place),
                    (6, -3),
                    textcoords="offset points",
                    fontsize=8,
                )
        panel.axvline(0.5, color="0.6", lw=0.8, ls=":")
        panel.set_yticks(range(len(names)), [_label(name) for name in names])
        panel.set_title(f"{workload.name}, {dtype}", fontsize=10)
        panel.margins(x=0.25, y=0.1)
        panel.grid(alpha=0.25, axis="x")
    figure.suptitle("Largest error of dalpha in ulp (dotted: one rounding of the exact sum)")
    yield "accuracy", "dalpha against the exact sum; 0.01 and less stand at 0.01.", figure


def small_plots(rows: list[Row]) -> Iterator[tuple[str, str, Figure]]:
    """Bars: a call on a few elements."""
    operations = [name for name in MAIN if any(row.case.operation == name for row in rows)]
    if not operations:
        return
    figure, panels = _grid(len(operations), 2.9)
    for panel, operation in zip(panels, operations, strict=True):
        found = {row.case.competitor: 1e6 * row.seconds for row in rows if row.case.operation == operation}
        _bars(panel, {name: found[name] for name in COLOURS if name in found})
        panel.set_xscale("log")
        panel.margins(x=0.3)
        panel.set(title=operation, xlabel="us per call")
    figure.suptitle(f"The cost of a call: {FEW} elements, 16 channels")
    yield "small", "Where the work is nothing, what remains is the way to it.", figure
