"""What every pytest run here needs: benchmarks are off unless asked for, and the header names the backends.

A plain `pytest` runs each benchmark once, untimed, next to the tests.  `--benchmark-disable` in addopts
would make `--benchmark-only` a usage error, so the option is set here, before pytest-benchmark reads it.
With `--benchmark-only` the folder tests/ is not even collected: it holds no benchmark, and its modules
may import what `pip install -e ".[bench]"` alone does not bring.
"""

from pathlib import Path

import pytest

import fastact
from bench.options import add_options, settle_options


def pytest_addoption(parser: pytest.Parser) -> None:
    """The benchmarks' options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Untimed unless times are asked for; pytest-benchmark reads its options after this."""
    settle_options(config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only bench/ for a run of benchmarks only."""
    tests = config.rootpath / "tests"
    return True if config.option.benchmark_only and tests in (collection_path, *collection_path.parents) else None


def pytest_report_header() -> list[str]:
    """What a bug report or a table of times needs to say first."""
    facts = fastact.config()
    backends = "; ".join(f"{name}: {state}" for name, state in facts["backends"].items())
    caches = ", ".join(f"{name} {_size(size)}" for name, size in facts["caches"].items())
    threads, simd = facts["threads"]["bound"], facts["simd"]["in_use"]
    return [
        f"fastact: {facts['version']}, numpy {facts['numpy']}, {threads} threads, SIMD level {simd}",
        f"fastact backends: {backends}",
        f"cpu: {facts['cpu']}, {caches}",
    ]


def _size(size: int | None) -> str:
    if not size:
        return "unknown"
    return f"{size / 2**20:g} MiB" if size >= 2**20 else f"{size / 2**10:g} KiB"
