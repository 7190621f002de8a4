"""Which driver runs a plan: the compiled one, or the serial one in Python where it was not built."""

from . import _built, _driver

if _built.driver is not None:
    launch, Bound = _built.driver.launch_arrays, _built.driver.Bound
else:
    launch, Bound = _driver.launch_arrays, _driver.Bound

__all__ = ["Bound", "launch"]
