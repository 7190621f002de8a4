"""ReLU and PReLU on a CPU, forward and backward: exact, at the speed of memory, in two compared variants.

The public names, and nothing else.  Importing fastact imports NumPy and the small compiled core only: Numba
comes with its first use.  The architecture is in the folder: ops (public functions), reference (contract), _tables
(operations, levels, shared numbers), _arguments and _plan (any array to plain loops), _policy (threads, streaming),
_kernels (formulas and loops, compiled by _cython and _numba).
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from . import _built
from ._backends import available_backends
from ._buffers import clear_buffers, get_buffer_limit, set_buffer_limit
from ._config import config, show_config, warmup
from ._interface import get_include
from ._settings import (
    get_backend,
    get_num_threads,
    get_thread_source,
    set_backend,
    set_num_threads,
    set_thread_source,
    thread_source,
    threads,
    use_backend,
)
from ._version import __version__ as __version__

# The public functions, compiled where that was possible.  A new activation is listed in ops.__all__ only.
if _TYPE_CHECKING or (ops := _built.optional("ops")) is None:
    from . import ops
    from .ops import *  # noqa: F403
else:
    globals().update({name: getattr(ops, name) for name in ops.__all__})

# The C interface (fastact.h).  It is no `__getattr__`, because Python looks up every attribute of a module that has one
# the slow way: `fastact.relu(x, out=y)` on 64 floats took 145 ns so, 132 without.
if _built.entry is not None:
    _C_API = _built.entry.capsule()


__all__ = [
    "available_backends",
    "clear_buffers",
    "config",
    "get_backend",
    "get_buffer_limit",
    "get_include",
    "get_num_threads",
    "get_thread_source",
    "set_backend",
    "set_buffer_limit",
    "set_num_threads",
    "set_thread_source",
    "show_config",
    "thread_source",
    "threads",
    "use_backend",
    "warmup",
    *ops.__all__,
]
