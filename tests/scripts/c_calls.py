"""Programs that call the C interface, for test_c_interface.py: `python tests/scripts/c_calls.py FUNCTION`.

The folder of the tests is on the path.  memory_that_runs_out runs with the library of shim.c in LD_PRELOAD.
"""

import ctypes
import sys

import c_interface as c
import numpy as np

import fastact
from fastact import _settings
from fastact._tables import OPERATIONS

rng = np.random.default_rng(0)


def arguments(name, shape, alpha=(), dtype="f4", dy="f4", steps=None):
    """Arguments of a call, results included."""
    op = OPERATIONS[name]
    made = {read: rng.standard_normal(shape).astype(dtype) for read in op.reads}
    if "dy" in made:
        made["dy"] = made["dy"].astype(dy)
    made[op.writes[0]] = np.ones(shape, dtype)
    if steps:
        made = {k: np.repeat(a, steps, axis=-1)[..., ::steps] for k, a in made.items()}
    if op.alpha == "number":
        made["alpha"] = 0.3
    elif op.alpha:
        made["alpha"] = np.full(alpha, 0.25, dtype)
    if op.summed:
        made["dalpha"] = np.ones(alpha, dtype)
    return made


def before_the_import():
    """Every function says what is missing, and writes nothing."""
    for name in OPERATIONS:
        for dtype in ("f4", "f8", "i4") if name == "relu" else ("f4", "f8"):
            given = arguments(name, (3, 4), (4,), dtype)
            before = {k: np.array(a) for k, a in given.items()}
            status, message = c.call(name, given)
            assert status == c.BAD_VALUE, (name, dtype, status)
            assert message.startswith("the kernels are not loaded: call fastact_import(), or in Python fastact._interf")
            assert all((given[k] == before[k]).all() for k in given)
    fastact._interface.load_kernels()
    assert c.call("relu", arguments("relu", (3, 4))).status == c.OK
    print("right")


def by_name(path):
    """A library that was linked to nothing finds the functions in the module, which is loaded for all."""
    fastact._interface.load_kernels()
    module = ctypes.CDLL(fastact.config()["c_interface"], ctypes.RTLD_GLOBAL)
    assert module._name == c.library._name
    library = ctypes.CDLL(path)
    given = arguments("relu_backward", (300, 500))
    assert library.two_calls(*(ctypes.byref(c.array(given[k])) for k in ("dx", "dy", "x"))) == c.OK
    assert (given["dx"] == fastact.relu(fastact.relu_backward(given["dy"], given["x"]))).all()
    print("right")


def no_runtime():
    """The source "openmp" where no runtime is loaded: an error, unless the call runs on one thread."""
    fastact._interface.load_kernels()
    thresholds = fastact._built.policy.set_thresholds(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0)
    with _settings.oversubscribed(8):
        for name in OPERATIONS:
            for steps in (None, 2):
                given = arguments(name, (40, 30_000), (40, 1), steps=steps)
                before = {k: np.array(a) for k, a in given.items()}
                status, message = c.call(name, given, source=c.OPENMP, n_threads=2)
                assert status == c.NO_SOURCE, (name, status, message)
                assert message == "no OpenMP runtime with GOMP_parallel is loaded in this process"
                assert all((given[k] == before[k]).all() for k in given), name
                assert c.call(name, given, source=c.OPENMP, n_threads=1).status == c.OK
    fastact._built.policy.set_thresholds(**thresholds)
    for name in OPERATIONS:
        assert c.call(name, arguments(name, (3, 4)), source=c.OPENMP, n_threads=2).status == c.OK
    print("right")


def memory_that_runs_out():
    """For n = 1, 2, ... until a call needs no more: the n-th allocation fails; prints how many were errors."""
    fastact._interface.load_kernels()
    shim = ctypes.CDLL(None)
    errors = 0
    for name in OPERATIONS:
        for form in ((), (40,), (40, 1), (33,), (90, 40, 33)):
            for dy, steps in (("f4", None), ("f4", 2), ("f8", 2)):
                given = arguments(name, (90, 40, 33), form, dy=dy, steps=steps)
                want = None
                for n in range(1000):  # none for n = 0
                    for result in OPERATIONS[name].writes:
                        given[result][...] = 5
                    status, message, came_so_far = refused_at(shim, n, name, given, axis=2 if form == (33,) else 1)
                    results = {result: np.array(given[result]) for result in OPERATIONS[name].writes}
                    if n == 0:
                        assert status == c.OK, message
                        want = results
                    elif status == c.OK:
                        assert all((results[k] == want[k]).all() for k in results), (name, form, n)
                        if not came_so_far:
                            break
                    else:
                        errors += 1
                        assert (status, message) == (c.NO_MEMORY, "no memory for partial sums or a scratch")
                        assert all((a == 5).all() for a in results.values()), (name, form, dy, steps, n)
    print(errors)


def refused_at(shim, n, name, given, axis):
    """A call whose n-th allocation fails: its status, its message, and whether it came so far."""
    text = ctypes.create_string_buffer(200)
    options = c.options(message=ctypes.addressof(text), message_size=200, n_threads=1, channel_axis=axis)
    ready = [c.array(a) if isinstance(a := given.get(k), np.ndarray) else a for k in c.ARGUMENTS[name][:-1]]
    function = c.function(name)
    shim.arm(n)
    status = function(*ready, options)
    came_so_far = shim.disarm() >= n
    return status, text.value.decode(), came_so_far


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
