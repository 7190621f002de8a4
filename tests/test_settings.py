"""Backends, threads, SIMD levels and environment variables: what is in force, where, and for how long.

The order is argument, then context, then process, then variable, then machine; each pair of neighbours has a
test.  A `with` form belongs to its thread or task.  Environment variables are read in fresh interpreters, one
subprocess for each question.  Which level computes is asked through the internal hook as well, since
levels agree bit for bit and results cannot tell them apart.
"""

import asyncio
import contextvars
import ctypes
import ctypes.util
import os
import sys
import threading

import numpy as np
import pytest
import threadpoolctl
from helpers import (
    COMPILED,
    VARIANTS,
    assert_right,
    assert_same_bits,
    call,
    expected,
    operands,
    output_of,
    python,
    sums_of,
)

import fastact
from fastact import _built, _settings

BACKENDS = fastact.available_backends()
NAMES = ("cython", "numba", "numpy")
LEVELS = list(_built.LEVELS)


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
    from fastact._operations import OPERATIONS

    def marked(x):
        return np.full_like(x, 42)

    monkeypatch.setitem(OPERATIONS, "relu", OPERATIONS["relu"]._replace(reference=marked))
    assert reference.relu(np.float64(1)) == 1
    x = np.ones(3)
    assert (fastact.relu(x, backend="numpy") == 42).all()
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
    assert output_of("import fastact; print(fastact.get_backend())", FASTACT_BACKEND=backend) == backend


def test_set_backend_comes_before_the_variable():
    code = "import fastact; fastact.set_backend('numpy'); print(fastact.get_backend())"
    assert output_of(code, FASTACT_BACKEND=BACKENDS[0]) == "numpy"


def test_unknown_name_in_the_variable():
    done = python("import fastact; fastact.relu([1.0])", FASTACT_BACKEND="torch")
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_BACKEND", "'torch'", "'numba'"):
        assert word in done.stderr.splitlines()[-1]


WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None; import fastact\n"
WITHOUT_CYTHON = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("fastact._cython."):
            raise ImportError(f"no module {name} here", name=name)
sys.meta_path.insert(0, Missing())
import fastact
"""
REPORT = """
print(fastact.available_backends())
for use in (lambda: fastact.relu([1.0], backend=NAME), lambda: fastact.set_backend(NAME),
            lambda: fastact.use_backend(NAME)):
    try:
        use()
    except RuntimeError as error:
        print(error)
print(fastact.relu([-1.0, 2.0]), fastact.config()["backends"][NAME])
"""


def test_without_numba():
    out = output_of(WITHOUT_NUMBA + REPORT.replace("NAME", "'numba'")).splitlines()
    assert "numba" not in out[0]
    assert len(out) == 5
    for line in out[1:4]:
        assert "'numba' is not available" in line
        assert line.count("numba") >= 2  # the backend, and the cause
    assert out[4].startswith("[0. 2.] ")
    assert out[4].split(maxsplit=2)[-1] != "available"


def test_without_the_compiled_modules():
    """Everything still works, by Numba or NumPy, and the error tells what to do."""
    out = output_of(WITHOUT_CYTHON + REPORT.replace("NAME", "'cython'")).splitlines()
    assert "cython" not in out[0]
    assert len(out) == 5
    for line in out[1:4]:
        assert "'cython' is not available" in line
        assert "compiler" in line
    assert out[4].startswith("[0. 2.] ")


def test_dalpha_without_the_compiled_modules_has_the_same_bits():
    """Numba under the driver in Python."""
    if "numba" not in BACKENDS or "cython" not in BACKENDS:
        pytest.skip("needs both compiled variants here")
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from helpers import sums_of
print(sums_of("numba"))
"""
    here = os.path.dirname(__file__)
    assert output_of(WITHOUT_CYTHON + code, here) == sums_of("cython")


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
    code = """
import os, numpy as np, fastact
processors = fastact.config()["threads"]["processors"]
x = np.ones(4_000_000, np.float32)
fastact.relu(x, n_threads=1000)
fastact.set_num_threads(1000)
fastact.relu(x)
with fastact.threads(1000):
    fastact.relu(x)
    assert fastact.get_num_threads() == processors, fastact.get_num_threads()
print(len(os.listdir("/proc/self/task")) - before <= processors - 1)
""".replace("x = np", "before = len(os.listdir('/proc/self/task')); x = np", 1)
    assert output_of(code, FASTACT_NUM_THREADS="1000") == "True"


SHOW = "import fastact; print(fastact.get_num_threads(), fastact.config()['threads']['processors'])"


