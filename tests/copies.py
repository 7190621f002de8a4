"""Copies of the checkout that are built in another way: with a fault, with sanitizers, for another interpreter.

A copy has everything that is needed to build and to test, and nothing that was built here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "*.so", "build.json", "*.egg-info", "__pycache__", ".hypothesis"
)


def copy_to(folder: Path, levels: tuple[str, ...] = ("generic", "v2", "v3", "v4"), keep_c: bool = False) -> Path:
    """A copy in a new folder that builds only these SIMD levels; with the C files that were made here, if there are."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    for file in (ROOT / "build").rglob("*.*") if keep_c else ():
        # build/lib has the package's own files as an earlier install wrote them.
        ours = not file.relative_to(ROOT / "build").parts[0].startswith("lib")
        if ours and file.suffix in (".c", ".h", ".py", ".pxd", ".pxi"):
            (folder / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / file.relative_to(ROOT))
    setup = folder / "setup.py"
    line = 'if level.machine in ("", MACHINE)}'
    assert line in setup.read_text()
    setup.write_text(setup.read_text().replace(line, f"if name in {levels} and {line[3:]}"))
    return folder


def build(folder: Path, **variables: str) -> None:
    """Build the copy's modules in place; all of them, or a RuntimeError."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode or " was not built" in done.stderr or not list(folder.glob("fastact/_cython/front*.so")):
        raise RuntimeError(done.stderr[-3000:])


def test_in(folder: Path, *arguments: str, capture=True, timeout=None, **variables) -> subprocess.CompletedProcess:
    """Pytest in the copy, which comes before anything installed; with environment variables."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = os.environ | {"PYTHONPATH": str(folder)} | variables
    return subprocess.run(command, cwd=folder, env=env, capture_output=capture, text=True, timeout=timeout)


test_in.__test__ = False  # for pytest: this is no test
