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

import numpy as np
import pytest
from helpers import (
    COMPILED,
    HAS_CORE,
    ROOT,
    backends,
    cpu,
    forks,
    launch,
    output_of,
    python,
    python_driver,
    slopes,
    values,
)

import fastact

SECONDS = os.environ.get("FASTACT_SOAK", "2")

SOAK = ROOT / "tests" / "soak.py"


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


@pytest.mark.skipif(not HAS_CORE, reason="needs the compiled core")
@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_four_threads_of_ring_buffers(backend):
    """Each thread filters frames of a ring buffer of its own: the bits are right, and nobody waits for long."""
    if backends.missing(backend):
        pytest.skip(backends.missing(backend))
    slope, ready = slopes((1,)), threading.Barrier(4)
    laps, longest, wrong = [0] * 4, [0.0] * 4, []

    def answers(ring, backend, out):
        for o in range(0, 4063, 97):
            x = ring[..., o : o + 33]
            yield fastact.prelu(x, slope, out=out, backend=backend)
            yield fastact.prelu_backward(x[:, ::-1, :, ::-1], x, slope, out=(out, None), backend=backend)[0]

    def run(number, ring, wanted):
        out = np.empty((1, 16, 1, 33), np.float32)
        ready.wait()
        start = now = time.monotonic()
        while now < start + (0.5 if min(laps) else 10):  # until everybody has made some way, if need be
            for got, want in zip(answers(ring, backend, out), wanted, strict=True):
                wrong.extend([number] * (got.tobytes() != want))
                last, now = now, time.monotonic()
                longest[number] = max(longest[number], now - last)
            laps[number] += 1

    threads = []
    for number in range(4):
        ring, out = values((1, 16, 1, 4096), seed=number), np.empty((1, 16, 1, 33), np.float32)
        wanted = [got.tobytes() for got in answers(ring, "numpy", out)]
        threads.append(threading.Thread(target=run, args=(number, ring, wanted)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(laps) > 0 and max(longest) < 2, (laps, longest)


@pytest.mark.skipif(not HAS_CORE or cpu.processors() < 2, reason="needs the compiled driver and two cores")
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

    address = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel)
    where = ctypes.cast(address, ctypes.c_void_p).value
    x = np.ones(1 << 20, np.float32)
    assert python_driver.make_plan(None, None, x, None, (0,), True).chunks >= 8

    def call():
        slope = np.ones(1, np.float32)
        launch("prelu_backward", where, None, x, x, slope, np.empty(1), cpu.processors(), 0)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most <= len(callers) + cpu.processors() - 1


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or sys.platform != "linux", reason="sets MXCSR")
@pytest.mark.skipif(not HAS_CORE, reason="needs the compiled core")
@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_helpers_round_and_flush_as_their_caller(backend):
    """Whoever started them: a call under flush-to-zero leaves no trace in anybody else's."""
    if backends.missing(backend):
        pytest.skip(backends.missing(backend))
    assert output_of("many_callers.py", "rounding_and_flushing", backend) == "True True True"


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools_of_processes(method):
    """Workers forked (or started) after calls with several threads compute the same bits; so does the parent."""
    assert output_of("pool.py", method) == "same"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_generations_of_forks():
    done = python("many_callers.py", "generations")
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


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork") or backends.missing("numba") != "", reason="needs fork and Numba")
@pytest.mark.parametrize("who", ["package", "user"])
def test_fork_while_numba_is_imported_or_compiles(who, tmp_path):
    """The fork waits, so the child finds no lock of a thread that it does not have."""
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)} if who == "package" else {}
    assert output_of("many_callers.py", "fork_while_numba_compiles", who, **folder) == "same"


def test_two_threads_that_fork_at_once():
    """One waits for the other, and neither takes the other's note of what it holds."""
    order = []

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


@pytest.mark.skipif(not hasattr(os, "fork") or not HAS_CORE, reason="needs fork and the compiled core")
def test_fork_behind_pythons_back():
    assert output_of("many_callers.py", "fork_in_c") == "0"


@pytest.mark.skipif(not hasattr(os, "fork") or not HAS_CORE, reason="needs fork and the compiled core")
def test_forks_while_threads_start_teams():
    """A hang is a timeout."""
    assert output_of("fork_under_load.py", 5, OMP_NUM_THREADS="2").startswith("children: ")


@pytest.mark.skipif(not HAS_CORE or cpu.processors() < 2, reason="needs the compiled driver and two cores")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_small_calls_that_meet_a_sleeping_helper():
    """One leaves it asleep, two in series wake it, and so does one large call."""
    assert output_of("waking.py").split() == ["0", "True", "True"]
