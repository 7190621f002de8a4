"""The benchmark: one operation on one workload by one contestant, timed and checked.

The cases come from conftest.  The result is checked in here, because `--benchmark-only` skips every test
without the fixture: fastact's y and dx must equal the reference bit for bit and its dalpha lie within the
contract's bound; the others get a loose tolerance.  A timed call's result is dropped before the next
call, as timeit does; without timing the call is made once.  The figures go to pytest-benchmark's extra_info.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .cases import Case, threads_of
from .checks import check_result
from .report import Report, Row
from .timing import REST, OutOfTime, deadline, plan
from .workloads import expected


def test_operation(benchmark: Any, case: Case, report: Report) -> None:
    contestant, task = case.contestant, case.task()
    out = case.outputs() if case.form == "out" else None
    benchmark.group = f"{case.group} {case.form}"
    with contestant.session(threads_of(case.threads), case.dtype):
        call = contestant.prepare(task, out)
        if not benchmark.enabled:
            check(case, benchmark.pedantic(call))
            return
        limit = case.limit()
        time.sleep(REST)
        rounds, iterations = plan(call)
        timed = call if iterations > 1 else dropping(call)
        with suppress(OutOfTime):
            benchmark.pedantic(timed, rounds=rounds, iterations=iterations, teardown=deadline())
        check(case, call())
    median = benchmark.stats["median"]
    row = Row(case, median, task.nbytes, limit, report.baseline(case, median))
    benchmark.extra_info.update(row.figures())
    report.add(row)


def dropping(call: Callable[[], Any]) -> Callable[[], None]:
    """The call without its result, which would otherwise live on during the next round."""

    def dropped() -> None:
        call()

    return dropped


def check(case: Case, result: Any) -> None:
    """Hold a result against the reference."""
    wanted = expected(case.operation, case.workload, case.dtype)
    check_result(case.contestant.arrays(case.task(), result), wanted, case.contestant.exact)
