"""Many callers at once, and processes that were forked: right results, no hang, no abort, no more threads than granted.

soak.py calls everything from eight threads; FASTACT_SOAK is for how many seconds (a plain run: 2).  It runs in
processes that are hostile in one way each: Numba's layer forced to workqueue, no compiled core (so Python's threads).
What hangs runs into the timeout of helpers.python.
"""

import ctypes
import multiprocessing
import os
import platform
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import COMPILED, output_of, python

import fastact
from fastact import _backends, _built, _cpu, _layout

SECONDS = os.environ.get("FASTACT_SOAK", "2")

SOAK = "import runpy, sys; sys.argv[0] = 'soak.py'; runpy.run_path({!r}, run_name='__main__')".format(
    str(Path(__file__).with_name("soak.py"))
)


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        pytest.param((), {}, id="as installed"),
        pytest.param((), {"NUMBA_THREADING_LAYER": "workqueue"}, id="workqueue"),
        pytest.param(("--no-core",), {}, id="no core"),
    ],
)
@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_eight_threads_at_once(arguments, variables):
    """All results right, nobody starves, nothing aborts."""
    assert int(output_of(SOAK, SECONDS, *arguments, **variables)) >= 8


@pytest.mark.skipif(_built.driver is None or _cpu.processors() < 2, reason="needs the compiled driver and two cores")
def test_teams_share_the_processors():
    """Callers at once are granted no more threads beside themselves than there are processors."""
    running, most, lock = 0, 0, threading.Lock()

    def kernel(*_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    address = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 8)(kernel)
    x = np.ones(64 * _layout.CHUNK[0], np.float32)
    shape = (x.size,)
    plan = _layout.make_plan(shape, (x.strides,) * 3, 4, (1,), (0,), True)
    assert plan.chunks >= 8

    def call():
        where = ctypes.cast(address, ctypes.c_void_p).value
        _backends.execute(where, (0, 0, x.ctypes.data, 0), plan, 4, 0, _cpu.processors(), np.empty(1))

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most <= len(callers) + _cpu.processors() - 1


FLUSHING = """
import ctypes, sys, threading
import numpy as np, fastact
fenv = (ctypes.c_ubyte * 64)()
libm = ctypes.CDLL("libm.so.6")
def flushing(work):
    libm.fegetenv(ctypes.byref(fenv))
    mode = (ctypes.c_ubyte * 64)(*fenv)
    ctypes.c_uint32.from_buffer(mode, 28).value |= 0x8040  # MXCSR, after the x87 environment: flush to zero, both ways
    libm.fesetenv(ctypes.byref(mode))
    try:
        return work()
    finally:
        libm.fesetenv(ctypes.byref(fenv))
x = np.linspace(-1e-38, 1e-38, 1 << 20, dtype="f4")
backend = sys.argv[1]
def call(n):
    return fastact.prelu(x, 0.25, backend=backend, n_threads=n).tobytes()
other = []
thread = threading.Thread(target=lambda: other.extend(flushing(lambda: [call(2), call(1)])))
thread.start()
thread.join()
same = all(call(2) == call(1) for _ in range(50))
print(other[0] == other[1], other[0] != call(1), same)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux", reason="sets MXCSR")
@pytest.mark.skipif(_built.driver is None, reason="needs the compiled core")
@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_helpers_round_and_flush_as_their_caller(backend):
    """Whoever started them: a call under flush-to-zero leaves no trace in anybody else's."""
    if _backends.missing(backend):
        pytest.skip(_backends.missing(backend))
    assert output_of(FLUSHING, backend) == "True True True"


CHILD = """
import numpy as np, fastact
from multiprocessing import get_context

def compute(backend, n_threads=2):
    x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
    dx, dalpha = fastact.prelu_backward(x, x, backend=backend, n_threads=n_threads)
    y = fastact.relu(x, backend=backend, n_threads=n_threads)
    return dx.tobytes()[:1000], float(dx.sum()), float(y.sum()), dalpha.tobytes()

if __name__ == "__main__":
    import sys, warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads, which is the point
    backends = [b for b in ("cython", "numba") if b in fastact.available_backends()]
    want = {b: compute(b) for b in backends}
    context = get_context(sys.argv[1])
    for _ in range(3):
        with context.Pool(2) as pool:
            for b in backends * 4:
                assert pool.apply_async(compute, (b,)).get(60) == want[b], b
    assert {b: compute(b) for b in backends} == want
    print("same")
"""


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools_of_processes(method, tmp_path):
    """Workers forked (or started) after calls with several threads compute the same bits; so does the parent."""
    script = tmp_path / "pool.py"
    script.write_text(CHILD)
    run = f"import runpy, sys; sys.argv[0] = {str(script)!r}; runpy.run_path({str(script)!r}, run_name='__main__')"
    if method != "fork":  # these import the main module by its name
        run = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, {str(script)!r}, sys.argv[1]]))"
    assert output_of(run, method) == "same"


