"""Eight threads that call everything at once: `python tests/soak.py SECONDS [--no-core] [BACKEND ...]`.

Each thread calls every operation with backends, thread counts and sizes at random and compares bits with what one
thread computed before; one more thread changes settings and drops recycled memory all the while.  Without the GIL and
under ThreadSanitizer this is where a table or a list that is not guarded shows.  --no-core leaves the compiled driver
out (so: Python's threads), as where there was no compiler.  Prints how many calls were right.
"""

import random
import sys
import threading
import time

import numpy as np

if "--no-core" in sys.argv:
    for name in ("driver", "buffers", "contexts", "front"):
        sys.modules[f"fastact._cython.{name}"] = None

import fastact
from fastact._tables import OPERATIONS

CALLERS = 8
FORMS = (
    ((40, 64, 70), (64,), 1),
    ((300_001,), (), 0),
    ((3000, 33), (33,), 1),
    ((8, 130, 49), (130,), 1),
    ((300, 301), (300, 301), 0),
    ((7, 5, 11), (5,), 1),
)


def cases():
    """Every operation on every form, float32; and on one form, float64."""
    rng = np.random.default_rng(0)
    for shape, alpha, axis in FORMS:
        x, dy = (rng.standard_normal(shape).astype("f4" if len(shape) > 1 else "f8") for _ in range(2))
        slopes = rng.uniform(0.05, 0.6, alpha).astype(x.dtype)
        for op in OPERATIONS.values():
            operands = [{"x": x, "dy": dy}[name] for name in op.reads]
            if op.alpha:
                operands.append(0.3 if op.alpha == "number" else slopes)
            yield op, operands, {"channel_axis": axis} if op.alpha == "array" else {}


def call(op, operands, options, **more):
    """The bytes of the results."""
    result = getattr(fastact, op.name)(*operands, **options, **more)
    return [part.tobytes() for part in (result if isinstance(result, tuple) else (result,))]


def main(seconds, backends):
    """Run; the number of calls."""
    known = list(cases())
    want = [call(*case, backend=backends[0], n_threads=1) for case in known]
    end, wrong, calls = time.monotonic() + seconds, [], [0] * CALLERS

    def work(i):
        dice = random.Random(i)
        while time.monotonic() < end and not wrong:
            k, backend = dice.randrange(len(known)), dice.choice((*backends, None))
            n = dice.choice((None, 1, 2, 3, 8))
            with fastact.threads(dice.choice((1, 2, 4))), fastact.use_backend(dice.choice(backends)):
                if call(*known[k], backend=backend, n_threads=n) != want[k]:
                    wrong.append((known[k][0].name, backend, n))
            for _ in range(20):  # more shapes than the fast path has slots
                x = np.full(dice.randrange(1, 700), -1.0, np.float32).reshape(1, -1, 1)
                y = fastact.prelu(x, np.full(x.size, 0.5, np.float32))
                if not (y == -0.5).all():
                    wrong.append(("prelu", x.size))
            calls[i] += 1

    def change():
        limit, k = fastact.get_buffer_limit(), 0
        while time.monotonic() < end and not wrong:
            k += 1
            fastact.set_num_threads(1 + k % 3)
            fastact.set_backend(backends[k % len(backends)])
            fastact.set_buffer_limit((limit, 1 << 20)[k % 2])
            if k % 5 == 0:
                fastact.clear_buffers()
            time.sleep(0.002)
        fastact.set_buffer_limit(limit)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(CALLERS)] + [threading.Thread(target=change)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong
    assert min(calls) > 0, calls
    used = fastact.config()["buffers"].get("in_use_bytes")
    assert not used, f"{used} bytes of results are still in use"
    return sum(calls)


if __name__ == "__main__":
    chosen = [word for word in sys.argv[2:] if not word.startswith("--")]
    there = [name for name in ("cython", "numba") if name in fastact.available_backends()]
    print(main(float(sys.argv[1]), chosen or there))
