from collections.abc import Mapping

import numpy as np

DTYPES: dict[str, int]
STATUSES: dict[str, int]

def use_kernels(addresses: Mapping[tuple[str, str], int]) -> None: ...
def use_movers(addresses: Mapping[str, int]) -> None: ...
def capsule() -> object: ...
def launch_masked(
    name: str,
    address: int,
    y: np.ndarray,
    mask: np.ndarray,
    x: np.ndarray,
    alpha: float,
    threads: int,
    source: int,
) -> None: ...
def launch_arrays(
    name: str,
    address: int,
    y: np.ndarray | None,
    dy: np.ndarray | None,
    x: np.ndarray,
    alpha: np.ndarray | None,
    dalpha: np.ndarray | None,
    threads: int,
    source: int,
) -> None: ...
