"""Without a C compiler the install still succeeds, says what is missing, and Numba computes the same bits.

The package is really installed, from a copy of the checkout, with a compiler that does not exist, into a folder
of its own; what it does is then looked at in fresh interpreters that see that folder first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from copies import ROOT, copy_to

import fastact


def in_fresh_interpreter(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code where `folder` comes before anything installed."""
    env = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    source = copy_to(tmp_path_factory.mktemp("source") / "fastact")
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(command, env={**os.environ, "CC": "no-such-compiler"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(target.rglob("*.so"))
    return target


def test_numba_serves_and_the_config_says_what_is_missing(installed):
    code = (
        "import fastact, json; assert fastact.__file__.startswith(PATH), fastact.__file__;"
        "print(json.dumps([fastact.get_backend(), fastact.config()['backends']])); fastact.show_config()"
    ).replace("PATH", repr(str(installed)))
    done = in_fresh_interpreter(installed, code)
    assert done.returncode == 0, done.stderr
    backend, backends = json.loads(done.stdout.splitlines()[0])
    assert backend == "numba"
    assert backends["numba"] == "available"
    assert "C compiler" in backends["cython"]
    assert "C compiler" in done.stdout.split("\n", 1)[1]


def test_asking_for_cython_names_the_cause(installed):
    done = in_fresh_interpreter(installed, "import fastact; fastact.relu([1.0], backend='cython')")
    assert done.returncode != 0
    assert "RuntimeError: the backend 'cython' is not available" in done.stderr
    assert "C compiler" in done.stderr


def test_asking_for_it_by_the_environment_names_the_cause(installed):
    done = in_fresh_interpreter(installed, "import fastact; fastact.relu([1.0])", FASTACT_BACKEND="cython")
    assert done.returncode != 0
    assert "RuntimeError: the backend 'cython' is not available" in done.stderr


CALLS = """
import sys, numpy as np, fastact
rng = np.random.default_rng(7)
cases = [((3, 40, 9, 9), 1), ((700, 5), 1), ((90, 300), 0), ((400001,), None), ((6, 50, 7), -1)]
for k, (shape, axis) in enumerate(cases):
    x, dy = rng.normal(size=(2, *shape)).astype("f4" if k % 2 else "f8")
    alpha = 0.25 if axis is None else rng.uniform(0.05, 0.6, shape[axis]).astype(x.dtype)
    for view in (np.s_[...], np.s_[1:, ::2] if x.ndim > 1 else np.s_[::2]):
        a = alpha if axis is None else alpha[: x[view].shape[axis]]
        dx, dalpha = fastact.prelu_backward(dy[view], x[view], a, channel_axis=axis or 0, n_threads=2)
        sys.stdout.buffer.write(dx.tobytes() + dalpha.tobytes())
"""


@pytest.mark.skipif("cython" not in fastact.available_backends(), reason="nothing compiled to compare with")
def test_the_python_driver_gives_the_same_bits(installed):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    compiled = subprocess.run([sys.executable, "-c", CALLS], env=env, capture_output=True, check=True)
    env["PYTHONPATH"] = str(installed)
    plain = subprocess.run([sys.executable, "-c", CALLS], env=env, cwd=installed, capture_output=True, check=True)
    assert len(plain.stdout) > 1_000_000
    assert np.array_equal(np.frombuffer(plain.stdout, np.uint8), np.frombuffer(compiled.stdout, np.uint8))


def test_doctests_run_uncompiled(installed):
    code = (
        "import doctest, fastact, sys; names = [n for n in dir(fastact) if n.endswith('relu') or 'backward' in n];"
        "runner = doctest.DocTestRunner(); "
        "[runner.run(t) for n in names for t in doctest.DocTestFinder().find(getattr(fastact, n), n)];"
        "print(runner.tries); sys.exit(runner.failures)"
    )
    done = in_fresh_interpreter(installed, code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 15
