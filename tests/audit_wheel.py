"""What a wheel holds, before anybody installs it: `python tests/audit_wheel.py WHEEL...`.

Every module that setup.py builds for the wheel's machine has to be there, no other one, and no report of a module that
failed.  No OpenMP runtime may be bundled or linked (openmp.h says why), nor any library be bundled.  No module may
have an instruction above its SIMD level, and on 64-bit ARM none may have a multiply-add.  It needs what the build needs
(setuptools, Cython, NumPy) and objdump.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

import Cython.Build  # before setuptools' copy of distutils is patched
import setuptools
from machine_code import FUSED, instructions, level_of

ROOT = Path(__file__).resolve().parent.parent
TABLES = runpy.run_path(str(ROOT / "fastact/_tables.py"))
DATA = ("py.typed", "fastact.h", "__init__.pxd")
OPENMP = r"lib(gomp|omp|iomp)"


def expected_modules(machine: str) -> set[str]:
    """The names of the modules that setup.py builds for a machine; nothing is compiled for that."""
    there = {"_PYTHON_HOST_PLATFORM": f"any-{machine}", "FASTACT_REQUIRE_EXTENSIONS": "1"}
    with (
        chdir(ROOT),
        patch.dict(os.environ, there),
        patch.object(Cython.Build, "cythonize", lambda extensions, **_: extensions),
        patch.object(setuptools, "setup", lambda **_: None),
    ):
        return {extension.name for extension in runpy.run_path("setup.py")["modules"]}


def linked(module: Path) -> str:
    """The names of the libraries that a module is linked to."""
    command = ["otool", "-L"] if sys.platform == "darwin" else ["objdump", "-p"]
    text = subprocess.run([*command, module], capture_output=True, text=True, check=True).stdout
    return text if sys.platform == "darwin" else " ".join(re.findall(r"NEEDED\s+(\S+)", text))


def faults_of_code(name: str, module: Path, machine: str, objdump: str) -> list[str]:
    """What is wrong with a module's instructions."""
    code = instructions(module, objdump)
    if machine == "aarch64":
        wrong = [line for line in code if re.search(FUSED, line)]
        return [f"{name} has multiply-adds: {wrong[:3]}"] if wrong else []
    levels = list(TABLES["LEVELS"])
    level = next((part for part in name.split(".") if part in levels), "generic")
    found = {line: level_of(line) for line in set(code)}
    wrong = [line for line, needs in found.items() if levels.index(needs) > levels.index(level)]
    faults = [f"{name} has instructions above {level}: {wrong[:3]}"] if wrong else []
    if level in found.values() or level in ("generic", "v2"):  # v2 is not told by its registers
        return faults
    return [*faults, f"{name} has no instruction of {level}: it was compiled for another level"]


def audit(wheel: Path) -> list[str]:
    """What is wrong with a wheel."""
    machine = "aarch64" if re.search(r"(aarch64|arm64)\.whl$", wheel.name) else "x86_64"
    objdump = next(filter(shutil.which, (f"{machine}-linux-gnu-objdump", "objdump")), None)
    if objdump is None:
        return ["objdump is missing: nothing was looked at"]
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        files = {file.relative_to(folder).as_posix(): file for file in Path(folder).rglob("*") if file.is_file()}
        modules = {
            name.partition(".")[0].replace("/", "."): file
            for name, file in files.items()
            if name.startswith("fastact/") and re.search(r"\.(so|pyd)$", name)
        }
        expected = expected_modules(machine)
        faults = [f"{name} is missing" for name in sorted(expected - modules.keys())]
        faults += [f"{name} is no module of setup.py's" for name in sorted(modules.keys() - expected)]
        faults += [f"fastact/{name} is missing" for name in DATA if f"fastact/{name}" not in files]
        for name in files:
            if name.endswith("/" + TABLES["BUILD_REPORT"]):
                faults.append(f"{name}: modules failed: {files[name].read_text()}")
            if re.search(r"\.libs/|\.dylibs/|" + OPENMP, name):
                faults.append(f"{name} is bundled")
        for name, module in sorted(modules.items()):
            if re.search(OPENMP, linked(module)):
                faults.append(f"{name} is linked to an OpenMP runtime: {linked(module)}")
            faults += faults_of_code(name, module, machine, objdump)
        size = wheel.stat().st_size / 1e6
        print(f"{wheel.name}: {size:.2f} MB, {len(modules)} modules, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    sys.exit("\n".join(fault for wheel in sys.argv[1:] for fault in audit(Path(wheel))) or 0)
