"""What the user has set: backend and threads, and the environment variables behind them.

A `set_` function is for the process, a `with` form is a context variable: threads and asyncio tasks do not
see each other's.  A value is checked when it is given; a malformed variable is an error at import that names
it.  None goes back to the variable, if there is one.  Whether a backend is there is known to _backends, not here.
"""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import _backends, _cpu
from ._built import driver, policy
from ._contexts import Block, Name, Number
from ._tables import MOST_THREADS, NO_OPENMP

_variable_backend: str | None = None  # FASTACT_BACKEND
_variable_threads: int | None = None  # FASTACT_NUM_THREADS
_variable_source: str | None = None  # FASTACT_THREAD_SOURCE
_set_backend: str | None = None
_set_threads: int | None = None
_set_source: str | None = None
_context_backend: ContextVar[str | None] = ContextVar("fastact.backend", default=None)
_context_threads: ContextVar[int | None] = ContextVar("fastact.threads", default=None)
_context_source: ContextVar[str | None] = ContextVar("fastact.thread_source", default=None)
# The numbers of the sources; without the compiled driver a call runs on its own thread.
_SOURCES: dict[str, int] = driver.SOURCES if driver is not None else {"own": 1}
SOURCES = ("own", "openmp")


def check_backend(name: str, argument: str = "backend") -> str:
    """The name, if it is a backend's."""
    if not isinstance(name, str) or name not in _backends.NAMES:
        known = ", ".join(map(repr, _backends.NAMES))
        raise ValueError(f"{argument} must be one of {known}, not {name!r}")
    return name


def check_threads(n: int, argument: str = "n_threads") -> int:
    """The number, if it is an integer >= 1."""
    return check_integer(n, argument, 1)


def check_integer(value: int, argument: str, least: int) -> int:
    """The value as an int, if it is an integer >= least."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{argument} must be an integer, not {type(value).__name__}") from None
    if value < least:
        raise ValueError(f"{argument} must be at least {least}, not {value}")
    return value


def set_backend(name: str | None) -> None:
    """Set the process's default backend.

    Parameters
    ----------
    name : {"cython", "numba", "numpy"} or None
        None goes back to the environment variable FASTACT_BACKEND if it is set, else to the best backend there is:
        Cython, else Numba, else NumPy.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If the backend is not available here; the message names the cause.

    Examples
    --------
    >>> import fastact
    >>> fastact.set_backend("numpy")
    >>> fastact.get_backend()
    'numpy'
    >>> fastact.set_backend(None)
    """
    global _set_backend
    if name is not None:
        _backends.require(check_backend(name, "the backend's name"))
    _set_backend = name
    policy.changed()


def get_backend() -> str:
    """Return the name of the backend that a call without `backend=` uses now.

    Examples
    --------
    >>> import fastact
    >>> fastact.get_backend() in fastact.available_backends()
    True
    """
    name = _context_backend.get() or _set_backend
    asked_by = ""
    if name is None:
        name, asked_by = _variable_backend, " (asked for by the environment variable FASTACT_BACKEND)"
    if name is None:
        return _backends.best()
    _backends.require(name, asked_by)
    return name


class use_backend(Block, Name):
    """Use a backend within a `with` block (or a decorated function), in this thread or task only.

    Parameters
    ----------
    name : {"cython", "numba", "numpy"}
        As for `set_backend`.

    Raises
    ------
    ValueError, RuntimeError
        As for `set_backend`, when the object is made.

    Examples
    --------
    >>> import fastact
    >>> with fastact.use_backend("numpy"):
    ...     fastact.get_backend()
    'numpy'
    """

    __slots__ = ()
    _variable = _context_backend

    def _check(self, name: str) -> str:
        _backends.require(check_backend(name, "the backend's name"))
        return name


def set_num_threads(n: int | None) -> None:
    """Set the process's upper bound on threads.

    Parameters
    ----------
    n : int or None
        At least 1; more threads than processors that may be used are never taken.  None goes back to the environment
        variable FASTACT_NUM_THREADS if it is set, else to what the machine and OpenMP's limits allow.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or less than 1.

    Examples
    --------
    >>> import fastact
    >>> fastact.set_num_threads(1)
    >>> fastact.get_num_threads()
    1
    >>> fastact.set_num_threads(None)
    """
    global _set_threads
    _set_threads = None if n is None else check_threads(n, "n")
    policy.set_bounds(process_threads=min(_set_threads or _variable_threads or 0, MOST_THREADS))


def get_num_threads() -> int:
    """Return the upper bound on threads that a call without `n_threads=` has now.

    Examples
    --------
    >>> import fastact
    >>> fastact.get_num_threads() >= 1
    True
    """
    return thread_bound(None)


class threads(Block, Number):
    """Bound the number of threads within a `with` block (or a decorated function), in this thread or task only.

    Parameters
    ----------
    n : int
        At least 1; more threads than processors that may be used are never taken.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or less than 1, when the object is made.

    Examples
    --------
    >>> import fastact
    >>> with fastact.threads(1):
    ...     fastact.get_num_threads()
    1
    """

    __slots__ = ()
    _variable = _context_threads

    def _check(self, n: int) -> int:
        return check_threads(n, "n")


def explicit_threads(n_threads: int | None) -> int:
    """The bound that somebody asked for: the argument, the context's or the process's; 0 where nobody did."""
    asked = n_threads or _context_threads.get() or policy.bounds()["process_threads"]
    return min(asked, MOST_THREADS)


def thread_bound(n_threads: int | None) -> int:
    """The bound in force: what somebody asked for, else what OpenMP's limits allow.

    It never exceeds the processors that may be used.  OpenMP's limits are its variables and what the loaded runtimes
    say (threadpoolctl and torch.set_num_threads change that).
    """
    openmp = driver.openmp_threads() if driver is not None else MOST_THREADS
    return policy.bound_on_threads(explicit_threads(n_threads), _cpu.processors(), openmp)


def check_source(name: str, argument: str = "the thread source") -> str:
    """The name, if it is a source's that can be set."""
    if not isinstance(name, str) or name not in SOURCES:
        hint = " (a call through the C interface brings that with it)" if name == "caller" else ""
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, SOURCES))}; it is {name!r}{hint}")
    return name


