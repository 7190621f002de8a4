"""The innermost loops of a step's machine code (x86-64, in the notation of AT&T), for `run.py --instructions`."""

import platform
import re
import subprocess
from typing import NamedTuple

import numpy as np

LOOPS_OF = {8: 7, 9: 7}  # these steps run the loops of another one
# prelu_part and backward_part are step 7's; GCC puts a function into its Python wrapper (pw) where it sees fit.
SYMBOLS = re.compile(r"__pyx_(?:p[fw]|f)_\w*?\d?(prelu_part|backward_part|prelu_backward|prelu)$")
FUNCTIONS = "prelu", "prelu_backward"
ARITHMETIC = re.compile(r"v?(?:mul|add|fn?madd\d*)[sp][sd]$")
STORE = re.compile(r"v?mov(?:[ua]|(nt))?(?:ss|ps)$|v?mov(?:(nt)dq|dq[ua]\d*)$")
MEMORY = re.compile(r"(?:0x)?[-\w.]*\((%\w+)?(?:,\s*(%\w+)(?:,\s*(\d))?)?\)")


class Loop(NamedTuple):
    lines: list[str]
    elements: int | None  # per turn
    does: str


def of_numba(module):
    """Yield each function's name and its lines: labels end with a colon."""
    x, alpha = np.ones(64, np.float32), np.float32(1)
    for name in FUNCTIONS:
        function = getattr(module, name)
        function(*(x, x)[: name.count("_") + 1], alpha, x.copy())
        yield name, [line.strip() for line in next(iter(function.inspect_asm().values())).splitlines()]


def of_cython(module):
    """The same from the built module; an address that is jumped to becomes a label."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", module.__file__], check=True, capture_output=True, text=True
    ).stdout
    for part in text.split("\n\n"):
        heading, *rest = part.strip().splitlines()
        symbol = re.match(r"\w+ <([\w.]+?)(?:\.\w+)*>:", heading)
        if symbol and (found := SYMBOLS.search(symbol[1])):
            lines = []
            for address, instruction in re.findall(r"^\s*(\w+):\s+(.*)$", "\n".join(rest), re.MULTILINE):
                target = re.sub(r"^(j\w+)\s+(\w+) <.*>$", r"\1 .\2", instruction)
                lines += [f".{address}:", re.sub(r"\s+#.*| <.*>$", "", target)]
            yield found[1], lines


def loops_of(lines):
    """Yield the lines of every loop, without those of loops inside it.  A loop is blocks that reach one another."""
    lines = [line for line in lines if re.match(r"[.\w]+:$|[a-z]", line)]
    labels = {line[:-1]: number for number, line in enumerate(lines) if line.endswith(":")}
    jumps = {number: line.split()[-1] for number, line in enumerate(lines) if re.match(r"j\w+\s+[.\w]+$", line)}
    begins = sorted({0, *(labels[to] for to in jumps.values() if to in labels), *(number + 1 for number in jumps)})
    blocks = dict(zip(begins, [*begins[1:], len(lines)], strict=True))
    following = {}
    for begin, end in blocks.items():
        goes_on = end > begin and not re.match(r"(?:jmp|ret)", lines[end - 1])
        following[begin] = {labels.get(jumps.get(end - 1)), end if goes_on else None} & set(blocks)

    def reached(begin, among):
        found, new = set(), following[begin] & among
        while new:
            found |= new
            new = set().union(*(following[block] for block in new)) & among - found
        return found

    def loops(among):
        reach = {block: reached(block, among) for block in among}
        while among:
            first = min(among)
            loop = {block for block in reach[first] if first in reach[block]}
            among = among - loop - {first}
            if loop:
                entries = {to for block in set(blocks) - loop for to in following[block]} & loop or {first}
                inside = list(loops(loop - {min(entries)}))
                yield from [*inside, sorted(loop.difference(*inside))]

    for loop in loops(set(blocks)):
        inside = [line for begin in loop for line in lines[begin : blocks[begin]]]
        yield [line for line in inside if not line.endswith(":")]


def signed(number):
    """A number of the assembler's, which may have 64 bits."""
    return (int(number, 0) + (1 << 63)) % (1 << 64) - (1 << 63)


def advances(lines):
    """How many bytes or elements each register moves on in one turn."""
    steps, later = {}, {}
    for line in lines:
        if found := re.match(r"(add|sub)q?\s+\$(-?\w+),\s*(%\w+)$", line):
            steps[found[3]] = signed(found[2]) * (1 if found[1] == "add" else -1)
        elif found := re.match(r"(inc|dec)q?\s+(%\w+)$", line):
            steps[found[2]] = 1 if found[1] == "inc" else -1
        elif found := re.match(r"leaq?\s+(-?\w+)\((%\w+)\),\s*(%\w+)$", line):
            later[found[3]] = found[2], signed(found[1])
        elif (found := re.match(r"movq?\s+(%\w+),\s*(%\w+)$", line)) and later.get(found[1], "")[:1] == (found[2],):
            steps[found[2]] = later[found[1]][1]
        if found and found[0].startswith("lea") and found[2] == found[3]:
            steps[found[2]] = signed(found[1])
    return steps


def examine(lines):
    """Return the Loop, or None where nothing is computed in it."""
    names = [line.split(None, 1)[0] for line in lines]
    if not any(ARITHMETIC.match(name) for name in names):
        return None
    steps, elements, does = advances(lines), [0], set()
    for name, line in zip(names, lines, strict=True):
        for base, index, scale in MEMORY.findall(line):
            size = (
                4
                if re.search(r"ss$|ps$|dq[ua]?\d*$|(?:ps2pd|ss2sd)[xyz]?$", name)
                else 8
                if re.search("sd$|pd$", name)
                else 0
            )
            if size:
                elements.append(abs(steps.get(base, 0) + steps.get(index, 0) * int(scale or 1)) // size)
                if line.endswith(")") and (store := STORE.match(name)):
                    does.add("streams" if store[1] or store[2] else "writes")
    if any(re.match(r"v?(?:add|fn?madd\d*)[sp]d", name) for name in names):
        does.add("sums")
    elif any(re.match(r"v?mov[ua]pd\b.*\)$", line) for line in lines):
        does.add("writes terms")
    # Where every address is made in the loop, the counter of the loop counts elements.
    elements = max(elements) or max(map(abs, steps.values()), default=0)
    return Loop(lines, elements or None, " and ".join(sorted(does, reverse=True))) if does else None


def hot_loops(language, module):
    """Return for each function and what a loop does the loop that takes most elements in a turn.

    The others of its kind are there for the rest of the elements, and for arrays that overlap.
    """
    found = {}
    for function, lines in (of_numba if language == "numba" else of_cython)(module):
        for loop in filter(None, map(examine, loops_of(lines))):
            key = function, loop.does
            if key not in found or (loop.elements or 0) > (found[key].elements or 0):
                found[key] = loop
    return found


def show(step, load):
    """Print the hot loops of a step in both languages."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise SystemExit("only the instructions of x86-64 can be read here")
    if step in LOOPS_OF:
        print(f"Step {step} runs the loops of step {LOOPS_OF[step]}:\n")
    for language in ("numba", "cython"):
        if module := load(language, LOOPS_OF.get(step, step)):
            for (function, does), loop in hot_loops(language, module).items():
                per = f"for {loop.elements} elements" if loop.elements else "in a turn"
                print(f"{language}, {function}, what {does}: {len(loop.lines)} instructions {per}")
                print(*(f"    {line}" for line in loop.lines), sep="\n", end="\n\n")
