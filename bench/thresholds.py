"""Other thresholds for a while: they force streaming or threads on or off, which no public argument does.

They hold for the whole process, and only one thread may change them at a time.
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
