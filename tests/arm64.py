"""The package on 64-bit ARM, from nothing: `python tests/arm64.py [--full] [--if-possible] [--counts] [--folder DIR]`.

An arm64 Python of Debian's and the wheels of what the package needs are put into a folder, the modules are compiled for
them by a cross-compiler, and tests run there under an emulator of one process (qemu-user).  First the digests of many
results (scripts/digests.py) are made on this machine and there, where every variant has to have the same bits; then
pytest runs parity, dalpha and guard pages there.  Nothing is timed: an emulator's time says nothing about a processor.

It needs Linux and four packages of Debian's, which it installs itself where it is root and there is an apt-get; else it
says what is missing and fails.  --if-possible: where a package is missing, nothing is installed and nothing is run.
--full: all that Numba compiles, and more tests.  --counts: the instructions of the hot loops, for docs/performance.md.
--folder: where to work, and to leave everything for the next time (else in a temporary folder, which is deleted).
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from copies import ROOT, build, copy_to
from machine_code import FUSED

# The program, and Debian's package of it.
TOOLS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
}
DEBIAN = "bookworm"  # its Python is 3.11, the oldest that the package runs on
WHEELS = ("numpy", "numba", "ml_dtypes", "pytest", "hypothesis")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
LEVELS = ("generic", "neon")
FLOATS = "float16,bfloat16,float32,float64"
# What pytest runs there, for each variant: files and words of -k.  Numba compiles 20 times slower than on this machine,
# so that it has few types.
CYTHON = (
    "(nothing_outside and ordinary and end) or (every_compiled_variant and prelu) or spelled_out and period"
    " or streamed_or_not or (every_length and not misalignment)"
)
TESTS = {
    ("cython", False): ("test_guard_pages.py test_dalpha.py test_parity.py", CYTHON),
    ("numba", False): ("test_guard_pages.py", "nothing_outside and float32 and streamed and end"),
    ("cython", True): (
        "test_guard_pages.py test_dalpha.py test_parity.py",
        f"{CYTHON} or every_shape or outside_of_out",
    ),
    ("numba", True): ("test_guard_pages.py", "test_nothing_outside and streamed and end"),
}


def get_tools(install: bool) -> None:
    """Install the programs that are missing, or say which."""
    missing = [package for program, package in TOOLS.items() if not shutil.which(program)]
    if missing and install and os.geteuid() == 0 and shutil.which("apt-get"):
        options = ["-q", "-y", "--no-install-recommends"]
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        more = ["libc6-dev-arm64-cross"]
        subprocess.run(["apt-get", "install", *options, *missing, *more], check=True, stdout=subprocess.DEVNULL)
    elif missing and not install:
        print(f"NOT RUN: 64-bit ARM (apt-get install {' '.join(missing)})")
        sys.exit(0)
    elif missing:
        sys.exit(f"64-bit ARM cannot be tried here: apt-get install {' '.join(missing)}")


class Arm:
    """A folder with a Python for 64-bit ARM (`root`), packages for it (`site`), and the package compiled (`source`)."""

    def __init__(self, folder: Path):
        self.folder, self.root, self.site, self.source = (folder / name for name in ("", "root", "site", "source"))

    def get_python(self) -> None:
        """Debian's Python, unpacked but not set up: no program of it runs for that."""
        packages = "python3,libpython3-dev,libstdc++6"
        command = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", f"--include={packages}"]
        if not self.root.exists():
            subprocess.run([*command, DEBIAN, self.root, "http://deb.debian.org/debian"], check=True)
        (self.python,) = self.root.glob("usr/bin/python3.?*[0-9]")

    def get_wheels(self) -> None:
        """What pip would install there."""
        version = self.python.name.removeprefix("python")
        options = ["--only-binary=:all:", "--python-version", version, "--implementation", "cp", "-q"]
        options += [word for platform in PLATFORMS for word in ("--platform", platform)]
        if not self.site.exists():
            wheels = self.folder / "wheels"
            subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", wheels, *WHEELS], check=True)
            for wheel in wheels.glob("*.whl"):
                zipfile.ZipFile(wheel).extractall(self.site)

    def compile(self) -> None:
        """The package, by this machine's Python and a cross-compiler: setuptools believes that it runs on ARM."""
        shutil.rmtree(self.source, ignore_errors=True)
        copy_to(self.source, LEVELS, keep_c=True)
        (about,) = self.root.glob("usr/lib/python3.*/_sysconfigdata__aarch64-linux-gnu.py")
        told = self.folder / "told"
        told.mkdir(exist_ok=True)
        shutil.copy(about, told)
        headers = " ".join(f"-I{self.root}/usr/include{below}" for below in (f"/{self.python.name}", ""))
        build(
            self.source,
            PYTHONPATH=str(told),
            _PYTHON_HOST_PLATFORM="linux-aarch64",
            _PYTHON_SYSCONFIGDATA_NAME=about.stem,
            CC=f"aarch64-linux-gnu-gcc {headers}",
            LDSHARED="aarch64-linux-gnu-gcc -shared",
            FASTACT_REQUIRE_EXTENSIONS="1",
        )

    def start(self, log: Path, *arguments: str, **variables: str) -> subprocess.Popen:
        """Begin to run Python there; what it prints goes to a file."""
        path = os.pathsep.join(map(str, (self.source, self.source / "tests", self.site)))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "FASTACT_"))}
        env |= {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(self.folder / "numba"), **variables}
        command = ["qemu-aarch64-static", "-L", self.root, self.python, *arguments]
        with log.open("w") as out:
            return subprocess.Popen(command, cwd=self.source, env=env, stdout=out, stderr=out)

    # ---- machine code ------------------------------------------------------------------------------------------------

    def functions(self, file: Path) -> dict[str, list[str]]:
        """A module's functions, as the lines of their disassembly."""
        command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", file]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.findall(r"^[0-9a-f]+ <(.*)>:\n((?:.+\n)*)", text, re.MULTILINE)
        return {name: lines.splitlines() for name, lines in found}

    def modules(self) -> Iterator[Path]:
        """The modules of kernels."""
        for level in LEVELS:
            yield from sorted(self.source.glob(f"fastact/_cython/{level}/*.so"))

    def check_machine_code(self) -> None:
        """No kernel has a multiply-add, and NEON's stream where they say that they do."""
        for module in self.modules():
            lines = [line for function in self.functions(module).values() for line in function]
            fused = [line for line in lines if re.search(FUSED, line)]
            assert not fused, (module, fused[:3])
            kind = module.name.partition(".")[0]
            streams = any("\tstnp\t" in line for line in lines)
            assert streams == (module.parent.name == "neon" and kind in ("f32", "f64", "int")), (module, streams)

    def check_numba(self) -> None:
        """The same of what Numba compiled: the object files are in the pickles of its cache."""
        found = 0
        for file in (self.folder / "numba").rglob("*.nbc"):
            data = file.read_bytes()
            start = data.find(b"\x7fELF")
            if start < 0 or "moving" in file.name:
                continue
            found += 1
            elf = file.with_suffix(".o")
            elf.write_bytes(data[start:])
            text = "\n".join(line for function in self.functions(elf).values() for line in function)
            assert not re.search(FUSED, text), file
            assert re.search(r"\tv\d+\.(4s|2d|16b), v", text), f"{file}: no vectors"
            assert "\tstnp\t" in text, f"{file}: nothing is streamed"
        assert found, "Numba has cached nothing"


