"""The extension modules of the Cython variant and their flags; everything else is in pyproject.toml.

fastact/_tables.py has the SIMD levels, the types and the numbers that C shares; it is read by its path, because the
package cannot be imported before it is built.  What C and Cython need of it is written into the build folder, and so
are the sources of the kernels: _kernels.py once for each level and type (two extensions made from one file would share
one generated C file), with declarations for Cython made of its annotations.

Every module is optional: whatever fails, for whatever reason, the install succeeds without it, and a report beside the
modules (fastact/_cython/build.json) keeps the compiler's words, which fastact.show_config() shows.  With
FASTACT_REQUIRE_EXTENSIONS=1 a module that fails is a build that fails, for those who make wheels.
"""

import ast
import json
import os
import platform
import re
import runpy
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import SimpleNamespace

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

TABLES = SimpleNamespace(**runpy.run_path("fastact/_tables.py"))
CYTHON = Path("fastact/_cython")
DRIVER_HEADERS = (
    "team.h", "pool.h", "affinity.h", "float_mode.h", "openmp.h", "system.h", "cpu.h", "exact.h", "../fastact.h",
)  # fmt: skip
# The functions of fastact.h are the only symbols that the core exports.
EXPORT = "__declspec(dllexport)" if sys.platform == "win32" else '__attribute__((visibility("default")))'
EXPORTING = (("FASTACT_BY_NAME", None), ("FASTACT_EXPORT", EXPORT))
KERNEL_HEADERS = (
    "simd.h", "halves.h", "words.pxi", "integers.h", "integer_words.pxi", "exact.h", "blocks.h", "elements.h",
    "../fastact.h",
)  # fmt: skip
ENTRY_HEADERS = (
    "../fastact.h", "../__init__.pxd", "interface.h", "blocks.h", "elements.h", "halves.h", "system.h", "exact.h",
)  # fmt: skip
EXCHANGE_HEADERS = ("../fastact.h", "../__init__.pxd", "../torch/dlpack.h", "system.h")
GENERATED = Path("build/generated")  # laid out like the package: Cython looks for declarations by a module's name
TABLES_H = str(GENERATED / "tables.h")
REQUIRED = os.environ.get("FASTACT_REQUIRE_EXTENSIONS", "") not in ("", "0")
# The machine that is built for, which is another one than this where _PYTHON_HOST_PLATFORM names it (linux-aarch64).
MACHINE = os.environ.get("_PYTHON_HOST_PLATFORM", "").rpartition("-")[2] or platform.machine().lower()
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(MACHINE, MACHINE)
LEVELS = {name: level for name, level in TABLES.LEVELS.items() if level.machine in ("", MACHINE)}

# -fno-trapping-math: without it GCC keeps a branch in `x > 0 ? x : a * x`, 12 times slower on random signs.
# -ffp-contract=off: GCC 12 fuses even intrinsics into FMA at v3, and float64 sums would differ between levels.
# -fno-fast-math stands first: after the next two it would undo them.  It is a flag of the linker's command too, against
# -ffast-math there.  -g0: debug information is nine tenths of a module's size.
LINK_FLAGS = ["-fno-fast-math"]
FLAGS = ["-O3", *LINK_FLAGS, "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden"]
if not any(word.startswith("-g") for word in os.environ.get("CFLAGS", "").split()):
    FLAGS.append("-g0")
# Kernels are inlined into one function.  Left to GCC, prelu_backward in 16 rows of 132 took 1.05 of the instructions.
# Not under a sanitizer, where one module then takes 11 s to compile, and 5 s without.
SANITIZED = "-fsanitize" in os.environ.get("CFLAGS", "")
INLINED = [] if SANITIZED else ["-DCYTHON_INLINE=inline __attribute__((always_inline))"]
# Flags from outside (CFLAGS, a distribution's defaults) that are left out: they change results, the process's
# floating-point mode or what a level means.  exact.h refuses what gets through.
LEFT_OUT = (
    r"-O.*|-f(no-)?(fast-math|unsafe-math-optimizations|finite-math-only|associative-math|reciprocal-math|signed-zeros"
    r"|trapping-math|rounding-math|math-errno|honor-\w+|approx-func|float-store|single-precision-constant|fp-.*"
    r"|excess-precision=.*|denormal-fp-math.*|cx-\w+)"
    + r"|-m(no-)?(arch=.*|cpu=.*|fpmath=.*|daz-ftz|pc(32|64|80)|recip.*|fma.*|avx.*|s?sse.*|f16c|bmi.*|popcnt"
    r"|3dnow.*|amx.*|apx.*|80387|hard-float|soft-float|fancy-math-387)" * (MACHINE == "x86_64")
)

