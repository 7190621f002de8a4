"""Backends, threads, SIMD levels and environment variables: what is in force, where, and for how long.

The order is argument, then context, then process, then variable, then machine; each pair of neighbours has a
test.  A `with` form belongs to its thread or task.  Environment variables are read in fresh interpreters, one
subprocess for each question.  Which level computes is asked through the internal hook as well, since
levels agree bit for bit and results cannot tell them apart.
"""

import asyncio
import contextvars
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
from fastact import _dispatch

BACKENDS = fastact.available_backends()
NAMES = ("cython", "numba", "numpy")
LEVELS = ("generic", "v2", "v3", "v4")


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

    seen = type(OPERATIONS["relu"])(
        **{f: getattr(OPERATIONS["relu"], f) for f in vars(OPERATIONS["relu"])} | {"reference": marked}
    )
    monkeypatch.setitem(OPERATIONS, "relu", seen)
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
            lambda: fastact.use_backend(NAME).__enter__()):
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


@pytest.mark.parametrize("function", [fastact.set_num_threads, lambda n: fastact.threads(n).__enter__()])
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
        fastact.threads(None).__enter__()


@pytest.mark.parametrize("n", [1, 2, 9])
def test_variable_for_threads(n):
    code = "import fastact; print(fastact.get_num_threads())"
    assert output_of(code, FASTACT_NUM_THREADS=str(n)) == str(n)


def test_set_num_threads_comes_before_the_variable():
    code = "import fastact; fastact.set_num_threads(3); print(fastact.get_num_threads())"
    assert output_of(code, FASTACT_NUM_THREADS="5") == "3"


@pytest.mark.parametrize("bad", ["0", "-2", "two", "1.5", "1,2"])
def test_malformed_variable_for_threads(bad):
    done = python("import fastact; fastact.relu([1.0])", FASTACT_NUM_THREADS=bad)
    assert done.returncode != 0
    for word in ("ValueError", "FASTACT_NUM_THREADS", repr(bad)):
        assert word in done.stderr.splitlines()[-1]


def test_openmps_own_variable():
    """OMP_NUM_THREADS lowers what the machine allows."""
    if not fastact.config()["threads"]["openmp"]:
        pytest.skip("built without OpenMP")
    code = "import fastact; print(fastact.get_num_threads())"
    assert output_of(code, OMP_NUM_THREADS="1") == "1"


def openmp_limits(n):
    if not fastact.config()["threads"]["openmp"]:
        pytest.skip("built without OpenMP")
    return threadpoolctl.threadpool_limits(n, user_api="openmp")


@pytest.mark.usefixtures("clean_settings")
def test_limits_of_threadpoolctl():
    """A limit lowers every other setting, the argument included, for as long as it holds."""
    before = fastact.get_num_threads()
    with openmp_limits(1):
        assert fastact.get_num_threads() == 1
        with fastact.threads(8):
            assert fastact.get_num_threads() == 1
        fastact.set_num_threads(8)
        assert fastact.get_num_threads() == 1
        assert _dispatch._settings.thread_bound(8) == 1
    assert fastact.get_num_threads() == 8
    fastact.set_num_threads(None)
    assert fastact.get_num_threads() == before


def test_limits_that_hold_while_fastact_is_imported():
    """The limit is no fact about the machine: it holds for arguments too, and ends."""
    if not fastact.config()["threads"]["openmp"] or fastact.get_num_threads() < 2:
        pytest.skip("needs OpenMP and two cores")
    code = """
import ctypes, threadpoolctl
ctypes.CDLL("libgomp.so.1")
with threadpoolctl.threadpool_limits(1):
    import fastact
    inside = fastact.get_num_threads()
    with fastact.threads(2):
        print(inside, fastact.get_num_threads(), end=" ")
print(fastact.get_num_threads() > 1)
"""
    done = python(code)
    if "libgomp" in done.stderr:
        pytest.skip("another OpenMP runtime")
    assert done.stdout.strip() == "1 1 True", done.stderr


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
    levels = _dispatch.levels()
    assert set(levels) <= set(simd["built"]) <= set(LEVELS)
    assert levels[0] == "generic"
    assert simd["in_use"] in levels
    assert simd["found"] in LEVELS
    assert all(LEVELS.index(level) <= LEVELS.index(simd["found"]) for level in levels)
    assert {v.level for v in VARIANTS if v.backend == "cython"} == set(levels)


@needs_cython
def test_the_best_level_is_in_use():
    assert output_of(IN_USE) == _dispatch.levels()[-1]


@needs_cython
@pytest.mark.parametrize("level", _dispatch.levels())
def test_variable_for_the_level(level):
    assert output_of(IN_USE, FASTACT_SIMD=level) == level


@needs_cython
@pytest.mark.parametrize("level", _dispatch.levels())
def test_the_hook_switches_the_level(level):
    before = fastact.config()["simd"]["in_use"]
    with _dispatch.use_level(level):
        assert fastact.config()["simd"]["in_use"] == level
        assert_right("relu", {"x": [1.0, -1.0]}, call("relu", {"x": [1.0, -1.0]}))
    assert fastact.config()["simd"]["in_use"] == before


@needs_cython
@pytest.mark.parametrize("level", _dispatch.levels())
def test_no_module_above_the_level_is_imported(level):
    """A module compiled for a level must not even be imported on a CPU without it."""
    code = "import sys, fastact; fastact.relu([1.0]); fastact.prelu([1.0]); fastact.relu([1]); print(*sys.modules)"
    modules = output_of(code, FASTACT_SIMD=level).split()
    imported = {m.rsplit("_", 1)[-1] for m in modules if m.startswith("fastact._cython.") and "_" in m.split(".")[-1]}
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
    from fastact import _backends

    wanted = LEVELS[-1]
    usable = _backends.levels()[:1]
    monkeypatch.setenv("FASTACT_SIMD", wanted)
    monkeypatch.setattr(_backends, "levels", lambda: usable)
    monkeypatch.setattr(_backends, "built_levels", lambda: LEVELS if built else usable)
    with pytest.raises(ValueError, match="FASTACT_SIMD") as caught:
        _backends._first_level()
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
    assert output_of("import fastact; print(fastact.get_num_threads() > 1000)", FASTACT_NUM_THREADS="9" * 20) == "True"
