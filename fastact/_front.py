"""Which way in the public functions take: the compiled fast path, or straight to the Python text without it.

Both take the same arguments.  A module of its own so that ops.py, which Cython compiles as it is, needs no branch.
"""

from . import _dispatch
from ._built import optional

_way_in = optional("front") or _dispatch
backward, elementwise = _way_in.backward, _way_in.elementwise

__all__ = ["backward", "elementwise"]
