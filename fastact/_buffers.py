"""The recycled memory of results: its settings, whether or not the compiled part is there.

Fresh pages cost up to 6 times the kernel itself, so the memory of large results that were dropped is kept
for the next ones, within a limit (see _cython/buffers.pyx).  Without the compiled core nothing is recycled
and the limit is only remembered.
"""

import os

from . import _cpu
from ._backends import buffers
from ._settings import check_integer, environment_integer

_limit = 0


def set_buffer_limit(bytes: int) -> None:
    """Set how many bytes of dropped results are kept for the next ones (0: none).

    Parameters
    ----------
    bytes : int
        Default: the smaller of 1 GB and an eighth of the memory, or FASTACT_BUFFER_LIMIT.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or negative.
    """
    global _limit
    _limit = check_integer(bytes, "bytes", 0)
    if buffers is not None:
        buffers.set_buffer_limit(_limit)


def get_buffer_limit() -> int:
    """Return how many bytes of dropped results are kept at the most."""
    return _limit if buffers is None else buffers.get_buffer_limit()


def clear_buffers() -> None:
    """Give the memory of dropped results back to the system now."""
    if buffers is not None:
        buffers.clear_buffers()


def counters() -> dict:
    """What config() shows of the recycled memory."""
    return buffers.counters() if buffers is not None else {"limit": _limit, "recycling": "needs the compiled core"}


if text := os.environ.get("FASTACT_BUFFER_LIMIT"):
    set_buffer_limit(environment_integer("FASTACT_BUFFER_LIMIT", text, 0))
else:
    set_buffer_limit(buffers.default_limit() if buffers is not None else min(1 << 30, _cpu.memory() // 8))
