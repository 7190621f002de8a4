"""Numba where its surroundings are bad: no folder to cache in, a damaged cache, several first processes, a Numba that
does not work.  The call computes (uncached, if need be) or says why it cannot; nothing is silent and nothing aborts.
And Numba by itself: its kernels need none of Cython's, and its cache gives no code of another text.

Each test runs fresh processes with a cache folder of their own.
"""

import itertools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SCRIPTS, backends, clean_environment, output_of, python

import fastact

needs_numba = pytest.mark.skipif("numba" not in fastact.available_backends(), reason="no Numba here")

FIRST_CALL = "numba_first_call.py"


@needs_numba
def test_no_folder_can_be_written():
    """As in a read-only container: compiled without a cache, with a message that says so, and config() says it too."""
    done = python(FIRST_CALL, "--unwritable", "told")
    assert done.stdout.split() == ["relu:float32", "relu:int8", "None"], done.stderr
    assert "in every process" in done.stderr


@pytest.mark.full
@needs_numba
def test_damaged_cache(tmp_path):
    """The damaged file is not believed, the process after that writes a good one, and the third one finds it."""
    assert output_of(FIRST_CALL, "folders", 1, tmp_path / "whole") == "0"
    folders = [tmp_path / "whole"]
    for suffix, damage in itertools.product(("nbi", "nbc"), ("garbage", "cut", "empty")):
        folders.append(shutil.copytree(tmp_path / "whole", tmp_path / f"{suffix} {damage}"))
        (file,) = folders[-1].rglob(f"*.{suffix}")
        data = file.read_bytes()
        file.write_bytes({"garbage": b"\x93" * len(data), "cut": data[: len(data) // 2], "empty": b""}[damage])
    assert output_of(FIRST_CALL, "folders", 3, *folders).split() == ["1"] * 3 + ["0", "0", "1"] * 6


@needs_numba
def test_first_processes_at_once(tmp_path):
    """Three processes that compile into the same empty folder."""
    command = [sys.executable, SCRIPTS / FIRST_CALL, "right"]
    environment = clean_environment() | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first = [subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    for process in first:
        out, err = process.communicate(timeout=120)
        assert out.split() == ["right"], err
    assert output_of(FIRST_CALL, "right", NUMBA_CACHE_DIR=str(tmp_path)) == "right"


@pytest.mark.full
@needs_numba
def test_kernels_need_nothing_that_a_c_compiler_made(tmp_path):
    """The results are the reference's, none of Cython's kernels is loaded, and only Numba's own functions are declared.

    And what streams has a fence: on x86 no result shows one that is missing (see test_simd_levels.py).
    """
    path = os.pathsep.join((clean_environment()["PYTHONPATH"], str(SCRIPTS.parent)))
    lines = output_of("numba_alone.py", NUMBA_CACHE_DIR=str(tmp_path), PYTHONPATH=path).splitlines()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    found = {}
    for name, dtype, fences, *outside in map(str.split, lines):
        found[name, dtype] = int(fences)
        # Numba's own, of the wrapper and behind a call that is not inlined: they would report an exception.
        assert all(function.startswith(("Py", "NRT_", "numba_")) for function in outside), (name, outside)
    kernels = [(name, "float32") for name in ("relu", "relu_backward", "prelu", "prelu_backward")]
    kernels.append(("relu", "int32"))
    assert sorted(found) == sorted(kernels)
    for kernel in kernels:
        assert found[kernel] > 0 or not x86, kernel


@pytest.mark.full
@needs_numba
def test_the_cache_follows_every_text(tmp_path):
    """After a change of one word in any file that machine code depends on, code from before it is not used.

    Each change makes another result, so old code would show.  The same text finds its code again.
    """
    package = shutil.copytree(
        Path(fastact.__file__).parent, tmp_path / "fastact", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    code = (
        "import sys, numpy as np, fastact; from fastact._numba import kernels; "
        "x = np.array([np.nan, 2.0, -3.0], np.float32); "
        "print(*fastact.relu_backward(np.float32([1, 5, 7]), x, backend='numba')); "
        "print(*(k.cache_hits for k in kernels._compiled.values()), fastact.__file__)"
    )

    def computed():
        """What a new process computes, and whether its kernel was cached."""
        variables = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
        result, where = output_of("-P", "-c", code, **variables).splitlines()
        hits, file = where.split()
        assert Path(file).parent == package
        return result, int(hits)

    assert computed() == ("1.0 5.0 0.0", 0)
    for file, old, new, result in (
        ("_numba/simd.py", 'fcmp_ordered("<=", u, v), a', 'fcmp_unordered("<=", u, v), a', "0.0 5.0 0.0"),
        (
            "_kernels.py",
            "full_like(x, 0), full_like(x, 0), dy)",
            "full_like(x, 0), full_like(x, 1), dy)",
            "1.0 5.0 1.0",
        ),
        ("_tables.py", '|= ("dy" in _reads)', '|= ("dz" in _reads)', "nan 2.0 0.0"),
    ):
        whole = (package / file).read_text()
        assert whole.count(old) == 1
        (package / file).write_text(whole.replace(old, new))
        assert computed() == (result, 0), file
        (package / file).write_text(whole)
    assert computed() == ("1.0 5.0 0.0", 1)


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
    done = python(FIRST_CALL, "right", **path)
    assert done.returncode == 1
    assert "RuntimeError: the backend 'numba' is not available: numba does not import" in done.stderr
    number, category, *message = output_of(FIRST_CALL, "--no-core", "numpy_alone", **path).split()
    assert (number, category) == ("1", "RuntimeWarning")
    assert "numba does not import" in " ".join(message)


@needs_numba
def test_what_may_pass_is_not_remembered(monkeypatch):
    """A first call deep in a stack, or without memory, says nothing about the next one."""

    def fail(name):
        raise RecursionError("too deep")

    monkeypatch.setattr(backends, "_missing", {})
    with monkeypatch.context() as patch:
        patch.setattr(backends.importlib, "import_module", fail)
        assert "RecursionError" in backends.missing("numba")
    assert backends.missing("numba") == ""


@needs_numba
def test_a_first_call_compiles_what_it_needs_and_says_so(tmp_path):
    """One kernel for each dtype; what takes longer than a second has a message with the cache and warmup()."""
    done = python(FIRST_CALL, "told", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.splitlines()[0] == "relu:float32 relu:int8"
    for word in ("relu", "float32", "Numba", str(tmp_path), "fastact.warmup()"):
        assert word in done.stderr, done.stderr
    assert "int8" not in done.stderr, "it took less than a minute"
    # From the cache it is quick, unless the machine is busy.
    assert not all(python(FIRST_CALL, "told", NUMBA_CACHE_DIR=str(tmp_path)).stderr for _ in range(5))


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
    assert output_of(FIRST_CALL, "warm_up", arguments).split() == compiled


@needs_numba
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("(['gelu'],)", ["ValueError", "'gelu'", "prelu_backward"]),
        ("('relu',)", ["TypeError", "operations", "['relu']"]),
        ("(None, 'float32')", ["TypeError", "dtypes", "['float32']"]),
        ("(None, ['float8'])", ["TypeError", "float8", "float32"]),
    ],
)
def test_warmup_refuses_what_it_does_not_know(arguments, words):
    """Before it compiles anything."""
    message, *compiled = output_of(FIRST_CALL, "warm_up", arguments).splitlines()
    for word in words:
        assert word in message
    assert not compiled


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
    assert not python("-c", code).stderr
