"""A pytest plugin that shuffles what was collected, as pytest-randomly does."""

import random


def pytest_collection_modifyitems(items):
    random.Random(1).shuffle(items)
