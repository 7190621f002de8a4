"""The code of the pages in docs/ runs, and the site has every public name.  Hosts' pages run in their hosts' tests."""

import doctest
import io
import re
from pathlib import Path

import pytest

import fastact
from fastact import _built

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HERE = [page for page in sorted(DOCS.glob("guide/*.md")) if BLOCK.search(page.read_text(encoding="utf-8"))]
HERE += [DOCS / "16-bits-and-masks.md", DOCS / "developer-notes.md"]


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.stem)
def test_the_page(page, tmp_path, monkeypatch):
    """Its blocks, one after the other.  A block with prompts has to print what it says."""
    monkeypatch.chdir(tmp_path)
    if page.stem == "16-bits-and-masks":
        pytest.importorskip("ml_dtypes")
    if page.stem == "memory" and _built.buffers is None:
        pytest.skip("nothing is recycled without the compiled core")
    fastact.clear_buffers()  # of other tests
    text = page.read_text(encoding="utf-8")
    names: dict = {"__name__": "page"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        if not block[1].startswith(">>>"):
            exec(compile("\n" * line + block[1], page, "exec"), names)
            continue
        runner, report = doctest.DocTestRunner(), io.StringIO()
        example = doctest.DocTestParser().get_doctest(block[1], names, page.name, str(page), line)
        runner.run(example, out=report.write, clear_globs=False)
        names = example.globs  # it works on a copy
        assert not runner.failures, report.getvalue()


def test_the_picture_of_the_contract():
    """Each curve is what the formula gives, and the gradients at 0 are shown as points."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    names: dict = {}
    picture = DOCS / "guide" / "contract_picture.py"
    exec(compile(picture.read_text(encoding="utf-8"), picture, "exec"), names)
    y, dx, terms = names["axes"]
    x = names["x"]
    relu, prelu = (line.get_ydata() for line in y.get_lines())
    assert (relu == x * (x > 0)).all() and (prelu == x * (0.25 + 0.75 * (x > 0))).all()
    points = [line.get_ydata() for line in dx.get_lines() if len(line.get_xdata()) == 1]
    assert points == [0, 0.25]
    assert (terms.get_lines()[0].get_ydata() == x * (x < 0)).all()
    matplotlib.pyplot.close(names["figure"])


def test_no_page_is_forgotten():
    """A page with Python code is one of the above, or another test file reads it."""
    others = "".join(file.read_text(encoding="utf-8") for file in DOCS.parent.glob("tests/test_*.py"))
    written = [page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text(encoding="utf-8"))]
    assert len(written) > 10
    for page in written:
        assert page in HERE or re.search(rf'"{page.name}"|"{page.stem}"', others), page


def test_the_site_has_every_public_name():
    """Each once, in one of the lists of the page."""
    page = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   (\w+)$", page, re.MULTILINE)) == sorted(fastact.__all__)
