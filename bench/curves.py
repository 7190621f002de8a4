"""Curves for docs/performance.md: `python -m bench.curves [--quick] [--out docs/plots]`.

One plot per operation (float32, 16 channels, fresh results): nanoseconds per element over the number of
elements, everybody who can do it, with one thread and with all, and the limit.  And the plot that the
streaming threshold rests on: the time of streaming over that of ordinary stores.  The figures are saved
next to the plots as curves.csv.  A contestant that has become slow is left out of the longer calls.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib import style
from rich.progress import track

import fastact
from fastact import _cpu
from fastact._tables import OPERATIONS

from .cases import MAIN
from .contestants import CONTESTANTS
from .plots import COLOURS, THICK
from .races import KB, PEERS, contest, limits, streaming, task_for, thread_counts
from .timing import QUICK, Effort, take_turns

EFFORT = Effort(0.15, 5, 4.0)
SLOW = 1.0  # seconds a call; then it has no more points
FORM = "16 channels"
Point = tuple[str, int, str, int, float]  # plot, threads, curve, elements, figure


def sizes(quick: bool) -> list[int]:
    """From 16 to 10^8 elements."""
    doubled = [16 << shift for shift in range(0, 23, 4 if quick else 1)]
    return doubled[:5] if quick else [*doubled, 10**8]


def operation_points(quick: bool) -> Iterator[Point]:
    """Nanoseconds per element."""
    for op in map(OPERATIONS.__getitem__, MAIN):
        for threads in thread_counts():
            slow: set[str] = set()
            for n in sizes(quick):
                task, out = task_for(op, FORM, n, "float32")
                others = tuple(name for name in ("numpy", *PEERS) if name not in slow)
                race = contest(op, task.workload, "float32", "fresh", threads, others, lambda task=task: task, "")
                calls = race.make()[1]
                bounds = limits([getattr(task, name) for name in op.reads], out[0], (threads,))
                turns = take_turns(calls | bounds, QUICK if quick else EFFORT, race.session, threads > 1)
                for name in calls:
                    yield op.name, threads, name, n, turns.seconds(name) / n * 1e9
                yield op.name, threads, "limit", n, turns.seconds(turns.best(*bounds)) / n * 1e9
                slow |= {name for name in calls if turns.seconds(name) > SLOW}


def streaming_points(quick: bool) -> Iterator[Point]:
    """The time of streaming stores over that of ordinary ones."""
    effort = QUICK if quick else EFFORT
    for nbytes in (64 * KB << shift for shift in range(0, 13, 4 if quick else 1)):
        for threads in thread_counts():
            task, out = task_for(OPERATIONS["relu_backward"], "shared", nbytes // 4, "float32")
            for name, inputs in (("copy", [task.x]), ("add", [task.dy, task.x])):
                bounds = limits(inputs, out[0], (threads,))
                turns = take_turns(bounds, effort, resting=threads > 1)
                ordinary, stream = bounds
                yield "streaming", threads, name, nbytes // 4, turns.ratio(stream, ordinary)
        for race in streaming(quick, (nbytes,)):
            turns = race.run(effort)
            for ratio in race.ratios:
                if ratio.name.endswith("streaming"):
                    name = f"{race.name.split()[0]} {ratio.name.split()[0]}"
                    yield "streaming", race.threads, name, nbytes // 4, turns.ratio(ratio.name, *ratio.baselines)


@style.context("default")  # whatever the user's matplotlibrc says
def plot(points: list[Point], name: str, path: Path) -> None:
    """One plot, a panel for each number of threads."""
    ours = [point for point in points if point[0] == name]
    numbers = sorted({threads for _, threads, *_ in ours})
    figure, panels = plt.subplots(1, len(numbers), figsize=(4.8 * len(numbers) + 1.6, 4.2), sharey=True, squeeze=False)
    curves = list(dict.fromkeys(curve for _, _, curve, *_ in ours))
    for panel, threads in zip(panels[0], numbers, strict=True):
        for index, curve in enumerate(curves):
            line = [(n, value) for _, t, c, n, value in ours if (t, c) == (threads, curve)]
            if line:
                colour, width = COLOURS.get(curve, f"C{index}"), 2.0 if curve in THICK else 1.1
                label = CONTESTANTS[curve].label if curve in CONTESTANTS else curve
                panel.plot(*zip(*line, strict=True), color=colour, lw=width, label=label)
        for level, nbytes in _cpu.caches().items():  # where the result alone fills it
            if ours[0][3] < nbytes / 4 < ours[-1][3]:
                panel.axvline(nbytes / 4, color="0.8", lw=0.8, zorder=0)
                panel.text(nbytes / 4, 0.99, f" {level}", color="0.5", va="top", transform=panel.get_xaxis_transform())
        panel.set_xscale("log")
        panel.set_title(f"{threads} thread{'s' * (threads > 1)}")
        panel.set_xlabel("elements (float32)")
        panel.grid(alpha=0.25)
    if name == "streaming":
        policy = fastact.config()["policy"]
        for panel, threads in zip(panels[0], thread_counts(), strict=True):
            threshold = max(policy["stream_bytes"], threads * policy["stream_bytes_per_thread"])
            panel.axhline(1, color="0.6", lw=0.8)
            for arrays in (2, 3):  # copy and relu, add and prelu_backward
                label = f"where it begins ({arrays} arrays)"
                panel.axvline(
                    threshold / 4 / arrays, color="black", lw=0.8, ls=":" if arrays == 2 else "--", label=label
                )
        panels[0][0].set_ylabel("time with streaming stores / ordinary")
    else:
        panels[0][0].set_yscale("log")
        panels[0][0].set_ylabel("ns per element")
    panels[0][-1].legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.suptitle(name, fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few points, few rounds: to see that it works")
    parser.add_argument("--out", type=Path, default=Path("docs/plots"), metavar="FOLDER", help="(default: docs/plots)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    points: list[Point] = []
    for measure in (streaming_points, operation_points):
        points += track(measure(options.quick), measure.__name__, total=None)
    with (options.out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("plot", "threads", "curve", "elements", "ns_per_element_or_ratio"))
        writer.writerows((*point[:-1], f"{point[-1]:.4g}") for point in points)
    for name in dict.fromkeys(point[0] for point in points):
        plot(points, name, options.out / f"{name}.png")


if __name__ == "__main__":
    main()
