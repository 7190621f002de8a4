"""A pytest plugin: NumPy as a contestant that is wrong, that breaks, and that breaks later."""

import numpy

from bench.contestants.arrays import NumPy


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


NumPy.relu, NumPy.relu_backward, NumPy.prelu = wrong, broken, late
