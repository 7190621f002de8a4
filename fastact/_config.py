"""What a bug report needs: config() as a dict, show_config() as text; and warmup().

Every entry is a fact that another room knows; nothing is decided here.  Importing Numba is part of the
answer (whether it works is what people ask), so the first call takes its time.
"""

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from . import _backends, _buffers, _cpu, _dispatch, _settings
from ._operations import OPERATIONS


def _version(package: str) -> str:
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
    driver = _backends.driver
    numba = {"version": _version("numba")}
    if not _backends.missing("numba"):
        from ._numba import kernels

        numba |= {"cache_folder": kernels.cache_folder(), "threads": "fastact's own driver (no Numba layer)"}
    return {
        "version": _version("fastact"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "numba": numba,
        "backend": _backend_in_force(),
        "backends": {name: _backends.missing(name) or "available" for name in _backends.NAMES},
        "simd": {
            "built": _backends.built_levels(),
            "found": driver.CPU_LEVEL if driver else "unknown (not compiled)",
            "in_use": _backends.level(),
        },
        "threads": {
            "bound": _settings.get_num_threads(),
            "cores": _cpu.cores(),
            "openmp": bool(driver and driver.OPENMP),
        },
        "cpu": _cpu.model(),
        "caches": dict(_cpu.caches()),
        "memory": _cpu.memory(),
        "policy": _dispatch.describe_policy(),
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


def warmup() -> None:
    """Compile every Numba kernel now (and cache it on disk where that works).

    Raises
    ------
    RuntimeError
        If Numba is not available here.
    """
    _backends.require("numba")
    for dtype in (np.float32, np.float64):
        for kernel in sorted({op.kernel for op in OPERATIONS.values()}):
            _backends.kernel_address("numba", kernel, np.dtype(dtype))
    for dtype in (np.int8, np.int16, np.int32, np.int64):
        _backends.kernel_address("numba", "relu", np.dtype(dtype))
