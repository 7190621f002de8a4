"""Break the package on purpose and see that the tests notice: `python tests/mutants.py [WORD ...]`.

Each mutant is one fault in a copy of the checkout: a formula, a tail, a row's end, a fence, a chunk's boundary, the
order of a sum, a fork.  The copy is built for the baseline and the best level, and the tests run until one fails.  A
mutant that survives is printed and makes the exit status 1.  Words choose the mutants that have one in their name.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from copies import build, copy_to, test_in

# In the order in which they find most for their time; a team's and a fork's faults are found by what comes last.
TESTS = (
    "test_fuzz.py", "test_simd_levels.py", "test_dalpha.py", "test_guard_pages.py", "test_parity.py", "test_layouts.py",
    "test_errors.py", "test_buffers.py", "test_concurrency.py", "test_memory.py",
)  # fmt: skip
THREADS_FIRST = ("test_concurrency.py", "test_memory.py")
KERNELS, DRIVER, BUFFERS, FRONT = (
    f"_cython/{name}" for name in ("kernels.pxi", "driver.pyx", "buffers.pyx", "front.pyx")
)
TEAM, SIMD, INTEGERS, NUMBA, BACKENDS = (
    "_cython/team.h",
    "_cython/simd.h",
    "_cython/integers.pxi",
    "_numba/kernels.py",
    "_backends.py",
)


class Mutant(NamedTuple):
    """One fault: in `file`, `old` (which is there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("formula: relu of NaN is 0", KERNELS,
           "return vec_where_le(x, vec_splat(0), vec_splat(0), x)",
           "return vec_where_gt(x, vec_splat(0), x, vec_splat(0))"),
    Mutant("formula: relu_backward at NaN is 0", KERNELS,
           "return vec_where_le(x, vec_splat(0), vec_splat(0), dy)",
           "return vec_where_gt(x, vec_splat(0), dy, vec_splat(0))"),
    Mutant("formula: prelu lets 0 through", KERNELS,
           "return vec_where_gt(x, vec_splat(0), x, vec_mul(alpha, x))",
           "return vec_where_gt(vec_splat(0), x, vec_mul(alpha, x), x)"),
    Mutant("formula: dx at NaN is dy", KERNELS,
           "return vec_where_gt(x, vec_splat(0), dy, vec_mul(alpha, dy))",
           "return vec_where_le(x, vec_splat(0), vec_mul(alpha, dy), dy)"),
    Mutant("formula: the sum leaves x up to 1 in", KERNELS,
           "return wide_add_products_unless_gt(total, x, dy, 0)",
           "return wide_add_products_unless_gt(total, x, dy, 1)"),
    Mutant("formula: a single term loses the sign of an underflow", KERNELS,
           "if sizeof(T) == sizeof(float):\n        # As if", "if False:\n        # As if"),
    Mutant("formula of Numba: dx at NaN is dy", NUMBA,
           "return where_gt(x, 0, dy, mul(alpha, dy))", "return where_le(x, 0, mul(alpha, dy), dy)"),
    Mutant("tail: one element short", KERNELS,
           "part(op, stream, y + i, dy + i, x + i, alpha, hi - i)",
           "part(op, stream, y + i, dy + i, x + i, alpha, hi - i - 1)"),
    Mutant("tail: a whole register is read", KERNELS, "cdef vec v = vec_load_part(x, n)", "cdef vec v = vec_load(x)"),
    Mutant("tail of Numba: one element short", NUMBA,
           "tail(op, streams, y, dy, x, i, alpha, hi - i)", "tail(op, streams, y, dy, x, i, alpha, hi - i - 1)"),
    Mutant("row: the next slope comes one early", KERNELS,
           "x + i, joined(op, a, row, after(rows, row), end - i))",
           "x + i, joined(op, a, row, after(rows, row), end - i - 1))"),
    Mutant("row: a run begins at its row's beginning", KERNELS,
           "cdef Py_ssize_t i = lo, row = rows.first, end = m - rows.offset, stop",
           "cdef Py_ssize_t i = lo, row = rows.first, end = m, stop"),
    Mutant("period: the next begins a slope late", KERNELS, "            ahead -= m\n", "            ahead -= m - 1\n"),
    Mutant("sum: a shared group is cut one early", KERNELS,
           "prelu_backward_share(&total, &following, dy + i, x + i, stop - i)",
           "prelu_backward_share(&total, &following, dy + i, x + i, stop - i - 1)"),
    Mutant("sum: lanes follow the address", KERNELS,
           "total = terms_part(total, dy, x, shift, i)", "total = terms_part(total, dy, x, 0, i)"),
    Mutant("sum: blocks are not kept apart", KERNELS,
           "            push(pending, count, wide_sum(total))\n            count += 1\n            total = following\n",
           "            total = following\n"),
    Mutant("running sum: what crosses the period is lost", KERNELS,
           "            wide_store(acc + phase - m, following)\n", ""),
    Mutant("running sum: the head is not brought back", KERNELS, "acc[k] = acc[m + k]", "acc[k] = acc[k]"),
    Mutant("running sum of Numba: what crosses the period is lost", NUMBA,
           "            store(acc, phase - m, following)\n", ""),
    Mutant("fence: there is none after elementwise work", KERNELS,
           "    sweep(op, flags, y, dy, x, a, 0, n, m, rows)\n    if flags & FENCE:\n        fence()\n",
           "    sweep(op, flags, y, dy, x, a, 0, n, m, rows)\n"),
    Mutant("fence: the last run of a share is not told", DRIVER,
           "flags = job.flags | FENCE if last and row >= stop else job.flags", "flags = job.flags"),
    Mutant("chunk: shares leave one out", DRIVER,
           "for chunk in range(chunks * share // shares, stop):",
           "for chunk in range((chunks * share + shares - 1) // shares + (share > 0), stop):"),
    Mutant("chunk: an equal part ends a group early", DRIVER,
           "return job.elements if share == shares else",
           "return job.elements - (shares > 1) if share == shares else"),
    Mutant("cascade: a level is skipped", DRIVER,
           "            add_to(acc + lanes, acc, lanes)\n            left = radix\n", "            left = radix\n"),
    Mutant("cascade: its length follows the threads", DRIVER,
           "    cdef Py_ssize_t radix = 2 * RADIX if job.flags & RUNNING else RADIX, left",
           "    cdef Py_ssize_t radix = 2 * RADIX if job.flags & RUNNING or last else RADIX, left"),
    Mutant("fold: the last columns are left", DRIVER,
           "width = <int>min(WIDTH, count - first)", "width = <int>min(WIDTH - 1, count - first)"),
    Mutant("team: callers do not share the processors", TEAM, "if (bound > FA_PLACES) bound", "bound"),
    Mutant("team: a thread that was not started is given work", TEAM, "return !failed;", "return 1;"),
    Mutant("team: two callers have the same helper", TEAM,
           "if (!fa_change(&fa_pool[i], fresh ? FA_EMPTY : FA_IDLE, FA_TAKEN)) continue;",
           "if (fresh ? !fa_change(&fa_pool[i], FA_EMPTY, FA_TAKEN) : fa_pool[i].state == FA_EMPTY) continue;"),
    Mutant("team: nobody waits for the helpers", TEAM, "!= FA_TAKEN) fa_await(p, FA_DONE);", "!= FA_TAKEN) ;"),
    Mutant("team: a helper rounds as whoever started it", TEAM,
           "if (p->mode != fa_get_mode()) fa_set_mode(p->mode);", ""),
    Mutant("team: a sleeper is not woken", TEAM, "if (__atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST)) {", "if (0) {"),
    Mutant("team: the caller takes a share that was begun", TEAM,
           "if (fa_change(&fa_pool[team->place[i]], FA_WORK, FA_TAKEN)) run", "run"),
    Mutant("fork: nobody waits for a compilation", BACKENDS, "before=forks.before, ", ""),
    Mutant("fork: a child believes in its parent's threads", TEAM, "NULL, NULL, fa_in_child", "NULL, NULL, NULL"),
    Mutant("fast path: lengths are not compared", FRONT,
           "        if cnp.PyArray_DIM(a, d) != cnp.PyArray_DIM(x, d):\n            return False\n", "        pass\n"),
    Mutant("fast path: overlap is not seen", FRONT,
           "if cnp.PyArray_DATA(result) != cnp.PyArray_DATA(x) and not apart(result, x):", "if False:"),
    Mutant("fast path: a plan serves whatever the axis", FRONT,
           "slot.typenum == typenum and slot.axis == axis", "slot.typenum == typenum"),
    Mutant("recycled memory: a block is given out twice", BUFFERS,
           "        unlink(b)\n        b.used = taken(b, size)\n", "        b.used = taken(b, size)\n"),
    Mutant("recycled memory: kept when memory is short", BUFFERS,
           "        release(0)\n        b = map_block(size)\n", ""),
    Mutant("integers: the last is left where there are many", INTEGERS, "range(n)", "range(n - (n > 100))"),
]  # fmt: skip


