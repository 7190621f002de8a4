"""Backends, threads, SIMD levels and environment variables: what is in force, where, and for how long.

The order is argument, then context, then process, then variable, then machine; each pair of neighbours has a
test.  A `with` form belongs to its thread or task.  Environment variables are read in fresh interpreters, one
subprocess for each question.  Which level computes is asked through the internal hook as well, since
levels agree bit for bit and results cannot tell them apart.
"""

import asyncio
import contextvars
import copy
import ctypes
import ctypes.util
import os
import pickle
import sys
import threading

import numpy as np
import pytest
import threadpoolctl
from helpers import (
    COMPILED,
    HAS_CORE,
    OPERATIONS,
    SCRIPTS,
    VARIANTS,
    assert_right,
    assert_same_bits,
    built,
    call,
    cpu,
    gradients_of,
    operands,
    output_of,
    python,
    run_pytest,
    settings,
    tables,
)

import fastact

BACKENDS = fastact.available_backends()
NAMES = ("cython", "numba", "numpy")
LEVELS = list(tables.LEVELS)


@pytest.fixture
def clean_settings():
    """Process-wide settings go back to their defaults afterwards."""
    yield
    fastact.set_backend(None)
    fastact.set_num_threads(None)


def in_new_thread(function):
    """What the function returns in a thread of its own."""
    results = []
    worker = threading.Thread(target=lambda: results.append(function()))
    worker.start()
    worker.join()
    return results[0]


# ---- backends -------------------------------------------------------------------------------------


def test_backends_of_this_machine():
    assert set(BACKENDS) <= set(NAMES)
    assert "numpy" in BACKENDS
    assert list(BACKENDS) == sorted(BACKENDS, key=NAMES.index)  # the default one first
    assert fastact.get_backend() == BACKENDS[0]


@pytest.mark.usefixtures("clean_settings")
@pytest.mark.parametrize("backend", BACKENDS)
def test_set_backend_is_for_the_process(backend):
    fastact.set_backend(backend)
    assert fastact.get_backend() == backend
    assert in_new_thread(fastact.get_backend) == backend
    assert fastact.config()["backend"] == backend
    fastact.set_backend(None)
    assert fastact.get_backend() == BACKENDS[0]


@pytest.mark.usefixtures("clean_settings")
def test_use_backend_is_for_the_context():
    fastact.set_backend(BACKENDS[-1])
    with fastact.use_backend(BACKENDS[0]):
        assert fastact.get_backend() == BACKENDS[0]
        assert in_new_thread(fastact.get_backend) == BACKENDS[-1]
        with fastact.use_backend(BACKENDS[-1]):
            assert fastact.get_backend() == BACKENDS[-1]
        assert fastact.get_backend() == BACKENDS[0]
    assert fastact.get_backend() == BACKENDS[-1]


def test_use_backend_ends_with_an_exception():
    before = fastact.get_backend()
    with pytest.raises(KeyError), fastact.use_backend("numpy"):
        raise KeyError
    assert fastact.get_backend() == before


def test_the_backend_in_force_computes(monkeypatch):
    """By argument, by context, by process: the reference is replaced by something that can be seen."""
    from fastact import reference

    def marked(x):
        return np.full_like(x, 42)

    monkeypatch.setattr(reference, "marked", marked, raising=False)
    monkeypatch.setattr(OPERATIONS["relu"], "reference", "marked")
    assert reference.relu(np.float64(1)) == 1
    x = np.ones(3)
    assert (fastact.relu(x, backend="numpy") == 42).all()
    assert (fastact.relu(x) == 1).all() == (len(BACKENDS) > 1)
    with fastact.use_backend("numpy"):
        assert (fastact.relu(x) == 42).all()
        for backend in BACKENDS[:-1]:
            assert (fastact.relu(x, backend=backend) == 1).all()
        assert (in_new_thread(lambda: fastact.relu(x)) == 1).all() == (len(BACKENDS) > 1)
    fastact.set_backend("numpy")
    try:
        assert (fastact.relu(x) == 42).all()
    finally:
        fastact.set_backend(None)
    assert (fastact.relu(x) == 1).all() == (len(BACKENDS) > 1)


@pytest.mark.parametrize("bad", ["torch", "", "Cython", 1, None])
def test_unknown_names(bad):
    for function in (fastact.set_backend, lambda name: fastact.use_backend(name).__enter__()):
        if bad is None and function is fastact.set_backend:
            continue  # back to the default
        with pytest.raises(ValueError, match="'cython', 'numba', 'numpy'") as caught:
            function(bad)
        assert repr(bad) in str(caught.value)


