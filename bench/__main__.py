"""Saved runs, shown and compared: `python -m bench show | compare | history`."""

import argparse
import sys
from pathlib import Path

from .compare import FLOOR, compared, percentage
from .compare import __doc__ as rule
from .results import Unreadable, against, lines, read
from .show import as_text, notes_of, write_page
from .tables import legend, question, tables, target_tables


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit status: 1 if `compare` finds somebody slower, 2 if a file is no saved run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="tables of a run; with --report a page, with --csv all results")
    show.add_argument("run", metavar="RUN.json")
    show.add_argument("--report", type=Path, metavar="DIR")
    show.add_argument("--csv", type=Path, metavar="FILE")
    show.add_argument("--baseline", metavar="NAME", help="whom to give ratios to (default: the run's)")
    show.add_argument("--targets", action="store_true", help="every ratio that has a target, not only the misses")
    compare = commands.add_parser(
        "compare",
        help="what changed between runs",
        description=rule,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("before", metavar="BEFORE")
    compare.add_argument("after", metavar="AFTER")
    compare.add_argument("again", metavar="AGAIN", nargs="*", help="more runs of AFTER's code, to confirm")
    compare.add_argument("--all", action="store_true", help="show what did not change too")
    compare.add_argument("--floor", type=percentage, default=FLOOR, metavar="PERCENT",
                         help=f"least change to count (default: {FLOOR:g})")  # fmt: skip
    history = commands.add_parser("history", help="a plot over runs, in the order given")
    history.add_argument("runs", metavar="RUN.json", nargs="+")
    history.add_argument("--out", type=Path, default=Path("history.png"), metavar="FILE", help="(default: history.png)")
    options = parser.parse_args(arguments)
    try:
        return {"show": _show, "compare": _compare, "history": _history}[options.command](options)
    except (Unreadable, ValueError, OSError) as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2


def _show(options: argparse.Namespace) -> int:
    run = read(options.run)
    baseline = options.baseline or run.about.get("baseline", "numpy")
    if options.baseline and options.baseline not in set(run.rows.contestant):
        raise ValueError(f"{options.run} has no contestant {options.baseline!r}")
    if options.baseline:
        speedup = against(run.rows, baseline)
        run = run._replace(rows=run.rows.assign(speedup=speedup, baseline=speedup.notna().map({True: baseline})))
    notes, about = list(notes_of(run.about)), run.about | {"baseline": baseline}
    found = list(tables(run.rows, baseline))
    if options.targets:
        found += target_tables(lines(run.rows), all_lines=True)
    if options.csv:
        run.rows.drop(columns="times").to_csv(options.csv, index=False)
    if options.report:
        print(write_page(options.report, run.rows, about, notes))
        return 0
    print(*(line for _, line in as_text(found)), *legend(found, baseline), *question(run.rows), *notes, sep="\n")
    return 0


def _compare(options: argparse.Namespace) -> int:
    before, *others = map(read, (options.before, options.after, *options.again))
    said, slower = compared(before, others, options.floor, options.all)
    print(*said, sep="\n")
    return int(slower > 0)


def _history(options: argparse.Namespace) -> int:
    from .plots import history_plot

    runs = []
    for path in options.runs:
        run = read(path)
        commit = str((run.about.get("commit") or {}).get("id") or Path(path).stem)[:8]
        runs.append((commit, run.rows))
    history_plot(runs).savefig(options.out, dpi=110)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
