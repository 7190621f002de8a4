"""ReLU and PReLU on a CPU, forward and backward: exact, at the speed of memory, in two compared variants.

The public names, and nothing else.  Importing fastact imports NumPy and the small compiled core only: Numba
comes with its first use.  The architecture is in the folder: ops (public functions), reference (contract),
_arguments and _layout (any array to plain loops), _dispatch (policy), _cython and _numba (kernels).
"""

from importlib import metadata as _metadata

from . import ops
from ._backends import available_backends
from ._buffers import clear_buffers, get_buffer_limit, set_buffer_limit
from ._config import config, show_config, warmup
from ._settings import get_backend, get_num_threads, set_backend, set_num_threads, threads, use_backend
from .ops import *  # noqa: F403 (the activations: a new one is listed in ops.__all__ only)

try:
    __version__ = _metadata.version("fastact")
except _metadata.PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0+unknown"

__all__ = [
    "available_backends",
    "clear_buffers",
    "config",
    "get_backend",
    "get_buffer_limit",
    "get_num_threads",
    "set_backend",
    "set_buffer_limit",
    "set_num_threads",
    "show_config",
    "threads",
    "use_backend",
    "warmup",
    *ops.__all__,
]
