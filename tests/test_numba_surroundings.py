"""Numba where its surroundings are bad: no folder to cache in, a damaged cache, several first processes, a Numba that
does not work.  The call computes (uncached, if need be) or says why it cannot; nothing is silent and nothing aborts.

Each test runs fresh processes with a cache folder of their own.
"""

import os
import subprocess
import sys

import pytest
from helpers import clean_environment, output_of, python

import fastact
from fastact import _backends

needs_numba = pytest.mark.skipif("numba" not in fastact.available_backends(), reason="no Numba here")

RELU = """
import numpy as np, fastact
x = np.arange(-500, 500, dtype=np.int32)  # integers: the quickest to compile
assert (fastact.relu(x, backend="numba") == np.maximum(x, 0)).all()
print("right")
"""
UNWRITABLE = """
from numba.core import caching
def refuse(self):
    raise PermissionError("read-only file system")
for locator in list(vars(caching).values()):
    if isinstance(locator, type) and issubclass(locator, caching._CacheLocator):
        locator.ensure_cache_path = refuse
"""


@needs_numba
def test_no_folder_can_be_written():
    """As in a read-only container: compiled without a cache, and config() says so."""
    assert output_of(UNWRITABLE + RELU).split() == ["right"]
    assert output_of(UNWRITABLE + "import fastact; print(fastact.config()['numba']['cache_folder'])") == "None"


@needs_numba
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "empty"])
def test_damaged_cache(suffix, damage, tmp_path):
    """The damaged file is not believed, and the process after that finds a good one."""
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert output_of(RELU, **folder) == "right"
    files = list(tmp_path.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        data = file.read_bytes()
        file.write_bytes({"garbage": b"\x93" * len(data), "cut": data[: len(data) // 2], "empty": b""}[damage])
    assert output_of(RELU, **folder) == "right"
    assert output_of(RELU, **folder) == "right"


@needs_numba
def test_first_processes_at_once(tmp_path):
    """Three processes that compile into the same empty folder."""
    command = [sys.executable, "-c", RELU]
    environment = clean_environment() | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = [subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    for process in first:
        out, err = process.communicate(timeout=120)
        assert out.split() == ["right"], err
    assert output_of(RELU, NUMBA_CACHE_DIR=str(tmp_path)) == "right"


def fake_numba(tmp_path, text):
    """A package `numba` that says and does only this, before the real one on the path."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(text)
    return {"PYTHONPATH": f"{tmp_path}:{clean_environment()['PYTHONPATH']}"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("__version__ = '0.40.0'\n", id="too old"),
        pytest.param("raise ImportError('Numba needs NumPy 1.20 or less')\n", id="another NumPy"),
        pytest.param("raise SystemError('initialization failed')\n", id="broken"),
    ],
)
def test_a_numba_that_does_not_work(text, tmp_path):
    """Asked for, it is an error that names the cause; else the others serve, and NumPy alone says so once."""
    path = fake_numba(tmp_path, text)
    done = python(RELU, **path)
    assert done.returncode == 1
    assert "RuntimeError: the backend 'numba' is not available: numba does not import" in done.stderr
    alone = """
import sys, warnings
for name in ("driver", "buffers", "front"):
    sys.modules["fastact._cython." + name] = None
import numpy as np, fastact
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        assert (fastact.relu(np.array([-1.0, 2.0])) == [0, 2]).all()
print(len(caught), caught[0].category.__name__, caught[0].message)
"""
    number, category, *message = output_of(alone, **path).split()
    assert (number, category) == ("1", "RuntimeWarning")
    assert "numba does not import" in " ".join(message)


@needs_numba
def test_what_may_pass_is_not_remembered(monkeypatch):
    """A first call deep in a stack, or without memory, says nothing about the next one."""

    def fail(name):
        raise RecursionError("too deep")

    monkeypatch.setattr(_backends, "_missing", {})
    with monkeypatch.context() as patch:
        patch.setattr(_backends.importlib, "import_module", fail)
        assert "RecursionError" in _backends.missing("numba")
    assert _backends.missing("numba") == ""


FIRST_CALL = """
import logging, sys, time
from fastact._numba import kernels
kernels.SLOW = float(sys.argv[1])
import numpy as np, fastact
fastact.relu(np.ones(3, np.float32), backend="numba")
print(*sorted(name for name, _ in kernels._compiled), *sys.argv[2:])
"""


@needs_numba
def test_a_first_call_compiles_what_it_needs_and_says_so(tmp_path):
    """One kernel of one dtype; after a second of it a message names the cache and warmup(), and none before."""
    done = python(FIRST_CALL, "0.05", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == ["relu"]
    for word in ("relu", "float32", "Numba", str(tmp_path), "fastact.warmup()"):
        assert word in done.stderr, done.stderr
    assert not python(FIRST_CALL, "60", NUMBA_CACHE_DIR=str(tmp_path / "other")).stderr
    assert not python(FIRST_CALL, "1", NUMBA_CACHE_DIR=str(tmp_path)).stderr, "from the cache it is quick"
    done = python(UNWRITABLE + FIRST_CALL, "0.05")
    assert "in every process" in done.stderr


WARMUP = """
import os, pty, sys
import fastact
from fastact._numba import kernels
try:
    fastact.warmup(*eval(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
print(*sorted(f"{name}:{dtype}" for name, dtype in kernels._compiled))
"""


@needs_numba
@pytest.mark.parametrize(
    ("arguments", "compiled"),
    [
        ("(['relu'], ['float32'])", ["relu:float32"]),
        ("(['leaky_relu', 'prelu'], [float])", ["prelu:float64"]),
        ("(['relu', 'relu_backward'], ['int8'])", ["relu:int8"]),
        ("([], )", []),
    ],
)
def test_warmup_takes_a_choice(arguments, compiled):
    assert output_of(WARMUP, arguments).split() == compiled


@needs_numba
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("(['gelu'],)", ["ValueError", "'gelu'", "prelu_backward"]),
        ("('relu',)", ["TypeError", "operations", "['relu']"]),
        ("(None, 'float32')", ["TypeError", "dtypes", "['float32']"]),
        ("(None, ['float16'])", ["TypeError", "float16", "float32"]),
    ],
)
def test_warmup_refuses_what_it_does_not_know(arguments, words):
    """Before it compiles anything."""
    message, compiled = output_of(WARMUP + "\nprint('end')", arguments).splitlines()[:2]
    for word in words:
        assert word in message
    assert compiled == ""


@needs_numba
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
def test_warmup_shows_progress_on_a_terminal():
    code = "import fastact; fastact.warmup(['relu', 'prelu'], ['float32'])"
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), stderr=theirs, capture_output=False)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    for words in ("1/2 relu float32", "2/2 prelu float32", "2 kernels are ready"):
        assert words in shown
    assert not python(code).stderr
