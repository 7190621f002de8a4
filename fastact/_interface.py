"""The C interface as Python sees it: where fastact.h is, and the capsule that fastact_import() asks for.

Callers in C use the kernels of the Cython variant, which are loaded when the capsule is asked for.
"""

from functools import cache
from importlib import import_module
from pathlib import Path

from . import _backends, _built
from ._tables import INTEGER_MODULE, TYPES


def get_include() -> str:
    """Return the folder with fastact.h, for the compiler's option -I.

    Cython finds the declarations (`from fastact cimport ...`) in the package by itself.

    Returns
    -------
    str
        The folder's path.

    Examples
    --------
    >>> import os, fastact
    >>> os.path.exists(os.path.join(fastact.get_include(), "fastact.h"))
    True
    """
    return str(Path(__file__).parent)


@cache
def capsule() -> object:
    """Return the table of functions.  Raise ImportError where they were not built."""
    if reason := _backends.missing("cython"):
        raise ImportError(f"fastact has no C interface here: {reason}")
    load_kernels()
    return _built.entry.capsule()


def load_kernels() -> None:
    """Set the kernels of the SIMD level in use, for callers in C; tests that switch the level call this again."""
    modules = [import_module(f"{_built.PACKAGE}.{_built.level()}.{kind}") for kind in (*_kinds(), INTEGER_MODULE)]
    _built.entry.use_kernels([module.ADDRESSES for module in modules[:-1]], modules[-1].ADDRESSES)
    _built.load_movers()


def _kinds() -> list[str]:
    """The names of the modules of floats, float32's first."""
    return [kind for _, kind in TYPES.values()]
