"""Runs the examples of every operation's docstring; prints how many."""

import doctest
import sys

import fastact

runner = doctest.DocTestRunner()
for name in dir(fastact):
    if name.endswith("relu") or "backward" in name:
        for test in doctest.DocTestFinder().find(getattr(fastact, name), name):
            runner.run(test)
print(runner.tries)
sys.exit(runner.failures)
