"""What a compiled module's machine code holds: for test_simd_levels.py, audit_wheel.py and arm64.py.

Registers tell the SIMD level of x86-64: xmm only up to v2, ymm in v3, zmm and masks in v4; VEX forms begin with "v".
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Multiply-adds of 64-bit ARM, whose product is not rounded.
FUSED = r"(^|\t)(f(n)?m(l)?(add|sub|a|s)\t|bfm)"
BMI = r"(andn|bextr|blsi|blsr|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|tzcnt|lzcnt)[lq]?"


def functions(module: Path, objdump: str = "objdump") -> Iterator[tuple[str, list[str]]]:
    """Each function's name with its instructions; a stripped module has one function for each section.

    What GNU's objdump prints is understood, and LLVM's, which macOS has.
    """
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", module], capture_output=True, text=True, check=True)
    name, lines = "", []
    for line in text.stdout.splitlines():
        if start := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            yield name, lines
            name, lines = start[1], []
        elif instruction := re.match(r"\s*[0-9a-f]+:\s+(.*\S)", line):
            lines.append(instruction[1])
    yield name, lines


def instructions(module: Path, objdump: str = "objdump") -> list[str]:
    """All instructions of a module."""
    found = [line for _, lines in functions(module, objdump) for line in lines]
    assert found, f"{module}: {objdump} finds no instructions"
    return found


def level_of(instruction: str) -> str:
    """The least level of x86-64 that an instruction needs, as far as its registers and form tell."""
    name = instruction.split()[0]
    if (
        "%zmm" in instruction
        or re.search(r"%k[0-7]\b", instruction)
        or re.search(r"%[xy]mm(1[6-9]|2\d|3[01])", instruction)
    ):
        return "v4"
    if "%ymm" in instruction or (name.startswith("v") and "%xmm" in instruction):
        return "v3"
    return "v3" if re.fullmatch(BMI, name) else "generic"
