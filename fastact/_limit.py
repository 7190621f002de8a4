"""The bandwidth bound that the benchmarks compare with: copy and add, in the package's own vector code.

They have the loops, threads and stores of the operations and a formula that costs nothing.  Hence their time is the
time that the memory takes.  A call is bound to its arrays beforehand and costs 0.2 us beside the work.
Not part of the public interface.
"""

from collections.abc import Callable

import numpy as np

from . import _backends, _settings
from ._launch import Bound


class Traffic:
    """out = input, or the sum of two inputs: dense arrays of one float dtype, which live as long as this does."""

    def __init__(self, out: np.ndarray, *inputs: np.ndarray, stream: bool = False, n_threads: int | None = None):
        self.arrays = out, *inputs
        kernel, dy = ("copy", None) if len(inputs) == 1 else ("add", inputs[0])
        backend = "numba" if _backends.missing("cython") else "cython"
        address = _backends.kernel_address(backend, kernel, out.dtype.name)
        threads = _settings.thread_bound(n_threads)
        self.run: Callable[[], None] = Bound(address, out, dy, inputs[-1], threads, stream)
