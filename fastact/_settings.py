"""What the user has set: backend, threads, SIMD cap, buffer limit; and the environment variables behind them.

A `set_` function is for the process, a `with` form is a context variable: threads and asyncio tasks do not
see each other's.  A value is checked when it is set; a malformed variable is an error at import that names
it.  Whether a backend is there is known to _backends, not here.
"""

import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from . import _backends, _cpu

MOST_THREADS = 1 << 16  # more than any machine has: a bound that fits an int
_backend: str | None = None
_num_threads: int | None = None
_context_backend: ContextVar[str | None] = ContextVar("fastact.backend", default=None)
_context_threads: ContextVar[int | None] = ContextVar("fastact.threads", default=None)
on_change: list[Callable[..., None]] = []  # told when the backend changes, for the process or in a context


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
        None goes back to the best one there is: Cython, else Numba, else NumPy.

    Raises
    ------
    ValueError
        If the name is unknown.
    RuntimeError
        If the backend is not available here; the message names the cause.
    """
    global _backend
    if name is not None:
        _backends.require(check_backend(name, "the backend's name"))
    _backend = name
    for listener in on_change:
        listener()


def get_backend() -> str:
    """Return the name of the backend that a call without `backend=` uses now."""
    name = _context_backend.get() or _backend
    if name is None:
        return _backends.best()
    if name == os.environ.get("FASTACT_BACKEND"):
        _backends.require(name, " (asked for by the environment variable FASTACT_BACKEND)")
    _backends.require(name)
    return name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend within a `with` block, in this thread or task only.

    Parameters
    ----------
    name : {"cython", "numba", "numpy"}
        As for `set_backend`.

    Raises
    ------
    ValueError, RuntimeError
        As for `set_backend`.

    Examples
    --------
    >>> import fastact
    >>> with fastact.use_backend("numpy"):
    ...     fastact.get_backend()
    'numpy'
    """
    _backends.require(check_backend(name, "the backend's name"))
    for listener in on_change:
        listener(context=True)
    token = _context_backend.set(name)
    try:
        yield
    finally:
        _context_backend.reset(token)


def set_num_threads(n: int | None) -> None:
    """Set the process's upper bound on threads (an integer >= 1; None: what the machine allows)."""
    global _num_threads
    _num_threads = None if n is None else check_threads(n, "n")
    for listener in on_change:
        listener()


def get_num_threads() -> int:
    """Return the upper bound on threads that a call without `n_threads=` has now."""
    return thread_bound(None)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Bound the number of threads within a `with` block, in this thread or task only.

    Examples
    --------
    >>> import fastact
    >>> with fastact.threads(1):
    ...     fastact.get_num_threads()
    1
    """
    n = check_threads(n, "n")
    for listener in on_change:
        listener(context=True)
    token = _context_threads.set(n)
    try:
        yield
    finally:
        _context_threads.reset(token)


def process_threads() -> int:
    """The process's bound: what was set, else what the machine allows."""
    return min(_num_threads or _cpu.cores(), MOST_THREADS)


def thread_bound(n_threads: int | None) -> int:
    """The bound in force: the argument, the context's, the process's, else what the machine allows.

    A limit that was put on OpenMP (threadpoolctl, omp_set_num_threads) lowers any of them.
    """
    bound = n_threads or _context_threads.get() or process_threads()
    limit = _backends.openmp_threads()
    return min(bound, MOST_THREADS if limit is None else limit)


def _from_environment() -> None:
    """Take FASTACT_BACKEND and FASTACT_NUM_THREADS; FASTACT_SIMD and FASTACT_BUFFER_LIMIT are read where used."""
    global _backend, _num_threads
    if name := os.environ.get("FASTACT_BACKEND"):
        _backend = check_backend(name, "the environment variable FASTACT_BACKEND")
    if text := os.environ.get("FASTACT_NUM_THREADS"):
        _num_threads = environment_integer("FASTACT_NUM_THREADS", text, 1)


def environment_integer(variable: str, text: str, least: int) -> int:
    """The variable's value as an integer >= least."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"the environment variable {variable} must be an integer >= {least}, not {text!r}")
    return value


_from_environment()
