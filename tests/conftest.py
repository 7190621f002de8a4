"""Fixtures: the variants of the machine, and a clean state of the process-wide settings after each test.

A test that asks for `variant` runs once for every backend and SIMD level that this machine has; one that
asks for `name` runs once for every operation in the table.  Helpers to import are in helpers.py (a conftest
cannot be imported safely by name).  Nothing here imports what [bench] alone does not bring: pytest loads this
file before --benchmark-only can leave the folder out.
"""

import os
from contextlib import ExitStack, nullcontext

import numpy as np
import pytest
from helpers import COMPILED, FLOATS, OPERATIONS, VARIANTS, buffers, built, cpu, settings, tables, thresholds

import fastact


def pytest_collection_modifyitems(config, items):
    """Every case runs for float32, and the other dtypes take turns over the cases: all types compile one text.

    FASTACT_FULL_TESTS=1 runs every case for every dtype, and what is marked `full` because it takes long.
    """
    if os.environ.get("FASTACT_FULL_TESTS"):
        return
    others = [dtype for dtype in FLOATS if dtype is not np.float32]
    turns, left_out = {}, [item for item in items if item.get_closest_marker("full")]
    for item in items:
        dtype = getattr(item, "callspec", None) and item.callspec.params.get("dtype")
        if dtype in others:
            rest = tuple(str(value) for key, value in sorted(item.callspec.params.items()) if key != "dtype")
            turns.setdefault((item.path, item.function.__name__), {}).setdefault(rest, {})[dtype] = item
    for test, cases in enumerate(turns.values()):  # no operation has the same dtype in every test
        for number, case in enumerate(cases.values(), test):
            if len(case) == len(others) and len(cases) > 1:
                left_out += [item for dtype, item in case.items() if dtype is not others[number % len(others)]]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request):
    """Every backend and SIMD level of the machine."""
    return request.param


@pytest.fixture(params=COMPILED, ids=str)
def compiled(request):
    """Every compiled backend and SIMD level of the machine."""
    return request.param


@pytest.fixture(params=OPERATIONS)
def name(request):
    """Every operation in the table."""
    return request.param


@pytest.fixture(params=FLOATS, ids=lambda d: d.__name__)
def dtype(request):
    """Every floating-point dtype that is computed in."""
    return request.param


@pytest.fixture
def policy():
    """A function that sets thresholds of the policy (stream_bytes=0, say) until the test ends."""
    with ExitStack() as stack:
        yield lambda **values: stack.enter_context(thresholds(**values))


@pytest.fixture(autouse=True, scope="session")
def neutral():
    """Tests judge the package, not the variables of this shell; they ask for more threads than processors, too."""
    for variable in [name for name in os.environ if name.startswith(("FASTACT_", "OMP_", "GOMP_"))]:
        if variable != "FASTACT_FREE_THREADED":  # a path, for test_free_threaded.py
            del os.environ[variable]
    settings._variable_backend = settings._variable_threads = settings._variable_source = None
    built.policy.set_bounds(process_threads=0, openmp_variables=tables.MOST_THREADS)
    buffers._default = min(1 << 30, cpu.memory() // 8)
    for reset in (fastact.set_backend, fastact.set_num_threads, fastact.set_thread_source, fastact.set_buffer_limit):
        reset(None)
    with built.use_level(built.levels()[-1]) if built.levels() else nullcontext(), settings.oversubscribed(1000):
        yield


@pytest.fixture(autouse=True)
def settings_kept():
    """No test may leave another backend, thread count, thread source or buffer limit behind."""

    def in_force():
        return fastact.get_backend(), fastact.get_num_threads(), fastact.get_thread_source(), fastact.get_buffer_limit()

    before = in_force()
    yield
    assert in_force() == before
