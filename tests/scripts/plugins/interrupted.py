"""A pytest plugin: Ctrl-C in the third heat."""

import itertools

import bench.heats

run_heat, heats = bench.heats.run_heat, itertools.count(1)


def third(cases, effort):
    if next(heats) == 3:
        raise KeyboardInterrupt
    return run_heat(cases, effort)


bench.heats.run_heat = third
