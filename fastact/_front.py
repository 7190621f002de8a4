"""Which door the public functions go through: the compiled one, or straight to the Python text without it.

The doors take the same arguments.  A module of its own so that ops.py, which Cython compiles as it is, needs
no branch.
"""

try:
    from ._cython.front import backward, elementwise
except ImportError:
    from ._dispatch import backward, elementwise

__all__ = ["backward", "elementwise"]