@pytest.mark.parametrize("backend", NAMES)
def test_variable_for_the_backend(backend):
    if backend not in BACKENDS:
        pytest.skip(f"{backend} is not available here")
    assert output_of("-c", "import fastact; print(fastact.get_backend())", FASTACT_BACKEND=backend) == backend


def test_set_backend_comes_before_the_variable():
    code = "import fastact; fastact.set_backend('numpy'); print(fastact.get_backend())"
    assert output_of("-c", code, FASTACT_BACKEND=BACKENDS[0]) == "numpy"


def test_unknown_name_in_the_variable():
    done = python("-c", "import fastact; fastact.relu([1.0])", FASTACT_BACKEND="torch")
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_BACKEND", "'torch'", "'numba'"):
        assert word in done.stderr.splitlines()[-1]


def test_without_numba():
    out = output_of("settings_in_force.py", "without_numba").splitlines()
    assert "numba" not in out[0]
    assert len(out) == 5
    for line in out[1:4]:
        assert "'numba' is not available" in line
        assert line.count("numba") >= 2  # the backend, and the cause
    assert out[4].startswith("[0. 2.] ")
    assert out[4].split(maxsplit=2)[-1] != "available"


def test_without_the_compiled_modules():
    """Everything still works, by Numba or NumPy, and the error tells what to do."""
    out = output_of("settings_in_force.py", "without_cython").splitlines()
    assert "cython" not in out[0]
    assert len(out) == 5
    for line in out[1:4]:
        assert "'cython' is not available" in line
        assert "compiler" in line
    assert out[4].startswith("[0. 2.] ")


def test_gradients_without_the_compiled_modules_have_the_same_bits():
    """Numba under the driver in Python, dx too."""
    if "numba" not in BACKENDS or "cython" not in BACKENDS:
        pytest.skip("needs both compiled variants here")
    assert output_of("settings_in_force.py", "gradients_without_cython") == gradients_of("cython")


# ---- threads --------------------------------------------------------------------------------------


def test_threads_are_bounded_by_the_machine():
    assert 1 <= fastact.get_num_threads() <= os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        assert fastact.get_num_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("clean_settings")
def test_order_of_thread_settings():
    machine = fastact.get_num_threads()
    fastact.set_num_threads(3)
    assert fastact.get_num_threads() == 3
    assert in_new_thread(fastact.get_num_threads) == 3
    with fastact.threads(5):
        assert fastact.get_num_threads() == 5
        assert in_new_thread(fastact.get_num_threads) == 3
        with fastact.threads(1):
            assert fastact.get_num_threads() == 1
        assert fastact.get_num_threads() == 5
        assert fastact.config()["threads"]["bound"] == 5
    assert fastact.get_num_threads() == 3
    fastact.set_num_threads(np.int64(2))
    assert fastact.get_num_threads() == 2
    fastact.set_num_threads(None)
    assert fastact.get_num_threads() == machine


def test_threads_end_with_an_exception():
    before = fastact.get_num_threads()
    with pytest.raises(KeyError), fastact.threads(before + 1):
        raise KeyError
    assert fastact.get_num_threads() == before


def test_contexts_and_tasks_do_not_see_each_others_settings():
    def current():
        return fastact.get_num_threads(), fastact.get_backend()

    before = current()
    with fastact.threads(before[0] + 4), fastact.use_backend("numpy"):
        assert contextvars.Context().run(current) == before
        assert contextvars.copy_context().run(current) == current() == (before[0] + 4, "numpy")

    async def task(n):
        with fastact.threads(n):
            await asyncio.sleep(0.001)
            return fastact.get_num_threads()

    async def both():
        return await asyncio.gather(*(task(n) for n in (2, 5, 3)))

    assert asyncio.run(both()) == [2, 5, 3]
    assert current() == before


@pytest.mark.parametrize("function", [fastact.set_num_threads, fastact.threads])
@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (0, ValueError, ["at least 1", "0"]),
        (-1, ValueError, ["-1"]),
        (1.5, TypeError, ["float"]),
        ("2", TypeError, ["str"]),
    ],
)
def test_malformed_thread_counts(function, bad, error, words):
    before = fastact.get_num_threads()
    with pytest.raises(error) as caught:
        function(bad)
    for word in words:
        assert word in str(caught.value)
    assert fastact.get_num_threads() == before


def test_threads_takes_a_number():
    with pytest.raises(TypeError):
        fastact.threads(None)