def require_source(name: str) -> str:
    """The name; a RuntimeError where this process has no such threads."""
    if name == "openmp" and (driver is None or driver.openmp_source() is None):
        why = "the compiled driver is missing in this process" if driver is None else NO_OPENMP.replace("OpenMP ", "")
        raise RuntimeError(f"the thread source 'openmp' is not available: {why}")
    return name


def set_thread_source(name: str | None) -> None:
    """Set where the process's calls take their threads from.

    Parameters
    ----------
    name : {"own", "openmp"} or None
        "own" is the package's own pool.  "openmp" is an OpenMP runtime that another package has loaded: PyTorch's where
        that is loaded, else the first one that was found.  It pays between operations of a library whose idle threads
        spin.  In a forked child, and inside a parallel region of a runtime, such a call runs on its own thread.  GCC's
        runtime ends the process where no thread can be started.  None goes back to the environment variable
        FASTACT_THREAD_SOURCE if it is set, else to "own".

    Raises
    ------
    ValueError
        If the name is unknown, or "caller", which is for the C interface.
    RuntimeError
        If no runtime is loaded that has `GOMP_parallel`.

    Notes
    -----
    Results do not depend on the source, to the last bit.

    Examples
    --------
    >>> import fastact
    >>> fastact.set_thread_source("own")
    >>> fastact.get_thread_source()
    'own'
    >>> fastact.set_thread_source(None)
    """
    global _set_source
    if name is not None:
        require_source(check_source(name))
    _set_source = name
    policy.set_bounds(thread_source=_SOURCES.get(_set_source or _variable_source or "", 0))


def get_thread_source() -> str:
    """Return where a call takes its threads from now: "own" or "openmp".

    Examples
    --------
    >>> import fastact
    >>> fastact.get_thread_source() in ("own", "openmp")
    True
    """
    return _context_source.get() or _set_source or _variable_source or "own"


class thread_source(Block, Name):
    """Take threads from another source within a `with` block (or a decorated function), in this thread or task only.

    Parameters
    ----------
    name : {"own", "openmp"}
        As for `set_thread_source`.

    Raises
    ------
    ValueError
        If the name is unknown, when the object is made.
    RuntimeError
        As for `set_thread_source`, when the block is entered.

    Examples
    --------
    >>> import fastact
    >>> with fastact.thread_source("own"):
    ...     fastact.get_thread_source()
    'own'
    """

    __slots__ = ()
    _variable = _context_source

    def _check(self, name: str) -> str:
        return check_source(name)

    def _require(self) -> bool:
        return require_source(self._value) == "own"


def explicit_source() -> int:
    """The number of the source that somebody asked for: the context's or the process's; 0 where nobody did."""
    name = _context_source.get()
    if name is None:
        return policy.bounds()["thread_source"]
    return _SOURCES.get(name, 0)


@contextmanager
def oversubscribed(most: int) -> Iterator[None]:
    """Let explicit bounds exceed the processors, up to `most` threads: for tests of teams on any machine."""
    before = policy.set_bounds(oversubscription=most)
    try:
        yield
    finally:
        policy.set_bounds(oversubscription=before["oversubscription"])


def environment_integer(variable: str, text: str, least: int) -> int:
    """The variable's value as an integer >= least."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"the environment variable {variable} must be an integer >= {least}, not {text!r}")
    return value


def _from_environment() -> None:
    """Take the variables; FASTACT_SIMD and FASTACT_BUFFER_LIMIT are read where they are used."""
    global _variable_backend, _variable_source, _variable_threads
    if name := os.environ.get("FASTACT_BACKEND"):
        _variable_backend = check_backend(name, "the environment variable FASTACT_BACKEND")
    if text := os.environ.get("FASTACT_NUM_THREADS"):
        _variable_threads = environment_integer("FASTACT_NUM_THREADS", text, 1)
    if name := os.environ.get("FASTACT_THREAD_SOURCE"):
        _variable_source = check_source(name, "the environment variable FASTACT_THREAD_SOURCE")
        policy.set_bounds(thread_source=_SOURCES.get(name, 0))
    most = MOST_THREADS
    for variable in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        first = os.environ.get(variable, "").split(",")[0].strip()  # one number for each level of nesting
        if first.isdecimal() and int(first):  # a malformed value is ignored
            most = min(most, int(first))
    policy.set_bounds(openmp_variables=most, process_threads=min(_variable_threads or 0, MOST_THREADS))


_from_environment()
