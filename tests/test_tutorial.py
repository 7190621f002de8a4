"""The tutorial: each step in both languages gives the reference's results, and shows what its page says of it.

The steps are built from a copy, in a folder that can be written to, as a reader builds them.
"""

import platform
import re
import shutil
import sys

import numpy as np
import pytest
from helpers import ROOT

import fastact
from fastact import reference

TUTORIAL = ROOT / "examples" / "tutorial"
PAGE = ROOT / "docs" / "tutorial.md"
LANGUAGES = {"numba": ".py", "cython": ".pyx"}
STREAMED = (1 << 23) + 13  # elements: more than 32 MB, so that steps 7 to 9 stream, and not a whole number of lines
FRESH = shutil.ignore_patterns("*.so", "*.pyd", "build", "__pycache__")
takes_a_build = pytest.mark.full  # of all steps, half a minute in each process


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    """Return the module run.py of a copy; its modules are forgotten afterwards."""
    folder = tmp_path_factory.mktemp("tutorial") / "tutorial"
    shutil.copytree(TUTORIAL, folder, ignore=FRESH)
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("OMP_WAIT_POLICY", "passive")
        import run

        yield run
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("run", "instructions", "numba_steps", "cython_steps"):
            del sys.modules[name]


@pytest.fixture(params=LANGUAGES)
def language(request):
    if request.param == "cython":
        pytest.importorskip("Cython")
        if fastact._backends.missing("cython"):
            pytest.skip("there is no compiler")
    return request.param


def loaded(tutorial, language, number):
    if language == "cython" and number > 7 and sys.platform == "darwin":
        pytest.skip("Apple's compiler has no OpenMP")
    module = tutorial.load(language, number)
    assert module, f"{language}, step {number} was not built"
    return module


@pytest.fixture(params=range(1, 10))
def step(request, language, tutorial):
    return loaded(tutorial, language, request.param)


@takes_a_build
def test_results(tutorial, step):
    tutorial.check_odd_numbers(step)
    for size in (1, 7, 127, 128, 1024, 10_007, 300_007):
        tutorial.check(step, size)


@takes_a_build
def test_checks_notice(tutorial):
    """What holds the steps to the reference fails for a wrong y, dx or dalpha."""

    class Wrong:
        __name__ = "wrong"

        def __init__(self, y=0, dx=0, dalpha=0):
            self.wrong = y, dx, dalpha

        def prelu(self, x, alpha, y):
            y[:] = reference.prelu(x, alpha)
            y.view(np.int32)[-1] += self.wrong[0]

        def prelu_backward(self, dy, x, alpha, dx):
            dx[:] = reference.prelu_backward_dx(dy, x, alpha)
            dx.view(np.int32)[-1] += self.wrong[1]
            dalpha = np.float32(reference.prelu_backward_dalpha(dy, x, np.array(alpha)))
            return (dalpha.view(np.int32) + np.int32(self.wrong[2])).view(np.float32)

    tutorial.check(Wrong(), 1000)
    for name in ("y", "dx", "dalpha"):
        with pytest.raises(AssertionError, match=f"{name} is"):
            tutorial.check(Wrong(**{name: 2}), 1000)


@takes_a_build
@pytest.mark.parametrize("number", [7, 8, 9])
def test_streamed_results(tutorial, language, number):
    tutorial.check(loaded(tutorial, language, number), STREAMED)


def cancelling(size):
    """Operands whose terms cancel: dalpha is what rounding leaves, something else for each order of the sum."""
    random = np.random.default_rng(1)
    x, dy = -np.abs(random.standard_normal((2, size), np.float32))
    half = size // 2
    order = random.permutation(half)
    x[half : 2 * half], dy[half : 2 * half], dy[2 * half :] = x[order], -dy[order], 0
    return x, dy


@takes_a_build
@pytest.mark.parametrize("number", [7, 8])
def test_dalpha_does_not_depend_on_the_address(tutorial, language, number):
    """Nor does anything else; where results are streamed, most addresses are not a line's."""
    module = loaded(tutorial, language, number)
    x, dy = cancelling(STREAMED)
    y, dx = reference.prelu(x, tutorial.ALPHA), reference.prelu_backward_dx(dy, x, tutorial.ALPHA)
    memory = np.empty(STREAMED + 16, np.float32)
    found = set()
    for offset in (0, 1, 5):
        out = memory[offset : offset + STREAMED]
        module.prelu(x, tutorial.ALPHA, out)
        assert tutorial.same_bits(out, y)
        found.add(module.prelu_backward(dy, x, tutorial.ALPHA, out))
        assert tutorial.same_bits(out, dx)
    assert len(found) == 1 and found != {0}


@takes_a_build
def test_dalpha_does_not_depend_on_the_number_of_threads(tutorial, language):
    module = loaded(tutorial, language, 8)
    x, dy = cancelling(3_000_001)  # 23 chunks
    dx = np.empty_like(x)
    found = [module.prelu_backward(dy, x, tutorial.ALPHA, dx)]
    if language == "numba":
        numba = pytest.importorskip("numba")
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            found.append(module.prelu_backward(dy, x, tutorial.ALPHA, dx))
        finally:
            numba.set_num_threads(threads)
    else:
        with pytest.importorskip("threadpoolctl").threadpool_limits(1, user_api="openmp"):
            found.append(module.prelu_backward(dy, x, tutorial.ALPHA, dx))
    assert found[0] == found[1] != 0


