"""Without the GIL: every compiled module declares that it can do without, and eight threads at once prove it.

A free-threaded interpreter is this one, FASTACT_FREE_THREADED's, or python3.13t (3.14t, 3.15t) on the path; where
there is none, the tests are reported as skipped.  The package is installed for it, in an environment of its own; that
has no Numba, which declares no such support yet: the Cython variant and the reference are what is tried.
"""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
from copies import ROOT, copy_to

NAMES = ("python3.15t", "python3.14t", "python3.13t")


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory):
    """The path of a free-threaded interpreter in whose environment the package is installed."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return sys.executable
    found = os.environ.get("FASTACT_FREE_THREADED") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"no free-threaded interpreter: none of {', '.join(NAMES)}, and FASTACT_FREE_THREADED is not set")
    folder = tmp_path_factory.mktemp("free")
    run([found, "-m", "venv", str(folder / "env")])
    python = str(folder / "env" / "bin" / "python")
    run([python, "-m", "pip", "install", "-q", "--prefer-binary", "setuptools>=77", "Cython>=3.1", "numpy>=2.0"])
    source = str(copy_to(folder / "source"))
    run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", source])
    return python


def run(command, **variables):
    """What it printed; it must succeed.  Outside the checkout, so that the installed package is what is imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FASTACT_"))} | variables
    done = subprocess.run(command, env=env, cwd=os.path.dirname(sys.executable), capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout.strip()


def test_the_gil_stays_off(interpreter):
    """A module that did not declare itself would switch it on, with a warning."""
    assert run([interpreter, "-W", "error", str(ROOT / "tests/scripts/without_gil.py")]) == "off"


def test_eight_threads_without_the_gil(interpreter):
    script = str(ROOT / "tests" / "soak.py")
    assert int(run([interpreter, "-W", "error", script, os.environ.get("FASTACT_SOAK", "5")])) >= 8
