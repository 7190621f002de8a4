"""The benchmarks' command-line options and what they mean.

They are registered by the root conftest: pytest reads a folder's own conftest too late to know `--shape`
before it takes `8,64,56,56` for a file.  Faulty options end as a usage error before anything is collected; an unknown
name is answered with the known ones.  To ask for a shape, a number of threads, a report or a quick run is to ask for
times, so these imply `--benchmark-only`; everything else about timed and untimed runs follows from pytest-benchmark's
own options.
"""

import argparse
import math
import tempfile
import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fastact
from fastact import _cpu

from .cases import KNOWN, QUICK, Selection
from .contestants import CONTESTANTS, LIMIT
from .models import MODELS
from .timing import FULL, SHORT, Effort
from .timing import QUICK as QUICK_EFFORT
from .workloads import ALPHA_FORMS, PARTS, Workload

DTYPES = ("float32", "float64", "int32", "float16", "bfloat16")


NEEDED = (
    "the benchmarks need pytest-benchmark's plugin (pip install -e '.[bench]'; "
    "where plugins are not loaded by themselves: -p pytest_benchmark.plugin)"
)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("a folder's name is missing")
    return Path(text)


def _shape(text: str) -> tuple[int, ...]:
    """Read 8,64,56,56 (also 8x64x56x56)."""
    try:
        sizes = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or math.prod(sizes) > 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape: write positive sizes, such as 8,64,56,56")
    return sizes


OPTIONS: dict[str, dict[str, Any]] = {
    "--quick": {"action": "store_true", "help": "four workloads, new results, few rounds: under a minute"},
    "--full": {"action": "store_true", "help": "every operation and dtype, one thread too, more rounds"},
    "--contestant": {"metavar": "NAME,...", "help": "only these: " + ", ".join(CONTESTANTS)},
    "--workload": {"metavar": "NAME,...", "help": "only these workloads, models or parts of the comparison"},
    "--baseline": {"metavar": "NAME", "help": "whom to give ratios to (default: numpy, or the first chosen)"},
    "--report": {
        "type": _folder,
        "metavar": "DIR",
        "help": "write a page with tables and plots there (with =: pytest takes another word for a path)",
    },
    "--threads": {"type": int, "metavar": "N", "help": "time everybody with N threads (default: fastact's bound)"},
    "--shape": {"type": _shape, "metavar": "N,C,H,W", "help": "time this shape of x instead of the workloads"},
    "--dtype": {
        "choices": DTYPES,
        "help": "time this dtype only (default: float32; with --full: all); bfloat16 needs ml_dtypes",
    },
    "--channel-axis": {"type": int, "metavar": "AXIS", "help": "where --shape has its channels (default: 1)"},
    "--alpha": {"choices": ALPHA_FORMS, "help": "the form of alpha for --shape (default: channel)"},
}


def has_benchmark(manager: pytest.PytestPluginManager) -> bool:
    """Whether pytest-benchmark's plugin is loaded, under whatever name: the hooks that it has declared tell."""
    hook = getattr(manager.hook, "pytest_benchmark_group_stats", None)
    return hook is not None and hook.has_spec()


def add_options(parser: pytest.Parser, has_benchmark: bool) -> None:
    """Register them; without pytest-benchmark also the one of its options that the documents name."""
    group = parser.getgroup("fastact benchmarks")
    for name, keywords in OPTIONS.items():
        group.addoption(name, **keywords)
    if not has_benchmark:
        group.addoption("--benchmark-only", action="store_true", help=argparse.SUPPRESS)


def settle_options(config: pytest.Config) -> None:
    """Check them together, and decide whether this run is timed."""
    option = config.option
    if not has_benchmark(config.pluginmanager):
        if asked := [name for name in (*OPTIONS, "--benchmark-only") if config.getoption(name) not in (None, False)]:
            raise pytest.UsageError(f"{', '.join(asked)}: {NEEDED}")
        return
    if option.quick and option.full:
        raise pytest.UsageError("--quick and --full exclude each other")
    asked = option.shape is not None or option.threads is not None or option.report or option.quick
    if asked and not option.benchmark_disable:
        option.benchmark_only = True
    _set_threads(option.threads)
    chosen = selection_of(option).contestants
    option.baseline = _baseline(option.baseline, chosen)
    if timed(option):
        if config.getoption("dist", "no") != "no":
            raise pytest.UsageError("times are wrong where tests run beside each other: leave out -n and --dist")
        if option.report:
            _check_folder(option.report)
        option.benchmark_save_data = True  # bench.compare needs every round
    else:
        option.benchmark_disable = True
        option.report = None
    # pytest-benchmark's warnings (another machine in a comparison, no saved run) are no reason to stop: while
    # pytest is being configured, which is when a saved run is loaded, and later.
    from pytest_benchmark.logger import PytestBenchmarkWarning

    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")