def test_a_bound_never_exceeds_the_processors():
    """Nor do the threads that are started, whoever asks for how many."""
    shown = output_of("settings_in_force.py", "more_threads_than_processors", FASTACT_NUM_THREADS="1000")
    assert shown == "True"


SHOW = "-c", "import fastact; print(fastact.get_num_threads(), fastact.config()['threads']['processors'])"


@pytest.mark.parametrize("n", [1, 2, 9])
def test_variable_for_threads(n):
    bound, processors = map(int, output_of(*SHOW, FASTACT_NUM_THREADS=str(n)).split())
    assert bound == min(n, processors)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FASTACT_NUM_THREADS", "1"), ("FASTACT_BACKEND", "numpy"), ("FASTACT_BUFFER_LIMIT", "12345")],
)
def test_a_reset_goes_back_to_the_variable(variable, value):
    assert value in output_of("settings_in_force.py", "resets", **{variable: value}).split()


def test_explicit_bounds_come_before_openmps_variables():
    """They are limits for those who say nothing."""
    for variable in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        shown = output_of("settings_in_force.py", "explicit_bounds", **{variable: "1"})
        assert shown.split() == ["1", "True", "True", "True"]
    assert output_of(*SHOW, OMP_NUM_THREADS="1,4").split()[0] == "1"
    for malformed in ("", "many", "0", ",2"):
        bound, processors = output_of(*SHOW, OMP_NUM_THREADS=malformed).split()
        assert bound == processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_that_changes():
    """After the import, in a thread of its own, in a forked child: the bound follows, and so do teams."""
    assert output_of("settings_in_force.py", "affinity") == "True"


def test_context_objects():
    """Checked where they are made, each good for one block; as a decorator for every call."""
    with pytest.raises(ValueError, match="cythn"):
        fastact.use_backend("cythn")
    once = fastact.threads(1)
    with once:
        assert fastact.get_num_threads() == 1
    with pytest.raises(RuntimeError, match=r"fastact\.threads\(1\).*make a new one"), once:
        pass
    with pytest.raises(RuntimeError, match="was not entered"):
        fastact.use_backend("numpy").__exit__(None, None, None)

    @fastact.use_backend("numpy")
    def decorated():
        return fastact.get_backend()

    assert [decorated(), decorated()] == ["numpy", "numpy"]

    async def coroutine():
        pass

    def generator():
        yield

    async def asynchronous_generator():
        yield

    for function in (coroutine, generator, asynchronous_generator):
        with pytest.raises(TypeError, match=rf"cannot decorate {function.__name__}.*inside"):
            fastact.threads(1)(function)
    with fastact.threads(1) as nothing:
        assert nothing is None
    with pytest.raises(RuntimeError, match="left before"):
        once.__exit__(None, None, None)
    for again in (copy.copy(once), pickle.loads(pickle.dumps(once)), fastact.threads(n=1)):
        with again:
            assert fastact.get_num_threads() == 1
    # What was right for one is not for another, whatever equals it.
    with fastact.use_backend(name="numpy"), fastact.thread_source(name="own"):
        for setting, wrong, word in (
            (fastact.threads, 1.0, "float"),
            (fastact.threads, "numpy", "str"),
            (fastact.use_backend, 1, "1"),
            (fastact.use_backend, "own", "'own'"),
            (fastact.use_backend, ["numpy"], "'numpy'"),
            (fastact.thread_source, "numpy", "'numpy'"),
        ):
            with pytest.raises((TypeError, ValueError), match=word):
                setting(wrong)


@pytest.mark.skipif(not HAS_CORE, reason="nothing else was tested")
def test_context_objects_in_python():
    """As they are where contexts.pyx was not built."""
    tests = "test_settings.py::test_context_objects", "test_settings.py::test_a_block_left_in_another_context"
    more = "test_thread_sources.py::test_a_block_serves_once"
    done = run_pytest("-q", "-p", "no_core", *(f"tests/{test}" for test in (*tests, more)), PYTHONPATH=str(SCRIPTS))
    assert "3 passed" in done.stdout, done.stdout


def test_a_block_left_in_another_context():
    """As by an async generator that another task closes: nothing to take back there, and no error about tokens."""

    async def rows():
        with fastact.threads(1), fastact.use_backend("numpy"):
            yield 1
            yield 2

    async def main():
        before = fastact.get_num_threads(), fastact.get_backend()
        generator = rows()

        async def start():
            await generator.__anext__()

        async def close():
            await generator.aclose()
            return fastact.get_num_threads(), fastact.get_backend()

        await asyncio.create_task(start())
        assert await asyncio.create_task(close()) == before
        assert (fastact.get_num_threads(), fastact.get_backend()) == before

    asyncio.run(main())