GENERATIONS = """
import os, sys, warnings
import numpy as np, fastact
warnings.simplefilter("ignore")
x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
want = fastact.prelu_backward(x, x, n_threads=2)
threads = fastact.config()["threads"]["processors"] > 1 and fastact._built.driver is not None
for _ in range(3):  # a child of a child of a child
    if pid := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    got = fastact.prelu_backward(x, x, n_threads=2)
    if threads and os.path.exists("/proc/self/task") and len(os.listdir("/proc/self/task")) != 2:
        os._exit(4)  # each has a helper of its own
    if not ((got[0] == want[0]).all() and got[1] == want[1]):
        os._exit(3)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_generations_of_forks():
    done = python(GENERATIONS)
    assert done.returncode == 0, done.stderr


def test_torchs_data_loader():
    """The pattern that hangs others: workers forked by a DataLoader after the parent computed with threads."""
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            return float(fastact.prelu_backward(x, x, n_threads=2)[1])

    x = np.linspace(-1, 1, 500_001, dtype=np.float32)
    want = float(fastact.prelu_backward(x, x, n_threads=2)[1])
    loader = torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=2, timeout=60)
    assert [float(v) for batch in loader for v in batch] == [want] * 8


FORK_DURING = """
import os, sys, threading, time, warnings
import numpy as np, fastact
warnings.simplefilter("ignore")
x, backend = np.linspace(-1, 1, 100, dtype=np.float32), "numba"
user = sys.argv[1] == "user"
def work():
    if user:  # the user's own function is what is compiled
        import numba
        for _ in range(5):
            numba.njit(lambda v: np.sort(v) + np.unique(v)[0])(x)
    else:
        fastact.relu(x, backend=backend)
if user:
    fastact.relu(x, backend=backend)
thread = threading.Thread(target=work)
thread.start()
for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
    time.sleep(delay)
    if (pid := os.fork()) == 0:
        os._exit(0 if (fastact.relu(x, backend=backend) == np.maximum(x, 0)).all() else 3)
    assert os.waitpid(pid, 0)[1] == 0
thread.join()
print("same")
"""


@pytest.mark.skipif(not hasattr(os, "fork") or _backends.missing("numba") != "", reason="needs fork and Numba")
@pytest.mark.parametrize("who", ["package", "user"])
def test_fork_while_numba_is_imported_or_compiles(who, tmp_path):
    """The fork waits, so the child finds no lock of a thread that it does not have."""
    assert output_of(FORK_DURING, who, NUMBA_CACHE_DIR=str(tmp_path)) == "same"


def test_two_threads_that_fork_at_once():
    """One waits for the other, and neither takes the other's note of what it holds."""
    forks, order = _backends.forks, []

    def second():
        forks.before()
        order.append("second")
        forks.in_parent()

    forks.before()
    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    time.sleep(0.1)
    order.append("first")
    forks.in_parent()
    thread.join(10)
    assert order == ["first", "second"]


FORK_IN_C = """
import ctypes, os, numpy as np, fastact
x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
want = fastact.relu(x, n_threads=2)
if (pid := ctypes.PyDLL(None).fork()) == 0:
    os._exit(0 if (fastact.relu(x, n_threads=2) == want).all() else 3)
print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork") or _built.driver is None, reason="needs fork and the compiled core")
def test_fork_behind_pythons_back():
    assert output_of(FORK_IN_C) == "0"


@pytest.mark.skipif(not hasattr(os, "fork") or _built.driver is None, reason="needs fork and the compiled core")
def test_forks_while_threads_start_teams():
    """A hang is a timeout."""
    script = Path(__file__).parent / "scripts" / "fork_under_load.py"
    assert output_of(script.read_text(), "5", OMP_NUM_THREADS="2").startswith("children: ")
