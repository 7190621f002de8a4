"""A row: one contestant's figures in one heat, from the rounds in which all took turns.

Times are medians over the rounds, ratios medians of the rounds' ratios, so that a machine that drifts
slows down both sides.  `spread` is half the distance between the quartiles over the median.  The share of
the limit is the memory limit's time over the row's: 1.0 is as fast as memory, or the cache that holds the
arrays, allows.
"""

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .cases import Case, threads_of
from .contestants import LIMIT
from .heats import Heat
from .timing import CLEAR, ROUNDS, far_apart

CLOSE = 1.03  # times of the fastest within which somebody wins as well: the noise


@dataclass(frozen=True)
class Row:
    """One contestant in one heat."""

    case: Case
    heat: Heat

    @property
    def times(self) -> list[float]:
        """Seconds a call, round by round; empty where there are none."""
        return self.heat.times.get(self.case.competitor, [])

    @property
    def reason(self) -> str:
        """Why it is out, or an empty string."""
        return self.heat.reasons.get(self.case.competitor, "")

    @cached_property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.times)

    @cached_property
    def spread(self) -> float:
        """Half of what lies between the quartiles, over the median."""
        first, _, third = statistics.quantiles(self.times, n=4, method="inclusive")
        return (third - first) / 2 / self.seconds

    @property
    def sure(self) -> bool:
        """Whether there is enough to claim something."""
        return len(self.times) > ROUNDS[0] and self.spread <= CLEAR

    @property
    def error(self) -> float | None:
        """Of dalpha, in ulp, where it was asked for."""
        return self.heat.errors.get(self.case.competitor)

    def speedup(self, name: str) -> float | None:
        """How many times as fast as another contestant of the heat."""
        others = self.heat.times.get(name)
        return statistics.median(b / a for a, b in zip(self.times, others, strict=True)) if others else None

    def torn(self, name: str) -> bool:
        """Whether the medians of the times say something else than the median of the rounds' ratios."""
        others = self.heat.times.get(name)
        if not others:
            return False
        return far_apart(statistics.median(others) / self.seconds, self.speedup(name))

    @property
    def share(self) -> float | None:
        """Of the memory limit."""
        return self.speedup(LIMIT)

    @cached_property
    def won(self) -> bool:
        """Whether it is sure that nobody but the limit is faster, neither round by round nor by the medians."""
        others = {name: times for name, times in self.heat.times.items() if name != LIMIT}
        return (
            self.sure
            and self.case.competitor in others
            and all(
                min(self.speedup(name), statistics.median(times) / self.seconds) >= 1 / CLOSE
                for name, times in others.items()
            )
        )

    @property
    def rate(self) -> float:
        """GB/s, every array of x's size counted once."""
        return self.heat.nbytes / self.seconds / 1e9

    def figures(self, baseline: str) -> dict[str, Any]:
        """What pytest-benchmark saves with the times."""
        figures = {
            "threads": threads_of(self.case.threads),
            "bytes": self.heat.nbytes,
            "gb_per_s": self.rate,
            "spread": self.spread,
            f"speedup_over_{baseline}": self.speedup(baseline),
            "share_of_limit": self.share,
        }
        if self.heat.limit:
            figures["limit"] = self.heat.limit
        if self.error is not None:
            figures["dalpha_error_ulp"] = self.error
        return figures
