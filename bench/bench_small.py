"""Calls on a few elements: fastact against NumPy, and the Numba variant against bare @njit functions.

Two sizes of `races.small`: one that is all call, and one of a real layer.
"""

from collections.abc import Callable, Iterator

from .races import Race, small


def races(timed: bool) -> Iterator[Race]:
    return small(sizes=(64, 528))


def test_small(race: Race, compete: Callable[[Race], None]) -> None:
    compete(race)
