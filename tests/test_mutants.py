"""The faults of mutants.py, which takes an hour, still have the text that they change."""

import pytest
from helpers import ROOT
from mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_stands_once(mutant):
    assert (ROOT / "fastact" / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
