"""Pools of processes after calls with threads: `python tests/scripts/pool.py METHOD` ("fork", "spawn", ...)."""

import sys
import warnings
from multiprocessing import get_context

import numpy as np

import fastact


def compute(backend, n_threads=2):
    x = np.linspace(-1, 1, 2_000_001, dtype=np.float32)
    dx, dalpha = fastact.prelu_backward(x, x, backend=backend, n_threads=n_threads)
    y = fastact.relu(x, backend=backend, n_threads=n_threads)
    return dx.tobytes()[:1000], float(dx.sum()), float(y.sum()), dalpha.tobytes()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads, which is the point
    backends = [b for b in ("cython", "numba") if b in fastact.available_backends()]
    want = {b: compute(b) for b in backends}
    context = get_context(sys.argv[1])
    for _ in range(3 if sys.argv[1] == "fork" else 1):  # the other methods' workers know nothing of the parent's calls
        with context.Pool(2) as pool:
            for b in backends * 4:
                assert pool.apply_async(compute, (b,)).get(60) == want[b], b
    assert {b: compute(b) for b in backends} == want
    print("same")
