"""Importing this leaves the compiled core out, as where there was no compiler."""

import sys

for name in ("driver", "buffers", "contexts", "front"):
    sys.modules[f"fastact._cython.{name}"] = None
