"""Settings in a process of their own, for test_settings.py: `python tests/scripts/settings_in_force.py FUNCTION`."""

import ctypes
import os
import sys
import threading

import numpy as np

if sys.argv[1] == "without_numba":
    sys.modules["numba"] = None
if sys.argv[1] in ("without_cython", "gradients_without_cython"):

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("fastact._cython."):
                raise ImportError(f"no module {name} here", name=name)

    sys.meta_path.insert(0, Missing())

import fastact


def refusals_of(backend):
    """What is there without it, what every way of asking for it says, and that calls compute."""
    print(fastact.available_backends())
    for use in (lambda: fastact.relu([1.0], backend=backend), lambda: fastact.set_backend(backend),
                lambda: fastact.use_backend(backend)):  # fmt: skip
        try:
            use()
        except RuntimeError as error:
            print(error)
    print(fastact.relu([-1.0, 2.0]), fastact.config()["backends"][backend])


def without_numba():
    refusals_of("numba")


def without_cython():
    refusals_of("cython")


def gradients_without_cython():
    """Numba under the driver in Python."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from helpers import gradients_of

    print(gradients_of("numba"))


def more_threads_than_processors():
    processors, x = fastact.config()["threads"]["processors"], np.ones(4_000_000, np.float32)
    before = len(os.listdir("/proc/self/task"))
    fastact.relu(x, n_threads=1000)
    fastact.set_num_threads(1000)
    fastact.relu(x)
    with fastact.threads(1000):
        fastact.relu(x)
        assert fastact.get_num_threads() == processors, fastact.get_num_threads()
    print(len(os.listdir("/proc/self/task")) - before <= processors - 1)


def resets():
    """Each of the three settings, set to something else and reset: it is what the variable said."""
    for change, show, other in (
        (fastact.set_num_threads, fastact.get_num_threads, 2),
        (fastact.set_backend, fastact.get_backend, "numpy"),
        (fastact.set_buffer_limit, fastact.get_buffer_limit, 7),
    ):
        before = show()
        change(other)
        change(None)
        assert show() == before, (show(), before)
        print(before)


def explicit_bounds():
    """The default bound, then whether every explicit one comes before it."""
    from fastact import _settings

    processors = fastact.config()["threads"]["processors"]
    print(fastact.get_num_threads(), _settings.thread_bound(processors) == processors)
    with fastact.threads(processors):
        print(fastact.get_num_threads() == processors)
    fastact.set_num_threads(processors)
    print(fastact.get_num_threads() == processors)


def affinity():
    """It changes after the import, in a thread of its own, in a forked child."""
    x = np.ones(4_000_000, np.float32)
    allowed = sorted(os.sched_getaffinity(0))
    assert fastact.get_num_threads() == len(allowed)

    def restricted():
        os.sched_setaffinity(0, allowed[:1])
        assert fastact.get_num_threads() == 1

    worker = threading.Thread(target=restricted)
    worker.start()
    worker.join()
    assert fastact.get_num_threads() == len(allowed)  # the affinity is a thread's own
    if (pid := os.fork()) == 0:
        restricted()
        before = len(os.listdir("/proc/self/task"))
        fastact.relu(x, n_threads=2)
        os._exit(len(os.listdir("/proc/self/task")) - before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    restricted()
    os.sched_setaffinity(0, allowed)
    print(fastact.get_num_threads() == len(allowed))


def runtimes():
    """One that is loaded later counts from then on."""
    assert fastact.config()["threads"]["openmp_runtimes"] == []
    before = fastact.get_num_threads()
    gomp = ctypes.CDLL("libgomp.so.1")
    gomp.omp_set_num_threads(1)
    print(fastact.get_num_threads(), fastact.config()["threads"]["openmp_runtimes"])
    gomp.omp_set_num_threads(before)
    print(fastact.get_num_threads() == before)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