@takes_a_build
def test_memory_is_used_again_when_nobody_holds_it(tutorial, language):
    module = loaded(tutorial, language, 9)
    x = np.ones(50_000, np.float32)
    first = module.prelu(x, tutorial.ALPHA)
    part = first[10:].reshape(5, -1)[1:]
    other = module.prelu(-x, tutorial.ALPHA)
    assert not np.shares_memory(first, other)
    address = first.ctypes.data
    del first
    assert module.prelu(-x, tutorial.ALPHA).ctypes.data != address  # a view of a view holds it
    assert (part == 1).all()
    del part
    again = [module.prelu(-x, tutorial.ALPHA) for _ in range(2)]
    assert address in [y.ctypes.data for y in again]


@takes_a_build
def test_prints_a_row_for_each_step(tutorial, capsys):
    tutorial.main(["--size", "1000", "--rounds", "1"])
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (\d) ([\w ]+) \|(.*)\|$", printed, re.MULTILINE)
    assert [f"step{number}_{title.replace(' ', '_')}" for number, title, _ in rows] == list(tutorial.STEPS.values())
    if not fastact._backends.missing("cython") and sys.platform != "darwin":
        assert all(re.fullmatch(r"( [\d.e+]+ us \([\d.]+\) \|?){4}", cells) for *_, cells in rows)
    assert len(re.findall(r"^\| (8, new results|fastact, )", printed, re.MULTILINE)) == 3


@takes_a_build
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the instructions of x86-64")
@pytest.mark.skipif(not shutil.which("objdump"), reason="there is no objdump")
def test_shows_what_the_page_says_of_the_instructions(tutorial, language, capsys):
    from instructions import hot_loops

    loops = {
        number: {
            (function, does): (len(loop.lines), loop.elements, "\n".join(loop.lines))
            for (function, does), loop in hot_loops(language, loaded(tutorial, language, number)).items()
        }
        for number in range(1, 8)
    }

    def of(number, does):
        return next(loop for (_, what), loop in loops[number].items() if what == does)

    assert of(3, "writes")[1] >= 4  # vectors, from the flags on if not before
    assert of(1, "writes")[1] == 1 or language == "numba"
    assert "addpd" in of(5, "sums")[2] and "addpd" not in of(4, "sums")[2]
    assert of(5, "sums")[0] / of(5, "sums")[1] < of(3, "sums")[0] / of(3, "sums")[1] / 2
    streamed = [text for (_, does), (*_, text) in loops[7].items() if "streams" in does]
    assert len(streamed) == 2 and all("movnt" in text for text in streamed)
    assert not any("movnt" in text for loops_of in (loops[5], loops[6]) for *_, text in loops_of.values())
    tutorial.main(["--instructions", "8"])
    assert f"{language}, " in capsys.readouterr().out


@takes_a_build
def test_the_loop_that_is_shown(tutorial):
    """A loop with one inside is shown without it, and elements are counted by what the addresses move on."""
    from instructions import examine, loops_of

    text = """
    f:
    xorl %eax, %eax
    .outer:
    vmovups (%rdi,%rax,4), %ymm0
    vmulps %ymm1, %ymm0, %ymm0
    vmovups %ymm0, (%rsi,%rax,4)
    .inner:
    addsd (%rdx,%rcx), %xmm2
    sub $0xfffffffffffffff8, %rcx
    jne .inner
    addq $8, %rax
    cmpq %rax, %r8
    jne .outer
    ret
    """
    inner, outer = map(examine, loops_of([line.strip() for line in text.splitlines()]))
    assert (inner.elements, inner.does, len(inner.lines)) == (1, "sums", 3)
    assert (outer.elements, outer.does, len(outer.lines)) == (8, "writes", 6)


def test_the_page_has_each_file():
    """One section for each step, which names its file in both languages, and nothing that is not there."""
    page = PAGE.read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    steps = [section for section in sections if re.match(r"\d", section)]
    named = [re.findall(r"\[`(\w+/step\d_\w+\.pyx?)`\]\(\.\./examples/tutorial/\1\)", section) for section in steps]
    assert len(steps) == 9
    for number, names in enumerate(named, 1):
        files = sorted(TUTORIAL.glob(f"*_steps/step{number}_*.py*"), reverse=True)
        files = [path for path in files if path.suffix in LANGUAGES.values()]
        assert names == [path.relative_to(TUTORIAL).as_posix() for path in files]
        assert re.match(rf"{number}\. {files[0].stem[6:].split('_')[0]}", steps[number - 1], re.IGNORECASE)
    for target in re.findall(r"\]\(([^)#]+)", page):
        assert target.startswith("http") or (PAGE.parent / target).exists(), target
    helpers = {path.name for path in TUTORIAL.rglob("*") if path.suffix in (".h", ".pxd", ".py")} - {"__init__.py"}
    assert all(name in page or name.startswith("step") for name in helpers)
