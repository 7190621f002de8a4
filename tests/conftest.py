"""Fixtures: the variants of the machine, and a clean state of the process-wide settings after each test.

A test that asks for `variant` runs once for every backend and SIMD level that this machine has; one that
asks for `name` runs once for every operation in the table.  Helpers to import are in helpers.py (a conftest
cannot be imported safely by name).  Nothing here imports what [bench] alone does not bring: pytest loads this
file before --benchmark-only can leave the folder out.
"""

import os
from contextlib import nullcontext

import pytest
from helpers import COMPILED, FLOATS, VARIANTS

import fastact
from fastact import _buffers, _built, _cpu, _dispatch, _settings
from fastact._operations import OPERATIONS


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
def policy(monkeypatch):
    """A function that sets thresholds of the dispatch (stream_bytes=0, say) until the test ends."""

    def tell():
        for listener in _built.on_change:
            listener()

    def change(**thresholds):
        for threshold, value in thresholds.items():
            monkeypatch.setattr(_dispatch, threshold.upper(), value)
        tell()

    yield change
    monkeypatch.undo()
    tell()


@pytest.fixture(autouse=True, scope="session")
def neutral():
    """Tests judge the package, not the variables of this shell; they ask for more threads than processors, too."""
    for variable in [name for name in os.environ if name.startswith(("FASTACT_", "OMP_", "GOMP_"))]:
        if variable != "FASTACT_FREE_THREADED":  # a path, for test_free_threaded.py
            del os.environ[variable]
    _settings._variable_backend = _settings._variable_threads = None
    _settings.openmp_variables = _settings.MOST_THREADS
    _buffers._default = min(1 << 30, _cpu.memory() // 8)
    for reset in (fastact.set_backend, fastact.set_num_threads, fastact.set_buffer_limit):
        reset(None)
    with _built.use_level(_built.levels()[-1]) if _built.levels() else nullcontext(), _settings.oversubscribed(1000):
        yield


@pytest.fixture(autouse=True)
def settings_kept():
    """No test may leave another backend, thread count or buffer limit behind."""
    before = fastact.get_backend(), fastact.get_num_threads(), fastact.get_buffer_limit()
    yield
    assert (fastact.get_backend(), fastact.get_num_threads(), fastact.get_buffer_limit()) == before
