"""A plan made in C is the one that the same text makes in Python, field by field.

More layouts than the suite takes: `python tests/test_plan.py 100000`.
"""

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from fastact import _built, _driver, _plan

LAYOUTS = 4000
SIZES = (1, 1, 2, 3, 4, 7, 8, 13, 16, 17, 33, 49, 64, 131, 196, 300, 1000, 5000, 20000, 70000)


def random_case(rng):
    """Arrays (of which no element is ever touched) and what else a plan follows from."""
    shape = ()
    for _ in range(rng.randrange(0, 7)):
        shape += (rng.choice(SIZES),)
        if math.prod(shape) > 1 << 40:
            shape = shape[:-1]
    ndim = len(shape)
    axes = tuple(rng.sample(range(ndim), ndim)) if rng.random() < 0.5 else tuple(range(ndim))
    dtype = np.dtype(rng.choice(["f4", "f8", "i1"]))

    def array(kept):
        strides, step = [0] * ndim, dtype.itemsize
        for axis in reversed(axes):
            strides[axis] = step * rng.choice((-1, 2, 1)) if not kept and rng.random() < 0.1 else step
            step *= shape[axis] + (rng.randrange(3) if not kept and rng.random() < 0.2 else 0)
        return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, strides)

    kept = rng.random() < 0.7
    x = array(kept)
    dy, y = (rng.choice((None, x, array(kept))) for _ in range(2))
    form = rng.randrange(4)
    if form == 0:
        alpha = None
    else:
        own = [n if form == 1 or (form == 3 and rng.random() < 0.5) else 1 for n in shape]
        if form == 2 and ndim:
            axis = rng.randrange(ndim)
            own[axis] = shape[axis]
        alpha = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), own, (0,) * ndim)
    return y, dy, x, alpha, _plan.memory_order(x), rng.random() < 0.5


def fields(plan):
    """A plan of either kind as a dict."""
    if plan is None or isinstance(plan, dict):
        return plan
    found = dict(vars(plan))
    found["loops"] = [vars(loop) for loop in plan.loops[: plan.plane_loops + plan.row_loops]]
    return found


def check(seed):
    case = random_case(random.Random(seed))
    in_python, in_c = fields(_driver.make_plan(*case)), _built.driver.describe(*case)
    assert in_python == in_c, (seed, case[2].shape, case[2].strides)
    return in_c is not None


@pytest.mark.skipif(_built.driver is None, reason="the driver was not compiled")
def test_the_plan_in_c_is_the_plan_in_python():
    made = sum(map(check, range(LAYOUTS)))
    assert LAYOUTS // 2 < made < LAYOUTS


if __name__ == "__main__":
    number = int(sys.argv[1])
    print(f"{Path(__file__).name}: {sum(map(check, range(number)))} plans of {number} layouts, all fields equal")
