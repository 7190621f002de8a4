"""Thread sources in a process of their own: `python tests/scripts/thread_sources.py FUNCTION [ARGUMENT ...]`.

The folder of the tests is on the path.
"""

import ctypes
import os
import signal
import sys
import threading

import numpy as np

import fastact
from fastact import _settings
from fastact._tables import OPERATIONS

policy = fastact._built.policy
rng = np.random.default_rng(0)


def cases():
    """Calls of every operation that are shared out, ways to add up included."""
    for name, op in OPERATIONS.items():
        for shape, alpha, axis in (((40_001,), (), 0), ((3, 40, 170), (40,), 1), ((600, 33), (33,), 1)):
            arrays = [rng.standard_normal(shape).astype(np.float32) for _ in op.reads]
            if op.alpha:
                arrays.append(np.full(alpha, 0.25, np.float32) if op.alpha == "array" else 0.25)
            yield getattr(fastact, name), arrays, {"channel_axis": axis} if op.alpha == "array" else {}


def results(function, arrays, options, n_threads):
    """The bits of a call."""
    made = function(*arrays, n_threads=n_threads, **options)
    return [a.tobytes() for a in (made if isinstance(made, tuple) else (made,))]


def assert_same_bits(threads=(2, 3, 5)):
    """Teams of several sizes give what one thread does."""
    for function, arrays, options in cases():
        want = results(function, arrays, options, 1)
        for n in threads:
            assert results(function, arrays, options, n) == want, (function, n)


def small_teams():
    """Small arrays are shared out, on more threads than there are processors."""
    policy.set_thresholds(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0)
    policy.set_bounds(oversubscription=8)


def error_of(function, *arguments):
    """What a call says that has to be refused."""
    try:
        function(*arguments)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"{function} was not refused")


def no_runtime():
    """Every way to ask for "openmp" names the cause, and changes nothing."""
    small_teams()
    cause = "RuntimeError: the thread source 'openmp' is not available: no runtime with GOMP_parallel is loaded"
    assert error_of(fastact.set_thread_source, "openmp").startswith(cause)
    setting = fastact.thread_source("openmp")
    assert error_of(setting.__enter__).startswith(cause)
    assert fastact.get_thread_source() == "own"
    assert_same_bits((2,))
    print("right")


def variable():
    """FASTACT_THREAD_SOURCE=openmp, without a runtime: the first call that would start a team says so."""
    policy.set_bounds(oversubscription=8)
    assert fastact.get_thread_source() == "openmp"
    large, small = np.ones(10**6, np.float32), np.ones(1000, np.float32)
    cause = "RuntimeError: fastact: no OpenMP runtime with GOMP_parallel is loaded in this process"
    for _ in range(2):
        assert error_of(lambda: fastact.relu(large, n_threads=2)) == cause
        assert error_of(lambda: fastact.relu(np.repeat(large, 2).reshape(-1, 2)[:, :1], n_threads=2)) == cause
        fastact.relu(small, n_threads=2)  # on one thread, all of them
        fastact.relu(large, n_threads=1)
        with fastact.threads(1):
            fastact.relu(large)
        with fastact.thread_source("own"):
            fastact.relu(large, n_threads=2)
    fastact.set_thread_source("own")
    fastact.relu(large, n_threads=2)
    fastact.set_thread_source(None)
    assert fastact.get_thread_source() == "openmp"
    ctypes.CDLL("libgomp.so.1")
    fastact.relu(large, n_threads=2)
    print("right")


