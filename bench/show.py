"""Shows saved runs: tables in the terminal and in Markdown, and a self-contained page with plots.

Everything comes from the table of results.py, so a live run and a file are shown in the same way.
"""

import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import fastact

from .contestants import CONTESTANTS
from .others import BUSY
from .results import kind
from .tables import HEADING, Table, legend, question, tables

WIDTH = 118  # the width of a table in the terminal
TITLE = "ReLU and PReLU on this CPU, forward and backward"
READING = """All contestants of one comparison group get the same arrays, as many threads and the same kind of results
(new for all, or given for all). They take turns in changing order while nobody's idle threads spin, and each result is
checked against the reference before it is timed. New results are made as each contestant makes them; fastact
reuses the memory of large results that are gone. Conversions to oneDNN's and other layouts are not timed. The machine
may be shared: read ratios, not times. docs/method.md says more."""


def kind_of(label: str) -> str:
    """The kind of contestant that a line of a table shows: "ours", "bound" or empty."""
    return next((kind(name) for name, one in CONTESTANTS.items() if one.label == label), kind(label or " "))


def as_text(found: list[Table]) -> Iterator[tuple[str, str]]:
    """Lines for a terminal, each with its kind: "title", "heading", "ours" or empty."""
    for table in found:
        yield "title", ""
        yield "title", table.title
        frame = table.frame.copy()
        headings = {f"§{k}": label for k, label in enumerate(frame.index) if str(label).startswith(HEADING)}
        short = {label: key for key, label in headings.items()}
        frame.index = ["  " + label if label not in short else short[label] for label in map(str, frame.index)]
        frame.columns.name = None
        ours = tuple(f"  {label}" for label in table.frame.index if kind_of(str(label)) == "ours")
        for line in frame.to_string(line_width=WIDTH).splitlines():
            key = line.split(maxsplit=1)[0] if line.strip() else ""
            if key in headings:
                yield "heading", headings[key].removeprefix(HEADING)
            elif key != "\\":
                yield "ours" if line.startswith(ours) and ours else "", line.rstrip(" \\")


def as_markdown(found: list[Table], notes: list[str], about: dict[str, Any], baseline: str) -> str:
    """One document."""
    parts = [f"# {TITLE}", READING, *legend(found, baseline), *notes]
    for table in found:
        frame = table.frame.rename(
            index=lambda label: f"**{label.removeprefix(HEADING)}**" if str(label).startswith(HEADING) else label
        )
        frame = frame.map(lambda cell: cell.replace("*", r"\*") if isinstance(cell, str) else cell)
        parts += [f"## {table.title}", frame.to_markdown(disable_numparse=True)]
    parts += ["## Machine", pd.Series(dict(facts(about)), dtype=object).to_frame("").to_markdown(disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def write_page(folder: Path, frame: pd.DataFrame, about: dict[str, Any], notes: list[str]) -> Path:
    """Write index.html, tables.md, and the plots as PNG and SVG; return the page's path."""
    from matplotlib import pyplot as plt  # here, because this import is slow

    from .plots import plots

    folder.mkdir(parents=True, exist_ok=True)
    figures, baseline = [], about["baseline"]
    for name, caption, figure in plots(frame):
        figure.savefig(folder / f"{name}.png", dpi=110)
        text = io.StringIO()
        # The salt makes the ids of clip paths differ from plot to plot, because all plots are in one page.
        with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
            figure.savefig(text, format="svg")
        plt.close(figure)
        (folder / f"{name}.svg").write_text(text.getvalue(), encoding="utf-8")
        figures.append({"name": name, "caption": caption, "svg": text.getvalue()[text.getvalue().index("<svg") :]})
    found, notes = list(tables(frame, baseline)), [*question(frame), *notes]
    template = jinja2.Template(
        Path(__file__).with_name("page.html").read_text(), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    shown = [
        {"title": table.title, "columns": list(map(str, table.frame.columns)), "lines": list(_lines(table))}
        for table in found
    ]
    page = template.render(title=TITLE, reading=[READING, *legend(found, baseline)], notes=notes, figures=figures,
                           tables=shown, facts=list(facts(about)))  # fmt: skip
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "tables.md").write_text(as_markdown(found, notes, about, baseline), encoding="utf-8")
    return folder / "index.html"


def _lines(table: Table) -> Iterator[dict[str, Any]]:
    for label, cells in zip(map(str, table.frame.index), table.frame.to_numpy(), strict=True):
        heading = label.startswith(HEADING)
        yield {"label": label.removeprefix(HEADING), "heading": heading, "kind": kind_of(label),
               "cells": [] if heading else list(map(str, cells))}  # fmt: skip


def notes_of(about: dict[str, Any]) -> Iterator[str]:
    """What a reader of a saved run has to know beside the tables."""
    if missing := about.get("missing_cases"):
        yield f"The run ended early: {missing} cases are missing."
    if (share := about.get("others_share")) and share > BUSY:
        yield f"Others took {share:.0%} of the processors' time during this run: distrust the times."
    for one in about.get("failed", ()):
        yield f"failed: {one['contestant']} in {one['case']}: {one['reason']}"
    for label, why in (about.get("absent") or {}).items():
        yield f"not timed: {label} ({why})"


def facts(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the times depend on: from a saved run, or from this process."""
    machine, config = about.get("machine") or {}, fastact.config()
    of = machine.get("fastact") or config
    yield "fastact", of["version"]
    yield "numpy", of["numpy"]
    yield "SIMD level", of["simd"]["in_use"]
    yield "threads", str(of["threads"]["bound"])  # the other entries have paths of the machine
    yield "caches", json.dumps(of["caches"])
    cpu = machine.get("cpu") or {}
    yield "cpu", str(cpu.get("brand_raw") or config["cpu"])
    yield "python", str(machine.get("python_version") or config["python"])
    yield from (machine.get("peers") or {}).items()
    for key in ("governor", "load", "kernel", "seed", "seconds", "options", "datetime"):
        if about.get(key) not in (None, {}):
            yield key, html.unescape(str(about[key]))
    if commit := about.get("commit"):
        yield "commit", f"{str(commit.get('id'))[:12]}{' with changes' * bool(commit.get('dirty'))}"
