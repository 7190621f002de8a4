"""Which driver runs checked arrays: the compiled one, or the serial one in Python where it was not built."""

from . import _built, _driver

if _built.entry is not None:
    launch, Bound = _built.entry.launch_arrays, _built.driver.Bound
else:
    launch, Bound = _driver.launch_arrays, _driver.Bound

__all__ = ["Bound", "launch"]
