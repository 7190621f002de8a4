"""Programs about memory, for test_memory.py: `python tests/scripts/memory.py FUNCTION [ARGUMENT ...]`.

Those that call `shim` run with the library of shim.c in LD_PRELOAD.
"""

import contextlib
import ctypes
import gc
import mmap
import os
import resource
import sys
import warnings
from pathlib import Path

import numpy as np
from numpy._core.multiarray import get_handler_name

import fastact
from fastact._buffers import counters  # config() has them as well, but imports Numba, which takes memory

MB = 1 << 20
shim = ctypes.CDLL(None)


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def every_allocation_fails_once(backend):
    """For n = 1, 2, ... until a call needs no more; prints how many ended in a MemoryError."""
    rng = np.random.default_rng(0)

    def made(shape, alpha=()):
        return (
            rng.standard_normal(shape).astype("f4"),
            rng.standard_normal(shape).astype("f4"),
            np.full(alpha, 0.25, "f4"),
        )

    calls = {}
    for form, (shape, alpha, axis) in {
        "small": ((4, 3, 5), (3,), 1),
        "large": ((300_001,), (), 0),
        "channels last": ((30_000, 33), (33,), 1),
        "many channels": ((3, 9000, 20), (9000,), 1),
        "full": ((300, 1001), (300, 1001), 0),
    }.items():
        x, dy, a = made(shape, alpha)
        calls["relu " + form] = fastact.relu, (x,), {}
        calls["prelu " + form] = fastact.prelu, (x, a), {"channel_axis": axis}
        calls["prelu_backward " + form] = fastact.prelu_backward, (dy, x, a), {"channel_axis": axis}
    x, dy, a = made((200, 70), (70,))
    calls["strided"] = fastact.prelu_backward, (dy[::2, ::-1], x[::2, ::-1], a), {"channel_axis": 1}
    calls["float64 alpha"] = fastact.prelu_backward, (dy, x, a.astype("f8")), {"channel_axis": 1}
    calls["out"] = fastact.prelu_backward, (dy, x, a), {"channel_axis": 1, "out": (np.empty_like(x), np.empty_like(a))}
    calls["relu_backward"] = fastact.relu_backward, (dy, x), {}
    calls["leaky_relu, own dtype"] = fastact.leaky_relu, (x.astype("f8"), 0.3), {"out": np.empty(x.shape)}
    calls["integers"] = fastact.relu, (np.arange(-70_000, 70_000),), {}
    calls["in place"] = fastact.prelu_backward, (dy.copy(), x, 0.25), {"out": None}  # dx into dy, see below
    calls["in place, many channels"] = fastact.prelu_backward, (np.copy(dy), x, a), {"channel_axis": 1, "out": None}
    calls["big-endian"] = fastact.prelu, (x.astype(">f4"), a), {"channel_axis": 1}

    failed = 0
    for name, (f, args, options) in calls.items():
        options = options | {"backend": backend, "n_threads": 1}
        in_place = name.startswith("in place")
        if in_place:
            options["out"] = args[0], None
        before = [np.copy(a) for a in args]
        want = [np.copy(r) for r in ([f(*args, **options)] if f is not fastact.prelu_backward else f(*args, **options))]
        gc.collect()
        gc.freeze()  # so that the collections below are quick: they look for what the calls leave
        for pool in ("warm", "cold"):
            n = 0
            while True:
                n += 1
                result, error = None, None
                if in_place:
                    args[0][...] = before[0]
                if pool == "cold":
                    fastact.clear_buffers()
                gc.collect()
                counts = [sys.getrefcount(a) for a in args]
                used = fastact.config()["buffers"].get("in_use_bytes")
                shim.arm(n)
                try:
                    result = f(*args, **options)
                except MemoryError:
                    error = True
                finally:
                    seen = shim.disarm()
                if seen < n:
                    break
                failed += bool(error)
                if error:
                    assert all((a == b).all() for a, b in zip(args, before, strict=True)), (name, n)
                if not error:  # it did without: NumPy and the sums have places that do not need the heap
                    result = result if isinstance(result, tuple) else (result,)
                    assert all((w == g).all() for w, g in zip(want, result, strict=True)), (name, n)
                result = None
                gc.collect()
                assert fastact.config()["buffers"].get("in_use_bytes") == used, (name, n)
                assert [sys.getrefcount(a) for a in args] == counts, (name, n)
                if in_place:
                    args[0][...] = before[0]
                again = f(*args, **options)
                again = again if isinstance(again, tuple) else (again,)
                assert all((w == g).all() for w, g in zip(want, again, strict=True)), (name, n)
                again = None
                assert n < 500, name
    print(failed)


def small_objects_fail():
    """Python's own; PYTHONMALLOC=malloc brings them to the shim."""
    x, dy = np.ones((400, 300), "f4", order="F"), np.linspace(-1, 1, 1000)
    before, out, errors = dy.copy(), (dy, None), 0
    for n in range(1, 60):
        for f, args in ((fastact.relu, (x,)), (fastact.prelu_backward, (dy, -before, 0.5))):
            keywords = {} if f is fastact.relu else {"out": out}
            f(*args, **keywords)  # what the first call looks up is there
            dy[:] = before
            try:
                shim.arm(n)
                f(*args, **keywords)
            except (MemoryError, SystemError, TypeError):  # NumPy's own, where a small object of its own cannot be had
                errors += 1
                shim.disarm()
                assert (dy == before).all(), n  # dx goes there, and nothing can fail after it is written
            shim.disarm()
            assert get_handler_name() == "default_allocator", n
    assert errors > 5
    print("right")


