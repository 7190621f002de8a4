"""The C interface as Python sees it: where fastact.h is, and the capsule that fastact_import() asks for.

Callers in C use the kernels of the Cython variant, which are loaded when the capsule is asked for.
"""

from functools import cache
from itertools import product
from pathlib import Path

from . import _backends, _built
from ._tables import INTEGERS, KERNELS, TYPES, module_of


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
    _built.entry.use_kernels(
        {
            (kernel, dtype): _backends.kernel_address("cython", kernel, dtype)
            for kernel, dtype in product(KERNELS, (*TYPES, *INTEGERS))
            if module_of(kernel, dtype)
        }
    )
