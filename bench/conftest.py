"""How pytest runs the benchmarks: the groups of a run, and what is saved with it.

`pytest --benchmark-only` times the default set; options.py has the options.  Our tables replace pytest-benchmark's wide
one, except for comparisons and where one of its own display options is given.  Its saving and comparing work as usual.
Tables, plots and pages are made from a saved run alone (`python -m bench show`).
"""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

import fastact

from .contestants import CONTESTANTS
from .groups import Group, Groups
from .options import effort, figures_of, hosted, selection_of
from .selection import groups as groups_of

DISPLAY_OPTIONS = ("compare", "columns", "histogram", "cprofile", "verbose")  # --benchmark-...
STABLE_FACTS = ("version", "numpy", "backends", "simd", "threads", "caches")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each contestant of each group, in timing order."""
    if "group" in metafunc.fixturenames:
        option = metafunc.config.option
        found = list(groups_of(selection_of(option), figures_of(option), hosted(option)))
        pairs = [(group, member) for group in found for member in group.members]
        ids = [group.id(member) for group, member in pairs]
        metafunc.parametrize(("group", "member"), pairs, ids=ids)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups back in timing order if a plugin has shuffled them."""
    places = [place for place, item in enumerate(items) if _group(item)]
    ordered = sorted((items[place] for place in places), key=lambda item: item.callspec.indices["group"])
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the run's groups and its report, once the tests are known."""
    if session.config.pluginmanager.has_plugin("fastact-report"):
        return
    items = {item.nodeid: group for item in session.items if (group := _group(item))}
    chosen = [(group, item.callspec.params["member"]) for item in session.items if (group := _group(item))]
    if items:
        from .report import Report  # pandas comes with [bench] only, and this file is read before bench/ is left out

        session.config.pluginmanager.register(Report(session.config, items), "fastact-report")
        session.config.fastact_groups = Groups(chosen, effort(session.config.option))


def _group(item: pytest.Item) -> Group | None:
    """The group that an item belongs to."""
    group = item.callspec.params.get("group") if hasattr(item, "callspec") else None
    return group if isinstance(group, Group) else None


@pytest.fixture(scope="session")
def groups(pytestconfig: pytest.Config) -> Groups:
    """The groups of the run."""
    return pytestconfig.fastact_groups


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> list | None:
    """Nothing for pytest-benchmark to show, unless its own display is asked for."""
    asked = any(getattr(config.option, f"benchmark_{name}") for name in DISPLAY_OPTIONS)
    return None if asked else []


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Save what the times depend on, but nothing that changes from run to run: a comparison warns of any difference."""
    facts = json.loads(json.dumps(fastact.config()))  # in the form in which it is read from a saved run
    machine_info["fastact"] = {name: facts[name] for name in STABLE_FACTS}
    modules = {module for contestant in CONTESTANTS.values() for module in contestant.modules}
    machine_info["peers"] = {name: found for name in sorted(modules) if (found := _version(name))}
    machine_info["cpu"] = {key: value for key, value in machine_info["cpu"].items() if not key.startswith("hz_actual")}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Leave out the groups, which are objects of ours (extra_info has their parts), and add the facts of the run."""
    for benchmark in output_json["benchmarks"]:
        benchmark["params"] = {"member": benchmark["extra_info"].get("contestant")}
    output_json["fastact"] = config.pluginmanager.get_plugin("fastact-report").about()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
