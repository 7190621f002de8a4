"""Prints how often one small call wakes a sleeping helper, and whether two in series and one large call do."""

import os
import time

import numpy as np

import fastact
from fastact import _built


def status(thread, field):
    """What Linux says of a thread."""
    with open(f"/proc/self/task/{thread}/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(field))


def sleeps(thread):
    """How often a thread has gone to sleep, once it is asleep: on a busy machine it may go on spinning for longer."""
    while status(thread, "State") != "S":
        time.sleep(0.01)
    return int(status(thread, "voluntary_ctxt"))


def woken(helper, x, calls):
    """Whether a series of calls after a rest wakes the helper."""
    out = np.empty_like(x)
    time.sleep(0.15)  # as long as company is remembered, and longer than a helper spins
    before = sleeps(helper)
    for _ in range(calls):
        fastact.relu(x, out=out, n_threads=2)
    time.sleep(0.02)
    return sleeps(helper) > before


def main():
    """A series may need several tries: a helper that spins beside another program's thread takes that for company."""
    small, large = np.ones(100_000, "f4"), np.ones(4_000_000, "f4")
    before = set(os.listdir("/proc/self/task"))
    while not (helpers := set(os.listdir("/proc/self/task")) - before):
        fastact.relu(large, n_threads=2)
    (helper,) = helpers
    _built.policy.set_thresholds(bytes_per_thread=1)
    print(sum(woken(helper, small, 1) for _ in range(10)))
    print(any(woken(helper, small, 2) for _ in range(40)))
    print(any(woken(helper, large, 1) for _ in range(40)))


if __name__ == "__main__":
    main()
