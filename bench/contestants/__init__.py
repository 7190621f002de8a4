"""Who is timed: fastact's backends, the bandwidth bound, NumPy, first attempts, the peers, and the user's own.

`CONTESTANTS` has the order of the tables.  `load` adds the instances that a user's file lists in its own `CONTESTANTS`
(docs/benchmarks.md has an example).
"""

import runpy

from .arrays import Copy, Fastact, NumExpr, NumPy, NumPyBest, TextbookCython, TextbookNumba
from .base import Call, Contestant, Outputs
from .jax_ import Jax, JaxWithFastact
from .litert_ import LiteRt
from .onnxruntime_ import OnnxRuntime, OnnxRuntimeWithLibrary
from .openvino_ import OpenVino
from .torch_ import OneDNN, Torch, TorchEnabled
from .torch_compile import TorchCompile

__all__ = ["CONTESTANTS", "COPY", "Call", "Contestant", "Copy", "Fastact", "Outputs", "label_of", "load"]

COPY = Copy.name
CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Copy(),
        *(Fastact(backend) for backend in ("cython", "numba", "numpy")),
        NumPy(),
        NumPyBest(),
        NumExpr(),
        TextbookNumba(),
        TextbookCython(),
        Torch(),
        TorchEnabled(),
        TorchCompile(),
        OneDNN(),
        Jax(),
        JaxWithFastact(),
        OnnxRuntime(),
        OnnxRuntimeWithLibrary(),
        OpenVino(),
        LiteRt(),
    )
}


def label_of(name: str) -> str:
    """A contestant's name in tables; any other name stays as it is."""
    return CONTESTANTS[name].label if name in CONTESTANTS else name


def load(path: str) -> None:
    """Add the contestants that a Python file lists."""
    listed = runpy.run_path(path).get("CONTESTANTS")
    if not isinstance(listed, list | tuple) or not all(isinstance(one, Contestant) for one in listed):
        raise ValueError(f"{path} needs a list CONTESTANTS of instances of bench.contestants.Contestant")
    for one in listed:
        if not one.name or one.name in CONTESTANTS:
            raise ValueError(f"{path}: a contestant needs a name of its own, not {one.name!r}")
        CONTESTANTS[one.name] = one
