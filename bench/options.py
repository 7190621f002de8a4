"""The benchmarks' command-line options and what they mean.

The root conftest registers them, because pytest reads a folder's own conftest too late: it would take the `8,64,56,56`
of `--shape` for a file.  Faulty options end in a usage error before anything is collected, and an unknown name is
answered with the known ones.  Who asks for a shape, a number of threads, a report or a quick run wants times, so these
options imply `--benchmark-only`.  Whether other runs are timed follows from pytest-benchmark's own options.
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

from .comparison import FORMS, KNOWN, QUICK, Selection
from .contestants import CONTESTANTS, COPY, load
from .models import MODELS, from_file
from .selection import FIGURES
from .timing import FULL, SHORT, Effort
from .timing import QUICK as QUICK_EFFORT
from .workloads import ALPHA_FORMS, PARTS, Workload

HOSTED = ("company", "networks")  # parts of the comparison that are not operations on workloads
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
    "--full": {"action": "store_true", "help": "everything: every part, operation, form and dtype, one thread too"},
    "--check": {"action": "store_true", "help": "run every contestant once, untimed: the worst error of each"},
    "--figures": {"metavar": "ROW,...", "help": "the figures with targets instead: " + ", ".join(FIGURES)},
    "--contestant": {"metavar": "NAME,...", "help": "only these: " + ", ".join(CONTESTANTS)},
    "--contestants-from": {"metavar": "FILE.py", "help": "add the contestants that this file lists (with =)"},
    "--workload": {"metavar": "NAME,...", "help": "only these workloads, models or parts of the comparison"},
    "--model": {"type": Path, "metavar": "FILE.json", "help": "a model's layers instead of the workloads (with =)"},
    "--baseline": {"metavar": "NAME", "help": "whom to give ratios to (default: numpy, or the first chosen)"},
    "--form": {"metavar": "FORM,...", "help": f"of results: {', '.join(FORMS)} (default: new; --full: all)"},
    "--report": {
        "type": _folder,
        "metavar": "DIR",
        "help": "write a page with tables and plots there (with =: pytest takes another word for a path)",
    },
    "--csv": {"type": Path, "metavar": "FILE", "help": "write the table of all results there (with =)"},
    "--threads": {"type": int, "metavar": "N", "help": "time everybody with N threads (default: fastact's bound)"},
    "--shape": {
        "type": _shape,
        "action": "append",
        "metavar": "N,C,H,W",
        "help": "time this shape of x instead of the workloads; may be given several times",
    },
    "--dtype": {
        "choices": DTYPES,
        "help": "time this dtype only (default: float32; with --full: all); bfloat16 needs ml_dtypes",
    },
    "--channel-axis": {"type": int, "metavar": "AXIS", "help": "where --shape has its channels (default: 1)"},
    "--alpha": {"choices": ALPHA_FORMS, "help": "the form of alpha for --shape (default: channel)"},
}


def has_benchmark(manager: pytest.PytestPluginManager) -> bool:
    """Whether pytest-benchmark's plugin is loaded, under whatever name: its hooks are then declared."""
    hook = getattr(manager.hook, "pytest_benchmark_group_stats", None)
    return hook is not None and hook.has_spec()


def add_options(parser: pytest.Parser, has_benchmark: bool) -> None:
    """Register the options; without pytest-benchmark also --benchmark-only, which the documents name."""
    group = parser.getgroup("fastact benchmarks")
    for name, keywords in OPTIONS.items():
        group.addoption(name, **keywords)
    if not has_benchmark:
        group.addoption("--benchmark-only", action="store_true", help=argparse.SUPPRESS)


def settle_options(config: pytest.Config) -> None:
    """Check the options together, and decide whether this run is timed."""
    option = config.option
    if not has_benchmark(config.pluginmanager):
        if asked := [name for name in (*OPTIONS, "--benchmark-only") if config.getoption(name) not in (None, False)]:
            raise pytest.UsageError(f"{', '.join(asked)}: {NEEDED}")
        return
    if option.quick and option.full:
        raise pytest.UsageError("--quick and --full exclude each other")
    asked = (
        option.shape,
        option.threads,
        option.report,
        option.quick or None,
        option.figures,
        option.model,
        option.csv,
    )
    if any(value is not None for value in asked) and not option.benchmark_disable and not option.check:
        option.benchmark_only = True
    _set_threads(option.threads)
    if option.contestants_from:
        try:
            load(option.contestants_from)
        except (Exception, SystemExit) as error:  # the file may do anything
            what = f"{type(error).__name__}: {error}"
            raise pytest.UsageError(f"--contestants-from {option.contestants_from}: {what}") from None
    figures_of(option)
    chosen = selection_of(option).contestants
    option.baseline = _baseline(option.baseline, chosen)
    if timed(option):
        if config.getoption("dist", "no") != "no":
            raise pytest.UsageError("times are wrong where tests run beside each other: leave out -n and --dist")
        if option.benchmark_cprofile:
            raise pytest.UsageError("--benchmark-cprofile: contestants take turns before pytest-benchmark sees a call")
        if option.report:
            _check_folder(option.report)
        if option.csv:
            _check_file(option.csv)
        option.benchmark_save_data = True  # tables and plots are made from the times of all rounds
        if not option.benchmark_json:
            option.benchmark_json = _file_of_the_run(config)
    else:
        option.benchmark_disable = True
        option.report = None
    # pytest-benchmark's warnings (another machine in a comparison, no saved run) are no reason to stop.  The first line
    # is for the time while pytest is being configured, when a saved run is loaded; the second is for later.
    from pytest_benchmark.logger import PytestBenchmarkWarning

    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")


