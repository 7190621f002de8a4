"""Threads and forks, for test_concurrency.py: `python tests/scripts/many_callers.py FUNCTION [ARGUMENT ...]`.

A hang is the caller's timeout.
"""

import ctypes
import os
import sys
import threading
import time
import warnings

import numpy as np

import fastact

warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads, which is the point


def rounding_and_flushing(backend):
    """A thread that flushes to zero, and one that does not: is each one's call with a team the call without?"""
    fenv = (ctypes.c_ubyte * 64)()
    libm = ctypes.CDLL("libm.so.6")

    def flushing(work):
        libm.fegetenv(ctypes.byref(fenv))
        mode = (ctypes.c_ubyte * 64)(*fenv)
        ctypes.c_uint32.from_buffer(mode, 28).value |= 0x8040  # MXCSR, after the x87 environment: to zero, both ways
        libm.fesetenv(ctypes.byref(mode))
        try:
            return work()
        finally:
            libm.fesetenv(ctypes.byref(fenv))

    x = np.linspace(-1e-38, 1e-38, 1 << 20, dtype="f4")

    def call(n):
        return fastact.prelu(x, 0.25, backend=backend, n_threads=n).tobytes()

    other = []
    thread = threading.Thread(target=lambda: other.extend(flushing(lambda: [call(2), call(1)])))
    thread.start()
    thread.join()
    same = all(call(2) == call(1) for _ in range(50))
    print(other[0] == other[1], other[0] != call(1), same)


def generations():
    """A child of a child of a child; each has a helper of its own."""
    x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
    want = fastact.prelu_backward(x, x, n_threads=2)
    threads = fastact.config()["threads"]["processors"] > 1 and fastact._built.driver is not None
    for _ in range(3):
        if pid := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        got = fastact.prelu_backward(x, x, n_threads=2)
        if threads and os.path.exists("/proc/self/task") and len(os.listdir("/proc/self/task")) != 2:
            os._exit(4)
        if not ((got[0] == want[0]).all() and got[1] == want[1]):
            os._exit(3)
    os._exit(0)


def fork_while_numba_compiles(who):
    """The package's kernel at its first call, or a function of the user's own."""
    x = np.linspace(-1, 1, 100, dtype=np.float32)

    def work():
        if who == "user":
            import numba

            for _ in range(2):
                numba.njit(lambda v: np.sort(v) + np.unique(v)[0])(x)
        else:
            fastact.relu(x, backend="numba")

    if who == "user":
        fastact.relu(x, backend="numba")
    thread = threading.Thread(target=work)
    thread.start()
    for delay in (0.02, 0.05, 0.1, 0.2, 0.4):
        time.sleep(delay)
        if (pid := os.fork()) == 0:
            os._exit(0 if (fastact.relu(x, backend="numba") == np.maximum(x, 0)).all() else 3)
        assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    print("same")


def fork_in_c():
    """Behind Python's back."""
    x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
    want = fastact.relu(x, n_threads=2)
    if (pid := ctypes.PyDLL(None).fork()) == 0:
        os._exit(0 if (fastact.relu(x, n_threads=2) == want).all() else 3)
    print(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
