"""The benchmarks' command-line options and what they mean.

They are registered by the root conftest: pytest reads a folder's own conftest too late to know `--shape`
before it takes `8,64,56,56` for a file.  Faulty options end as a usage error before anything is collected.
To ask for a shape is to ask for its times, so `--shape` implies `--benchmark-only`; everything else about
timed and untimed runs follows from pytest-benchmark's own options.
"""

import argparse
import math
import warnings
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

from .workloads import ALPHA_FORMS, WORKLOADS, Workload

DTYPES = ("float32", "float64", "int32")


def add_options(parser: pytest.Parser) -> None:
    """Register them."""
    group = parser.getgroup("fastact benchmarks")
    group.addoption("--full", action="store_true", help="time every operation and dtype, and one thread too")
    group.addoption("--shape", type=_shape, metavar="N,C,H,W", help="time this shape of x instead of the workloads")
    group.addoption("--dtype", choices=DTYPES, help="time this dtype only (default: float32; with --full: all)")
    group.addoption("--channel-axis", type=int, metavar="AXIS", help="where --shape has its channels (default: 1)")
    group.addoption("--alpha", choices=ALPHA_FORMS, help="the form of alpha for --shape (default: channel)")


def settle_options(config: pytest.Config) -> None:
    """Check them together, and decide whether this run is timed."""
    option = config.option
    chosen_workloads(option)
    if option.shape is not None and not option.benchmark_disable:
        option.benchmark_only = True
    if not timed(option):
        option.benchmark_disable = True
    # pytest-benchmark's warnings (another machine in a comparison, no saved run) are no reason to stop: while
    # pytest is being configured, which is when a saved run is loaded, and later.
    warnings.filterwarnings("default", category=PytestBenchmarkWarning)
    config.addinivalue_line("filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning")


def timed(option: Any) -> bool:
    """Whether benchmarks are timed, or run once as a smoke test."""
    return option.benchmark_only or option.benchmark_enable


def chosen_workloads(option: Any) -> tuple[Workload, ...]:
    """The twelve, or the one that --shape, --channel-axis and --alpha describe."""
    if option.shape is None:
        if option.channel_axis is not None or option.alpha is not None:
            raise pytest.UsageError("--channel-axis and --alpha describe the shape given by --shape")
        return WORKLOADS
    rank = len(option.shape)
    axis = option.channel_axis if option.channel_axis is not None else 1 if rank > 1 else -1
    if not -rank <= axis < rank:
        raise pytest.UsageError(f"--channel-axis {axis} is not an axis of --shape {','.join(map(str, option.shape))}")
    return (Workload("own_shape", option.shape, axis, option.alpha or "channel", "given by --shape"),)


def chosen_dtypes(option: Any) -> tuple[str, ...]:
    """The dtypes of x to time."""
    if option.dtype:
        return (option.dtype,)
    return DTYPES if option.full else DTYPES[:1]


def _shape(text: str) -> tuple[int, ...]:
    """Read 8,64,56,56 (also 8x64x56x56)."""
    try:
        sizes = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or math.prod(sizes) > 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape: write positive sizes, such as 8,64,56,56")
    return sizes
