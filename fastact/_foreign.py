"""Arrays of other libraries: which are read as ndarrays and how, which are refused, whose memory can be written.

Nothing of theirs is imported.  A type is known by its name and its module's name.
"""

from typing import Any

import numpy as np

# What a class in a type's line of ancestors says, by the package that it is from.
_KINDS = {
    ("dask", "Array"): "dask",
    ("dask", "FrameBase"): "dask frame",
    ("dask", "_Frame"): "dask frame",  # before 2024.10, as dask_expr
    ("dask_expr", "FrameBase"): "dask frame",
    ("dask", "Delayed"): "dask graph",
    ("dask", "Bag"): "dask graph",
    ("dask", "Item"): "dask graph",
    ("distributed", "Future"): "dask graph",
    ("scipy", "_spbase"): "sparse",
    ("scipy", "spmatrix"): "sparse",  # before 1.11
    ("torch", "Tensor"): "torch",
    ("jax", "Tracer"): "tracer",
    ("jaxlib", "ArrayImpl"): "jax",
    ("xarray", "DataArray"): "xarray",
    ("xarray", "Variable"): "xarray",
}
# DLPack's devices whose memory the CPU reads: kDLCPU, kDLCUDAHost, kDLROCMHost.
_HOST = (1, 3, 11)


class Refused(Exception):
    """A value that is not read; the text continues a sentence that begins with the argument's name."""


def kind_of(value: Any) -> str:
    """Which of the kinds above a value is of, or ""."""
    for base in type(value).__mro__:
        package = str(base.__module__).partition(".")[0]
        if kind := _KINDS.get((package, base.__name__)):
            return kind
    return ""


def lazy(value: Any) -> Any:
    """The dask array that a value is, or that an xarray object holds; else None."""
    if type(value) is np.ndarray or isinstance(value, float | int | None):
        return None
    kind = kind_of(value)
    if kind == "xarray":
        value = value.data
        kind = kind_of(value)
    return value if kind == "dask" else None


def is_lazy(*values: Any) -> bool:
    """Whether one of the values is (or holds) a dask array."""
    return any(lazy(value) is not None for value in values)


def read(value: Any) -> Any:
    """`value`, ready for np.asarray; an ndarray of its memory where only its library knows how.

    Raises Refused.
    """
    if isinstance(value, np.ndarray):
        return value
    kind, name = kind_of(value), f"{type(value).__module__}.{type(value).__qualname__}"
    if kind == "tracer":
        raise Refused(f"is a JAX tracer ({name}): in functions that JAX traces use fastact.jax")
    if kind == "dask frame":
        raise Refused(f"is a {name}, which NumPy would compute: pass its .to_dask_array(lengths=True)")
    if kind == "dask graph":
        raise Refused(f"is a {name}, which is not computed unasked: make a dask array of it, or pass its result")
    if kind == "sparse":
        raise Refused(f"is a {name}, which NumPy cannot read: pass its .toarray()")
    if kind == "torch":
        try:
            return np.asarray(value)
        except TypeError as error:  # not on the CPU, sparse, bfloat16
            raise Refused(f"is a tensor that NumPy cannot read ({error}): use fastact.torch") from None
    if kind == "xarray":
        return read(value.data)  # which may be an array of yet another library
    if kind == "jax":
        return np.asarray(value)
    cls = type(value)
    if hasattr(cls, "__array_function__") or hasattr(cls, "__array_namespace__"):
        raise Refused(
            f"is a {name}, an array of another library, which is not converted unasked: pass np.asarray(...) of it, "
            "or use fastact.torch or fastact.jax for arrays of theirs"
        )
    if hasattr(cls, "__dlpack__") and not hasattr(value, "mask"):
        return _from_dlpack(value, name)
    return value


def _on_the_host(value: Any) -> bool:
    return int(value.__dlpack_device__()[0]) in _HOST


def _from_dlpack(value: Any, name: str) -> Any:
    """Its memory as an ndarray; the value itself where that cannot be had and NumPy knows another way."""
    if not _on_the_host(value):
        raise Refused(f"is a {name} on another device: copy it to the CPU first")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if hasattr(value, "__array__"):
            return value
        raise Refused(f"is a {name} that NumPy cannot read through DLPack: {error}") from None


def memory_of(out: Any) -> np.ndarray | None:
    """An ndarray on the memory of an `out` that is none itself: a buffer, or DLPack on the CPU; None where it is not.

    It is never a copy, but it may be read-only.  Raises Refused.
    """
    kind = kind_of(out)
    if kind == "torch":
        return read(out)
    if kind in ("dask", "xarray", "tracer") or isinstance(out, np.generic | bytes):
        return None
    try:
        return np.asarray(memoryview(out))
    except (TypeError, ValueError, BufferError):
        pass
    if not hasattr(type(out), "__dlpack__") or not _on_the_host(out):
        return None
    try:
        return np.from_dlpack(out, copy=False)
    except TypeError:  # NumPy 2.0 has no `copy`, nor have older exporters, which do not copy
        return np.from_dlpack(out)
