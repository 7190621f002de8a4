"""What a bug report needs: config() as a dict, show_config() as text; and warmup().

Every entry is a fact that another room knows; nothing is decided here.  Numba is imported, because a report has to say
whether it works, so the first call takes its time.
"""

import platform
import sys
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from . import _backends, _buffers, _built, _cpu, _settings
from ._tables import INTEGERS, OPERATIONS, TYPES, module_of
from ._version import __version__


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _backend_in_force() -> str:
    """The default backend, or why the one that was asked for is not there."""
    try:
        return _settings.get_backend()
    except RuntimeError as error:
        return f"none: {error}"


def config() -> dict:
    """Return versions, backends, SIMD levels, threads, caches and buffers as a dict.

    Examples
    --------
    >>> import fastact
    >>> fastact.config()["backends"]["numpy"]
    'available'
    """
    numba = {"version": _version("numba")}
    if not _backends.missing("numba"):
        from ._numba import kernels

        numba["cache_folder"] = kernels.cache_folder()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "numba": numba,
        "backend": _backend_in_force(),
        "backends": {name: _backends.missing(name) or "available" for name in _backends.NAMES},
        "simd": {
            "built": _built.built_levels(),
            "found": _built.CPU_LEVEL if _built.driver else "unknown (not compiled)",
            "in_use": _built.level(),
        },
        "missing_modules": _built.missing_modules(),
        "threads": {
            "bound": _settings.get_num_threads(),
            "processors": _cpu.processors(),
            "source": _settings.get_thread_source(),
            "openmp_runtimes": _built.driver.openmp_runtimes() if _built.driver else [],
            "openmp_source": (_built.driver and _built.driver.openmp_source()) or "none",
            "driver": "compiled" if _built.driver else "in Python, where the Numba variant runs on one thread",
        },
        "c_interface": _built.entry.__file__ if _built.entry else "none",
        "cpu": _cpu.model(),
        "caches": dict(_cpu.caches()),
        "memory": _cpu.memory(),
        "policy": _built.policy.thresholds(),
        "buffers": _buffers.counters(),
    }


def show_config() -> None:
    """Print config() for a bug report (also: ``python -m fastact``)."""
    for key, value in config().items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, fact in value.items():
                print(f"    {name}: {fact}")
        else:
            print(f"{key}: {value}")


def warmup(operations: Iterable[str] | None = None, dtypes: Iterable[npt.DTypeLike] | None = None) -> None:
    """Compile Numba kernels now, and cache them on disk where that works.

    On a terminal the progress is shown on the standard error stream.

    Parameters
    ----------
    operations : iterable of str, optional
        Names of public functions, such as ``["relu", "prelu_backward"]``.  Default: all.
    dtypes : iterable of dtype, optional
        Of x: float32, float64, or for `relu` an integer or bool.  Default: all of these.

    Raises
    ------
    ValueError
        If an operation is unknown.
    TypeError
        If there are no kernels for a dtype.
    RuntimeError
        If Numba is not available here.

    Examples
    --------
    >>> import fastact
    >>> fastact.warmup(["relu"], ["float32"])
    """
    names = list(OPERATIONS) if operations is None else _listed(operations, "operations")
    for name in names:
        if name not in OPERATIONS:
            raise ValueError(f"operations: {name!r} is not one of {', '.join(OPERATIONS)}")
    known = (*TYPES, *INTEGERS)
    types = []
    for given in known if dtypes is None else _listed(dtypes, "dtypes"):
        try:
            dtype = None if given in known else np.dtype(given)  # NumPy has no name "bfloat16"
        except TypeError:
            dtype = np.dtype(object)
        types.append(given if dtype is None else dtype.name)
        if types[-1] not in known or (dtype is not None and not dtype.isnative):
            raise TypeError(
                f"dtypes: there are no kernels for {given}: it must be {', '.join(TYPES)}, an integer or bool"
            )
    _backends.require("numba")
    wanted = dict.fromkeys(
        (op.kernel, dtype) for op in map(OPERATIONS.get, names) for dtype in types if module_of(op.kernel, dtype)
    )
    shown = sys.stderr is not None and sys.stderr.isatty()
    for done, (kernel, dtype) in enumerate(wanted):
        if shown:
            text = f"fastact.warmup: {done + 1}/{len(wanted)} {kernel} {dtype}"
            print(f"\r{text:60}", end="", file=sys.stderr, flush=True)
        _backends.kernel_address("numba", kernel, dtype)
    if shown:
        print(f"\r{f'fastact.warmup: {len(wanted)} kernels are ready':60}", file=sys.stderr)


def _listed(values: Iterable, name: str) -> list:
    """The values; a single string is most likely one name that was meant as a list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be several, as in {name}=[{values!r}]; it is {values!r}")
    return list(values)
