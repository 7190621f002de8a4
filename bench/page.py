"""The report of a run: one page that needs nothing else; beside it its tables as Markdown, its plots as PNG and SVG.

Tables are views.py's, plots are plots.py's; they stand in the page as SVG, so that it opens anywhere without a network.
The Markdown is for a document or an issue's thread: `docs/results/tables.md` is one of them.
"""

import html
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.figure import Figure

import fastact

from .contestants import CONTESTANTS
from .plots import plots
from .rows import Row
from .views import Line, Table, legend

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222 }
h1 { font-size: 1.7em } h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc } h3 { margin: 1.6em 0 .3em }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: .5em 0 }
td, th { padding: 1px 9px; text-align: right } td:first-child, th:first-child { text-align: left }
th { color: #666; font-weight: normal; border-bottom: 1px solid #999 }
tr.head td { font-weight: 600; padding-top: .7em }
tr.ours td { color: #a51c1c } tr.limit td { color: #777 } td.best { font-weight: 700 } td.best::after { content: " *" }
figure { margin: 1em 0; overflow-x: auto } figure svg { max-width: 100%; height: auto } figcaption { color: #666 }
details { margin: .6em 0 } summary { cursor: pointer; font-weight: 600 } .scroll { overflow-x: auto }
nav a { margin-right: 1.2em }
"""
READING = """Everybody in one heat gets the same arrays, the same number of threads and the same kind of results
(fresh for all, or given for all), takes turns with the others while nobody's idle threads spin, and is checked
against the reference before. Fresh results are made as each contestant makes them; fastact's large ones take the
memory of those that are gone. Conversions to oneDNN's and other layouts are not timed. The limit is reached in the
package's own vector code, the best of ordinary and streaming stores and of one and all threads, less the call itself;
a share of 100 % is as fast as memory, or the cache that holds the arrays, allows. The machine may be shared: read
ratios, not times."""


@style.context("default")  # whatever the user's matplotlibrc says
def write_report(folder: Path, rows: list[Row], tables: list[Table], notes: list[str], baseline: str) -> Path:
    """Write index.html and the plots; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name, caption, figure in plots(rows):
        figure.savefig(folder / f"{name}.png", dpi=110)
        figure.savefig(folder / f"{name}.svg")
        figures.append(
            f'<figure id="{name}">{_svg(figure, name)}<figcaption>{html.escape(caption)}</figcaption></figure>'
        )
        plt.close(figure)
    page = folder / "index.html"
    page.write_text(_page(figures, tables, notes, baseline), encoding="utf-8")
    (folder / "tables.md").write_text(_markdown(tables, notes, baseline), encoding="utf-8")
    return page


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of the page; its clip paths' ids are its own (glyphs that share one are the same)."""
    text = io.StringIO()
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _page(figures: list[str], tables: list[Table], notes: list[str], baseline: str) -> str:
    parts = [
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>fastact: ReLU and PReLU on this CPU</title><style>{STYLE}</style></head><body>",
        "<h1>ReLU and PReLU on this CPU, forward and backward</h1>",
        "<nav>"
        + "<a href=#plots>Plots</a>" * bool(figures)
        + "<a href=#tables>Tables</a><a href=#machine>Machine</a></nav>",
        *(f"<p>{html.escape(text)}</p>" for text in (READING, *legend(tables, baseline))),
        *(f"<p><strong>{html.escape(note)}</strong></p>" for note in notes),
        *(["<h2 id=plots>Plots</h2>", *figures] if figures else []),
        "<h2 id=tables>Tables</h2>",
        *(text for table in tables for text in _table(table)),
        "<h2 id=machine>Machine</h2><table>",
        *(f"<tr><td>{html.escape(key)}</td><td>{html.escape(text)}</td></tr>" for key, text in facts()),
        "</table></body></html>",
    ]
    return "\n".join(parts)


def _table(table: Table) -> Iterator[str]:
    yield f"<details open><summary>{html.escape(table.title)}</summary><div class=scroll><table><tr><th></th>"
    yield "".join(f"<th>{html.escape(name)}</th>" for name in table.columns) + "</tr>"
    yield from (_line(line, len(table.columns)) for line in table.lines)
    yield "</table></div></details>"


def _line(line: Line, columns: int) -> str:
    if not line.cells:
        return f"<tr class=head><td colspan={columns + 1}>{html.escape(line.label)}</td></tr>"
    cells = "".join(f"<td{' class=best' * cell.best}>{html.escape(cell.text)}</td>" for cell in line.cells)
    return f'<tr class="{line.kind}"><td>{html.escape(line.label)}</td>{cells}</tr>'


def _markdown(tables: list[Table], notes: list[str], baseline: str) -> str:
    parts = ["# ReLU and PReLU on this CPU, forward and backward", READING, *legend(tables, baseline), *notes]
    machine = "\n".join(f"| {key} | {text} |" for key, text in facts())
    parts += ["\n".join(_markdown_table(table)) for table in tables] + [f"## Machine\n\n| | |\n|---|---|\n{machine}"]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> Iterator[str]:
    yield f"## {table.title}\n"
    yield f"| | {' | '.join(table.columns)} |"
    yield "|---|" + "---:|" * len(table.columns)
    for line in table.lines:
        cells = [f"**{cell.text}** \\*" if cell.best else cell.text for cell in line.cells]
        yield f"| {' | '.join([line.label, *cells] if cells else [f'**{line.label}**'] + [''] * len(table.columns))} |"


def facts() -> Iterator[tuple[str, str]]:
    """What the figures depend on."""
    config = fastact.config()
    yield "date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    for key in ("cpu", "caches", "simd", "threads", "platform", "python", "version"):
        value = config[key]
        yield "fastact" if key == "version" else key, value if isinstance(value, str) else json.dumps(value)
    for module in sorted({module for contestant in CONTESTANTS.values() for module in contestant.modules} | {"numpy"}):
        try:
            yield module, version(module)
        except PackageNotFoundError:
            continue
