"""The lock that a fork waits for: whoever imports Numba or kernels, or compiles, holds it meanwhile."""

import logging  # noqa: F401 (see Forks)
import os
import sys
import threading
from contextlib import suppress


class Forks(threading.local):
    """A lock around the import of Numba and its compilations, which a fork waits for.

    Else the child would wait for ever for a lock of a thread that it does not have: ours, an import's, the compiler's.
    `wanted` belongs to the forking thread, because two threads may fork at once.  An exception in a signal handler can
    end the wait, and the fork goes on without.  Therefore a lock is released only where it is held, and a child that
    does not hold it has a new one.
    logging must be imported before us.  Hooks run in the reverse order of their registration, so ours then runs before
    logging's.  The other way round the fork holds logging's lock while it waits for Numba's import, which needs it.
    """

    lock = threading.RLock()
    imports = threading.RLock()  # for compiled kernels: their first call does not wait for a compilation
    wanted: tuple = ()

    def before(self) -> None:
        """Wait for whoever imports or compiles."""
        compiler = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
        # The user's own @njit may be compiling.
        self.wanted = (self.lock, self.imports, compiler) if compiler else (self.lock, self.imports)
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
        Forks.lock, Forks.imports = threading.RLock(), threading.RLock()


forks = Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
