"""Numba's kernels in a process where no kernel of Cython's can be imported: held to the reference.

Prints one line for each kernel that was compiled: its name, its fences, and the functions outside itself that it
declares.  NUMBA_CACHE_DIR must be a new folder, because Numba shows no code that it has from a cache.
"""

import os
import re
import sys
from pathlib import Path

import numpy as np

from fastact import _built, _tables

for level in _tables.LEVELS:
    for kind in _built.KINDS:
        sys.modules[f"fastact._cython.{level}.{kind}"] = None
os.environ["FASTACT_TEST_BACKENDS"] = "numba"

from cases import CASES, LARGE  # noqa: E402
from helpers import OPERATIONS, VARIANTS, assert_right, call, operands, thresholds  # noqa: E402

from fastact._numba import kernels  # noqa: E402

assert [variant.backend for variant in VARIANTS] == ["numpy", "numba"]
COMPUTED = {"relu": "f4", "relu_backward": "f4", "prelu": "f4", "prelu_backward": "f4", "leaky_relu_backward": "f4"}
for name, dtype in COMPUTED.items():
    for case in (*CASES[::5], *LARGE[:2]):
        if case.alpha and OPERATIONS[name].alpha != "array":
            continue
        ops = operands(name, case.shape, case.alpha, np.dtype(dtype))
        axis = {"channel_axis": case.channel_axis} if OPERATIONS[name].alpha == "array" else {}
        for streamed in ({}, {"stream_bytes": 0, "stream_bytes_per_thread": 0}):
            with thresholds(**streamed):
                got = call(name, ops, VARIANTS[1], **axis)
            assert_right(name, ops, got, case.channel_axis, f"{case} {streamed}")
x = np.arange(-500, 500, dtype=np.int32)
assert_right("relu", {"x": x}, call("relu", {"x": x}, VARIANTS[1]))

maps = Path("/proc/self/maps")
if maps.exists():
    loaded = re.findall(r"_cython/\w+/\w+\.\S*so", maps.read_text())
    assert not loaded, loaded
for (name, dtype), kernel in kernels._compiled.items():
    code = kernel._library
    declared = set(re.findall(r"^declare .*?@\"?([\w.$]+)", code.get_llvm_str(), re.M))
    print(name, dtype, code.get_asm_str().count("sfence"), *sorted(f for f in declared if not f.startswith("llvm.")))
