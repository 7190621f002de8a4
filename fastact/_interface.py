"""The C interface as Python sees it: where fastact.h is, and the kernels that fastact_import() asks for."""

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


def load_kernels() -> None:
    """Load the Cython variant's kernels of the SIMD level in use, for callers in C.

    fastact_import() calls this; tests that switch the level call it again.  Raises ImportError where the C interface
    was not built.
    """
    if reason := _backends.missing("cython"):
        raise ImportError(f"fastact has no C interface here: {reason}")
    _built.entry.use_kernels(
        {
            (kernel, dtype): _backends.kernel_address("cython", kernel, dtype)
            for kernel, dtype in product(KERNELS, (*TYPES, *INTEGERS))
            if module_of(kernel, dtype)
        }
    )