def _set_threads(number: int | None) -> None:
    """Set the package's own bound, from which header, tables, saved runs and all contestants take the number."""
    if number is None:
        return
    if not 1 <= number <= _cpu.processors():
        raise pytest.UsageError(f"--threads {number}: this process may use 1 to {_cpu.processors()} threads")
    fastact.set_num_threads(number)


def timed(option: Any) -> bool:
    """Whether benchmarks are timed, or run once as a smoke test."""
    return option.benchmark_only or getattr(option, "benchmark_enable", False)  # not there without the plugin


def _file_of_the_run(config: pytest.Config) -> str | None:
    """The path for a run's file if --benchmark-json names none; None if it cannot be written."""
    path = config.rootpath / "build" / "bench" / "run.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        return None
    return str(path)


def effort(option: Any) -> Effort | None:
    """How long a group takes turns; None for a run that only checks."""
    return None if not timed(option) else QUICK_EFFORT if option.quick else FULL if option.full else SHORT


def hosted(option: Any) -> tuple[str, ...]:
    """Those of "company" and "networks" that are timed: the chosen ones, or both if the user has chosen nothing."""
    if option.workload:
        return tuple(name for name in HOSTED if name in _names(option.workload))
    chosen = (option.shape, option.model, option.dtype, option.contestant, option.quick, option.check)
    return () if any(chosen) else HOSTED


def figures_of(option: Any) -> tuple[str, ...]:
    """The rows of figures that the user asks for."""
    names = _names(option.figures) if option.figures else []
    _check_names("row of figures", names, FIGURES, FIGURES)
    return tuple(names)


def selection_of(option: Any) -> Selection:
    """What the run times or checks, according to the options."""
    absent = ("bfloat16",) * (find_spec("ml_dtypes") is None)
    if option.dtype in absent:
        raise pytest.UsageError(f"--dtype {option.dtype} needs ml_dtypes (pip install ml_dtypes)")
    every = tuple(dtype for dtype in DTYPES if dtype not in absent)
    forms = tuple(_names(option.form)) if option.form else FORMS if option.full else FORMS[:1]
    _check_names("form", list(forms), FORMS, FORMS)
    return Selection(
        workloads=chosen_workloads(option),
        contestants=_contestants(option.contestant),
        dtypes=(option.dtype,) if option.dtype else every if option.full else every[:1],
        forms=forms if timed(option) or option.check else FORMS[:2],
        timed=timed(option) or option.check,
        full=option.full,
        quick=option.quick,
        chosen=bool(option.shape or option.model or option.workload),
    )


def chosen_workloads(option: Any) -> tuple[Workload, ...]:
    """The user's own shapes or model, those named, or the default."""
    own = option.shape or option.model
    if option.shape is None and (option.channel_axis is not None or option.alpha is not None):
        raise pytest.UsageError("--channel-axis and --alpha describe the shape given by --shape")
    if not own:
        if option.workload is not None:
            return _named_workloads(_names(option.workload))
        few = option.quick or (option.check and not option.full)
        return tuple(w for w in KNOWN if w.name in QUICK) if few else KNOWN
    if option.workload:
        raise pytest.UsageError("--shape and --model take the place of the workloads: --workload has nothing to choose")
    layers: tuple[Workload, ...] = ()
    if option.model:
        try:
            layers = from_file(option.model)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise pytest.UsageError(f"--model {option.model}: {type(error).__name__}: {error}") from None
    return layers + tuple(_own_workload(option, shape) for shape in dict.fromkeys(option.shape or ()))


def _own_workload(option: Any, shape: tuple[int, ...]) -> Workload:
    rank = len(shape)
    axis = option.channel_axis if option.channel_axis is not None else 1 if rank > 1 else -1
    text = ",".join(map(str, shape))
    if not -rank <= axis < rank:
        raise pytest.UsageError(f"--channel-axis {axis} is not an axis of --shape {text}")
    alpha = option.alpha or "channel"
    return Workload("x".join(map(str, shape)), shape, axis, alpha, "given by --shape", "own")


def _named_workloads(names: list[str]) -> tuple[Workload, ...]:
    """Each name is a workload's, a model's or a part's."""
    found: dict[str, Iterable[Workload]] = {w.name: (w,) for w in KNOWN}
    found |= {model.name: tuple(layer for _, layer in model.layers) for model in MODELS}
    found |= {part: tuple(w for w in KNOWN if w.part == part) for part in (*PARTS, *HOSTED)}
    # The message lists models instead of their layers, because there are fewer.
    known = [w.name for w in KNOWN if w.part != "models"] + [model.name for model in MODELS] + [*PARTS, *HOSTED]
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
    """The baseline that the user asks for; otherwise NumPy, or the first chosen contestant."""
    if name is None:
        return "numpy" if "numpy" in chosen else next((other for other in chosen if other != COPY), COPY)
    _check_names("baseline", [name], CONTESTANTS, CONTESTANTS)
    if why := CONTESTANTS[name].missing():
        raise pytest.UsageError(f"baseline {name!r} cannot take part: {why}")
    if name not in chosen:
        raise pytest.UsageError(f"baseline {name!r} is not among --contestant {','.join(chosen)}")
    return name


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to before the run, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise pytest.UsageError(f"--report={folder} is no folder to write to: {error.strerror}") from None


def _check_file(path: Path) -> None:
    """Refuse a file that cannot be written before the run."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise pytest.UsageError(f"--csv={path} cannot be written: {error.strerror}") from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _check_names(what: str, names: list[str], found: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in found]:
        raise pytest.UsageError(f"unknown {what} {', '.join(map(repr, unknown))}: known are {', '.join(known)}")
