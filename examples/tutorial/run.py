"""Build, check and time the steps of docs/tutorial.md on this machine, or show the instructions that they compile to.

    python examples/tutorial/run.py                         everything; a few minutes
    python examples/tutorial/run.py --step 5 --step 6       only these
    python examples/tutorial/run.py --instructions 5        the hot loops of step 5 (x86-64 only)

A step has two functions: `prelu(x, alpha, y)` writes y, and `prelu_backward(dy, x, alpha, dx)` writes dx and returns
dalpha.  Step 9 makes y and dx itself.  Arrays have one axis and are float32; alpha is one slope, an np.float32.
"""

import argparse
import importlib
import math
import os
import platform
import statistics
import sys
import time
from functools import cache, partial
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP's idle threads would spin into the next one's turn

import numpy as np

import fastact
from fastact import reference
from fastact._limit import Traffic

HERE = Path(__file__).resolve().parent
STEPS = {number: next(HERE.glob(f"numba_steps/step{number}_*.py")).stem for number in range(1, 10)}
LANGUAGES = "numba", "cython"
OPERATIONS = "prelu", "prelu_backward"
ALPHA = np.float32(0.25)
IN_CACHE, FROM_MEMORY = 1 << 15, 1 << 24  # elements: x has 128 KB, 64 MB
NEW = "8, new results"  # what step 9 is compared with


# ---- building and checking -------------------------------------------------------------------------------------------


@cache
def build():
    """Build the Cython steps that are not up to date.  Where one does not compile, the others are there."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    # The code of typed memoryviews is compiled once, as a module of its own: all takes a third of the time so.
    shared = "cython_steps.memoryviews"
    folder = HERE / "cython_steps"
    extensions = [Extension(shared, [])] + [
        Extension(f"cython_steps.{path.stem}", [str(path)], include_dirs=[str(folder)])
        for path in sorted(folder.glob("step*.pyx"))
    ]
    options = {"build_dir": str(HERE / "build"), "include_path": [str(HERE)], "language_level": 3, "quiet": True}
    extensions = cythonize(extensions, shared_utility_qualified_name=shared, **options)
    for extension in extensions:
        extension.optional = True
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(HERE), str(HERE / "build")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()


@cache
def load(language, step):
    """Return the step's module, or None where it could not be built: the compiler has said why."""
    if language == "cython":
        build()
    try:
        return importlib.import_module(f"{language}_steps.{STEPS[step]}")
    except ImportError as error:
        print(f"{language}, step {step} is left out: {error}", file=sys.stderr)


def run_step(module, operation, operands, out):
    """Return y, or dx and dalpha; step 9 has memory of its own for y and dx."""
    function = getattr(module, operation)
    if module.__name__.endswith(STEPS[9]):
        return function(*operands)
    dalpha = function(*operands, out)
    return (out, dalpha) if operation == "prelu_backward" else out


def same_bits(a, b):
    """Whether two float32 arrays have the same bits; any NaN is as good as another."""
    return bool(((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))).all())


@cache
def expected(size):
    """Operands, and what the reference makes of them: y, dx, the exact dalpha, and the sum of its terms' sizes."""
    random = np.random.default_rng(size)
    x, dy = random.standard_normal((2, size), np.float32)
    terms = np.where(x > 0, 0.0, np.multiply(x, dy, dtype=np.float64))
    y, dx = reference.prelu(x, ALPHA), reference.prelu_backward_dx(dy, x, ALPHA)
    return x, dy, y, dx, math.fsum(terms), float(np.abs(terms).sum())


def check(module, size):
    """y and dx bit for bit; dalpha half a unit in its last place beside the exact sum, and what additions may lose."""
    x, dy, y, dx, exact, magnitude = expected(size)
    got = run_step(module, "prelu", (x, ALPHA), np.empty_like(x))
    assert same_bits(got, y), f"{module.__name__}: y is wrong for {size} elements"
    got, dalpha = run_step(module, "prelu_backward", (dy, x, ALPHA), np.empty_like(x))
    assert same_bits(got, dx), f"{module.__name__}: dx is wrong for {size} elements"
    allowed = 0.5 * float(np.spacing(np.float32(abs(exact)))) + size * 2.0**-53 * magnitude
    assert abs(float(dalpha) - exact) <= allowed, f"{module.__name__}: dalpha is {dalpha}, not {exact}"


def check_odd_numbers(module):
    """Every pair of signed zeros, the smallest and largest numbers, infinities and NaN as x and dy."""
    numbers = np.array([0.0, 1e-45, 1.5, 3e38, np.inf, np.nan], np.float32)
    numbers = np.concatenate([numbers, -numbers])
    x, dy = (part.ravel() for part in np.meshgrid(numbers, numbers))
    for alpha in (ALPHA, np.float32(np.inf), np.float32(np.nan)):
        with np.errstate(all="ignore"):
            y, dx = reference.prelu(x, alpha), reference.prelu_backward_dx(dy, x, alpha)
        assert same_bits(run_step(module, "prelu", (x, alpha), np.empty_like(x)), y), f"{module.__name__}: y"
        got, _ = run_step(module, "prelu_backward", (dy, x, alpha), np.empty_like(x))
        assert same_bits(got, dx), f"{module.__name__}: dx"
    # An infinity or an overflow at a positive x is no term of dalpha.
    x, dy = np.array([[1, 3e38, -2], [np.inf, 3e38, 3]], np.float32)
    assert run_step(module, "prelu_backward", (dy, x, ALPHA), np.empty_like(x))[1] == -6, f"{module.__name__}: dalpha"


