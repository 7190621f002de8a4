"""First calls with Numba, for test_numba_surroundings.py: `numba_first_call.py [OPTION] FUNCTION [ARGUMENT ...]`.

With --unwritable no folder can be written to, as in a read-only container; with --no-core there is no compiled core.
"""

import gc
import sys
import warnings

import numpy as np

option = sys.argv.pop(1) if sys.argv[1].startswith("--") else ""
if option == "--no-core":
    import no_core  # noqa: F401
if option == "--unwritable":
    from numba.core import caching

    def refuse(self):
        raise PermissionError("read-only file system")

    for locator in list(vars(caching).values()):
        if isinstance(locator, type) and issubclass(locator, caching._CacheLocator):
            locator.ensure_cache_path = refuse

import fastact  # noqa: E402


def numbas_kernels():
    from fastact._numba import kernels

    return kernels


def right():
    x = np.arange(-500, 500, dtype=np.int32)
    assert (fastact.relu(x, backend="numba") == np.maximum(x, 0)).all()
    print("right")


def folders(times, *paths):
    """So many first calls of relu from each cache folder; prints which of them found their kernel there.

    As often as it is forgotten, the kernel is asked for as in a new process: Numba looks into the folder each time.
    """
    from numba import config

    from fastact import _built

    kernels, kept = numbas_kernels(), []
    x = np.arange(-500, 500, dtype=np.int32)  # integers are the quickest to compile
    for config.CACHE_DIR in paths:
        for _ in range(int(times)):
            kept.append(kernels._compiled.copy())  # its code may be in use
            kernels._compiled.clear()
            _built.policy.changed()
            assert (fastact.relu(x, backend="numba") == np.maximum(x, 0)).all(), config.CACHE_DIR
            (kernel,) = kernels._compiled.values()
            print(kernel.cache_hits, end=" ")


def told():
    """Relu of int8 with a message after a minute, of float32 with one at once; prints what was compiled."""
    kernels = numbas_kernels()
    for kernels.SLOW, dtype in ((60, np.int8), (0.05, np.float32)):
        gc.collect()  # else a collection, which takes 0.1 s, may come while the second one is read from the cache
        fastact.relu(np.ones(3, dtype), backend="numba")
    print(*sorted(f"{name}:{dtype}" for name, dtype in kernels._compiled))
    print(fastact.config()["numba"]["cache_folder"])


def warm_up(arguments):
    """Warmup of this choice; prints what it refused, or what was compiled."""
    kernels = numbas_kernels()
    try:
        fastact.warmup(*eval(arguments))
    except Exception as error:
        print(type(error).__name__, error)
    print(*sorted(f"{name}:{dtype}" for name, dtype in kernels._compiled))


def numpy_alone():
    """Prints the warnings of three calls where the core is missing, too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert (fastact.relu(np.array([-1.0, 2.0])) == [0, 2]).all()
    print(len(caught), caught[0].category.__name__, caught[0].message)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