def test_set_num_threads_comes_before_the_variable():
    code = "import fastact; fastact.set_num_threads(1); print(fastact.get_num_threads())"
    assert output_of("-c", code, FASTACT_NUM_THREADS="2") == "1"


@pytest.mark.parametrize("bad", ["0", "-2", "two", "1.5", "1,2"])
def test_malformed_variable_for_threads(bad):
    done = python("-c", "import fastact; fastact.relu([1.0])", FASTACT_NUM_THREADS=bad)
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_NUM_THREADS", repr(bad)):
        assert word in done.stderr.splitlines()[-1]


def openmp_limits(n):
    """A limit on every OpenMP runtime of the process, of which there is one."""
    ctypes.CDLL("libgomp.so.1")
    return threadpoolctl.threadpool_limits(n, user_api="openmp")


needs_runtime = pytest.mark.skipif(
    not ctypes.util.find_library("gomp") or not HAS_CORE, reason="needs libgomp and the compiled core"
)


@needs_runtime
@pytest.mark.usefixtures("clean_settings")
def test_limits_of_threadpoolctl():
    """A limit holds for who says nothing, for as long as it lasts; an explicit bound is the caller's own decision."""
    before = fastact.get_num_threads()
    with openmp_limits(1):
        assert fastact.get_num_threads() == 1
        assert settings.thread_bound(2) == 2
        with fastact.threads(2):
            assert fastact.get_num_threads() == 2
        assert fastact.get_num_threads() == 1
    assert fastact.get_num_threads() == before


@needs_runtime
def test_runtimes_are_found_when_they_are_loaded():
    """None is linked; one that comes later counts from then on, and is shown."""
    shown, back = output_of("settings_in_force.py", "runtimes").splitlines()
    assert shown.startswith("1 [")
    assert "libgomp" in shown
    assert back == "True"


def test_results_under_limits(name, compiled):
    ops = operands(name, (300_001,), ())
    want = call(name, ops, compiled)
    for limit in (1, 2):
        with openmp_limits(limit):
            for key, value in call(name, ops, compiled, n_threads=3).items():
                assert_same_bits(value, want[key])


# ---- SIMD levels ----------------------------------------------------------------------------------

needs_cython = pytest.mark.skipif("cython" not in BACKENDS, reason="the Cython variant was not built")
IN_USE = "-c", "import fastact; fastact.relu([1.0]); print(fastact.config()['simd']['in_use'])"


@needs_cython
def test_levels_of_this_machine():
    simd = fastact.config()["simd"]
    levels = built.levels()
    assert set(levels) <= set(simd["built"]) <= set(LEVELS)
    assert levels[0] == "generic"
    assert simd["in_use"] in levels
    assert simd["found"] in LEVELS
    assert all(LEVELS.index(level) <= LEVELS.index(simd["found"]) for level in levels)
    assert {v.level for v in VARIANTS if v.backend == "cython"} == set(levels)


@needs_cython
def test_the_best_level_is_in_use():
    assert output_of(*IN_USE) == built.levels()[-1]


@needs_cython
@pytest.mark.parametrize("level", built.levels())
def test_variable_for_the_level(level):
    assert output_of(*IN_USE, FASTACT_SIMD=level) == level


@needs_cython
@pytest.mark.parametrize("level", built.levels())
def test_the_hook_switches_the_level(level):
    before = fastact.config()["simd"]["in_use"]
    with built.use_level(level):
        assert fastact.config()["simd"]["in_use"] == level
        assert_right("relu", {"x": [1.0, -1.0]}, call("relu", {"x": [1.0, -1.0]}))
    assert fastact.config()["simd"]["in_use"] == before


@needs_cython
@pytest.mark.parametrize("level", built.levels())
def test_no_module_above_the_level_is_imported(level):
    """A module compiled for a level must not even be imported on a CPU without it."""
    code = "import sys, fastact; fastact.relu([1.0]); fastact.prelu([1.0]); fastact.relu([1]); print(*sys.modules)"
    modules = output_of("-c", code, FASTACT_SIMD=level).split()
    imported = {m.split(".")[2] for m in modules if m.startswith("fastact._cython.")} & set(LEVELS)
    assert imported == {level}


