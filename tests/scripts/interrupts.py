"""Ctrl-C in long calls, for test_exotica.py: `python tests/scripts/interrupts.py FUNCTION [ARGUMENT ...]`."""

import atexit
import signal
import sys
import time

import numpy as np

if sys.argv[1] == "without_core":
    import no_core  # noqa: F401

import fastact

signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored


def every_delay(backend):
    """Prints how many interrupts arrived, and how many calls after them were right."""
    x = np.linspace(-1, 1, 1 << 24, dtype="f4")
    out = np.empty_like(x)
    want = fastact.prelu_backward(x, x, 0.25, backend=backend)
    interrupts = right = 0
    for delay in (0.001, 0.003, 0.01, 0.02):
        end = time.monotonic() + 0.3
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            while time.monotonic() < end:
                fastact.prelu_backward(x, x, 0.25, out=(out, None), backend=backend)
        except KeyboardInterrupt:
            interrupts += 1
        got = fastact.prelu_backward(x, x, 0.25, backend=backend)
        right += (got[0] == want[0]).all() and got[1] == want[1]
    used = fastact.config()["buffers"].get("in_use_bytes")
    assert used in (None, want[0].nbytes + got[0].nbytes)
    print(interrupts, right)


def without_core():
    """Prints interrupts, how often somebody wrote after one, and whether a call at the interpreter's end was right."""
    x = np.linspace(-1, 1, 1 << 23, dtype="f4")
    out = np.empty_like(x)
    fastact.relu(x, out=out, n_threads=2)
    interrupts = late = 0
    for delay in (0.001, 0.002, 0.005, 0.01) * 5:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            while True:
                fastact.relu(x, out=out, n_threads=2)
        except KeyboardInterrupt:
            interrupts += 1
            out[:] = 7  # nobody may be writing any more
            time.sleep(0.02)
            late += not (out == 7).all()
    atexit.register(lambda: print(interrupts, late, (fastact.relu(x, n_threads=2) == np.maximum(x, 0)).all()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
