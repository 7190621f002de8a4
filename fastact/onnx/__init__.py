"""fastact for ONNX: PRelu inside ONNX Runtime, and backends for ONNX's own tests and its reference evaluator.

`library_path` is what ONNX Runtime loads.  `accelerate` rewrites models of older operator sets.  `FastactBackend` and
`OPS` compute models in Python.  Importing this package imports neither onnx nor onnxruntime.
docs/onnx.md has examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fastact.onnx._rewrite import accelerate

if TYPE_CHECKING:
    from fastact.onnx._backend import OPS, FastactBackend

__all__ = ["OPS", "FastactBackend", "accelerate", "library_path"]


def library_path() -> str:
    """Return the path of a library of custom operators for ONNX Runtime 1.19 or newer.

    A session with it computes PRelu by fastact, on the session's own threads: float32, float64, float16 and bfloat16,
    with every slope that ONNX allows.  Nodes of operator sets from 7 on need no change of the model.  Those of older
    ones, which ONNX Runtime itself does not run, need `accelerate`.  Sessions without the library stay as they are.
    docs/onnx.md says in which sessions not to load it: those with integers, and those with a GPU.

    Call this function in every process that creates such a session, because it also imports the library.  ONNX Runtime
    cannot use a library that the process has not imported.

    Returns
    -------
    str
        The path, for ``onnxruntime.SessionOptions().register_custom_ops_library``.

    Raises
    ------
    RuntimeError
        If the library or fastact's compiled core was not built.

    Examples
    --------
    >>> import os, fastact.onnx
    >>> os.path.exists(fastact.onnx.library_path())  # doctest: +SKIP
    True
    """
    try:
        library = import_module("fastact.onnx._library")
    except ImportError as error:
        from fastact import _built

        reason = _built.missing_modules().get("fastact.onnx._library") or error
        raise RuntimeError(f"fastact has no library for ONNX Runtime here: {reason}") from error
    path = library.__file__
    assert path is not None
    return path


def __getattr__(name: str) -> object:
    """OPS and FastactBackend, whose classes inherit from onnx's, when somebody asks for them."""
    if name in ("OPS", "FastactBackend"):
        return getattr(import_module("fastact.onnx._backend"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