# ---- timing ----------------------------------------------------------------------------------------------------------


def contestants(operation, x, dy, out, steps):
    """Return who takes turns: a call without arguments for each (row, column)."""
    operands = (x, ALPHA) if operation == "prelu" else (dy, x, ALPHA)
    inputs = (x,) if operation == "prelu" else (dy, x)
    calls = {}
    for language in LANGUAGES:
        for step in steps:
            if module := load(language, step):
                label = f"{step} {STEPS[step].split('_', 1)[1].replace('_', ' ')}"
                calls[label, language] = partial(run_step, module, operation, operands, out)
        if 9 in steps and (module := load(language, 8)):
            calls[NEW, language] = lambda module=module: run_step(module, operation, operands, np.empty_like(x))
        if language in fastact.available_backends():
            function = partial(getattr(fastact, operation), *operands, backend=language)
            calls["fastact, its own results", language] = function
            calls["fastact, into `out`", language] = partial(function, out=out if operation == "prelu" else (out, None))
    for stream in (False, True):
        for threads in {1, fastact.get_num_threads()}:
            calls["bound", (stream, threads)] = Traffic(out, *inputs, stream=stream, n_threads=threads).run
    return calls


def medians(calls, refresh, rounds):
    """Return the median time of each call; all take turns, in another order in each round."""
    times = {who: [] for who in calls}
    order, random = list(calls), Random(0)
    for call in calls.values():  # compiled, and the memory touched
        call()
    for _ in range(rounds):
        random.shuffle(order)
        for who in order:
            refresh()
            start = time.perf_counter()
            calls[who]()
            times[who].append(time.perf_counter() - start)
    return {who: statistics.median(seconds) for who, seconds in times.items()}


def measure(size, steps, rounds):
    """Return the median times of every step and operation: {operation: {(row, column): seconds}}."""
    random = np.random.default_rng(0)
    many = random.standard_normal(max(size, min(64 * size, FROM_MEMORY)), np.float32)
    x, dy, out = many[:size].copy(), random.standard_normal(size, np.float32), np.empty(size, np.float32)
    turn = 0

    def refresh():
        nonlocal turn
        turn = (turn + size) % (many.size - size + 1)
        if many.size > size:
            x[:] = many[turn : turn + size]  # other signs, or the processor would learn which way the branches go
            out[:] = 0  # in the caches, although the one before may have streamed

    return {op: medians(contestants(op, x, dy, out, steps), refresh, rounds) for op in OPERATIONS}


def table(size, times):
    """Return the lines of a table: time, and in brackets how many times the bound that is."""
    unit, scale = ("us", 1e6) if size < 1 << 20 else ("ms", 1e3)
    bounds = {op: min(t for (row, _), t in times[op].items() if row == "bound") for op in OPERATIONS}
    said = ", ".join(f"{op} {bounds[op] * scale:.3g} {unit}" for op in OPERATIONS)
    lines = [
        f"{size:,} elements (x has {size * 4 / 2**20:g} MB); the bound: {said}",
        "",
        "| step | " + " | ".join(f"{op}, {language}" for op in OPERATIONS for language in LANGUAGES) + " |",
        "|---" * 5 + "|",
    ]
    rows = sorted({row for row, _ in times["prelu"] if row != "bound"})
    for row in rows:
        cells = [
            f"{t * scale:.3g} {unit} ({t / bounds[op]:.2f})" if (t := times[op].get((row, language))) else "-"
            for op in OPERATIONS
            for language in LANGUAGES
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


# ---- the command -----------------------------------------------------------------------------------------------------


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--step", type=int, choices=STEPS, action="append", help="only this step; may be repeated")
    parser.add_argument("--instructions", type=int, choices=STEPS, metavar="STEP", help="show a step's hot loops")
    parser.add_argument("--size", type=int, action="append", help="elements; may be repeated")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (101, from memory 21)")
    options = parser.parse_args(arguments)
    if options.instructions:
        from instructions import show

        return show(options.instructions, load)
    steps = sorted(set(options.step or STEPS))
    for language in LANGUAGES:
        for step in steps:
            if module := load(language, step):
                check_odd_numbers(module)
                for size in (1, 31, 1000, 300_007):
                    check(module, size)
    print(f"{platform.machine()}, {fastact.get_num_threads()} threads; every result is checked\n")
    for size in options.size or (IN_CACHE, FROM_MEMORY):
        times = measure(size, steps, options.rounds or (101 if size < 1 << 20 else 21))
        print("\n".join(table(size, times)), end="\n\n")


if __name__ == "__main__":
    main()