@pytest.mark.parametrize("n", [1, 2, 9])
def test_variable_for_threads(n):
    bound, processors = map(int, output_of(SHOW, FASTACT_NUM_THREADS=str(n)).split())
    assert bound == min(n, processors)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FASTACT_NUM_THREADS", "1"), ("FASTACT_BACKEND", "numpy"), ("FASTACT_BUFFER_LIMIT", "12345")],
)
def test_a_reset_goes_back_to_the_variable(variable, value):
    code = """
import fastact
settings = {"FASTACT_NUM_THREADS": (fastact.set_num_threads, fastact.get_num_threads, 2),
            "FASTACT_BACKEND": (fastact.set_backend, fastact.get_backend, "numpy"),
            "FASTACT_BUFFER_LIMIT": (fastact.set_buffer_limit, fastact.get_buffer_limit, 7)}
for variable, (change, show, other) in settings.items():
    before = show()
    change(other)
    change(None)
    assert show() == before, (variable, show(), before)
    print(before)
"""
    assert value in output_of(code, **{variable: value}).split()


def test_explicit_bounds_come_before_openmps_variables():
    """They are limits for those who say nothing."""
    code = """
import fastact
from fastact import _settings
processors = fastact.config()["threads"]["processors"]
print(fastact.get_num_threads(), _settings.thread_bound(processors) == processors)
with fastact.threads(processors):
    print(fastact.get_num_threads() == processors)
fastact.set_num_threads(processors)
print(fastact.get_num_threads() == processors)
"""
    for variable in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        assert output_of(code, **{variable: "1"}).split() == ["1", "True", "True", "True"]
    assert output_of(SHOW, OMP_NUM_THREADS="1,4").split()[0] == "1"
    for malformed in ("", "many", "0", ",2"):
        bound, processors = output_of(SHOW, OMP_NUM_THREADS=malformed).split()
        assert bound == processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_that_changes():
    """After the import, in a thread of its own, in a forked child: the bound follows, and so do teams."""
    code = """
import os, threading, numpy as np, fastact
x = np.ones(4_000_000, np.float32)
allowed = sorted(os.sched_getaffinity(0))
assert fastact.get_num_threads() == len(allowed)
def restricted():
    os.sched_setaffinity(0, allowed[:1])
    assert fastact.get_num_threads() == 1
    return threading.active_count()
worker = threading.Thread(target=restricted); worker.start(); worker.join()
assert fastact.get_num_threads() == len(allowed)  # the affinity is a thread's own
pid = os.fork()
if pid == 0:
    restricted()
    before = len(os.listdir("/proc/self/task"))
    fastact.relu(x, n_threads=2)
    os._exit(len(os.listdir("/proc/self/task")) - before)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
restricted()
os.sched_setaffinity(0, allowed)
print(fastact.get_num_threads() == len(allowed))
"""
    assert output_of(code) == "True"


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
    assert output_of(code, FASTACT_NUM_THREADS="2") == "1"


@pytest.mark.parametrize("bad", ["0", "-2", "two", "1.5", "1,2"])
def test_malformed_variable_for_threads(bad):
    done = python("import fastact; fastact.relu([1.0])", FASTACT_NUM_THREADS=bad)
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_NUM_THREADS", repr(bad)):
        assert word in done.stderr.splitlines()[-1]


def openmp_limits(n):
    """A limit on every OpenMP runtime of the process, of which there is one."""
    ctypes.CDLL("libgomp.so.1")
    return threadpoolctl.threadpool_limits(n, user_api="openmp")


needs_runtime = pytest.mark.skipif(
    not ctypes.util.find_library("gomp") or _built.driver is None, reason="needs libgomp and the compiled core"
)


@needs_runtime
@pytest.mark.usefixtures("clean_settings")
def test_limits_of_threadpoolctl():
    """A limit holds for who says nothing, for as long as it lasts; an explicit bound is the caller's own decision."""
    before = fastact.get_num_threads()
    with openmp_limits(1):
        assert fastact.get_num_threads() == 1
        assert _settings.thread_bound(2) == 2
        with fastact.threads(2):
            assert fastact.get_num_threads() == 2
        assert fastact.get_num_threads() == 1
    assert fastact.get_num_threads() == before


@needs_runtime
def test_runtimes_are_found_when_they_are_loaded():
    """None is linked; one that comes later counts from then on, and is shown."""
    code = """
import ctypes, fastact
assert fastact.config()["threads"]["openmp_runtimes"] == []
before = fastact.get_num_threads()
gomp = ctypes.CDLL("libgomp.so.1")
gomp.omp_set_num_threads(1)
print(fastact.get_num_threads(), fastact.config()["threads"]["openmp_runtimes"])
gomp.omp_set_num_threads(before)
print(fastact.get_num_threads() == before)
"""
    shown, back = output_of(code).splitlines()
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


