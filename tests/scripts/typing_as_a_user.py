"""What mypy --strict must accept: the calls of a user who has type hints (checked by .ci/run, never executed)."""

from typing import Any, assert_type

import numpy as np

import fastact

x = np.ones((2, 3), np.float32)
dx, dalpha = fastact.prelu_backward(x, x, 0.25)
print(dx.shape, dalpha.shape)
none, dalpha = fastact.prelu_backward(dy=x, x=x, need_dx=False)
assert_type(none, None)
dx, none = fastact.prelu_backward(x, x, [0.25], need_dalpha=False)
assert_type(none, None)
y: np.ndarray = fastact.relu(x, out=x, n_threads=1)
fastact.relu_backward(dy=x, x=x)
y, mask = fastact.relu(x, return_mask=True, out=(x, None))
fastact.leaky_relu_backward(y, mask=mask, alpha=0.2)
assert_type(fastact.leaky_relu(x, 0.2, return_mask=True), tuple[np.ndarray, np.ndarray])
memory = memoryview(bytearray(24)).cast("f", (2, 3))
assert_type(fastact.relu(x, out=memory), "memoryview[float]")
assert_type(fastact.prelu(memory), np.ndarray)
with fastact.threads(1), fastact.use_backend("numpy"):
    fastact.leaky_relu([1.0, -1.0], 0.2)


@fastact.threads(1)
def decorated(a: np.ndarray) -> np.ndarray:
    """Keep its types."""
    return fastact.relu(a)


assert_type(decorated(x), np.ndarray)


class Lazy:
    """As dask's arrays: what comes back has what a dask array has, not what an ndarray has."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Compute it."""

    def __dask_graph__(self) -> object:
        """Its tasks."""


fastact.relu(Lazy()).compute()
fastact.relu_backward(x, Lazy()).compute()
fastact.leaky_relu_backward(Lazy(), x, 0.1).compute()
fastact.prelu(x, Lazy()).compute()
for gradient in fastact.prelu_backward(x, x, Lazy()):
    gradient.compute()
assert_type(fastact.prelu(x), np.ndarray)
