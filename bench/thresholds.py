"""Other thresholds for a while: to force streaming or threads on and off, which no public argument does.

For the whole process; not for two threads at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fastact._built import policy

NEVER = 1 << 48  # bytes


@contextmanager
def thresholds(**values: int) -> Iterator[None]:
    """Set the policy's thresholds, such as stream_bytes=1 (always stream) or bytes_per_thread=1 (all threads)."""
    before = policy.set_thresholds(**values)
    try:
        yield
    finally:
        policy.set_thresholds(**before)
