"""Which driver runs checked arrays: the compiled one, or the serial one in Python where it was not built."""

from . import _built, _driver

if _built.entry is not None:
    launch, launch_masked, Bound = _built.entry.launch_arrays, _built.entry.launch_masked, _built.driver.Bound
else:
    launch, launch_masked, Bound = _driver.launch_arrays, _driver.launch_masked, _driver.Bound

__all__ = ["Bound", "launch", "launch_masked"]
