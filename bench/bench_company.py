"""Calls between other libraries' operations, a workload for each host that is installed.

The row `company` of `python -m bench.figures` has all of them.  The record of a test is the time of its measurement.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

import fastact

from .company import HOSTS, ROUNDS, after

if TYPE_CHECKING:
    from .report import Report


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.skipif(fastact.get_num_threads() == 1, reason="one processor")
def test_company(host: str, benchmark: Any, report: "Report | None") -> None:
    if importlib.util.find_spec(host) is None:
        pytest.skip(f"{host} is not installed")
    benchmark.group = f"company {host}"
    rounds = ROUNDS // 2 if benchmark.enabled else 3
    lines = benchmark.pedantic(lambda: list(after(host, "arcface_r50_stage3", rounds)), rounds=1)
    assert all(line.value > 0 and line.against > 0 for line in lines)
    benchmark.extra_info.update({f"{line.case}: {line.name} / {line.baseline}": line.ratio for line in lines})
    if report is not None:
        report.lines += lines