def loops_of(lines: list[str]) -> Iterator[list[str]]:
    """The instructions of each loop that has no other jump in it: from a jump back's target to the jump."""
    code = [(int(where, 16), text) for where, _, text in (line.strip().partition(":\t") for line in lines) if text]
    index = {where: i for i, (where, _) in enumerate(code)}
    for i, (_, text) in enumerate(code):
        jump = re.match(r"(?:b\.\w+|cbn?z|tbn?z)\t.*?\b([0-9a-f]+) <", text)
        target = index.get(int(jump[1], 16)) if jump else None
        if target is not None and target <= i:
            body = [text for _, text in code[target : i + 1]]
            if not any(re.match(r"(b|b\.\w+|bl|blr|cbn?z|tbn?z|ret)\b", text) for text in body[:-1]):
                yield body


def count(lines: list[str], size: int, backward: bool) -> dict[str, tuple[int, int]]:
    """(instructions, elements) of the best loop with ordinary stores, and of the one with streaming stores.

    A loop that computes has a comparison and stores its elements; that of a sum, 16 elements, has 16 additions too.
    """
    best: dict[str, tuple[int, int]] = {}
    for body in loops_of(lines):
        stores = [re.match(r"(stn?[pu]?r?)\t([qdswxh])\d+(, [qdswx]\d+)?", text) for text in body]
        widths = {"q": 16, "d": 8, "x": 8, "s": 4, "w": 4, "h": 2}
        stored = sum(widths[store[2]] * (2 if store[3] else 1) for store in stores if store)
        sums = sum(2 if ".2d" in text else 1 for text in body if re.match(r"fadd\t[vd]", text))
        elements = stored // size
        if not elements or not any(re.match(r"fcm|fcs|cm(eq|g|h|l|tst)|[su]max|cmp\tw", text) for text in body):
            continue
        if backward and not sums == elements == 16:
            continue
        way = "streamed" if any(store and store[1] == "stnp" for store in stores) else "ordinary"
        if way not in best or len(body) * best[way][1] < best[way][0] * elements:
            best[way] = len(body), elements
    return best


