"""The benchmark: one operation on one workload by one contestant, timed in turns with the others and checked.

The cases come from conftest.  A heat (heats.py) has checked the result before it times anything: fastact's y and dx
must equal the reference bit for bit and its dalpha lie within the contract's bound; the others get a loose tolerance.
The rounds of the heat go through pytest-benchmark, the figures to its extra_info.  Untimed, the call is made once.
"""

from contextlib import nullcontext
from typing import Any

import pytest

from .cases import Case
from .checks import check_result
from .heats import Clock, Heats, Out, prepared
from .report import Report
from .rows import Row
from .workloads import expected

CLOCK = Clock()


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")  # by somebody who is out, or interrupted
def test_operation(benchmark: Any, case: Case, report: Report, heats: Heats) -> None:
    benchmark.group = case.heat
    if not benchmark.enabled:
        once(benchmark, case)
        return
    row = Row(case, heats.of(case))
    report.add(row)
    if row.reason:
        raise Out(f"{case.contestant.label}: {row.reason}")
    if not row.times:
        pytest.skip("too small to have a memory limit")
    with prepared(case, row.heat.limit) if benchmark.cprofile else nullcontext() as call:
        if call:  # what is profiled is a call after the first one
            call()
        benchmark.pedantic(CLOCK.replay(row.times, call), rounds=len(row.times))
    benchmark.extra_info.update(row.figures(report.baseline))


def once(benchmark: Any, case: Case) -> None:
    """Make the call, and hold its result against the reference."""
    with prepared(case) as call:
        results = case.contestant.arrays(case.task(), benchmark.pedantic(call))
        check_result(results, expected(case.operation, case.workload, case.dtype), case.contestant.exact)