def first_failure(folder: Path, name: str = "") -> str:
    """The first test that fails under the mutant of that name, or "" where all pass."""
    first = THREADS_FIRST if name.startswith(("team", "fork")) else ()
    try:
        tests = dict.fromkeys((*first, *TESTS))
        done = test_in(folder, "-x", *(f"tests/{test}" for test in tests), timeout=600)
    except subprocess.TimeoutExpired:
        return "a test hung"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0] if lines else f"the process died ({done.returncode})"


def main(words: list[str]) -> int:
    """Try the mutants; 1 if one survives."""
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    survivors = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_to(Path(temporary) / "copy", ("generic", "v4"))
        for mutant in chosen:  # before an hour is spent
            count = (folder / "fastact" / mutant.file).read_text().count(mutant.old)
            if count != 1:
                raise SystemExit(f"{mutant.name}: the text to change is there {count} times")
        build(folder)
        if not words and (failure := first_failure(folder)):
            raise SystemExit(f"the tests fail without a fault: {failure}")
        for mutant in chosen:
            file, start = folder / "fastact" / mutant.file, time.monotonic()
            text = file.read_text()
            file.write_text(text.replace(mutant.old, mutant.new))
            build(folder)
            failure = first_failure(folder, mutant.name)
            file.write_text(text)
            if not failure:
                survivors.append(mutant.name)
            verdict = "killed  " if failure else "SURVIVED"
            print(f"{verdict} {mutant.name} ({time.monotonic() - start:.0f} s) {failure[:110]}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed", *survivors, sep="\n  survived: ")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