# ---- what is written into the build folder ---------------------------------------------------------------------------

# The annotations of the kernels' text, in C.
ANNOTATIONS = {
    "In": "const S*", "Out": "S*", "Slopes": "const T*", "Sums": "double*",
    "InnerLoop": "InnerLoop*", "Integer": "integer",
    "IntegersIn": "const integer*", "IntegersOut": "integer*", "int": "Py_ssize_t", "bool": "bint", "float": "double",
    "None": "void",
}  # fmt: skip


def write(path: Path, *lines: str) -> str:
    """Write a file, unless it says that already (a new date would compile it again); its path."""
    text = "\n".join(lines) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)


def write_tables() -> None:
    """tables.h and tables.pxi: the numbers, the texts, the kernels, the processor's levels and struct inner_loop."""
    numbers = {name: n for name, n in vars(TABLES).items() if name.isupper() and isinstance(n, int)}
    texts = {name: text for name, text in vars(TABLES).items() if name.isupper() and isinstance(text, str)}
    for number, kernel in enumerate(TABLES.KERNELS):
        if numbers.setdefault(kernel.upper(), number) != number:
            raise ValueError(f"a kernel cannot have the name of the number {kernel.upper()}")
    fields = {name: re.sub("[ST]", "void", kind) for name, kind in TABLES.INNER_LOOP.items()}
    levels = [
        f'LEVEL("{name}", 1{"".join(f" && HAS({json.dumps(feature)})" for feature in level.features)})'
        for name, level in LEVELS.items()
        if level.machine
    ]
    write(
        Path(TABLES_H),
        "/* Written by setup.py from fastact/_tables.py. */",
        "#ifndef FASTACT_TABLES_H\n#define FASTACT_TABLES_H\n#include <stddef.h>\n#include <stdint.h>",
        f"enum {{ {', '.join(f'{name} = {n}' for name, n in numbers.items())} }};",
        *(f"#define {name} {json.dumps(text)}" for name, text in texts.items()),
        f"struct inner_loop {{ {' '.join(f'{kind}{name};' for name, kind in fields.items())} }};".replace(
            "bool ", "ptrdiff_t "
        ),
        f"#define FA_LEVELS(LEVEL, HAS) {' '.join(levels)}",
        "#endif",
    )
    for declared, in_kernels in (("tables.pxi", False), ("kernel_tables.pxi", True)):
        fields = {
            name: kind if in_kernels else re.sub("[ST]", "void", kind) for name, kind in TABLES.INNER_LOOP.items()
        }
        write(
            GENERATED / declared,
            "# Written by setup.py from fastact/_tables.py.",
            "from libc.stdint cimport uint8_t",
            'cdef extern from "tables.h" nogil:',
            f"    enum: {', '.join(numbers)}",
            *(f"    const char* {name}" for name in texts),
            '    ctypedef struct InnerLoop "struct inner_loop":',
            *(
                f"        {kind}{name}".replace("ptrdiff_t", "Py_ssize_t").replace("bool", "bint")
                for name, kind in fields.items()
            ),
        )


def declarations(text: str) -> list[str]:
    """A declaration in C types for each function of a text that Cython compiles, from its annotations."""

    def in_c(annotation: ast.expr) -> str:
        return re.sub(r"\w+", lambda word: ANNOTATIONS.get(word[0], word[0]), ast.unparse(annotation))

    tree = ast.parse(text)
    names = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    apart = ast.literal_eval(names["OUT_OF_LINE"]) if "OUT_OF_LINE" in names else ()
    return [
        f"cdef {'' if f.name in apart else 'inline '}{in_c(f.returns)} {f.name}("
        f"{', '.join(f'{in_c(a.annotation)} {a.arg}' for a in f.args.args)}) noexcept nogil"
        for f in tree.body
        if isinstance(f, ast.FunctionDef)
    ]


