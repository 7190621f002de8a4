"""Programs about recycled memory, for test_buffers.py: `python tests/scripts/recycled.py FUNCTION [ARGUMENT ...]`.

Each needs a process of its own, whose memory nobody else has used.
"""

import os
import random
import resource
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import fastact
from fastact._buffers import counters  # config() has them as well, but imports Numba, which takes memory
from fastact._built import buffers

MB = 1 << 20


def relu(x):
    return fastact.relu(x, backend="cython", n_threads=1)


def counter(name):
    return counters()[name]


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


class Alone:
    """Results of any size, and what is resident beyond the start."""

    def __init__(self):
        self.x = np.arange(96 * MB // 4, dtype="f4")
        self.relu(MB // 4)
        fastact.clear_buffers()
        self.before = status("VmRSS")

    def relu(self, nbytes):
        return relu(self.x[: nbytes // 4])

    def resident(self):
        return status("VmRSS") - self.before


def peak(who, pattern):
    """Results of a pattern of sizes and lives, by NumPy or by the package; prints the peak, hits and misses."""
    if who == "numpy":
        forward = lambda x: np.maximum(x, np.float32(0))  # noqa: E731
        prelu = lambda x: np.where(x > 0, x, np.float32(0.25) * x)  # noqa: E731
        backward = lambda dy, x: np.where(x > 0, dy, np.float32(0.25) * dy)  # noqa: E731
    else:
        forward = relu
        prelu = lambda x: fastact.prelu(x, 0.25, backend="cython", n_threads=1)  # noqa: E731
        backward = lambda dy, x: fastact.prelu_backward(dy, x, 0.25, backend="cython", n_threads=1)[0]  # noqa: E731
    x = np.ones(12 << 20, np.float32)

    def part(share):
        return x[: int(len(x) * share)]

    def random_sizes(alive, count, seed, largest=1):
        rng, live = random.Random(seed), []
        for _ in range(count):
            live.append(forward(part(rng.uniform(0.01, largest))))
            del live[:-alive]

    def dropped():
        rng = random.Random(0)
        for _ in range(60):
            forward(part(rng.uniform(0.01, 1)))

    def small_kept():
        kept = []
        for _ in range(100):
            forward(part(1 / 6))
            kept.append(forward(part(1 / 24)))

    def training():
        layers = [part(share) for share in (1 / 3, 1 / 6, 1 / 6, 1 / 12, 1 / 5, 1 / 24, 1 / 100)]
        for _ in range(10):
            results = [prelu(a) for a in layers]
            while results:
                dx = backward(results[-1], layers[len(results) - 1])  # noqa: F841 (it lives until the next one)
                results.pop()

    def threads():
        team = [threading.Thread(target=random_sizes, args=(1, 30, seed, 1 / 3)) for seed in range(4)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()

    before = status("VmRSS")
    {
        "one alive": lambda: random_sizes(1, 60, 0),
        "three alive": lambda: random_sizes(3, 60, 0),
        "dropped": dropped,
        "small kept": small_kept,
        "training": training,
        "threads": threads,
    }[pattern]()
    most = status("VmHWM") - before
    print(most, *([0, 0] if who == "numpy" else [counter("hits"), counter("misses")]))


def larger_block_serves_a_smaller_request():
    """96 MB idle: 48 MB more are too many (32 MB would not be), so the block is shared; then its rest has to go."""
    alone = Alone()
    alone.relu(96 * MB)
    small = alone.relu(48 * MB)
    assert counter("hits") == 1 and counter("idle_bytes") == 48 * MB and counter("in_use_bytes") == 48 * MB
    large = alone.relu(96 * MB)
    assert counter("idle_bytes") == 0 and alone.resident() < 150 * MB, "the tail went to make room"
    assert (small == alone.x[: len(small)]).all() and (large == alone.x).all()
    del large, small
    assert counter("in_use_bytes") == 0 and counter("idle_bytes") == 144 * MB
    assert counter("idle_blocks") == 2


def small_live_result_holds_a_large_block():
    alone = Alone()
    buffers.set_epoch(100)
    alone.relu(64 * MB)
    small = alone.relu(32 * MB)
    assert alone.resident() > 60 * MB
    time.sleep(0.3)
    alone.relu(MB // 4)
    assert alone.resident() < 36 * MB
    assert (small == alone.x[: len(small)]).all()


def idle_memory_goes_by_itself():
    alone = Alone()
    buffers.set_epoch(100)
    live = [alone.relu(16 * MB) for _ in range(4)]
    del live
    assert counter("idle_bytes") == 64 * MB
    time.sleep(0.3)
    assert counter("idle_bytes") == 64 * MB and alone.resident() > 60 * MB, "without a call it stays"
    alone.relu(MB // 4)
    assert counter("idle_bytes") == MB // 4 and alone.resident() < 4 * MB
    assert counter("recent_peak_bytes") == MB // 4


def block_in_use_all_the_time():
    alone = Alone()
    buffers.set_epoch(20)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        alone.relu(MB)
    assert counter("misses") == 2, "the warm-up and the first"


def new_memory_comes_first():
    """The large block stays whole for the next large request: 64 and 8 MB are within 80."""
    alone = Alone()
    alone.relu(64 * MB)
    small = alone.relu(8 * MB)  # noqa: F841 (it lives)
    assert counter("idle_bytes") == 64 * MB and counter("hits") == 0


def what_lived_for_long_is_kept():
    alone = Alone()
    buffers.set_epoch(20)
    y = alone.relu(MB)
    time.sleep(0.1)
    del y
    assert counter("idle_bytes") == MB


def what_is_kept_follows_recent_use():
    """A peak of 256 MB allows 320 MB; after two epochs, one result at a time allows 32 MB more than the largest."""
    alone = Alone()
    buffers.set_epoch(50)
    live = [alone.relu(64 * MB) for _ in range(4)]
    del live

    def sizes():
        for eighths in range(8, 16):
            alone.relu(eighths * 4 * MB)

    sizes()
    assert counter("idle_bytes") <= 320 * MB
    time.sleep(0.15)
    sizes()
    assert counter("idle_bytes") <= counter("recent_peak_bytes") + 32 * MB <= (60 + 32) * MB


def sizes_in_turn_are_kept():
    """A network in inference: each result is dropped before one of another size; 28 MB in all stay."""
    alone = Alone()
    misses = []
    for _ in range(3):
        for megabytes in (1, 2, 4, 5, 7, 3, 6):
            alone.relu(megabytes * MB)
        misses.append(counter("misses"))
    assert misses[0] == misses[1] == misses[2], misses


def child_of_a_fork():
    x = np.ones(1 << 20, np.float32)
    live = [relu(x) for _ in range(3)]
    mine = live.pop()
    del live
    assert counter("idle_blocks") == 2
    if (pid := os.fork()) == 0:
        right = counter("idle_blocks") == 0 and (relu(x) == mine).all() and counter("idle_blocks") == 1
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert counter("idle_blocks") == 2 and (relu(x) == mine).all()


def fork_while_threads_allocate():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
    sys.setswitchinterval(1e-4)  # or the thread that forks waits for the interpreter most of the time
    x = np.ones(1 << 18, np.float32)
    mine, stop = relu(x), threading.Event()

    def work():
        while not stop.is_set():
            relu(x)

    def child():
        right = counter("idle_blocks") == 0 and (mine == 1).all()
        for _ in range(20):
            right = right and (relu(x) == 1).all()
        os._exit(0 if right else 1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        if (pid := os.fork()) == 0:
            child()
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()


def results_alive_at_the_end():
    """In a cycle that only the end of the interpreter takes apart."""
    x = np.ones(1 << 20, np.float32)

    class Late:
        def __init__(self):
            self.y, self.me = relu(x), self

    sys.late, sys.keep = Late(), relu(x)
    sys.keep_view = sys.keep[1:]


def idle_blocks_before_a_memory_error(limit):
    """300 MB idle, 200 MB of address space left: 400 MB are there only if the idle ones are released."""
    fastact.set_buffer_limit(int(limit))
    row = np.ones(1 << 20, np.float32)
    relu(row)
    fastact.clear_buffers()
    live = [relu(row) for _ in range(75)]
    del live
    assert counter("idle_bytes") >= 200 << 20
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + (200 << 20), resource.RLIM_INFINITY))
    y = relu(np.broadcast_to(row, (100, row.size)))
    assert y.nbytes == 400 << 20 and (y[::33] == 1).all()
    assert counter("idle_blocks") == 0
    try:
        relu(np.broadcast_to(row, (1000, row.size)))
    except MemoryError:
        pass
    else:
        raise SystemExit("4 GB were there")
    assert counter("recent_peak_bytes") < 1 << 30


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
