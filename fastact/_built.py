"""Which compiled modules there are, why one is missing, which SIMD level is in use.

Every module is optional.  Those of the core that others build on are imported here, if they are there.  _front imports
the fast path, and the package imports the compiled ops.py.  _backends imports the kernels of a level when they are
asked for, and never on a CPU without the level.
setup.py writes a report into the folder of the modules: the compiler's words for each module that it could not build.
FASTACT_SIMD caps the level.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from ._forks import forks
from ._tables import BUILD_REPORT, CORE, INTEGER_MODULE, LEVELS, TYPES

PACKAGE = "fastact._cython"
KINDS = (*(kind.module for kind in TYPES.values()), INTEGER_MODULE)  # the modules of a level
_failed: dict[str, str] = {}  # modules that are there and do not import


def _is_built(name: str) -> bool:
    """Whether there is a compiled file for this module; nothing is imported."""
    *folders, last = name.split(".")[1:]
    spec = PathFinder.find_spec(last, [str(Path(__file__).parent.joinpath(*folders))])
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


def optional(name: str) -> ModuleType | None:
    """A module of the core, or None where it was not built or does not work here."""
    full = f"{PACKAGE}.{name}"
    try:
        return importlib.import_module(full)
    except Exception as error:  # whatever it is: a module is optional, and its error is kept for missing_modules()
        if _is_built(full):
            _failed[full] = f"{type(error).__name__}: {error}"
        return None


driver = optional("driver")
entry = optional("entry")
buffers = optional("buffers")
contexts = optional("contexts")
policy = optional("policy") or importlib.import_module("fastact._policy")


CPU_LEVEL: str = driver.CPU_LEVEL if driver is not None else "generic"


def kernel_modules(level: str) -> tuple[str, ...]:
    """The names of a level's modules."""
    return tuple(f"{PACKAGE}.{level}.{kind}" for kind in KINDS)


def missing_modules() -> dict[str, str]:
    """The compiled modules that are not there or do not import, and why."""
    known = [level for level in LEVELS if level == "generic" or any(map(_is_built, kernel_modules(level)))]
    kernels = (name for level in known for name in kernel_modules(level))
    reasons = {}
    for name in (*(f"{PACKAGE}.{name}" for name in (*CORE, "ops")), *kernels, *_report()):
        if name in _failed:
            reasons[name] = f"it does not import: {_failed[name]}"
        elif not _is_built(name):
            reasons[name] = _report().get(name) or _no_report()
    return reasons


@cache
def _report() -> dict[str, str]:
    """What setup.py could not build, and the compiler's words."""
    import json  # takes 2 ms, and is needed only where something is missing

    try:
        return json.loads((Path(__file__).parent / "_cython" / BUILD_REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no report is written where everything was built
        return {}


def _no_report() -> str:
    folder = Path(__file__).parent.parent
    if (folder / "setup.py").exists():
        return f"{folder} is a checkout that was not built (in full): run `pip install -e .` there, with a C compiler"
    return "it was not built, and the build has left no reason"


@cache
def built_levels() -> tuple[str, ...]:
    """The SIMD levels whose modules are all there."""
    return tuple(level for level in LEVELS if driver and all(map(_is_built, kernel_modules(level))))


@cache
def levels() -> tuple[str, ...]:
    """The SIMD levels that can be used here: built, and within what the CPU has."""
    return tuple(level for level in built_levels() if _rank(level) <= _rank(CPU_LEVEL))


def _rank(level: str) -> int:
    return list(LEVELS).index(level)


def _first_level() -> str | None:
    """The best level, or FASTACT_SIMD's."""
    wanted = os.environ.get("FASTACT_SIMD")
    if not wanted:
        return levels()[-1] if levels() else None
    known = ", ".join(f"{name} ({level.known_as})" for name, level in LEVELS.items())
    if wanted not in LEVELS:
        raise ValueError(f"the environment variable FASTACT_SIMD must be one of {known}; it is {wanted!r}")
    if wanted not in levels():
        why = f"above this CPU's {CPU_LEVEL}" if wanted in built_levels() else "not built"
        raise ValueError(
            f"the environment variable FASTACT_SIMD asks for {wanted!r} ({LEVELS[wanted].known_as}), which is {why}; "
            f"levels that can be used here: {', '.join(levels()) or 'none'}"
        )
    return wanted


_level = _first_level()
_movers: str | None = None  # the level whose functions move elements; None: those for any processor


def level() -> str | None:
    """The SIMD level in use (None without kernels)."""
    return _level


def load_movers() -> None:
    """Let arrays of any layout be moved by the instructions of the SIMD level in use."""
    global _movers
    if entry is not None and _movers != _level:
        with forks.imports:
            module = optional(f"{_level}.{INTEGER_MODULE}")
        if module is not None:
            entry.use_movers(module.ADDRESSES)
        _movers = _level


@contextmanager
def use_level(name: str) -> Iterator[None]:
    """Switch the SIMD level of the whole process, for tests and benchmarks."""
    global _level
    if name not in levels():
        raise ValueError(f"the SIMD level {name!r} cannot be used here; there are {levels()}")
    before, _level = _level, name
    policy.changed()
    try:
        yield
    finally:
        _level = before
        policy.changed()


def refuse_foreign_level(package: str) -> None:
    """Raise ImportError if this CPU lacks the level that a package of kernels was compiled for: they would crash."""
    level = package.rpartition(".")[2]
    if _rank(level) > _rank(CPU_LEVEL):
        raise ImportError(
            f"{package} holds kernels for CPUs with {LEVELS[level].known_as} (level {level}), and this CPU has "
            f"{CPU_LEVEL}: do not import it directly, fastact chooses the right kernels itself",
            name=package,
        )