def kernels(text: str, kind: str, level: str, head: list[str], entries: dict[str, str], *macros: str) -> Extension:
    """One module of kernels: a text, an entry for each kernel, and the addresses of the entries."""
    source = Path(text).read_text(encoding="utf-8")
    folder = GENERATED / "fastact/_cython" / level
    names = ", ".join(f'"{name}": cython.cast(cython.Py_ssize_t, cython.address(kernel_{name}))' for name in entries)
    functions = [f"def kernel_{name}(loop):\n    {call}" for name, call in entries.items()]
    file = write(
        folder / f"{kind}.py",
        "# cython: infer_types=True",
        source,
        "import cython",
        *functions,
        f"ADDRESSES = {{{names}}}",
        "LEVEL = FA_LEVEL.decode()",
    )
    write(
        folder / f"{kind}.pxd",
        *head,
        *declarations(source),
        *(f"cdef void kernel_{name}(InnerLoop* loop) noexcept nogil" for name in entries),
    )
    return Extension(
        f"fastact._cython.{level}.{kind}",
        [file],
        include_dirs=[str(CYTHON / level), str(CYTHON), str(GENERATED), "fastact"],
        depends=[TABLES_H, str(CYTHON / level / "level.h"), *(str(CYTHON / name) for name in KERNEL_HEADERS)],
        extra_compile_args=[*FLAGS, *LEVELS[level].flags, f'-DFA_LEVEL="{level}"', *macros, *INLINED],
        extra_link_args=LINK_FLAGS,
    )


# ---- the modules -----------------------------------------------------------------------------------------------------


def core(name: str, source: str, *headers: str, numpy: bool = False, exporting: bool = True) -> Extension:
    """A module of the core: the driver with its threads, the recycled memory, the fast path, the public text.

    An adapter's module finds the functions of fastact.h as other people's do (exporting=False).
    """
    options = {"include_dirs": ["fastact", str(CYTHON), str(GENERATED)], "define_macros": list(EXPORTING) * exporting}
    if numpy:
        from numpy import get_include

        options["include_dirs"].append(get_include())
        options["define_macros"] += [
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
        ]
    depends = [TABLES_H, *(str(CYTHON / header) for header in headers)]
    return Extension(name, [source], depends=depends, extra_compile_args=FLAGS, extra_link_args=LINK_FLAGS, **options)


