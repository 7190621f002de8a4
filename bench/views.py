"""What a run has found, as tables: plain data that the terminal (report.py) and the page (page.py) show alike.

Each part of the comparison has its view: workloads, whole models, sizes, sign mixes, threads, dalpha's accuracy, small
calls, and a summary of the workloads.  A view takes the run's rows and yields tables; without rows of its part, none.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from statistics import geometric_mean
from typing import NamedTuple

from .cases import FORMS, MAIN, PRELU, scaling_threads, threads_of
from .contestants import CONTESTANTS, LIMIT
from .models import MODELS
from .rows import CLOSE, Row
from .workloads import ACCURACY, SCALING, SIGNS, SIZES

SMALL = 1024  # elements: where the cost of a call counts
FEW = 64


class Cell(NamedTuple):
    """A figure, and whether it won."""

    text: str = ""
    best: bool = False


class Line(NamedTuple):
    """A contestant's figures, or without cells a heading."""

    label: str
    cells: tuple[Cell, ...] = ()
    kind: str = ""  # "ours", "limit" or nothing


class Table(NamedTuple):
    """One table."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


# ---- figures as text ----


def duration(seconds: float) -> str:
    """Three figures and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 999.5 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def figures(value: float) -> str:
    """Three figures, never an exponent."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """Three figures."""
    return "-" if value is None else f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def percent(value: float | None) -> str:
    """A share."""
    return "-" if value is None else f"{value:.0%}"


def threads_text(number: int) -> str:
    """1 thread, 2 threads."""
    return f"{number} thread" if number == 1 else f"{number} threads"


def kind_text(operation: str, dtype: str, threads: str) -> str:
    """What the heats of one table have in common."""
    return f"{operation}, {dtype}, {threads_text(threads_of(threads))}"


# ---- views ----


def views(rows: Iterable[Row], baseline: str) -> Iterator[Table]:
    """All tables of a run."""
    rows = [row for row in rows if row.times or row.reason]
    timed = [row for row in rows if row.times]
    yield from workload_tables([row for row in rows if row.case.workload.part == "workloads"], baseline)
    yield from summary(_part(timed, "workloads"), baseline)
    yield from model_tables(_part(timed, "models"))
    yield from sweep_tables(_part(timed, "sizes"), "ns per element over n", SIZES, _per_element)
    yield from sweep_tables(_part(timed, "signs"), "time by offset of x: what a branch costs", SIGNS, _time)
    yield from scaling_tables(_part(timed, "threads"))
    yield from accuracy_tables(_part(timed, "accuracy"))
    yield from small_tables(timed)


def workload_tables(rows: list[Row], baseline: str) -> Iterator[Table]:
    """For each operation, dtype and number of threads: the contestants under each workload."""
    forms = [form for form in FORMS if any(row.case.form == form for row in rows)]
    columns = tuple(name for form in forms for name in (_heading(form), "+-", "GB/s", "limit", f"x {_short(baseline)}"))
    for kind in dict.fromkeys(row.case.kind for row in rows):
        lines = []
        for workload in dict.fromkeys(row.case.workload for row in rows if row.case.kind == kind):
            cells = {
                (row.case.competitor, row.case.form): row
                for row in rows
                if (row.case.kind, row.case.workload) == (kind, workload)
            }
            lines.append(Line(str(workload)))
            for name in CONTESTANTS:
                if any((name, form) in cells for form in forms):
                    found = [_cells(cells.get((name, form)), baseline) for form in forms]
                    lines.append(_line(name, sum(found, ())))
        yield Table(kind_text(*kind), columns, tuple(lines))


def summary(rows: list[Row], baseline: str) -> Iterator[Table]:
    """Geometric means over the workloads that a contestant did."""
    kinds = list(dict.fromkeys(row.case.kind for row in rows))
    if len({row.case.workload for row in rows}) < 2:
        return
    for form in FORMS:
        lines = []
        for name in CONTESTANTS:
            cells = []
            for kind in kinds:
                same = [r for r in rows if (r.case.competitor, r.case.form, r.case.kind) == (name, form, kind)]
                cells += [Cell(_mean((r.share for r in same), percent)),
                          Cell(_mean((r.speedup(baseline) for r in same), ratio))]  # fmt: skip
            if any(cell.text for cell in cells):
                lines.append(_line(name, tuple(cells)))
        if lines:
            columns = tuple(
                name for kind in kinds for name in (f"{_kind_short(kinds, kind)} limit", f"x {_short(baseline)}")
            )
            title = (
                f"Geometric means over the workloads, {_heading(form)}: share of the limit, speed-up over {baseline}"
            )
            yield Table(title, columns, tuple(lines))


def model_seconds(rows: list[Row]) -> dict[tuple[str, str, str], float]:
    """(pass, model, contestant) -> seconds in PReLU, for the contestants that did every layer."""
    times = {(row.case.operation, row.case.workload, row.case.competitor): row.seconds for row in rows}
    found = {}
    for title, operations in PASSES.items():
        for model in MODELS:
            for name in CONTESTANTS:
                parts = [
                    (count, times.get((operation, layer, name)))
                    for operation in operations
                    for count, layer in model.layers
                ]
                if all(seconds for _, seconds in parts):
                    found[title, model.name, name] = sum(count * seconds for count, seconds in parts)
    return found


PASSES = {"forward": ("prelu",), "forward + backward": PRELU}


def model_tables(rows: list[Row]) -> Iterator[Table]:
    """Milliseconds of PReLU per image, or what else a model is fed."""
    found = model_seconds(rows)
    models = [model for model in MODELS if any(name == model.name for _, name, _ in found)]
    for title in PASSES if models else ():
        best = {
            m.name: min(
                (s for (t, model, name), s in found.items() if (t, model) == (title, m.name) and name != LIMIT),
                default=0,
            )
            for m in models
        }
        lines = []
        for name in CONTESTANTS:
            seconds = [found.get((title, model.name, name)) for model in models]
            if any(seconds):
                lines.append(_line(name, tuple(
                    Cell(figures(1e3 * s), name != LIMIT and s <= best[m.name] * CLOSE) if s else Cell("-")
                    for m, s in zip(models, seconds, strict=True))))  # fmt: skip
        columns = tuple(f"{m.name} ({m.count}), {m.unit}" for m in models)
        yield Table(f"Whole models: ms of PReLU, {title}", columns, tuple(lines))


def sweep_tables(rows: list[Row], title: str, workloads: tuple, figure: Callable[[Row], str]) -> Iterator[Table]:
    """For each operation: the contestants over a sweep's workloads."""
    for kind in dict.fromkeys(row.case.kind for row in rows):
        cells = {(row.case.competitor, row.case.workload): row for row in rows if row.case.kind == kind}
        found = [workload for workload in workloads if any(w == workload for _, w in cells)]
        lines = [
            _line(name, tuple(_figure(cells.get((name, workload)), figure) for workload in found))
            for name in CONTESTANTS
            if any((name, workload) in cells for workload in found)
        ]
        yield Table(f"{kind_text(*kind)}: {title}", tuple(workload.name for workload in found), tuple(lines))


