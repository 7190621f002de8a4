"""The extension modules of the Cython variant and their flags; everything else is in pyproject.toml.

kernels.pxi is compiled once per SIMD level and computing type.  Two extensions built from one .pyx would
share one generated C file, so each gets a .pyx of one line, written here.

Every module is optional: whatever fails, for whatever reason, the install succeeds without it, and a report beside the
modules (fastact/_cython/build.json) keeps the compiler's words, which fastact.show_config() shows.  With
FASTACT_REQUIRE_EXTENSIONS=1 a module that fails is a build that fails, for those who make wheels.
"""

import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CYTHON = Path("fastact/_cython")
REPORT = CYTHON / "build.json"  # as fastact/_built.py reads it
GENERATED = Path("build/pyx")
REQUIRED = os.environ.get("FASTACT_REQUIRE_EXTENSIONS", "") not in ("", "0")
X86_64 = platform.machine().lower() in ("x86_64", "amd64")

# -fno-trapping-math: without it GCC keeps a branch in `x > 0 ? x : a * x`, 12 times slower on random signs.
# -ffp-contract=off: GCC 12 fuses even intrinsics into FMA at v3, and float64 sums would differ between levels.
# -fno-fast-math stands first: after the next two it would undo them.  It is a flag of the linker's command too, against
# -ffast-math there.  -g0: debug information is nine tenths of a module's size.
LINK_FLAGS = ["-fno-fast-math"]
FLAGS = ["-O3", *LINK_FLAGS, "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden"]
if not any(word.startswith("-g") for word in os.environ.get("CFLAGS", "").split()):
    FLAGS.append("-g0")
LEVELS = {"generic": ["-DFASTACT_GENERIC"]}
if X86_64:
    LEVELS |= {
        "v2": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }
# Flags from outside (CFLAGS, a distribution's defaults) that are left out: they change results, the process's
# floating-point mode or what a level means.  exact.h refuses what gets through.
LEFT_OUT = (
    r"-O.*|-f(no-)?(fast-math|unsafe-math-optimizations|finite-math-only|associative-math|reciprocal-math|signed-zeros"
    r"|trapping-math|rounding-math|math-errno|honor-\w+|approx-func|float-store|single-precision-constant|fp-.*"
    r"|excess-precision=.*|denormal-fp-math.*|cx-\w+)"
    + r"|-m(no-)?(arch=.*|cpu=.*|fpmath=.*|daz-ftz|pc(32|64|80)|recip.*|fma.*|avx.*|s?sse.*|f16c|bmi.*|popcnt"
    r"|3dnow.*|amx.*|apx.*|80387|hard-float|soft-float|fancy-math-387)" * X86_64
)


def kernels(text: str, kind: str, level: str, *macros: str) -> Extension:
    """One module of kernels, from a .pyx of one line."""
    source = GENERATED / level / f"{kind}.pyx"
    source.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists() or source.read_text() != f'include "{text}"\n':  # a new date would compile it again
        source.write_text(f'include "{text}"\n')
    return Extension(
        f"fastact._cython.{level}.{kind}",
        [str(source)],
        include_dirs=[str(CYTHON)],
        depends=[str(CYTHON / text), str(CYTHON / "simd.h"), str(CYTHON / "exact.h")],
        extra_compile_args=[*FLAGS, *LEVELS[level], *macros],
        extra_link_args=LINK_FLAGS,
    )


def core(name: str, source: str, *headers: str, numpy: bool = False) -> Extension:
    """A module of the core: the driver with its threads, the recycled memory, the fast path, the public text."""
    options = {}
    if numpy:
        from numpy import get_include

        options["include_dirs"] = [str(CYTHON), get_include()]
        options["define_macros"] = [
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
        ]
    else:
        options["include_dirs"] = [str(CYTHON)]
    depends = [str(CYTHON / header) for header in headers]
    return Extension(name, [source], depends=depends, extra_compile_args=FLAGS, extra_link_args=LINK_FLAGS, **options)


