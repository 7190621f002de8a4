"""A pytest plugin: NumPy as a contestant that is wrong, that breaks, and that breaks later."""

import numpy

from bench import contestants


def wrong(self, task, out):
    return lambda: task.x + 1


def broken(self, task, out):
    raise OSError("the disk is on fire")


def late(self, task, out, calls=[]):  # noqa: B006 (one list for all)
    def call():
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of paper")
        return numpy.where(task.x > 0, task.x, task.broadcast * task.x)

    return call


contestants.NumPy.relu, contestants.NumPy.relu_backward, contestants.NumPy.prelu = wrong, broken, late
