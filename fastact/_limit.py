"""The memory limit that the benchmarks compare with: copy and add, in the package's own vector code.

Same loops, threads and stores as the operations, with a formula that costs nothing: what these take, the
memory takes.  Bound to its arrays beforehand, so that a call costs 0.2 us beside the work.
Not part of the public interface.
"""

from collections.abc import Callable

import numpy as np

from . import _dispatch, _settings


class Traffic:
    """out = input, or the sum of two inputs: dense arrays of one float dtype, which live as long as this does."""

    def __init__(self, out: np.ndarray, *inputs: np.ndarray, stream: bool = False, n_threads: int | None = None):
        self.arrays = out, *inputs
        kernel, dy = ("copy", None) if len(inputs) == 1 else ("add", inputs[0])
        threads = _settings.thread_bound(n_threads)
        self.run: Callable[[], None] = _dispatch.bind_traffic(kernel, out, dy, inputs[-1], stream, threads)
