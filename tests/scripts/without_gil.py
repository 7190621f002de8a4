"""Imports every compiled module: none may switch the GIL on.  `python -W error tests/scripts/without_gil.py`."""

import importlib
import sys

assert not sys._is_gil_enabled()

import fastact.ops  # noqa: E402
from fastact._built import KINDS, levels  # noqa: E402

assert len(levels()) >= 1
kernels = [f"{level}.{kind}" for kind in KINDS for level in levels()]
for name in ("driver", "buffers", "contexts", "front", *kernels):
    importlib.import_module(f"fastact._cython.{name}")
    assert not sys._is_gil_enabled(), name
assert fastact.get_backend() == "cython"
print("off")
