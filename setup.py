"""The extension modules of the Cython variant and their flags; everything else is in pyproject.toml.

kernels.pxi is compiled once per SIMD level and computing type.  Two extensions built from one .pyx would
share one generated C file, so each gets a .pyx of one line, written here.  Every extension is optional:
where there is no C compiler the install succeeds, and fastact says what is missing when it is asked.
"""

import platform
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CYTHON = Path("fastact/_cython")
GENERATED = Path("build/pyx")

# -fno-trapping-math: without it GCC keeps a branch in `x > 0 ? x : a * x`, 12 times slower on random signs.
# -ffp-contract=off: GCC 12 fuses even intrinsics into FMA at v3, and float64 sums would differ between levels.
FLAGS = ["-O3", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden"]
LEVELS = {"generic": ["-DFASTACT_GENERIC"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS |= {
        "v2": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }


# Only asked for its limits (the threads are team.h's), and optional: macOS' own compiler has none.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]


def kernels(text: str, name: str, level: str, *macros: str) -> Extension:
    """One module of kernels, from a .pyx of one line."""
    source = GENERATED / f"{name}_{level}.pyx"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(f'include "{text}"\n')
    return Extension(
        f"fastact._cython.{name}_{level}",
        [str(source)],
        include_dirs=[str(CYTHON)],
        depends=[str(CYTHON / text), str(CYTHON / "simd.h")],
        extra_compile_args=[*FLAGS, *LEVELS[level], *macros],
        optional=True,
    )


# The core: the driver with its threads, the recycled memory, the front door and, as it is, the public text.
NUMPY = {
    "include_dirs": [numpy.get_include()],
    "define_macros": [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
}
CORE = {"extra_compile_args": [*FLAGS, *OPENMP], "extra_link_args": OPENMP, "optional": True}
extensions = [
    Extension(
        "fastact._cython.driver",
        [str(CYTHON / "driver.pyx")],
        include_dirs=[str(CYTHON)],
        depends=[str(CYTHON / "team.h")],
        **CORE,
    ),
    Extension("fastact._cython.buffers", [str(CYTHON / "buffers.pyx")], **NUMPY, **CORE),
    Extension("fastact._cython.front", [str(CYTHON / "front.pyx")], **NUMPY, **CORE),
    Extension("fastact.ops", ["fastact/ops.py"], **CORE),
]
for level in LEVELS:
    extensions.append(kernels("kernels.pxi", "f32", level, "-DFASTACT_BITS=32"))
    extensions.append(kernels("kernels.pxi", "f64", level, "-DFASTACT_BITS=64"))
    extensions.append(kernels("integers.pxi", "int", level))


class BuildWhatCanBeBuilt(build_ext):
    """`optional` covers a compiler that fails; this one covers a compiler that does not exist."""

    def build_extension(self, ext):
        """Build it, or say why not."""
        try:
            super().build_extension(ext)
        except Exception as error:
            self.warn(f"{ext.name} was not built: {error}")


setup(
    cmdclass={"build_ext": BuildWhatCanBeBuilt},
    ext_modules=cythonize(
        extensions,
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
    ),
)
