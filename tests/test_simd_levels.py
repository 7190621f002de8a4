"""What the compiled modules hold, read from their machine code: no instruction above a module's level, and the fences.

A module that every CPU imports (the core, the "generic" kernels) must run on the baseline, and each level's kernels on
that level: one stray AVX instruction in them is an illegal instruction on somebody's machine, which no test on this one
would see (audit_wheel.py looks at a wheel's modules in the same way).
Fences cannot be missed by results on x86 (the team's own barrier orders stores), so they are looked for here as well.
"""

import ctypes
import re
import shutil
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
from helpers import SANITIZED, built, launch, python_driver, tables
from machine_code import functions, instructions, level_of

import fastact

LEVELS = list(tables.LEVELS)

pytestmark = [
    pytest.mark.skipif(
        not any(tables.LEVELS[level].machine == "x86_64" for level in built.built_levels()),
        reason="no SIMD levels of x86-64 were built here (tests/arm64.py looks at the machine code for ARM)",
    ),
    pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump"),
]
CORE = [f"_cython.{name}" for name in (*tables.CORE, "ops")]


def file_of(module: str) -> Path:
    """A compiled module's file."""
    *folders, name = module.split(".")  # without importing their package, which refuses a level above the CPU's
    return Path(PathFinder.find_spec(name, [str(Path(fastact.__file__).parent.joinpath(*folders))]).origin)


@pytest.mark.parametrize("module", CORE)
def test_the_core_runs_on_every_cpu(module):
    above = [line for line in instructions(file_of(module)) if level_of(line) != "generic"]
    assert not above, above[:3]


@pytest.mark.parametrize("kind", built.KINDS)
@pytest.mark.parametrize("level", built.built_levels())
def test_no_instruction_above_the_level(kind, level):
    highest = LEVELS.index(level)
    code = instructions(file_of(f"_cython.{level}.{kind}"))
    above = [line for line in code if LEVELS.index(level_of(line)) > highest]
    assert not above, above[:3]
    if level not in ("generic", "v2"):
        assert any(level_of(line) == level for line in code), "nothing of its own"


@pytest.mark.skipif(SANITIZED, reason="built with -O1, which leaves functions with fences apart from the kernels")
@pytest.mark.parametrize("kind", built.KINDS)
@pytest.mark.parametrize("level", [level for level in built.built_levels() if level != "generic"])
def test_streamed_results_are_fenced(kind, level):
    """Every kernel has a fence of its own: the functions that were inlined into them have some as well."""
    fences = {}
    for function, lines in functions(file_of(f"_cython.{level}.{kind}")):
        name = re.search(r"__pyx_f_.*_kernel_(\w+)", function)
        # Of two functions with one text GCC makes one, to which the other jumps.
        there = sum(bool(re.match(r"sfence|jmp.*_kernel_\w+>$", line)) for line in lines)
        kernel = name[1] if name else ""
        fences[kernel] = fences.get(kernel, 0) + there
    for other in ("", *tables.MOVERS):
        fences.pop(other, None)
    if not fences:
        pytest.skip("the modules were stripped of their names")
    moving = {f"{kernel}_{dtype}" for kernel, dtype in tables.MOVING}
    dtype = {form.module: name for name, form in tables.TYPES.items()}.get(kind)
    assert set(fences) == (
        {kernel for kernel in tables.KERNELS if tables.module_of(kernel, dtype) == kind} if dtype else moving
    )
    assert all(fences.values()), fences


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("form", ["plain", "rows", "running"])
def test_the_last_loop_of_a_thread_is_told_to_fence(form, threads, policy):
    """By a kernel that only notes what it is asked: each thread's last run has the flag, and no other run."""
    shape, alpha = {"plain": ((200_000,), (1,)), "rows": ((8, 40, 700), (1, 40, 1)), "running": ((9000, 33), (1, 33))}[
        form
    ]
    x, runs = np.ones(shape, np.float32), []

    def kernel(loop):
        runs.append((loop[0].y, loop[0].n, loop[0].fence))

    address = ctypes.CFUNCTYPE(None, ctypes.POINTER(python_driver.InnerLoop))(kernel)
    where = ctypes.cast(address, ctypes.c_void_p).value
    slopes = np.ones(alpha, np.float32).reshape((1,) * (x.ndim - len(alpha)) + alpha)
    policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_to_wake=0)
    launch("prelu", where, x, None, x, slopes, None, threads, 0)
    assert sum(n for _, n, _ in runs) == x.size
    ends = [y for y, _, fence in runs if fence]
    assert len(ends) == threads
    assert max(y for y, _, _ in runs) in ends