def print_counts(arm: Arm) -> None:
    """The table of docs/performance.md."""
    types = {"f32": ("float32", 4), "f64": ("float64", 8), "f16": ("float16", 2), "bf16": ("bfloat16", 2)}
    kernels = ("relu", "relu_backward", "prelu", "prelu_backward")
    found: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {}
    for module in arm.modules():
        level, kind = module.parent.name, module.name.partition(".")[0]
        for name, lines in arm.functions(module).items():
            kernel = re.search(rf"_kernel_({'|'.join(kernels)})(?:_(b?float16))?$", name)
            if kernel and (kind in types or kernel[2]):
                dtype, size = types[kind] if kind in types else (kernel[2], 2)
                found[level, kernel[1], dtype] = count(lines, size, kernel[1] == "prelu_backward")
    print("| kernel | " + " | ".join(dtype for dtype, _ in types.values()) + " |\n|---|" + "---|" * len(types))
    for kernel in kernels:
        for level, way in (("neon", "ordinary"), ("neon", "streamed"), ("generic", "ordinary")):
            counts = [found[level, kernel, dtype].get(way) for dtype, _ in types.values()]
            if any(counts):
                cells = ["{} for {}: {:.2f}".format(*c, c[0] / c[1]) if c else "" for c in counts]
                print(f"| {kernel}, {level}, {way} | {' | '.join(cells)} |")


# ---- the run ---------------------------------------------------------------------------------------------------------


def run(arm: Arm, full: bool) -> bool:
    """Digests here and there, then tests there; both variants at the same time, a processor each."""
    command = [sys.executable, "tests/scripts/digests.py", "cython", f"{FLOATS},integers"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    here = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE)
    want = json.loads(here.stdout)
    print(f"here ({', '.join(want['variants'])}): {len(want['digests'])} results")
    kinds = {"cython": f"{FLOATS},integers", "numba": f"{FLOATS},integers" if full else "float32"}
    running, passed = {}, True
    for backend, some in kinds.items():
        file = arm.folder / f"{backend}.json"
        code = "import runpy, sys; sys.argv[1:], sys.stdout = sys.argv[2:], open(sys.argv[1], 'w'); "
        code += "runpy.run_path('tests/scripts/digests.py')"
        running[backend] = arm.start(arm.folder / f"{backend}.log", "-c", code, str(file), backend, some), file
    for backend, (process, file) in list(running.items()):
        ended = process.wait()
        if ended:
            print((arm.folder / f"{backend}.log").read_text())
            return False
        got = json.loads(file.read_text())
        different = [key for key, value in got["digests"].items() if want["digests"].get(key) != value]
        print(f"there ({', '.join(got['variants'])}): {len(got['digests'])} results, {len(different)} of other bits")
        for key in different[:5]:
            print(f"  {key}: {got['digests'][key][:64]} there, {want['digests'].get(key, '')[:64]} here")
        passed &= not different
        files, words = TESTS[backend, full]
        tests = [f"tests/{name}" for name in files.split()]
        arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", words]
        process = arm.start(arm.folder / f"{backend}.log", *arguments, FASTACT_TEST_BACKENDS=backend)
        running[backend] = process, arm.folder / f"{backend}.log"
    for backend, (process, log) in running.items():
        ended = process.wait()
        text = log.read_text()
        print(f"pytest there, {backend}: {text.strip().splitlines()[-1] if text.strip() else ended}")
        if ended:
            print(text[-5000:])
        passed &= not ended
    arm.check_numba()
    return passed


def main() -> int:
    """The whole way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--full", "--if-possible", "--counts"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    get_tools(install=not given.if_possible)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(exist_ok=True)
        arm = Arm(folder)
        arm.get_python()
        arm.get_wheels()
        arm.compile()
        arm.check_machine_code()
        if given.counts:
            print_counts(arm)
            return 0
        return not run(arm, given.full)


if __name__ == "__main__":
    sys.exit(main())