def counted(library):
    """With the runtime of runtime.c: which calls ask for a region, and for how many threads."""
    small_teams()
    runtime = ctypes.CDLL(library)
    regions, asked, team = (ctypes.c_int.in_dll(runtime, name) for name in ("regions", "asked", "team"))
    x = np.ones((2, 30_000), np.float32)

    def regions_of(call):
        before = regions.value
        call()
        return regions.value - before

    def relu(n_threads=3):
        return lambda: fastact.relu(x, n_threads=n_threads)

    assert regions_of(relu()) == 0
    with fastact.thread_source("openmp"):
        assert regions_of(relu()) == 1 and asked.value == 3
        assert regions_of(relu(1)) == 0
        for bound, most in ((2, 2), (2**70, 4)):  # there are four chunks
            with fastact.threads(bound):
                assert regions_of(relu(None)) == 1 and asked.value == most
                assert regions_of(relu()) == 1 and asked.value == 3  # the argument comes first
        with fastact.thread_source("own"):
            assert regions_of(relu()) == 0
        seen = []
        other = threading.Thread(target=lambda: seen.append(regions_of(relu())))
        other.start()
        other.join()
        assert seen == [0]  # the context is a thread's own
        for team.value in (1, 2, 3, 64):  # a runtime may give fewer threads than it was asked for
            assert_same_bits()
    fastact.set_thread_source("openmp")
    assert regions_of(relu()) == 1
    fastact.set_thread_source(None)
    assert regions_of(relu()) == 0
    config = fastact.config()["threads"]
    assert config["openmp_source"].endswith("libgomp-counting.so"), config
    print("right")


def real_runtime():
    """GCC's gives the same bits."""
    small_teams()
    ctypes.CDLL("libgomp.so.1")
    fastact.set_thread_source("openmp")
    assert fastact.get_thread_source() == "openmp"
    assert_same_bits()
    print("right")


def forked():
    """A child has none of the runtime's threads: a call runs on its own one, and ends."""
    small_teams()
    ctypes.CDLL("libgomp.so.1")
    fastact.set_thread_source("openmp")
    assert_same_bits((2,))
    if (child := os.fork()) == 0:
        signal.alarm(60)
        before = threads_of_process()
        assert_same_bits((2,))
        os._exit(threads_of_process() - before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_same_bits((2,))
    print("right")


def threads_of_process():
    """How many there are now."""
    return len(os.listdir("/proc/self/task"))


def in_region(source):
    """Inside a parallel region of the runtime a call runs on its own thread, whatever the source."""
    small_teams()
    gomp = ctypes.CDLL("libgomp.so.1")
    fastact.set_thread_source(source)
    started, errors, calls = threading.Barrier(2), [], list(cases())
    want = [results(*call, 1) for call in calls]

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def work(_):
        try:
            started.wait(60)
            before = threads_of_process()
            for call, bits in zip(calls, want, strict=True):
                assert results(*call, 2) == bits
            started.wait(60)
            assert threads_of_process() == before
        except BaseException as error:
            errors.append(error)
            started.abort()

    gomp.omp_set_dynamic(0)
    gomp.GOMP_parallel(work, None, 2, 0)
    assert not errors, errors
    print("right")


def shown():
    """config() and show_config() name the source, and the runtime that would serve."""
    config = fastact.config()["threads"]
    gomp = ctypes.CDLL("libgomp.so.1")
    assert gomp.omp_get_max_threads() > 0
    later = fastact.config()["threads"]
    assert (config["source"], later["source"]) == ("own", "own")
    assert any("libgomp" in path for path in later["openmp_runtimes"])
    assert later["openmp_source"] in later["openmp_runtimes"]
    fastact.set_thread_source("openmp")
    fastact.show_config()


def eight_callers(source):
    """Eight threads at once, whose calls are all shared out."""
    ctypes.CDLL("libgomp.so.1")
    small_teams()
    fastact.set_thread_source(source)
    made = [(function, arrays, options, results(function, arrays, options, 1)) for function, arrays, options in cases()]
    wrong = []

    def call(number):
        for k in range(60):
            function, arrays, options, want = made[(number + k) % len(made)]
            if results(function, arrays, options, 2 + k % 3) != want:
                wrong.append((function, number, k))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    print(wrong or "right")


if __name__ == "__main__":
    assert _settings.SOURCES == ("own", "openmp")
    globals()[sys.argv[1]](*sys.argv[2:])