@needs_cython
@pytest.mark.parametrize("bad", ["v9", "V3", "avx2", "1"])
def test_unknown_level_in_the_variable(bad):
    done = python(*IN_USE, FASTACT_SIMD=bad)
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_SIMD", repr(bad), *LEVELS):
        assert word in done.stderr.splitlines()[-1]


@needs_cython
@pytest.mark.parametrize("whole", [True, False])
def test_level_that_cannot_be_used_here(whole, monkeypatch):
    """Above the CPU, or not built: a CPU or a build that lacks it is put in place of the real one."""
    wanted = LEVELS[-1]
    usable = built.levels()[:1]
    monkeypatch.setenv("FASTACT_SIMD", wanted)
    monkeypatch.setattr(built, "levels", lambda: usable)
    monkeypatch.setattr(built, "built_levels", lambda: LEVELS if whole else usable)
    with pytest.raises(ValueError, match="FASTACT_SIMD") as caught:
        built._first_level()
    assert repr(wanted) in str(caught.value)
    assert ("above this CPU" if whole else "not built") in str(caught.value)


# ---- result memory (see test_buffers.py), config --------------------------------------------------


def test_buffer_settings_exist():
    limit = fastact.get_buffer_limit()
    assert isinstance(limit, int)
    assert 0 <= limit <= 1 << 30
    fastact.clear_buffers()
    assert fastact.config()["buffers"]["limit"] == limit
    for bad, error in ((-1, ValueError), (1.5, TypeError), ("1", TypeError), ("1 GB", TypeError)):
        with pytest.raises(error, match="bytes"):
            fastact.set_buffer_limit(bad)
    assert fastact.get_buffer_limit() == limit


def test_variable_for_the_buffer_limit():
    code = "import fastact; print(fastact.get_buffer_limit())"
    assert output_of("-c", code) == str(min(1 << 30, cpu.memory() // 8))  # the documented default
    assert output_of("-c", code, FASTACT_BUFFER_LIMIT="12345678") == "12345678"
    assert output_of("-c", code, FASTACT_BUFFER_LIMIT="0") == "0"
    for bad in ("-1", "much", "1.5"):
        done = python("-c", code, FASTACT_BUFFER_LIMIT=bad)
        assert done.returncode != 0
        assert "FASTACT_BUFFER_LIMIT" in done.stderr.splitlines()[-1]
        assert repr(bad) in done.stderr.splitlines()[-1]


def test_config_has_what_a_bug_report_needs(capsys):
    config = fastact.config()
    assert config["version"] == fastact.__version__
    assert config["numpy"] == np.__version__
    assert set(config["backends"]) == set(NAMES)
    assert [name for name, state in config["backends"].items() if state == "available"] == list(BACKENDS)
    assert set(config["simd"]) == {"built", "found", "in_use"}
    assert config["threads"]["bound"] == fastact.get_num_threads()
    assert config["caches"]
    assert all(isinstance(size, int) for size in config["caches"].values())
    assert config["buffers"]["limit"] == fastact.get_buffer_limit()
    assert fastact.show_config() is None
    printed = capsys.readouterr().out
    for words in (config["version"], np.__version__, *NAMES, "in_use", "bound", "caches", "buffers"):
        assert words in printed


def test_running_the_package_prints_the_configuration():
    done = python("-m", "fastact")
    assert done.returncode == 0, done.stderr
    for words in (fastact.__version__, *NAMES, "simd", "threads", "numba"):
        assert words in done.stdout
    assert sys.version.split()[0] in done.stdout


@pytest.mark.skipif("numba" not in BACKENDS, reason="no Numba")
def test_warmup_leaves_nothing_to_compile():
    assert fastact.warmup() is None
    ops = operands("prelu_backward", (3, 5, 7), (5,))
    for variant in COMPILED:
        assert_right("prelu_backward", ops, call("prelu_backward", ops, variant))


def test_more_threads_than_an_int_counts():
    """A bound is a bound: nothing breaks, now or at the next change of settings."""
    x = np.linspace(-1, 1, 300_000, dtype=np.float32)
    try:
        fastact.set_num_threads(2**40)
        fastact.set_backend(None)
        with fastact.threads(2**40):
            assert (fastact.relu(x) == np.maximum(x, 0)).all()
        assert (fastact.relu(x, n_threads=2**40) == np.maximum(x, 0)).all()
    finally:
        fastact.set_num_threads(None)
    assert len(set(output_of(*SHOW, FASTACT_NUM_THREADS="9" * 20).split())) == 1
