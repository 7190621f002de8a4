"""How pytest runs the benchmarks: the cases of a run, the report and what is saved.

`pytest --benchmark-only` times the default set, `--full` everything, `--shape` the user's own shape
(options.py).  Our tables take the place of pytest-benchmark's wide one, which stays for comparisons and
whenever one of its own display options is given; saving and comparing work as ever.  Saved runs also hold
fastact's configuration and the peers' versions.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

import fastact

from .cases import Case, choose
from .contestants import CONTESTANTS
from .options import chosen_dtypes, chosen_workloads, timed
from .report import Report

DISPLAY_OPTIONS = ("compare", "columns", "histogram", "cprofile", "verbose")  # --benchmark-...
STABLE_FACTS = ("version", "numpy", "backends", "simd", "threads", "caches")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case, in timing order."""
    if "case" in metafunc.fixturenames:
        option = metafunc.config.option
        cases = choose(chosen_workloads(option), chosen_dtypes(option), timed=timed(option), full=option.full)
        metafunc.parametrize("case", cases, ids=lambda case: case.id)


def pytest_collection_finish(session: pytest.Session) -> None:
    """A timed run gets its report once the cases are known."""
    cases = {}
    for item in session.items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if isinstance(parameters.get("case"), Case):
            cases[item.nodeid] = parameters["case"]
    if timed(session.config.option):
        session.config.pluginmanager.register(Report(session.config, cases), "fastact-report")


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report | None:
    """Where the figures go."""
    return pytestconfig.pluginmanager.get_plugin("fastact-report")


def pytest_benchmark_group_stats(config: pytest.Config) -> list | None:
    """Nothing for pytest-benchmark to show, unless its own display is asked for."""
    asked = any(getattr(config.option, f"benchmark_{name}") for name in DISPLAY_OPTIONS)
    return None if asked else []


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What the times depend on, and nothing that changes from run to run: a comparison warns of any difference."""
    facts = json.loads(json.dumps(fastact.config()))  # as a saved run gives it back
    machine_info["fastact"] = {name: facts[name] for name in STABLE_FACTS}
    machine_info["peers"] = {name: found for name in CONTESTANTS if (found := _version(name))}
    machine_info["cpu"] = {key: value for key, value in machine_info["cpu"].items() if not key.startswith("hz_actual")}


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """A case is an object of ours: save its parts."""
    for benchmark in output_json["benchmarks"]:
        case = (benchmark["params"] or {}).get("case")
        if isinstance(case, Case):
            benchmark["params"] = case.parts()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
