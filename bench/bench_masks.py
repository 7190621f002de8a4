"""relu and leaky_relu, forward and backward: a mask between them against x, in L2 and from memory.

A few sizes of `races.masks`, so that a regression is seen in every timed run.
"""

from collections.abc import Callable, Iterator

from .races import KB, MB, Race, masks


def races(timed: bool) -> Iterator[Race]:
    sizes = (256 * KB, 32 * MB) if timed else (256 * KB,)
    return masks(sizes=sizes, bound=False)


def test_masks(race: Race, compete: Callable[[Race], None]) -> None:
    compete(race)
