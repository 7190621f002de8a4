"""The extension modules of the Cython variant and their flags; everything else is in pyproject.toml.

kernels.pxi is compiled once per SIMD level and computing type.  Two extensions built from one .pyx would
share one generated C file, so each gets a .pyx of one line, written here.  Every extension is optional:
where there is no C compiler the install succeeds, and fastact says what is missing when it is asked.
"""

import os
import platform
from pathlib import Path

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


def kernels(bits: int, level: str) -> Extension:
    source = GENERATED / f"f{bits}_{level}.pyx"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text('include "kernels.pxi"\n')
    return Extension(
        f"fastact._cython.f{bits}_{level}",
        [str(source)],
        include_dirs=[str(CYTHON)],
        depends=[str(CYTHON / "kernels.pxi"), str(CYTHON / "simd.h")],
        extra_compile_args=[*FLAGS, *LEVELS[level], f"-DFASTACT_BITS={bits}"],
        optional=True,
    )


extensions = [kernels(bits, level) for level in LEVELS for bits in (32, 64)]

setup(
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
            "freethreading_compatible": True,
        },
    ),
)
