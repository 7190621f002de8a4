"""Three threads call all the time, with teams, while the main thread forks for some seconds; every child computes.

`python tests/scripts/fork_under_load.py SECONDS`.  Where the loader's lock could be held at a fork, one child
in some 250 waited for ever.
"""

import os
import sys
import threading
import time

import numpy as np

import fastact

x = np.linspace(-1, 1, 200_000, dtype=np.float32)
want = np.maximum(x, 0)
stop = threading.Event()


def work() -> None:
    out = np.empty_like(x)
    while not stop.is_set():
        fastact.relu(x, out=out, n_threads=2)


threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
children, end = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    child = os.fork()
    if child == 0:
        right = (fastact.relu(x) == want).all() and (fastact.relu(x, n_threads=2) == want).all()
        os._exit(0 if right else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    children += 1
stop.set()
for thread in threads:
    thread.join()
print("children:", children)