def nothing_can_be_unmapped():
    x = np.arange(128 * MB // 4, dtype="f4")

    def relu(share):
        return fastact.relu(x[: len(x) // share], backend="cython")

    def address(a):
        return a.__array_interface__["data"][0]

    relu(1)
    half = relu(2)
    assert counters()["hits"] == 1
    block = address(half)
    shim.keep_mappings(1)
    whole = relu(1)  # makes room: the second half of the block is to go, and may not
    assert counters()["idle_bytes"] == 0
    more = relu(2)  # so much was in use that a block of 128 MB may stay
    del half
    assert counters()["idle_bytes"] == 128 * MB
    again = relu(1)
    assert address(again) == block
    assert (again == x).all() and (whole == x).all()
    before = status("VmRSS")
    del again
    fastact.clear_buffers()
    assert before - status("VmRSS") > 120 * MB, "the addresses stay, the pages do not"
    shim.keep_mappings(0)
    del more
    fastact.clear_buffers()
    assert counters()["in_use_bytes"] == 128 * MB and counters()["idle_bytes"] == 0
    assert (relu(1) == x).all() and (whole == x).all()
    print("right")


def limited_address_space():
    x = np.ones(1 << 24, "f4")
    fastact.relu(x), fastact.prelu_backward(x, x, 0.25)
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + (96 << 20),) * 2)
    kept, errors = [], 0
    for _ in range(8):
        try:
            kept.append(fastact.relu(x))
        except MemoryError:
            errors += 1
    assert errors and kept
    kept.clear()
    assert (fastact.relu(x) == 1).all()
    print("right")


def single_terms_need_no_sums():
    """Where each slope has one term, a call takes no memory that grows with their number."""
    x = np.ones((1 << 15, 64), "f4")
    forms = {"float32": x, "float16": x.astype("f2"), "last axis reversed": x[:, ::-1], "columns": np.asfortranarray(x)}
    for operand in forms.values():  # the first time starts threads and imports
        fastact.prelu_backward(operand[:64], operand[:64], operand[:64])
    results = {name: [np.empty_like(operand) for _ in range(2)] for name, operand in forms.items()}
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + (24 << 20),) * 2)
    for name, operand in forms.items():
        fastact.prelu_backward(operand, operand, operand, out=tuple(results[name]))
    print("right")


def first_team_fails():
    """Every allocation of a first call with a team, each in a forked child whose pool of threads is empty."""
    warnings.simplefilter("ignore")
    x = np.linspace(-1, 1, 1 << 20, dtype="f4").reshape(4, 4096, 64)

    def call():
        return fastact.prelu_backward(x, x, np.full(4096, 0.5, "f4"), channel_axis=1, n_threads=2)

    want = call()
    n = status = 0
    while status == 0:
        n += 1
        if (pid := os.fork()) == 0:  # whose pool of threads is empty
            fastact.clear_buffers()
            shim.arm(n)
            try:
                got = call()
            except MemoryError:
                got = None
            seen = shim.disarm()
            again = call()
            right = all((r[0] == want[0]).all() and (r[1] == want[1]).all() for r in (got, again) if r)
            os._exit(3 if not right else 9 if seen < n else 0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 9, (n, status)
    print(n)


def no_thread_can_be_started(backend):
    x = np.linspace(-1, 1, 1 << 22, dtype="f4")
    out = np.empty_like(x)
    want = np.maximum(x, 0)
    fastact.relu(x, out=out, backend=backend, n_threads=1)
    before = len(os.listdir("/proc/self/task"))
    gc.collect()
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize"), resource.RLIM_INFINITY))
    taken = []  # what was freed since VmSize was read; a helper's stack needs 512 KB
    with contextlib.suppress(OSError):
        while True:
            taken.append(mmap.mmap(-1, 128 << 10))
    fastact.relu(x, out=out, backend=backend, n_threads=2)
    assert all((out[i : i + 4096] == want[i : i + 4096]).all() for i in range(0, len(x), 4096))
    assert len(os.listdir("/proc/self/task")) == before
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    fastact.relu(x, out=out, backend=backend, n_threads=2)
    assert len(os.listdir("/proc/self/task")) == before + 1
    print("right")


def many_calls(backend, n_small, n_large):
    """Prints by how many bytes they made the process grow."""
    small, alpha = np.ones((4, 3, 5), "f4"), np.full(3, 0.25, "f4")
    large = np.ones((64, 32, 1024), "f4")
    slopes = np.full(32, 0.25, "f4")

    def calls(few, many):
        for _ in range(few):
            fastact.prelu_backward(small, small, alpha, backend=backend)
        for i in range(many):
            fastact.prelu_backward(large[: 1 + i % 64], large[: 1 + i % 64], slopes, backend=backend)

    calls(1000, 64)
    gc.collect()
    before, references = status("VmRSS"), (sys.getrefcount(alpha), sys.getrefcount(slopes))
    calls(int(n_small), int(n_large))
    gc.collect()
    assert (sys.getrefcount(alpha), sys.getrefcount(slopes)) == references
    print(status("VmRSS") - before)


if __name__ == "__main__":
    if hasattr(shim, "arm"):
        shim.arm.argtypes, shim.disarm.restype = [ctypes.c_long], ctypes.c_long
    globals()[sys.argv[1]](*sys.argv[2:])
