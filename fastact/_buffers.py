"""The recycled memory of results: its settings, whether or not the compiled part is there.

New pages from the system cost up to 6 times the time of the kernel itself, so the memory of large results that were
dropped is kept for the next ones (_cython/buffers.pyx says how).  Without the compiled core nothing is recycled, and
the limit is only remembered.
"""

import os

from . import _cpu
from ._built import buffers
from ._settings import check_integer, environment_integer

if text := os.environ.get("FASTACT_BUFFER_LIMIT"):
    _default = environment_integer("FASTACT_BUFFER_LIMIT", text, 0)
else:
    _default = min(1 << 30, _cpu.memory() // 8)
_limit = 0


def set_buffer_limit(bytes: int | None) -> None:
    """Set how many bytes of dropped results may be kept for the next ones.

    The limit is for the process and for idle memory only: results that are alive do not count.  What is idle beyond
    it goes back to the system at once.

    Parameters
    ----------
    bytes : int or None
        0 turns recycling off.  None goes back to FASTACT_BUFFER_LIMIT as it was at the import or, where that was not
        set, to the default: the smaller of 1 GB (2**30 bytes) and an eighth of the memory that the process may use.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or negative.
    """
    global _limit
    _limit = _default if bytes is None else check_integer(bytes, "bytes", 0)
    if buffers is not None:
        buffers.set_buffer_limit(_limit)


def get_buffer_limit() -> int:
    """Return how many bytes of dropped results may be kept."""
    return _limit if buffers is None else buffers.get_buffer_limit()


def clear_buffers() -> None:
    """Give the memory of dropped results back to the system now."""
    if buffers is not None:
        buffers.clear_buffers()


def counters() -> dict:
    """What config() shows of the recycled memory."""
    return buffers.counters() if buffers is not None else {"limit": _limit, "recycling": "needs the compiled core"}


set_buffer_limit(None)
