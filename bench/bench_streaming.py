"""Streaming stores on and off, and the package's choice, on both sides of the threshold.

A few sizes of `races.streaming`; `python -m bench.curves` draws the whole curve.
"""

from collections.abc import Callable, Iterator

from .races import KB, MB, Race, streaming


def races(timed: bool) -> Iterator[Race]:
    return streaming(sizes=(512 * KB, 4 * MB, 32 * MB) if timed else (512 * KB,))


def test_streaming(race: Race, compete: Callable[[Race], None]) -> None:
    compete(race)