def extensions() -> list[Extension]:
    """Every module of the build, as C."""
    from Cython.Build import cythonize

    write_tables()
    found = [
        core("fastact._cython.policy", "fastact/_policy.py"),
        core("fastact._cython.contexts", "fastact/_cython/contexts.pyx"),
        core("fastact._cython.plan", "fastact/_plan.py"),
        core("fastact._cython.driver", "fastact/_cython/driver.pyx", *DRIVER_HEADERS, numpy=True),
        core("fastact._cython.buffers", "fastact/_cython/buffers.pyx", "system.h", numpy=True),
        core("fastact._cython.entry", "fastact/_cython/entry.pyx", *ENTRY_HEADERS, numpy=True),
        core("fastact._cython.front", "fastact/_cython/front.pyx", *ENTRY_HEADERS, numpy=True),
        core("fastact._cython.ops", "fastact/ops.py"),
        core("fastact.torch._exchange", "fastact/torch/_exchange.pyx", *EXCHANGE_HEADERS, numpy=True, exporting=False),
    ]
    floats = ['include "words.pxi"', 'include "kernel_tables.pxi"']
    c_integers = dict.fromkeys(TABLES.INTEGERS.values())
    integers = [
        'include "tables.pxi"',
        f"from libc.stdint cimport {', '.join(c_integers)}",
        'cdef extern from "blocks.h" nogil:\n    ctypedef struct Block "struct fa_block":\n        pass',
        *(f"    void {mover}(const Block* block) noexcept" for mover in TABLES.MOVERS.values()),
        "ctypedef fused integer:",
        *(f"    {c}" for c in c_integers),
        'include "integer_words.pxi"',
    ]
    moving = {
        f"{kernel}_{name}": f'run_integers({kernel.upper()}, cython.cast("{c}*", loop.y), '
        f'cython.cast("const {c}*", loop.{TABLES.KERNELS[kernel][0]}), cython.cast("const {c}*", loop.x), '
        f'cython.cast("{c}*", stream_buffer()), loop, cython.cast("{c}", {bound}))'
        for (kernel, name), (c, bound) in TABLES.MOVING.items()
    }
    movers = {name: f'{mover}(cython.cast("const Block*", loop))' for name, mover in TABLES.MOVERS.items()}
    for level in LEVELS:
        for name, kind in TABLES.TYPES.items():
            runs = {
                kernel: f"{TABLES.FAMILIES[reads]}({kernel.upper()}, loop)"
                for kernel, reads in TABLES.KERNELS.items()
                if TABLES.module_of(kernel, name) == kind.module
            }
            macros = [f"-D{macro}" for macro in kind.macros]
            found.append(kernels("fastact/_kernels.py", kind.module, level, floats, runs, *macros))
        found.append(kernels("fastact/_integers.py", TABLES.INTEGER_MODULE, level, integers, moving | movers))
    return cythonize(
        found,
        include_path=[str(CYTHON), str(GENERATED)],
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


def adapters() -> list[Extension]:
    """The libraries that other people's programs load, in plain C, each with declarations of its own."""
    return [
        Extension(
            f"fastact.{library}",
            [f"fastact/{library.replace('.', '/')}.c"],
            include_dirs=["fastact", str(CYTHON)],
            depends=["fastact/fastact.h", str(CYTHON / "float_mode.h"), f"fastact/{declarations}"],
            extra_compile_args=FLAGS,
            extra_link_args=LINK_FLAGS,
        )
        for library, declarations in (("onnx._library", "onnx/onnxruntime.h"), ("jax._handlers", "jax/xla.h"))
    ]


class BuildWhatCanBeBuilt(build_ext):
    """Builds every module that can be built, and reports the others with the reason."""

    def finalize_options(self) -> None:
        """As many modules at once as there are processors, unless a number was asked for."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        """Build; then write the report where the modules go, or take an older one away."""
        for extension in self.extensions:
            extension.optional = not REQUIRED
        self.failed: dict[str, str] = {}
        self.said = threading.local()
        super().run()
        report = (Path() if self.inplace else Path(self.build_lib)) / CYTHON / TABLES.BUILD_REPORT
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
        if self.compiler.compiler_type == "msvc":
            self.use_clang_cl()
        elif self.compiler.compiler_type == "unix":
            self.compiler.call = self.compiler.spawn = self.heard  # the names in setuptools from 84 on, and before
        super().build_extensions()

    def use_clang_cl(self) -> None:
        """On Windows: clang-cl in place of cl, with Clang's own flags behind /clang:.  Never run so far."""
        self.compiler.initialize()
        self.compiler.cc = os.environ.get("CC", "clang-cl")
        for extension in self.extensions:
            extension.extra_compile_args = [f"/clang:{flag}" for flag in extension.extra_compile_args]
            extension.extra_link_args = []

    def heard(self, command: list[str], **_: object) -> None:
        """Run a compiler's command, and keep what it prints for the module that is built on this thread."""
        environment = dict(os.environ)
        if target := sysconfig.get_config_var("MACOSX_DEPLOYMENT_TARGET"):
            environment.setdefault("MACOSX_DEPLOYMENT_TARGET", str(target))  # as distutils does
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
        self.said.lines += [line.strip() for line in done.stderr.splitlines() if line.strip()]
        if sys.stderr is not None and done.stderr:  # closed by whoever started this
            sys.stderr.write(done.stderr)
        done.check_returncode()

    def build_extension(self, extension: Extension) -> None:
        """Build it, or note why not."""
        self.said.lines = []
        try:
            if NOT_POSSIBLE:
                raise RuntimeError(NOT_POSSIBLE)
            super().build_extension(extension)
            if b"set_fast_math" in Path(self.get_ext_fullpath(extension.name)).read_bytes():
                raise RuntimeError(
                    "the linker was told to switch flush-to-zero on for the process (-ffast-math, -Ofast)"
                )
        except Exception as error:  # also a compiler that does not exist, and memory that cannot be had
            if REQUIRED:
                raise
            telling = "error|cannot find|undefined|not found|no such"
            lines = self.said.lines
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


NOT_POSSIBLE = ""  # why no module can be built
try:
    modules = [*extensions(), *adapters()]
except Exception as error:  # no Cython, no NumPy, no memory: the package works without
    if REQUIRED:
        raise
    NOT_POSSIBLE = f"{type(error).__name__}: {error}"
    modules = [Extension(f"fastact._cython.{name}", []) for name in TABLES.CORE]

setup(cmdclass={"build_ext": BuildWhatCanBeBuilt}, ext_modules=modules)
