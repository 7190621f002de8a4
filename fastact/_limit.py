"""The memory limit that the benchmarks compare with: copy and add, in the package's own vector code.

Same loops, threads and stores as the operations, with a formula that costs nothing: what these take, the
memory takes.  Not part of the public interface.
"""

import numpy as np

from . import _dispatch, _settings


def copy(out: np.ndarray, x: np.ndarray, *, stream: bool = False, n_threads: int | None = None) -> None:
    """out = x: the traffic of an operation with one input (dense arrays of one float dtype)."""
    _dispatch.kernel_traffic("copy", out, None, x, stream, _settings.thread_bound(n_threads))


def add(out: np.ndarray, a: np.ndarray, b: np.ndarray, *, stream: bool = False, n_threads: int | None = None) -> None:
    """out = a + b: the traffic of an operation with two inputs (dense arrays of one float dtype)."""
    _dispatch.kernel_traffic("add", out, a, b, stream, _settings.thread_bound(n_threads))
