"""Measurements in new processes, against fixed targets: import, the Numba variant's first call, extra memory."""

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import product

from .figures import MB, measured, variants
from .groups import Group, Target
from .timing import Effort

IMPORT = 0.060  # seconds beyond NumPy
FIRST_CALL = 1.5  # seconds, with a warm disk cache
EXTRA_MEMORY = MB  # bytes, for 16 million elements and for 32 million
FIRST_CALLS = {
    "relu": "fastact.relu(x, backend='numba')",
    "prelu": "fastact.prelu(x, 0.25, backend='numba')",
    "prelu_backward": "fastact.prelu_backward(x, x, 0.25, backend='numba')",
}
FIRST_CALL_SCRIPT = """
import time, numpy, fastact
x = numpy.ones(64, "float32")
start = time.perf_counter()
{call}
print(time.perf_counter() - start)
"""
# The peak never falls.  So all arrays are touched, and the call is made on a few elements, before the first reading.
# The peak is read from /proc, because ru_maxrss of a new process begins with its parent's peak.
EXTRA_SCRIPT = """
import numpy, fastact
def arrays(shape):
    made = [numpy.empty(shape, "float32") for _ in range(3)]
    made[0].fill(1), made[1].fill(-1), made[2].fill(0)
    return made
def run(dy, x, dx):
    fastact.prelu_backward(dy, x, alpha, channel_axis={axis}, out=(dx, None), backend="{backend}")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
alpha = numpy.full({alphas}, 0.25, "float32")
few = arrays({few})
many = arrays({many})
run(*few)
before = peak()
run(*many)
print((peak() - before) * 1024)
"""
REQUIRED = [Target("measured", ("required",), 1.0)]


def _python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def _against(figures: list[float], required: float) -> dict[str, list[float]]:
    return {"measured": figures, "required": [required] * len(figures)}


def imports(quick: bool = False) -> Iterator[Group]:
    """Import beyond NumPy, and the first call of the Numba variant."""
    yield measured("imports", "import fastact, beyond numpy", partial(_import, 3 if quick else 21), REQUIRED)
    for name, call in FIRST_CALLS.items() if "numba" in variants() else ():
        script = FIRST_CALL_SCRIPT.format(call=call)
        measure = partial(_first_call, script, 1 if quick else 5)
        yield measured("imports", f"first call {name}, numba", measure, REQUIRED)


def _import(times: int, effort: Effort) -> dict[str, list[float]]:
    beyond = []
    for _ in range(times):
        seconds = []
        for script in ("import numpy", "import numpy, fastact"):
            start = time.perf_counter()
            _python(script)
            seconds.append(time.perf_counter() - start)
        beyond.append(seconds[1] - seconds[0])
    return _against(beyond, IMPORT)


def _first_call(script: str, times: int, effort: Effort) -> dict[str, list[float]]:
    _python(script)  # fills the disk cache
    return _against([float(_python(script)) for _ in range(times)], FIRST_CALL)


def extra(quick: bool = False) -> Iterator[Group]:
    """Memory of prelu_backward beyond dx."""
    forms = {  # the shape of n elements, the channels' axis, the number of alphas
        "64 channels": (lambda n: (n // 262144, 64, 4096), 1, 64),
        "shared": (lambda n: (n,), 0, 1),
        "channels last 64": (lambda n: (n // 64, 64), 1, 64),
    }
    for n, backend, (form, (shape, axis, alphas)) in product((16 * MB, 32 * MB), variants(), forms.items()):
        few = shape(262144)
        script = EXTRA_SCRIPT.format(axis=axis, backend=backend, alphas=alphas, few=few, many=shape(n))
        name = f"{form} {n / MB:g} million elements, {backend}"
        yield measured("extra", name, partial(_extra, script), REQUIRED, "B")


def _extra(script: str, effort: Effort) -> dict[str, list[float]]:
    return _against([max(float(_python(script)), 1.0)], EXTRA_MEMORY)
