"""What every pytest run here needs: benchmarks are off unless asked for, and the header names the backends.

A plain `pytest` runs each benchmark once, untimed, next to the tests.  `--benchmark-disable` in addopts
would make `--benchmark-only` a usage error, so the option is set here, before pytest-benchmark reads it.
With `--benchmark-only` the folder tests/ is not even collected: it holds no benchmark, and its modules
may import what `pip install -e ".[bench]"` alone does not bring.  Without pytest-benchmark's plugin the folder
bench/ is not collected.  The whole suite runs on all processors; whoever chooses tests or gives -n decides.
"""

from pathlib import Path

import pytest

import fastact
from bench.options import NEEDED, add_options, has_benchmark, settle_options, timed
from fastact import _cpu

HERE = Path(__file__).parent  # config.rootpath is somewhere else with --rootdir


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """The benchmarks' options."""
    add_options(parser, has_benchmark(pluginmanager))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Untimed unless times are asked for; pytest-benchmark reads its options after this."""
    settle_options(config)
    if _whole_suite(config) and not timed(config.option):
        config.option.dist, config.option.tx = "worksteal", ["popen"] * _cpu.processors()


def _whole_suite(config: pytest.Config) -> bool:
    """Whether this is a plain `pytest`, and pytest-xdist is there: on 2 processors it takes half the time so."""
    option = config.option
    apart = option.usepdb or option.collectonly or getattr(option, "dist", None) != "no"
    return config.args_source is config.ArgsSource.TESTPATHS and not apart and not hasattr(config, "workerinput")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only bench/ for a run of benchmarks only, and never where they cannot run."""
    left_out = [HERE / "tests"] if config.option.benchmark_only else []
    if not has_benchmark(config.pluginmanager):
        left_out.append(HERE / "bench")
    return True if any(collection_path.is_relative_to(folder) for folder in left_out) else None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What a bug report or a table of times needs to say first."""
    facts = fastact.config()
    backends = "; ".join(f"{name}: {state}" for name, state in facts["backends"].items())
    caches = ", ".join(f"{name} {_size(size)}" for name, size in facts["caches"].items())
    number, simd = facts["threads"]["bound"], facts["simd"]["in_use"]
    threads = f"{number} thread{'s' * (number > 1)}"
    lines = [
        f"fastact: {facts['version']}, numpy {facts['numpy']}, {threads}, SIMD level {simd}",
        f"fastact backends: {backends}",
        f"cpu: {facts['cpu']}, {caches}",
    ]
    if facts["threads"]["driver"] != "compiled":
        lines.append(f"fastact's driver: {facts['threads']['driver']}")
    lines += [f"fastact lacks {name}: {why}" for name, why in facts["missing_modules"].items()]
    return lines if has_benchmark(config.pluginmanager) else [*lines, f"bench/ is left out: {NEEDED}"]


def _size(size: int | None) -> str:
    if not size:
        return "unknown"
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"