def test_threads_that_call_at_once(compiled):
    """No lock is held wrongly, no scratch is shared."""
    ops = [operands("prelu", (40, 64, 70), (64,), seed=i) for i in range(6)]
    want = [expected("prelu", o) for o in ops]
    wrong = []

    def work(i):
        for n_threads in (1, 2, 3) * 3:
            got = call("prelu", ops[i], compiled, n_threads=n_threads)["y"]
            if not np.array_equal(got, want[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, fastact
x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
with fastact.use_backend(sys.argv[1]):
    before = fastact.prelu_backward(x, x, n_threads=2)
    pid = os.fork()
    if pid == 0:
        dx, dalpha = fastact.prelu_backward(x, x, n_threads=2)
        same = (dx == before[0]).all() and dalpha == before[1]
        os._exit(0 if same else 3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    dx, dalpha = fastact.prelu_backward(x, x, n_threads=2)
    print((dx == before[0]).all() and dalpha == before[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numpy"])
def test_a_forked_child_computes(backend):
    """It has none of its parent's threads (a hang here is a timeout)."""
    assert output_of(FORK, backend).split() == ["0", "True"]


# ---- SIMD levels ----------------------------------------------------------------------------------

needs_cython = pytest.mark.skipif("cython" not in BACKENDS, reason="the Cython variant was not built")
IN_USE = "import fastact; fastact.relu([1.0]); print(fastact.config()['simd']['in_use'])"


@needs_cython
def test_levels_of_this_machine():
    simd = fastact.config()["simd"]
    levels = _built.levels()
    assert set(levels) <= set(simd["built"]) <= set(LEVELS)
    assert levels[0] == "generic"
    assert simd["in_use"] in levels
    assert simd["found"] in LEVELS
    assert all(LEVELS.index(level) <= LEVELS.index(simd["found"]) for level in levels)
    assert {v.level for v in VARIANTS if v.backend == "cython"} == set(levels)


@needs_cython
def test_the_best_level_is_in_use():
    assert output_of(IN_USE) == _built.levels()[-1]


@needs_cython
@pytest.mark.parametrize("level", _built.levels())
def test_variable_for_the_level(level):
    assert output_of(IN_USE, FASTACT_SIMD=level) == level


@needs_cython
@pytest.mark.parametrize("level", _built.levels())
def test_the_hook_switches_the_level(level):
    before = fastact.config()["simd"]["in_use"]
    with _built.use_level(level):
        assert fastact.config()["simd"]["in_use"] == level
        assert_right("relu", {"x": [1.0, -1.0]}, call("relu", {"x": [1.0, -1.0]}))
    assert fastact.config()["simd"]["in_use"] == before


@needs_cython
@pytest.mark.parametrize("level", _built.levels())
def test_no_module_above_the_level_is_imported(level):
    """A module compiled for a level must not even be imported on a CPU without it."""
    code = "import sys, fastact; fastact.relu([1.0]); fastact.prelu([1.0]); fastact.relu([1]); print(*sys.modules)"
    modules = output_of(code, FASTACT_SIMD=level).split()
    imported = {m.split(".")[2] for m in modules if m.startswith("fastact._cython.")} & set(LEVELS)
    assert imported == {level}


@needs_cython
@pytest.mark.parametrize("bad", ["v9", "V3", "avx2", "1"])
def test_unknown_level_in_the_variable(bad):
    done = python(IN_USE, FASTACT_SIMD=bad)
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_SIMD", repr(bad), *LEVELS):
        assert word in done.stderr.splitlines()[-1]


@needs_cython
@pytest.mark.parametrize("built", [True, False])
def test_level_that_cannot_be_used_here(built, monkeypatch):
    """Above the CPU, or not built: a CPU or a build that lacks it is put in place of the real one."""
    wanted = LEVELS[-1]
    usable = _built.levels()[:1]
    monkeypatch.setenv("FASTACT_SIMD", wanted)
    monkeypatch.setattr(_built, "levels", lambda: usable)
    monkeypatch.setattr(_built, "built_levels", lambda: LEVELS if built else usable)
    with pytest.raises(ValueError, match="FASTACT_SIMD") as caught:
        _built._first_level()
    assert repr(wanted) in str(caught.value)
    assert ("above this CPU" if built else "not built") in str(caught.value)


# ---- result memory (see test_buffers.py), config --------------------------------------------------


def test_buffer_settings_exist():
    limit = fastact.get_buffer_limit()
    assert isinstance(limit, int)
    assert 0 <= limit <= 1 << 30
    fastact.clear_buffers()
    assert fastact.config()["buffers"]["limit"] == limit
    for bad, error in ((-1, ValueError), (1.5, TypeError), ("1", TypeError)):
        with pytest.raises(error, match="bytes"):
            fastact.set_buffer_limit(bad)
    assert fastact.get_buffer_limit() == limit


def test_variable_for_the_buffer_limit():
    code = "import fastact; print(fastact.get_buffer_limit())"
    assert output_of(code, FASTACT_BUFFER_LIMIT="12345678") == "12345678"
    assert output_of(code, FASTACT_BUFFER_LIMIT="0") == "0"
    for bad in ("-1", "much", "1.5"):
        done = python(code, FASTACT_BUFFER_LIMIT=bad)
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
    done = python("", "-m", "fastact")
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
    assert len(set(output_of(SHOW, FASTACT_NUM_THREADS="9" * 20).split())) == 1
