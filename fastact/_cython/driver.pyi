from typing import Any

import numpy as np
from typing_extensions import disjoint_base

CPU_LEVEL: str
SOURCES: dict[str, int]

def openmp_source() -> str | None: ...
def openmp_threads() -> int: ...
def openmp_runtimes() -> list[str]: ...

@disjoint_base
class Bound:
    def __init__(
        self, kernel: int, y: np.ndarray | None, dy: np.ndarray | None, x: np.ndarray, threads: int, stream: bool
    ) -> None: ...
    def __call__(self, *args: object, **kwargs: object) -> None: ...  # takes none, but Cython gives it no signature

def describe(
    y: np.ndarray | None,
    dy: np.ndarray | None,
    x: np.ndarray,
    alpha: np.ndarray | None,
    order: tuple[int, ...],
    summed: bool,
) -> dict[str, Any] | None: ...
