"""How pytest runs the benchmarks: the cases and races of a run, the report and what is saved.

`pytest --benchmark-only` times the default set, `--full` everything, `--quick` a little, `--shape` the user's own
shape (options.py).  Our tables take the place of pytest-benchmark's wide one, which stays for comparisons and
whenever one of its own display options is given; saving and comparing work as ever.  Saved runs also hold
fastact's configuration and the peers' versions.
"""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fastact

from .cases import Case, choose
from .checks import check_result
from .contestants import CONTESTANTS
from .heats import Heats
from .options import effort, everything, selection_of, timed
from .races import Race, variants
from .timing import SHORT, plan, take_turns
from .workloads import expected_of

if TYPE_CHECKING:
    from .report import Report

DISPLAY_OPTIONS = ("compare", "columns", "histogram", "cprofile", "verbose")  # --benchmark-...
STABLE_FACTS = ("version", "numpy", "backends", "simd", "threads", "caches")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case, in timing order; one per race of a module, which says which ones a run has."""
    if "case" in metafunc.fixturenames:
        cases = choose(selection_of(metafunc.config.option))
        metafunc.parametrize("case", cases, ids=lambda case: case.id)
    if "race" in metafunc.fixturenames:
        races = metafunc.module.races(timed(metafunc.config.option))
        metafunc.parametrize("race", list(races) if variants() else [], ids=lambda race: race.name)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Somebody's own choice is about the operations only."""
    benchmark = collection_path.name.startswith("bench_") and collection_path.name != "bench_operations.py"
    return True if benchmark and not everything(config.option) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cases in timing order again, where a plugin has shuffled them."""
    places = [place for place, item in enumerate(items) if _case(item)]
    ordered = sorted((items[place] for place in places), key=lambda item: item.callspec.indices["case"])
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def pytest_collection_finish(session: pytest.Session) -> None:
    """A timed run gets its report once the cases are known."""
    if not timed(session.config.option):
        return
    from .report import Report  # rich comes with [bench] only, and this file is read before bench/ can be left out

    cases = {item.nodeid: case for item in session.items if (case := _case(item))}
    session.config.pluginmanager.register(Report(session.config, cases), "fastact-report")
    session.config.fastact_heats = Heats(cases.values(), effort(session.config.option))


def _case(item: pytest.Item) -> Case | None:
    """The case that an item times."""
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    return case if isinstance(case, Case) else None


@pytest.fixture(scope="session")
def heats(pytestconfig: pytest.Config) -> Heats | None:
    """The heats of the run."""
    return getattr(pytestconfig, "fastact_heats", None)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> "Report | None":
    """Where the figures go."""
    return pytestconfig.pluginmanager.get_plugin("fastact-report")


@pytest.fixture
def compete(benchmark: Any, report: "Report | None") -> Callable[[Race], None]:
    """Check every contestant's result; then time the first one for the record, and all of them in turns."""

    def run(race: Race) -> None:
        task, calls = race.make()
        wanted = expected_of(task)
        for name, call in calls.items():
            with race.session(name):
                result = call()
            results = result if isinstance(result, tuple) else (result,)
            check_result(results, wanted, exact=name.split()[0] in ("fastact", *variants()))
            for array in results:
                array.fill(np.nan)  # the next one that writes into it has to write all of it
        first = next(iter(calls))
        benchmark.group = f"{race.name} {first}"
        with race.session(first):
            if not benchmark.enabled:
                benchmark.pedantic(calls[first])
                return
            rounds, iterations = plan(calls[first], SHORT.budget)
            benchmark.pedantic(calls[first], rounds=rounds, iterations=iterations)
        lines = list(race.lines(take_turns(calls, SHORT, race.session, race.threads > 1)))
        benchmark.extra_info.update({f"{line.name} / {line.baseline}": line.ratio for line in lines})
        report.lines += lines

    return run


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> list | None:
    """Nothing for pytest-benchmark to show, unless its own display is asked for."""
    asked = any(getattr(config.option, f"benchmark_{name}") for name in DISPLAY_OPTIONS)
    return None if asked else []


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What the times depend on, and nothing that changes from run to run: a comparison warns of any difference."""
    facts = json.loads(json.dumps(fastact.config()))  # as a saved run gives it back
    machine_info["fastact"] = {name: facts[name] for name in STABLE_FACTS}
    modules = {module for contestant in CONTESTANTS.values() for module in contestant.modules}
    machine_info["peers"] = {name: found for name in sorted(modules) if (found := _version(name))}
    machine_info["cpu"] = {key: value for key, value in machine_info["cpu"].items() if not key.startswith("hz_actual")}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """A case is an object of ours, and so is a race: save a case's parts and a race's name."""
    for benchmark in output_json["benchmarks"]:
        parameters = benchmark["params"] or {}
        if isinstance(case := parameters.get("case"), Case):
            benchmark["params"] = case.parts()
        if isinstance(race := parameters.get("race"), Race):
            benchmark["params"] = {"race": race.name}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
