"""What a run has found, as tables: plain data that the terminal (report.py) and the page (page.py) show alike.

Each part of the comparison has its view: workloads, whole models, sizes, sign mixes, threads, dalpha's accuracy, memory
layouts, small calls, and a summary of the workloads.  A view takes the run's rows and yields tables; without rows of
its part, none.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from statistics import geometric_mean
from typing import NamedTuple

from .cases import FORMS, MAIN, PRELU, scaling_threads, threads_of
from .contestants import CONTESTANTS, LIMIT
from .models import MODELS
from .rows import CLOSE, Row
from .timing import CLEAR, FAR, ROUNDS, two_kinds
from .workloads import ACCURACY, LAYOUTS, SCALING, SIGNS, SIZES, dtype_of

UNEVEN, TORN = "~", "?"  # marks behind a time whose rounds are of two kinds, and behind a ratio that is in doubt
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


def array_text(row: Row) -> str:
    """The size of x."""
    return f"{math.prod(row.case.workload.shape) * dtype_of(row.case.dtype).itemsize / 1e6:.2g} MB an array"


def kind_text(operation: str, dtype: str, threads: str) -> str:
    """What the heats of one table have in common."""
    return f"{operation}, {dtype}, {threads_text(threads_of(threads))}"


def legend(tables: list[Table], baseline: str) -> Iterator[str]:
    """How to read the tables; a mark that none of them has is left out."""
    columns = {column for table in tables for column in table.columns}
    cells = [cell for table in tables for line in table.lines for cell in line.cells]
    if "+-" in columns:
        yield (
            "n: rounds. Times are medians over the rounds, ratios are medians of the rounds' own ratios: the two need "
            "not agree. +-: half the distance between the quartiles. GB/s counts every array of x's size once. "
            "limit: the share of this machine's own memory limit, a copy (one input) or an add (two) of the same "
            f"traffic in the same comparison group. x {_short(baseline)}: speed-up over {baseline} in the same "
            "comparison group."
        )
    if any(cell.text.endswith(TORN) for cell in cells):
        yield f"{TORN}: the quotient of the two median times differs from this ratio by more than {CLEAR:.0%}."
    if any(cell.text.endswith(UNEVEN) for cell in cells):
        yield f"{UNEVEN}: the median is more than {FAR:g} times the minimum, so it is no typical time."
    if any(cell.best for cell in cells):
        yield (
            f"*: nobody but the limit is faster by more than {CLOSE - 1:.0%}. It needs more than {ROUNDS[0]} rounds "
            f"and a spread (+-) of {CLEAR:.0%} at most."
        )


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
    yield from sweep_tables(_part(timed, "layouts"), "time by memory layout of the operands", LAYOUTS, _time)
    yield from small_tables(timed)


def workload_tables(rows: list[Row], baseline: str) -> Iterator[Table]:
    """For each operation, dtype and number of threads: the contestants under each workload."""
    forms = [form for form in FORMS if any(row.case.form == form for row in rows)]
    columns = tuple(
        name for form in forms for name in (_heading(form), "+-", "n", "GB/s", "limit", f"x {_short(baseline)}")
    )
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


class Total(NamedTuple):
    """What a contestant spends in the layers of a model."""

    seconds: float
    sure: bool  # of every layer
    uneven: bool  # of any layer


def model_totals(rows: list[Row]) -> dict[tuple[str, str, str], Total]:
    """(pass, model, contestant) -> time in PReLU, for the contestants that did every layer."""
    cells = {(row.case.operation, row.case.workload, row.case.competitor): row for row in rows}
    found = {}
    for (title, operations), model, name in product(PASSES.items(), MODELS, CONTESTANTS):
        parts = [(count, cells.get((op, layer, name))) for op in operations for count, layer in model.layers]
        if all(row for _, row in parts):
            seconds = sum(count * row.seconds for count, row in parts)
            uneven = any(two_kinds(row.times) for _, row in parts)
            found[title, model.name, name] = Total(seconds, all(row.sure for _, row in parts), uneven)
    return found


PASSES = {"forward": ("prelu",), "forward + backward": PRELU}


def model_tables(rows: list[Row]) -> Iterator[Table]:
    """Milliseconds of PReLU per image, or what else a model is fed."""
    found = model_totals(rows)
    models = [model for model in MODELS if any(name == model.name for _, name, _ in found)]
    for title in PASSES if models else ():
        lines = []
        for name in CONTESTANTS:
            cells = []
            for model in models:
                others = [found[key].seconds for key in found if key[:2] == (title, model.name) and key[2] != LIMIT]
                cells.append(_model_cell(found.get((title, model.name, name)), min(others, default=0), name))
            if any(cell.text != "-" for cell in cells):
                lines.append(_line(name, tuple(cells)))
        columns = tuple(f"{m.name} ({m.count}), {m.unit}" for m in models)
        yield Table(f"Whole models, {rows[0].case.dtype}: ms of PReLU, {title}", columns, tuple(lines))


def _model_cell(total: Total | None, best: float, name: str) -> Cell:
    if total is None:
        return Cell("-")
    won = name != LIMIT and total.sure and total.seconds <= best * CLOSE
    return Cell(figures(1e3 * total.seconds) + UNEVEN * total.uneven, won)


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
                row = next(iter(cells.values()))
                title = f"{operation}, {row.case.dtype}, {array_text(row)}: time by threads"
                yield Table(title, columns, tuple(lines))


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
        title = "Error of dalpha in ulp, 401,408 terms (marked: at most 0.5, the exact sum rounded once)"
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
        title = f"Cost of a small call: {FEW} elements, 16 channels, {rows[0].case.dtype}"
        yield Table(title, tuple(operations), tuple(lines))


# ---- cells ----


def _part(rows: list[Row], part: str) -> list[Row]:
    return [row for row in rows if row.case.workload.part == part]


def _line(name: str, cells: tuple[Cell, ...]) -> Line:
    contestant = CONTESTANTS[name]
    return Line(contestant.label, cells, "limit" if name == LIMIT else "ours" if contestant.exact else "")


def _cells(row: Row | None, baseline: str) -> tuple[Cell, ...]:
    if row is None:
        return (Cell(),) * 6
    if row.reason:
        return (Cell("failed"), *(Cell(),) * 5)
    return (
        _figure(row, _time),
        Cell(percent(row.spread)),
        Cell(str(len(row.times))),
        Cell(f"{row.rate:.1f}"),
        Cell("" if row.case.competitor == LIMIT else percent(row.share) + TORN * row.torn(LIMIT)),
        Cell(ratio(row.speedup(baseline)) + TORN * row.torn(baseline)),
    )


def _figure(row: Row | None, text: Callable[[Row], str]) -> Cell:
    return Cell("-") if row is None else Cell(text(row) + UNEVEN * two_kinds(row.times), row.won)


def _time(row: Row) -> str:
    return duration(row.seconds)


def _per_element(row: Row) -> str:
    return figures(row.seconds / math.prod(row.case.workload.shape) * 1e9)


def _heading(form: str) -> str:
    return "fresh" if form == "fresh" else "out="


def _short(name: str) -> str:
    short = {"numpy": "np", "onnxruntime": "ort", "ort_fastact": "ort+fa", "jax_fastact": "jax+fa"}
    return short.get(name, name.removeprefix("fastact_"))[:6]


def _kind_short(kinds: list, kind: tuple[str, str, str]) -> str:
    """The operation, and what else tells these kinds apart."""
    parts = [kind[0]] + [kind[i] for i in (1, 2) if len({k[i] for k in kinds}) > 1]
    return " ".join(parts)


def _mean(values: Iterable[float | None], write: Callable[[float], str]) -> str:
    present = [value for value in values if value]
    return write(geometric_mean(present)) if present else ""
