"""Which backends are there, why one is missing, and where a kernel's machine code is.

A backend is a way to get the C address of a kernel (Cython's modules, one for each SIMD level and type, or
Numba's cfuncs); the "numpy" backend is the reference itself.  Numba is imported at its first use only.
"""

import importlib
import importlib.util
import logging  # noqa: F401 (see _Forks)
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import numpy as np

from . import _built
from ._built import CPU_LEVEL, LEVELS, driver, levels

NAMES = ("cython", "numba", "numpy")

if driver is not None:
    execute, Bound = driver.execute, driver.Bound
else:
    from ._driver import Bound, execute  # noqa: F401


def openmp_threads() -> int:
    """What the loaded OpenMP runtimes allow this Python thread; a number beyond any machine's without them."""
    return driver.openmp_threads() if driver is not None else sys.maxsize


class _Forks(threading.local):
    """A lock around the import of Numba and its compilations, which a fork waits for.

    Else the child would wait for ever for a lock of a thread that it does not have: ours, an import's, the compiler's.
    `wanted` is of the forking thread: two may fork at once.  An exception in a signal handler can end the wait, and the
    fork goes on without: so a lock is released only where it is held, and a child that does not hold it has a new one.
    logging must be imported before us.  Hooks run in the reverse order of their registration, so ours then runs before
    logging's.  The other way round the fork holds logging's lock while it waits for Numba's import, which needs it.
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


_missing: dict[str, str] = {}


def missing(backend: str) -> str:
    """Why a backend cannot be used; "" where it can.  A reason that may pass (no memory, say) is not cached."""
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
        return _built.why_no_cython(), True
    if backend == "numba":
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


def _usable() -> Iterator[str]:
    """The backends that can be used here, the default one first; each is looked for when it is asked for."""
    # Kernels below the CPU's level are slower than Numba's, which are compiled for this very CPU.
    names = ("numba", "cython", "numpy") if _lacks_best_level() else NAMES
    return (name for name in names if not missing(name))


def _lacks_best_level() -> bool:
    """Whether there is a Cython variant, but not for this CPU's level (unless the user has capped it)."""
    return bool(levels()) and levels()[-1] != CPU_LEVEL and not os.environ.get("FASTACT_SIMD")


def best() -> str:
    """Cython where its best kernels for this CPU were built, else Numba, else what there is, with a warning."""
    name = next(_usable())
    if _lacks_best_level() and not missing("cython"):
        _warn_of_level(name)
    if name == "numpy":
        _warn_of_numpy()
    return name


@cache
def _warn_of_level(taken: str) -> None:
    """Once: why the Cython variant is not what it could be."""
    reasons = [why for name, why in _built.missing_modules().items() if f".{CPU_LEVEL}." in name]
    warnings.warn(
        f"fastact uses {taken}: the Cython kernels for this CPU ({CPU_LEVEL}, {LEVELS[CPU_LEVEL]}) are missing, and "
        f"those that were built ({levels()[-1]}) are slower ({(reasons or ['not built'])[0]}); "
        "fastact.set_backend(...) or FASTACT_BACKEND chooses without this warning",
        RuntimeWarning,
        2,
    )


@cache
def _warn_of_numpy() -> None:
    """Once: the reference is right, but 20 to 100 times slower."""
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
    return tuple(_usable())


def kernel_address(backend: str, kernel: str, dtype: np.dtype) -> int:
    """The C address of a compiled kernel (see kernels.pxi for its arguments)."""
    if backend == "numba":
        from ._numba import kernels

        return kernels.address(kernel, dtype)
    return _built.kernel_address(kernel, dtype)
