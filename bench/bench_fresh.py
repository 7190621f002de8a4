"""Fresh results against the same calls with out=: below the caches' sizes, around them, and far above.

A few sizes of `races.fresh`, so that a regression of the recycled memory is seen in every timed run.
"""

from collections.abc import Callable, Iterator

from .races import KB, MB, Race, fresh


def races(timed: bool) -> Iterator[Race]:
    sizes = (256 * KB, 4 * MB, 32 * MB) if timed else (256 * KB,)
    return fresh(sizes=sizes, dtypes=("float32",))


def test_fresh(race: Race, compete: Callable[[Race], None]) -> None:
    compete(race)
