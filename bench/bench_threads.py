"""One thread, all of them and the package's choice, around the size where a second one begins to pay.

A few sizes of `races.threads`; the first race is the cost of starting a team.
"""

from collections.abc import Callable, Iterator

from .races import KB, MB, Race, threads


def races(timed: bool) -> Iterator[Race]:
    return threads(sizes=(64 * KB, 256 * KB, MB) if timed else (64 * KB,))


def test_threads(race: Race, compete: Callable[[Race], None]) -> None:
    compete(race)
