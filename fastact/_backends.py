"""Which backends are there, why one is missing, and where a kernel's machine code is.

A backend is a way to get the C address of a kernel (Cython's modules, one for each SIMD level and type, or
Numba's cfuncs); the "numpy" backend is the reference itself.  Numba is imported at its first use only, and a
module compiled for a level is imported only where the CPU has that level.  FASTACT_SIMD caps the level.
"""

import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np

NAMES = ("cython", "numba", "numpy")
LEVELS = ("generic", "v2", "v3", "v4")  # from the least to the most
on_change: list[Callable[[], None]] = []  # told when the level changes

try:
    from ._cython import driver

    _driver_error = ""
except ImportError as error:
    driver = None
    _driver_error = f"{type(error).__name__}: {error}"

try:
    from ._cython import buffers
except ImportError:
    buffers = None

if driver is not None:
    execute, Bound = driver.execute, driver.Bound
else:
    from ._driver import Bound, execute  # noqa: F401


def openmp_threads() -> int | None:
    """What OpenMP's limit allows this Python thread now (threadpoolctl, OMP_NUM_THREADS); None without a limit."""
    if driver is None or driver.openmp_threads() >= driver.openmp_processors():
        return None
    return driver.openmp_threads()


def built_levels() -> tuple[str, ...]:
    """The SIMD levels that the Cython variant was built for."""
    return tuple(
        level for level in LEVELS if driver and importlib.util.find_spec(f"fastact._cython.f32_{level}") is not None
    )


@cache
def levels() -> tuple[str, ...]:
    """The SIMD levels that can be used here: built, and within what the CPU has."""
    if driver is None:
        return ()
    return tuple(level for level in built_levels() if LEVELS.index(level) <= LEVELS.index(driver.CPU_LEVEL))


def _first_level() -> str | None:
    """The best level, or FASTACT_SIMD's."""
    wanted = os.environ.get("FASTACT_SIMD")
    if not wanted:
        return levels()[-1] if levels() else None
    if wanted not in LEVELS:
        known = ", ".join(LEVELS)
        raise ValueError(f"the environment variable FASTACT_SIMD must be one of {known}, not {wanted!r}")
    if wanted not in levels():
        why = f"above this CPU's {driver.CPU_LEVEL}" if wanted in built_levels() else "not built"
        raise ValueError(f"the environment variable FASTACT_SIMD asks for {wanted!r}, which is {why}")
    return wanted


_level = _first_level()


def level() -> str | None:
    """The SIMD level in use (None without the Cython variant)."""
    return _level


@contextmanager
def use_level(name: str) -> Iterator[None]:
    """Switch the SIMD level of the whole process, for tests and benchmarks."""
    global _level
    if name not in levels():
        raise ValueError(f"the SIMD level {name!r} cannot be used here; there are {levels()}")
    before, _level = _level, name
    _tell()
    try:
        yield
    finally:
        _level = before
        _tell()


class _Forks(threading.local):
    """A lock around the import of Numba and its compilations, which a fork waits for.

    Else the child would wait for ever for a lock of a thread that it does not have: ours, an import's, the compiler's.
    `wanted` is of the forking thread: two may fork at once.  An exception in a signal handler can end the wait, and the
    fork goes on without: so a lock is released only where it is held, and a child that does not hold it has a new one.
    """

    lock = threading.RLock()
    wanted: tuple = ()

    def before(self) -> None:
        """Wait for whoever imports or compiles."""
        compiler = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
        self.wanted = (self.lock, compiler) if compiler else (self.lock,)  # the user's own @njit may be compiling
        for lock in self.wanted:
            lock.acquire()

    def in_parent(self) -> None:
        """Let them go on."""
        for lock in reversed(self.wanted):
            with suppress(RuntimeError):
                lock.release()

    def in_child(self) -> None:
        """The same; nobody else is left."""
        self.in_parent()
        _Forks.lock = threading.RLock()


forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)


def _tell() -> None:
    for listener in on_change:
        listener()


_missing: dict[str, str] = {}


def missing(backend: str) -> str:
    """Why a backend cannot be used; "" where it can.  What may be otherwise the next time is not remembered."""
    if backend not in _missing:
        with forks.lock:
            reason, lasting = _look_for(backend)
        if not lasting:
            return reason
        _missing[backend] = reason
    return _missing[backend]


def _look_for(backend: str) -> tuple[str, bool]:
    """Why a backend cannot be used, and whether that stays so."""
    if backend == "cython":
        if driver is None or not levels():
            return (
                "its compiled modules are not there (was there a C compiler when fastact was installed? "
                f"reinstall with one and look at the build's messages; {_driver_error or 'no kernels were built'})"
            ), True
    elif backend == "numba":
        if importlib.util.find_spec("numba") is None:
            return "the package numba is not installed", True
        try:
            importlib.import_module("fastact._numba.kernels")
        except Exception as error:  # an installed numba that does not import, for whatever reason
            passing = isinstance(error, RecursionError | MemoryError | OSError)
            return f"numba does not import: {type(error).__name__}: {error}", not passing
        if importlib.import_module("numba").config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT is set", True
    return "", True


def require(backend: str, asked_by: str = "") -> None:
    """Raise a RuntimeError that names the cause where a backend cannot be used."""
    if reason := missing(backend):
        raise RuntimeError(f"the backend {backend!r} is not available{asked_by}: {reason}")


def best() -> str:
    """Cython where it was built, else Numba, else NumPy, with a warning."""
    name = next(name for name in NAMES if not missing(name))
    if name == "numpy":
        _warn_of_numpy()
    return name


@cache
def _warn_of_numpy() -> None:
    """Once: the reference is right, but 20 to 60 times slower."""
    causes = "; ".join(f"{name}: {missing(name)}" for name in NAMES[:-1])
    warnings.warn(f"fastact computes with NumPy, which is slow, because no backend works ({causes})", RuntimeWarning, 2)


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can be used here, the default one first.

    Examples
    --------
    >>> import fastact
    >>> "numpy" in fastact.available_backends()
    True
    """
    return tuple(name for name in NAMES if not missing(name))


@cache
def _cython_module(kind: str, level: str):
    return importlib.import_module(f"fastact._cython.{kind}_{level}")


def kernel_address(backend: str, kernel: str, dtype: np.dtype) -> int:
    """The C address of a compiled kernel (see kernels.pxi for its arguments)."""
    if backend == "numba":
        from ._numba import kernels

        return kernels.address(kernel, dtype)
    if dtype.kind == "i":
        return _cython_module("int", _level).ADDRESSES[dtype.name]
    return _cython_module(f"f{8 * dtype.itemsize}", _level).ADDRESSES[kernel]
