"""The benchmark: one contestant of one comparison group, timed in turns with the others and checked.

The groups come from conftest.  groups.py checks each result before it times anything: fastact's y and dx must equal the
reference bit for bit, and its dalpha must lie within the contract's bound; the others get a loose tolerance.  The times
of a group's rounds are replayed to pytest-benchmark, with more facts in extra_info.  Untimed, each call is made once.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from .contestants import COPY
from .groups import Group, Groups
from .results import entry


class Out(Exception):
    """Why a contestant is out of its group."""


class Clock:
    """Time as pytest-benchmark sees it: it passes by what a group's rounds took, and by nothing else."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def replay(self, times: Iterable[float]) -> Callable[[], None]:
        """A function each of whose calls takes one of these times."""
        left = iter(times)

        def call() -> None:
            self.now += next(left, 0.0)

        return call


CLOCK = Clock()


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")  # if untimed, or if the contestant is out
def test_group(benchmark: Any, group: Group, member: str, groups: Groups, pytestconfig: pytest.Config) -> None:
    found = groups.of(group)
    report = pytestconfig.pluginmanager.get_plugin("fastact-report")
    if why := found.reasons.get(member):
        report.failed(group, member, why)
        raise Out(f"{member}: {why}")
    if not benchmark.enabled:
        report.checked(group, member, found)
        return
    if member not in found.times:
        pytest.skip("too small to have a bandwidth bound" if member == COPY else "not measured")
    benchmark.group = f"{group.part}: {group.name}"
    info = entry(group, member, found, report.baseline)
    report.add(group, info | {"times": found.times[member]})
    benchmark.pedantic(CLOCK.replay(found.times[member]), rounds=len(found.times[member]))
    benchmark.extra_info.update(info)