def _set_threads(number: int | None) -> None:
    """The package's own bound: header, tables, saved runs and all contestants take the number from there."""
    if number is None:
        return
    if not 1 <= number <= _cpu.processors():
        raise pytest.UsageError(f"--threads {number}: this process may use 1 to {_cpu.processors()} threads")
    fastact.set_num_threads(number)


def timed(option: Any) -> bool:
    """Whether benchmarks are timed, or run once as a smoke test."""
    return option.benchmark_only or getattr(option, "benchmark_enable", False)  # not there without the plugin


def effort(option: Any) -> Effort:
    """How long a heat takes turns."""
    return QUICK_EFFORT if option.quick else FULL if option.full else SHORT


def everything(option: Any) -> bool:
    """Whether the run is about all that is timed, and not about somebody's choice."""
    chosen = (option.shape, option.dtype, option.workload, option.contestant)
    return not option.quick and not any(chosen)


def selection_of(option: Any) -> Selection:
    """What the run is about."""
    absent = ("bfloat16",) * (find_spec("ml_dtypes") is None)
    if option.dtype in absent:
        raise pytest.UsageError(f"--dtype {option.dtype} needs ml_dtypes (pip install ml_dtypes)")
    every = tuple(dtype for dtype in DTYPES if dtype not in absent)
    return Selection(
        workloads=chosen_workloads(option),
        contestants=_contestants(option.contestant),
        dtypes=(option.dtype,) if option.dtype else every if option.full else every[:1],
        timed=timed(option),
        full=option.full,
        quick=option.quick,
    )


def chosen_workloads(option: Any) -> tuple[Workload, ...]:
    """All of them, those of --quick or --workload, or the one that --shape, --channel-axis and --alpha describe."""
    if option.shape is None:
        if option.channel_axis is not None or option.alpha is not None:
            raise pytest.UsageError("--channel-axis and --alpha describe the shape given by --shape")
        if option.workload is not None:
            return _named_workloads(_names(option.workload))
        return tuple(w for w in KNOWN if w.name in QUICK) if option.quick else KNOWN
    if option.workload:
        raise pytest.UsageError("--shape takes the place of the workloads, so --workload has nothing to choose from")
    rank = len(option.shape)
    axis = option.channel_axis if option.channel_axis is not None else 1 if rank > 1 else -1
    if not -rank <= axis < rank:
        raise pytest.UsageError(f"--channel-axis {axis} is not an axis of --shape {','.join(map(str, option.shape))}")
    return (Workload("own_shape", option.shape, axis, option.alpha or "channel", "given by --shape"),)


def _named_workloads(names: list[str]) -> tuple[Workload, ...]:
    """Each name is a workload's, a model's or a part's."""
    found: dict[str, Iterable[Workload]] = {w.name: (w,) for w in KNOWN}
    found |= {model.name: tuple(layer for _, layer in model.layers) for model in MODELS}
    found |= {part: tuple(w for w in KNOWN if w.part == part) for part in PARTS}
    # Layers are known by their models' names, which are fewer.
    known = [w.name for w in KNOWN if w.part != "models"] + [model.name for model in MODELS] + list(PARTS)
    _check_names("workload", names, found, known)
    return tuple(dict.fromkeys(workload for name in names for workload in found[name]))


def _contestants(text: str | None) -> tuple[str, ...]:
    if text is None:
        return tuple(CONTESTANTS)
    names = _names(text)
    _check_names("contestant", names, CONTESTANTS, CONTESTANTS)
    for name in names:
        if why := CONTESTANTS[name].missing():
            raise pytest.UsageError(f"contestant {name!r} cannot take part: {why}")
    return tuple(name for name in CONTESTANTS if name in names)  # in the order of the tables


def _baseline(name: str | None, chosen: tuple[str, ...]) -> str:
    """The one asked for, NumPy, or the first of the chosen ones."""
    if name is None:
        return "numpy" if "numpy" in chosen else next((other for other in chosen if other != LIMIT), LIMIT)
    _check_names("baseline", [name], CONTESTANTS, CONTESTANTS)
    if why := CONTESTANTS[name].missing():
        raise pytest.UsageError(f"baseline {name!r} cannot take part: {why}")
    if name not in chosen:
        raise pytest.UsageError(f"baseline {name!r} is not among --contestant {','.join(chosen)}")
    return name


def _check_folder(folder: Path) -> None:
    """A report that cannot be written is refused before the run, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise pytest.UsageError(f"--report={folder} is no folder to write to: {error.strerror}") from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _check_names(what: str, names: list[str], found: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in found]:
        raise pytest.UsageError(f"unknown {what} {', '.join(map(repr, unknown))}: known are {', '.join(known)}")
