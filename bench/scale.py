"""What PReLU's backward costs on several machines: constants measured on a LocalCluster, and estimates from them.

`python -m bench.scale` prints the two tables of docs/scale.md.  It needs dask and distributed, and takes a minute.
"""

import math
import time
from statistics import median
from typing import NamedTuple

import numpy as np

import fastact
from fastact._dask import SPLIT

CHANNELS = 256
CHUNK = 64 * 10**6  # bytes of x in a chunk
NETWORK = 1.25e9  # bytes a second and machine: 10 Gbit/s


class Constants(NamedTuple):
    """What was measured, in bytes and seconds."""

    forward: float  # bytes of x a second, by all processors of this machine
    backward: float  # the same
    scheduler: float  # seconds of the scheduler for one task
    message: float  # seconds of a task with a small operand from another worker
    transfer: float  # bytes a second from worker to worker
    partial: float  # bytes that are sent for the sums of one chunk


def seconds(call, repeats: int = 7) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def measure(client) -> Constants:
    """The constants, on a cluster of two workers or more."""
    import dask.array as da
    from distributed import wait
    from distributed.protocol import serialize_bytes

    x = np.random.default_rng(0).standard_normal((CHUNK // (4 * CHANNELS * 196), CHANNELS, 14, 14), np.float32)
    dy, slopes = np.ones_like(x), np.full(CHANNELS, 0.25, np.float32)
    forward = seconds(lambda: fastact.prelu(x, slopes))
    backward = seconds(lambda: fastact.prelu_backward(dy, x, slopes))

    tasks = 3000  # one task for each element (4 bytes); the blocks of the array are made before the timing
    tiny = da.ones(tasks, chunks=1, dtype=np.float32).persist()
    wait(tiny)
    scheduler = seconds(lambda: wait(fastact.relu(tiny).persist(optimize_graph=False)), 3) / tasks

    first, second = list(client.scheduler_info()["workers"])[:2]
    moved = {}
    for name, size in (("message", 1), ("chunk", CHUNK // 4)):
        times = []
        for _ in range(5):
            here = client.submit(np.ones, size, np.float32, workers=[first], pure=False)
            wait(here)
            start = time.perf_counter()
            wait(client.submit(len, here, workers=[second], pure=False))
            times.append(time.perf_counter() - start)
        moved[name] = median(times)
    partial = len(serialize_bytes(np.ones((1, CHANNELS, 1, 1))))
    transfer = CHUNK / max(moved["chunk"] - moved["message"], 1e-9)
    return Constants(x.nbytes / forward, x.nbytes / backward, scheduler, moved["message"], transfer, partial)


def follows(constants: Constants, size: float, machines: int) -> dict[str, float]:
    """What the backward of an array of this size (bytes of x) costs on this many machines, in bytes and seconds."""
    chunks = math.ceil(size / CHUNK)
    added = math.ceil(chunks / (SPLIT - 1))  # tasks of the tree that adds up the chunks' sums
    return {
        "chunks": chunks,
        "tree": math.ceil(math.log(chunks, SPLIT)) if chunks > 1 else 0,
        "partials": chunks * constants.partial,
        "compute": size / constants.backward / machines,
        "scheduler": (3 * chunks + added) * constants.scheduler,
        "network": 3 * size / (NETWORK * machines),  # x and dy in, dx out
    }


def main() -> tuple[Constants, list[dict[str, float]]]:
    """Measure and print."""
    from distributed import Client, LocalCluster

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        c = measure(client)
    print(f"| forward, {fastact.get_num_threads()} processors | {c.forward / 1e9:.1f} GB of x a second |")
    print(f"| backward, {fastact.get_num_threads()} processors | {c.backward / 1e9:.1f} GB of x a second |")
    print(f"| scheduler, one task | {c.scheduler * 1e3:.2f} ms |")
    print(f"| a small result to another worker | {c.message * 1e3:.0f} ms |")
    print(f"| a chunk to another worker | {c.transfer / 1e9:.2f} GB a second |")
    print(f"| a partial sum of {CHANNELS} channels | {c.partial:.0f} bytes |\n")
    rows = []
    for machines, size in ((1, 40e9), (10, 400e9), (100, 4e12), (100, 40e9)):
        row = follows(c, size, machines)
        rows.append(row)
        print(
            f"| {machines} | {size / 1e9:g} GB | {row['chunks']:,} | {row['tree']} | {row['partials'] / 1e6:.1f} MB | "
            f"{row['compute']:.2g} s | {row['scheduler']:.1f} s | {row['network']:.0f} s |"
        )
    return c, rows


if __name__ == "__main__":
    main()
