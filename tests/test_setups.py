"""Pytest as users set it up: other plugins, import modes and folders, a matplotlibrc of their own.

Each set-up runs one test and one untimed benchmark in a process of its own.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import PLUGINS, ROOT, SCRIPTS, pytest_environment, run_pytest

from bench.comparison import KNOWN, QUICK, Selection, operation_groups

pytest.importorskip("pytest_benchmark")
TEST, BENCHMARK = "test_published_examples", "test_group[workloads:_relu_gtcrn_stream_float32_all_new,_numpy]"
CHOSEN = f"{TEST} or workloads:_relu_gtcrn_stream_float32_all_new"
TINY = (f"{ROOT}/tests/test_reference.py", f"{ROOT}/bench", "-v", "-k", CHOSEN)
UNLOADED = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
needs_xdist = pytest.mark.skipif(find_spec("xdist") is None, reason="pytest-xdist is not installed")


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("-p", "pytest_benchmark.plugin"), UNLOADED),  # hypothesis's plugin is left out, too
        # A cache that cannot be written is what a checkout that cannot be written to has.
        (("--import-mode=importlib", "-p", "cacheprovider", "-o", "cache_dir=/dev/null/none"), {}),
        pytest.param(("-n", "2"), {}, marks=needs_xdist),
    ],
    ids=["plugins by name", "importlib, no cache", "xdist"],
)
def test_tests_and_benchmarks_run(arguments, variables, tmp_path):
    """From another folder at that."""
    done = run_pytest(*TINY, *arguments, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TEST in done.stdout and BENCHMARK in done.stdout


def test_names_are_the_same_in_every_process(request):
    """Of all tests of the run: pytest-xdist collects nothing where a name has an address in it."""
    assert not [item.nodeid for item in request.session.items if " at 0x" in item.nodeid]


@pytest.mark.parametrize(("arguments", "variables"), [(("-p", "no:benchmark"), {}), ((), UNLOADED)])
def test_without_pytest_benchmark_the_tests_run(arguments, variables):
    done = run_pytest(*TINY, *arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TEST in done.stdout and BENCHMARK not in done.stdout
    assert "bench/ is left out" in done.stdout and "-p pytest_benchmark.plugin" in done.stdout


def test_without_pytest_benchmark_its_options_are_refused():
    options = ["--quick", "--threads=1", "--report=none", "--contestant=", "--benchmark-only"]
    done = run_pytest("--collect-only", *options, **UNLOADED)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert all(option.split("=")[0] in done.stderr for option in options)
    assert "need pytest-benchmark's plugin" in done.stderr


def test_another_root_collects_benchmarks_only():
    done = run_pytest("--rootdir=..", "--benchmark-only", "--collect-only", "-q", "tests", "bench/bench_groups.py")
    assert "test_group[" in done.stdout and TEST not in done.stdout


@needs_xdist
def test_times_beside_other_tests_are_refused():
    done = run_pytest("--quick", "--collect-only", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "leave out -n" in done.stderr


def test_shuffled_cases_are_put_in_order():
    """As pytest-randomly would leave them."""
    arguments = ("--quick", "--collect-only", "-q", "--contestant", "numpy", "-p", "shuffled")
    done = run_pytest(*arguments, PYTHONPATH=PLUGINS)
    quick = tuple(workload for workload in KNOWN if workload.name in QUICK)
    wanted = [group.id("numpy") for group in operation_groups(Selection(quick, ("numpy",), quick=True))]
    assert [line.split("[")[1] for line in done.stdout.splitlines() if "::" in line] == [f"{name}]" for name in wanted]


def test_a_profile_is_refused():
    """pytest-benchmark would profile what hands over the rounds, and not the call."""
    done = run_pytest("--quick", "--benchmark-cprofile=tottime")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR and "--benchmark-cprofile" in done.stderr


MATPLOTLIBRC = """
text.usetex: True
savefig.dpi: 30
axes.prop_cycle: cycler('color', ['white'])
backend: TkAgg
font.size: 40
"""


@pytest.mark.full
def test_a_page_is_drawn_with_matplotlibs_own_defaults(tmp_path):
    (tmp_path / "matplotlibrc").write_text(MATPLOTLIBRC)
    for folder, variables in (("plain", {}), ("odd", {"MATPLOTLIBRC": str(tmp_path)})):
        command = [sys.executable, SCRIPTS / "page.py", tmp_path / folder]
        subprocess.run(command, env=pytest_environment() | variables, check=True, timeout=240)
    plots = sorted(Path(tmp_path / "plain").glob("*.png"))
    assert plots
    for plot in plots:
        assert plot.read_bytes() == (tmp_path / "odd" / plot.name).read_bytes()
