"""An array of 40 GB in less than 2 GB
===================================

PReLU forward and backward over an array that is larger than memory, by dask, in less than 2 GB.

The array lies in a file with holes, which takes no room on the disk; what is read from it is zeros, and each chunk gets
made-up values on top.  With data of your own, `read` goes: dask.array.from_zarr, or a numpy.memmap in from_array.  The
loss is half the sum of y * y, so dy is y.  What remains of the results is the gradient of the slopes, and a checksum of
each array: the sum of its bits, which does not depend on the order.

Run ``python examples/larger_than_memory.py --help``; ``main`` returns what it prints, so that the tests can check it.
"""

import argparse
import contextlib
import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import dask.array as da
import numpy as np
from dask.diagnostics import ProgressBar

import fastact

IMAGE = (64, 56, 56)  # channels, height, width


def read(path: str, images: int, block_id: tuple[int, ...] = ()) -> np.ndarray:
    """The chunk of that number: what the file has, and made-up values."""
    size = int(np.prod(IMAGE))
    with open(path, "rb") as file:
        file.seek(block_id[0] * images * size * 4)
        chunk = np.fromfile(file, np.float32, images * size)
    rng = np.random.default_rng(block_id[0])
    for start in range(0, chunk.size, 1 << 18):  # in pieces that stay in the cache
        part = chunk[start : start + (1 << 18)]
        part += rng.standard_normal(part.size, np.float32)
    return chunk.reshape(-1, *IMAGE)


def bits(chunk: np.ndarray) -> np.ndarray:
    """The sum of a chunk's bits, as an array of one element."""
    return np.ascontiguousarray(chunk).view(np.uint32).sum(dtype=np.uint64).reshape((1,) * chunk.ndim)


def checksum(array: da.Array) -> da.Array:
    """The sum of all elements' bits."""
    return array.map_blocks(bits, dtype=np.uint64, chunks=(1,) * array.ndim).sum(dtype=np.uint64)


def graph(path: str, total: int, images: int, slopes: np.ndarray) -> dict[str, da.Array]:
    """What is to be computed, by its name; nothing is computed yet."""
    sizes = tuple(min(images, total - start) for start in range(0, total, images))
    x = da.map_blocks(read, path, images, chunks=(sizes, *IMAGE), dtype=np.float32, meta=np.empty((0,) * 4, np.float32))
    y = fastact.prelu(x, slopes)
    dx, dalpha = fastact.prelu_backward(y, x, slopes)
    return {"dalpha": dalpha, "y": checksum(y), "dx": checksum(dx)}


def peak() -> int:
    """The most memory that this process has used, in bytes."""
    if sys.platform == "linux":  # where ru_maxrss of a new process begins with its parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compute(results: dict[str, da.Array], workers: int) -> tuple[dict[str, np.ndarray], int]:
    """The results and the peak of memory: by threads of this process, or by a cluster's workers."""
    if not workers:
        with ProgressBar():
            (computed,) = dask.compute(results, scheduler="threads")
        return computed, peak()
    from distributed import Client, LocalCluster, progress

    with LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        futures = client.compute(list(results.values()))
        progress(futures, notebook=False)
        computed = dict(zip(results, client.gather(futures), strict=True))
        return computed, max(peak(), *client.run(peak).values())


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=float, default=40e9, help="bytes of the array (40e9)")
    parser.add_argument("--chunk", type=float, default=64e6, help="bytes of a chunk (64e6)")
    parser.add_argument("--workers", type=int, default=0, help="workers of a LocalCluster; 0: threads of this process")
    parser.add_argument("--folder", type=Path, help="where a temporary folder for the file is made")
    options = parser.parse_args(given)
    image = int(np.prod(IMAGE)) * 4
    options.total, options.images = int(options.size // image), int(options.chunk // image)
    if min(options.total, options.images) < 1:
        parser.error(f"--size and --chunk must be at least the {image} bytes of an image")
    return options


def main(given: list[str] | None = None) -> dict:
    """Run it; returns the results, the seconds and the peak of memory."""
    options = arguments(given)
    slopes = np.linspace(0.05, 0.6, IMAGE[0], dtype=np.float32)
    with contextlib.ExitStack() as stack:
        path = Path(stack.enter_context(TemporaryDirectory(dir=options.folder))) / "array.f32"
        with open(path, "wb") as file:
            file.truncate(options.total * int(np.prod(IMAGE)) * 4)
        size = os.stat(path).st_size
        results = graph(str(path), options.total, options.images, slopes)
        print(f"{size / 1e9:.1f} GB in {-(-options.total // options.images)} chunks")
        start = time.perf_counter()
        computed, most = compute(results, options.workers)
        seconds = time.perf_counter() - start
    print(f"\n{seconds:.0f} s, {size / seconds / 1e9:.2f} GB of x a second")
    print(f"peak memory {most / 1e9:.2f} GB")
    print(f"dalpha {computed['dalpha'][0]:.8g} ... {computed['dalpha'][-1]:.8g}")
    print(f"bits of y {int(computed['y']):#018x}, of dx {int(computed['dx']):#018x}")
    return computed | {"seconds": seconds, "peak": most, "slopes": slopes}


if __name__ == "__main__":
    main()