def extensions() -> list[Extension]:
    """Every module of the build, as C."""
    from Cython.Build import cythonize

    found = [
        core("fastact._cython.driver", "fastact/_cython/driver.pyx", "team.h", "openmp.h", "exact.h"),
        core("fastact._cython.buffers", "fastact/_cython/buffers.pyx", numpy=True),
        core("fastact._cython.front", "fastact/_cython/front.pyx", numpy=True),
        core("fastact._cython.ops", "fastact/ops.py"),
    ]
    for level in LEVELS:
        found.append(kernels("kernels.pxi", "f32", level, "-DFASTACT_BITS=32"))
        found.append(kernels("kernels.pxi", "f64", level, "-DFASTACT_BITS=64"))
        found.append(kernels("integers.pxi", "int", level))
    return cythonize(
        found,
        include_path=[str(CYTHON)],
        build_dir="build",
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "binding": True,
            "embedsignature": False,
            "annotation_typing": False,  # ops.py's annotations are for readers and type checkers
            "freethreading_compatible": True,
        },
    )


class BuildWhatCanBeBuilt(build_ext):
    """Builds every module that can be built, and reports the others with the reason."""

    def finalize_options(self) -> None:
        """One module after the other: the standard error stream belongs to one compiler at a time."""
        super().finalize_options()
        self.parallel = None

    def run(self) -> None:
        """Build; then write the report where the modules go, or take an older one away."""
        for extension in self.extensions:
            extension.optional = not REQUIRED
        self.failed: dict[str, str] = {}
        super().run()
        report = (Path() if self.inplace else Path(self.build_lib)) / REPORT
        report.unlink(missing_ok=True)
        if self.failed:
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(self.failed, indent=1), encoding="utf-8")

    def build_extensions(self) -> None:
        """Remove flags that could change a result from the compiler's commands, then build."""
        for tool in ("preprocessor", "compiler", "compiler_so", "linker_so", "linker_exe"):
            command = getattr(self.compiler, tool, None)
            if isinstance(command, list):
                setattr(self.compiler, tool, without_flags(command))
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Build it, or note why not."""
        lines: list[str] = []
        try:
            if NOT_POSSIBLE:
                raise RuntimeError(NOT_POSSIBLE)
            with compiler_heard(lines):
                super().build_extension(extension)
            if b"set_fast_math" in Path(self.get_ext_fullpath(extension.name)).read_bytes():
                raise RuntimeError(
                    "the linker was told to switch flush-to-zero on for the process (-ffast-math, -Ofast)"
                )
        except Exception as error:  # also a compiler that does not exist, and memory that cannot be had
            if REQUIRED:
                raise
            telling = "error|cannot find|undefined|not found|no such"
            said = [line for line in lines if re.search(telling, line, re.IGNORECASE)][:2] or lines[-1:] or [str(error)]
            self.failed[extension.name] = "; ".join(said)[:500]
            self.warn(f"{extension.name} was not built: {self.failed[extension.name]}")
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)  # an earlier build's

    def copy_extensions_to_source(self) -> None:
        """Also delete what an earlier build left in the source folder for a module that failed now."""
        for name in self.failed:
            Path(self.get_ext_filename(name)).unlink(missing_ok=True)
        super().copy_extensions_to_source()


def without_flags(command: list[str]) -> list[str]:
    """A compiler's command without LEFT_OUT; a word that is another option's argument stays or goes with it."""
    kept: list[str] = []
    words = iter(command)
    for word in words:
        pair = [word, *([next(words, "")] if word in ("-Xclang", "-Xlinker", "-Xassembler", "-Xpreprocessor") else [])]
        if word == "-Xlinker" or not re.fullmatch(LEFT_OUT, pair[-1]):
            kept += pair
    return kept


@contextmanager
def compiler_heard(lines: list[str]) -> Iterator[None]:
    """Keep what is printed on the standard error stream meanwhile, by whatever process, and print it afterwards."""
    if sys.stderr is None:  # closed by whoever started this
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            text = file.read().decode(errors="replace")
            lines += [line.strip() for line in text.splitlines() if line.strip()]
            sys.stderr.write(text)


NOT_POSSIBLE = ""  # why no module can be built
try:
    modules = extensions()
except Exception as error:  # no Cython, no NumPy, no memory: the package works without
    if REQUIRED:
        raise
    NOT_POSSIBLE = f"{type(error).__name__}: {error}"
    modules = [Extension(f"fastact._cython.{name}", []) for name in ("driver", "buffers", "front")]

setup(cmdclass={"build_ext": BuildWhatCanBeBuilt}, ext_modules=modules)