def scaling_tables(rows: list[Row]) -> Iterator[Table]:
    """Speed-up over one thread."""
    for operation in PRELU:
        for workload in SCALING:
            cells = {
                (row.case.competitor, row.case.threads): row
                for row in rows
                if (row.case.operation, row.case.workload) == (operation, workload)
            }
            numbers = [number for number in scaling_threads() if any(n == number for _, n in cells)]
            lines = [
                _line(name, tuple(_figure(cells.get((name, number)), _time) for number in numbers))
                for name in CONTESTANTS
                if any((name, number) in cells for number in numbers)
            ]
            if lines:
                columns = tuple(threads_text(threads_of(number)) for number in numbers)
                yield Table(f"{operation}, {workload.origin}: time by threads", columns, tuple(lines))


def accuracy_tables(rows: list[Row]) -> Iterator[Table]:
    """dalpha's error in units in the last place."""
    keys = [(w, d) for w in ACCURACY for d in dict.fromkeys(row.case.dtype for row in rows)]
    errors = {(row.case.competitor, row.case.workload, row.case.dtype): row.error for row in rows}
    lines = []
    for name in CONTESTANTS:
        found = [errors.get((name, *key)) for key in keys]
        if any(error is not None for error in found):
            cells = (Cell("-") if e is None else Cell(f"{e:.2f}" if e < 99.5 else figures(e), e <= 0.5) for e in found)
            lines.append(_line(name, tuple(cells)))
    if lines:
        columns = tuple(f"{workload.name} {dtype}" for workload, dtype in keys)
        title = "Error of dalpha in ulp, 401,408 terms (0.5: the exact sum, rounded once)"
        yield Table(title, columns, tuple(lines))


def small_tables(rows: list[Row]) -> Iterator[Table]:
    """What a call on a few elements costs."""
    rows = [r for r in rows if r.case.workload.name == f"n_{FEW}" and r.case.form == "fresh"]
    operations = [name for name in MAIN if any(row.case.operation == name for row in rows)]
    cells = {(row.case.competitor, row.case.operation): row for row in rows}
    lines = [
        _line(name, tuple(_figure(cells.get((name, operation)), _time) for operation in operations))
        for name in CONTESTANTS
        if any((name, operation) in cells for operation in operations)
    ]
    if lines:
        yield Table(f"Cost of a small call: {FEW} elements, 16 channels", tuple(operations), tuple(lines))


# ---- cells ----


def _part(rows: list[Row], part: str) -> list[Row]:
    return [row for row in rows if row.case.workload.part == part]


def _line(name: str, cells: tuple[Cell, ...]) -> Line:
    contestant = CONTESTANTS[name]
    return Line(contestant.label, cells, "limit" if name == LIMIT else "ours" if contestant.exact else "")


def _cells(row: Row | None, baseline: str) -> tuple[Cell, ...]:
    if row is None:
        return (Cell(),) * 5
    if row.reason:
        return (Cell("failed"), *(Cell(),) * 4)
    return (
        Cell(duration(row.seconds), row.won),
        Cell(percent(row.spread)),
        Cell(f"{row.rate:.1f}"),
        Cell("" if row.case.competitor == LIMIT else percent(row.share)),
        Cell(ratio(row.speedup(baseline))),
    )


def _figure(row: Row | None, text: Callable[[Row], str]) -> Cell:
    return Cell("-") if row is None else Cell(text(row), row.won)


def _time(row: Row) -> str:
    return duration(row.seconds)


def _per_element(row: Row) -> str:
    return figures(row.seconds / math.prod(row.case.workload.shape) * 1e9)


def _heading(form: str) -> str:
    return "fresh" if form == "fresh" else "out="


def _short(name: str) -> str:
    return {"numpy": "np", "onnxruntime": "ort"}.get(name, name.removeprefix("fastact_"))[:6]


def _kind_short(kinds: list, kind: tuple[str, str, str]) -> str:
    """The operation, and what else tells these kinds apart."""
    parts = [kind[0]] + [kind[i] for i in (1, 2) if len({k[i] for k in kinds}) > 1]
    return " ".join(parts)


def _mean(values: Iterable[float | None], write: Callable[[float], str]) -> str:
    present = [value for value in values if value]
    return write(geometric_mean(present)) if present else ""
