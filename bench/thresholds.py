"""Other thresholds for a while: to force streaming or threads on and off, which no public argument does.

`_dispatch` states them and the compiled front door keeps a copy, so it is told of each change.  For the
whole process; not for two threads at once.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastact import _dispatch, _settings

NEVER = sys.maxsize


@contextmanager
def thresholds(**values: int) -> Iterator[None]:
    """Set _dispatch's thresholds, such as stream_bytes=1 (always stream) or bytes_per_thread=1 (all threads)."""
    before = {name.upper(): getattr(_dispatch, name.upper()) for name in values}
    _set({name.upper(): value for name, value in values.items()})
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, int]) -> None:
    vars(_dispatch).update(values)
    for listener in _settings.on_change:
        listener()
