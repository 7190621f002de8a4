"""Which backends there are, why one is missing, and where a kernel's machine code is.

A backend is a way to get the C address of a kernel: Cython's modules, one for each SIMD level and type, or Numba's
cfuncs.  The "numpy" backend is the reference itself.  Numba is imported at its first use only.
"""

import importlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from functools import cache

from . import _built
from ._built import CPU_LEVEL, PACKAGE, levels
from ._forks import forks
from ._tables import CORE, INTEGER_MODULE, KERNELS, LEVELS, module_of

NAMES = ("cython", "numba", "numpy")

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
        return _why_no_cython(), True
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


def _why_no_cython() -> str:
    """Why there is no Cython variant, naming the modules that it lacks; "" where it is there."""
    level = _built.level() if levels() else "generic"
    needed = [f"{PACKAGE}.{name}" for name in CORE]
    for name in _built.kernel_modules(level):
        needed.append(name)
        if levels():
            _built.optional(name.removeprefix(f"{PACKAGE}."))
    missing = _built.missing_modules()
    lacking = [name for name in needed if name in missing]
    if not lacking:
        return ""
    reasons = dict.fromkeys(missing[name] for name in lacking)
    names = ", ".join(name.removeprefix(f"{PACKAGE}.") for name in lacking)
    return (
        f"these compiled modules of {PACKAGE} are missing: {names} ({'; '.join(reasons)}); "
        "an install where a C compiler works builds them, and `python -m fastact` lists what is missing"
    )


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
        f"fastact uses {taken}: the Cython kernels for this CPU ({CPU_LEVEL}, {LEVELS[CPU_LEVEL].known_as}) are "
        f"missing, and those that were built ({levels()[-1]}) are slower ({(reasons or ['not built'])[0]}); "
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


def kernel_address(backend: str, kernel: str, dtype: str) -> int:
    """The C address of a compiled kernel (see _tables.py for its argument) for the name of a storage type."""
    if kernel not in KERNELS:
        raise ValueError(f"there is no kernel {kernel!r}: it must be one of {', '.join(KERNELS)}")
    module = module_of(kernel, dtype)
    if not module:
        raise TypeError(f"the kernel {kernel!r} does not compute in {dtype}")
    _built.load_movers()
    if backend == "numba":
        from ._numba import kernels

        return kernels.address(kernel, dtype)
    with forks.imports:
        addresses = importlib.import_module(f"{PACKAGE}.{_built.level()}.{module}").ADDRESSES
    return addresses[f"{kernel}_{dtype}" if module == INTEGER_MODULE else kernel]
