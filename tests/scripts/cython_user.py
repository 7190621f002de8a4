"""What examples/cython_user computes, compared with fastact itself, for test_builds.py."""

import cython_user
import numpy as np

import fastact

rng = np.random.default_rng(0)
dy, x = (rng.standard_normal((3000, 66)).astype(np.float32)[:, ::2] for _ in range(2))
alpha = rng.uniform(0, 1, 33).astype(np.float32)
dx, dalpha = np.empty((3000, 33), np.float32), np.empty(33, np.float32)
assert cython_user.backward(dx, dalpha, dy, x, alpha) == 0
want = fastact.prelu_backward(dy, x, alpha)
assert dx.tobytes() == want[0].tobytes()
assert dalpha.tobytes() == want[1].tobytes()
try:
    cython_user.backward(dx, dalpha, dy[1:], x, alpha)
except ValueError as error:
    assert str(error) == "dy of shape (2999, 33) does not match x of shape (3000, 33)"
    print("same bits")
