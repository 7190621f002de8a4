"""Every figure that the package must hold, measured: `python -m bench.figures [ROW ...] [--quick] [--json FILE]`.

A row's lines are ratios to be at or under a target (`races`); the import, the first call of the Numba
variant and extra memory are measured in fresh processes and stand against a fixed figure.  Each row ends
with a summary: the worst and the geometric mean of each kind.  A miss is marked with `*`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import track

import fastact

from .company import company
from .layout_lines import layouts
from .others import Others
from .races import MB, ROWS, Line, against, raced, variants
from .report import line_tables

IMPORT = 0.060  # seconds beyond NumPy
FIRST_CALL = 1.5  # seconds, with a warm disk cache
EXTRA_MEMORY = MB  # bytes, for 16 and 32 million elements alike
FIRST_CALLS = {
    "relu": "fastact.relu(x, backend='numba')",
    "prelu": "fastact.prelu(x, 0.25, backend='numba')",
    "prelu_backward": "fastact.prelu_backward(x, x, 0.25, backend='numba')",
}
FIRST_CALL_SCRIPT = """
import time, numpy, fastact
x = numpy.ones(64, "float32")
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""
# The peak only ever grows: everything is touched before, and the same call on a few elements has been made.  Linux's
# own count, because a new process begins with its parent's peak as ru_maxrss.
EXTRA_SCRIPT = """
import numpy, fastact
def arrays(shape):
    made = [numpy.empty(shape, "float32") for _ in range(3)]
    made[0].fill(1), made[1].fill(-1), made[2].fill(0)
    return made
def run(dy, x, dx):
    fastact.prelu_backward(dy, x, alpha, channel_axis={axis}, out=(dx, None), backend="{backend}")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
alpha = numpy.full({alphas}, 0.25, "float32")
few = arrays({few})
many = arrays({many})
run(*few)
before = peak()
run(*many)
print((peak() - before) * 1024)
"""


def _python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def imports(quick: bool = False) -> Iterator[Line]:
    """Import beyond NumPy, and the first call of the Numba variant."""
    times: dict[str, list[float]] = {"import numpy": [], "import numpy, fastact": []}
    for _ in range(3 if quick else 21):
        for script, seconds in times.items():
            start = time.perf_counter()
            _python(script)
            seconds.append(time.perf_counter() - start)
    extra = statistics.median(ours - numpy for numpy, ours in zip(*times.values(), strict=True))
    yield against("import fastact", "cython", extra, IMPORT, "s")
    for name, call in FIRST_CALLS.items() if "numba" in variants() else ():
        script = FIRST_CALL_SCRIPT.format(call=call)
        _python(script)  # fills the disk cache
        seconds = statistics.median(float(_python(script)) for _ in range(1 if quick else 5))
        yield against(f"first call {name}", "numba", seconds, FIRST_CALL, "s")


def extra(quick: bool = False) -> Iterator[Line]:
    """Memory of prelu_backward beyond dx."""
    forms = {  # the shape of n elements, the channels' axis, the number of alphas
        "64 channels": (lambda n: (n // 262144, 64, 4096), 1, 64),
        "shared": (lambda n: (n,), 0, 1),
        "channels last 64": (lambda n: (n // 64, 64), 1, 64),
    }
    for n, backend, (form, (shape, axis, alphas)) in product((16 * MB, 32 * MB), variants(), forms.items()):
        few = shape(262144)
        script = EXTRA_SCRIPT.format(axis=axis, backend=backend, alphas=alphas, few=few, many=shape(n))
        yield against(f"{form} {n / MB:g} million elements", backend, float(_python(script)), EXTRA_MEMORY, "B")


MEASURED: dict[str, Callable[..., Iterator[Line]]] = {name: partial(raced, row) for name, row in ROWS.items()} | {
    "imports": imports,
    "extra": extra,
    "company": company,
    "layouts": layouts,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.figures", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(MEASURED)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few sizes, few rounds: to see that it works")
    parser.add_argument("--misses", action="store_true", help="print the lines that miss only, and the summaries")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every line, and the machine's facts")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(MEASURED):
        parser.error(f"unknown row {', '.join(unknown)}: choose from {', '.join(MEASURED)}")
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    progress = Console(stderr=True)
    others = Others()
    found: dict[str, list[Line]] = {}
    for row in options.rows or MEASURED:
        found[row] = list(track(MEASURED[row](options.quick), row, total=None, console=progress, transient=True))
        console.print(*line_tables(row, found[row], options.misses), sep="\n\n")
        if options.json:  # after each row: a run may be ended early
            saved = {row: [asdict(line) for line in lines] for row, lines in found.items()}
            options.json.write_text(json.dumps({"config": fastact.config(), "rows": saved}, indent=1))
    progress.print(*others.note(), sep="\n")


if __name__ == "__main__":
    main()
