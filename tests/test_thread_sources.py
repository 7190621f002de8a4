"""Where a call takes its threads from, as Python sets it: the package's own pool, or an OpenMP runtime that is loaded.

What needs a process without a runtime, or one of its own, is in scripts/thread_sources.py.  The C interface's sources
are in test_c_interface.py.
"""

import ctypes.util
import os
import shutil
import subprocess

import pytest
from helpers import HAS_CORE, ROOT, SCRIPTS, backends, call, operands, output_of, python

import fastact

PATHS = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
needs_core = pytest.mark.skipif(not HAS_CORE, reason="needs the compiled core")
needs_runtime = pytest.mark.skipif(
    not ctypes.util.find_library("gomp") or not HAS_CORE, reason="needs libgomp and the compiled core"
)


@pytest.mark.parametrize("name", ["caller", "pool", "OWN", "", 1, ("own",)])
@pytest.mark.parametrize("use", [fastact.set_thread_source, fastact.thread_source])
def test_names_that_are_refused(use, name):
    with pytest.raises(ValueError, match="must be one of 'own', 'openmp'; it is") as refused:
        use(name)
    assert ("C interface" in str(refused.value)) == (name == "caller")
    assert fastact.get_thread_source() == "own"


@pytest.mark.parametrize("name", ["caller", "nonsense"])
def test_a_variable_that_is_refused(name):
    done = python("-c", "import fastact", FASTACT_THREAD_SOURCE=name)
    assert done.returncode != 0
    assert "ValueError: the environment variable FASTACT_THREAD_SOURCE must be one of" in done.stderr.splitlines()[-1]
    assert repr(name) in done.stderr.splitlines()[-1]


def test_blocks_and_their_order():
    """A block comes before the process's source, and that before the variable's."""
    fastact.set_thread_source("own")
    with fastact.thread_source("own"):
        assert fastact.get_thread_source() == "own"
    fastact.set_thread_source(None)
    code = "import fastact; print(fastact.get_thread_source()); fastact.set_thread_source('own'); "
    code += "print(fastact.get_thread_source()); fastact.set_thread_source(None); print(fastact.get_thread_source())"
    assert output_of("-c", code, FASTACT_THREAD_SOURCE="openmp").split() == ["openmp", "own", "openmp"]
    assert output_of("-c", code, FASTACT_THREAD_SOURCE="").split() == ["own"] * 3


def test_a_block_serves_once():
    setting = fastact.thread_source("own")
    assert repr(setting) == "fastact.thread_source('own')"
    with setting:
        pass
    with pytest.raises(RuntimeError, match="was entered before"):
        setting.__enter__()


@needs_core
def test_no_runtime():
    assert output_of("thread_sources.py", "no_runtime", **PATHS) == "right"


@needs_runtime
def test_the_variable_is_checked_by_the_first_team():
    """A call on one thread never asks."""
    assert output_of("thread_sources.py", "variable", FASTACT_THREAD_SOURCE="openmp", **PATHS) == "right"


@needs_core
def test_calls_that_ask_the_runtime(tmp_path):
    """A runtime that counts: teams of its threads, or fewer, give the same bits."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    library = str(tmp_path / "libgomp-counting.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", SCRIPTS / "runtime.c", "-o", library], check=True)
    assert output_of("thread_sources.py", "counted", library, FASTACT_BACKEND="cython", **PATHS) == "right"


@needs_runtime
@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_a_runtimes_threads(backend):
    if why := backends.missing(backend):
        pytest.skip(why)
    assert output_of("thread_sources.py", "real_runtime", FASTACT_BACKEND=backend, **PATHS) == "right"


@needs_runtime
def test_forked_children():
    assert output_of("thread_sources.py", "forked", **PATHS) == "right"


@needs_runtime
@pytest.mark.parametrize("source", ["own", "openmp"])
def test_inside_a_parallel_region(source):
    assert output_of("thread_sources.py", "in_region", source, **PATHS) == "right"


@needs_runtime
@pytest.mark.parametrize("source", ["own", "openmp"])
def test_eight_callers_at_once(source):
    assert output_of("thread_sources.py", "eight_callers", source, **PATHS) == "right"


@needs_runtime
def test_what_is_shown():
    lines = [line.strip() for line in output_of("thread_sources.py", "shown", **PATHS).splitlines()]
    assert "source: openmp" in lines
    assert any(line.startswith("openmp_source: ") and "gomp" in line for line in lines)


def test_sources_do_not_change_results(name, variant):
    """Whatever is set, backends that start no threads included."""
    ops = operands(name, (300, 400))
    want = call(name, ops, variant, n_threads=2)
    with fastact.thread_source("own"):
        got = call(name, ops, variant, n_threads=2)
    assert {k: a.tobytes() for k, a in got.items()} == {k: a.tobytes() for k, a in want.items()}
