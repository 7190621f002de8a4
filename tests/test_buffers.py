"""Result memory that is recycled: ordinary arrays, bounded, safe with threads and forks, given back when short."""

import gc
import os
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from helpers import output_of
from numpy._core.multiarray import get_handler_name

import fastact

pytestmark = pytest.mark.skipif(
    "cython" not in fastact.available_backends(),
    reason="recycled result memory belongs to the Cython variant, which was not built here",
)

SMALL = 1 << 12  # bytes: below what is recycled
LARGE = 1 << 22
LIMIT = 1 << 26


def ones(nbytes: int) -> np.ndarray:
    return np.ones(nbytes // 4, np.float32)


def relu(x: np.ndarray) -> np.ndarray:
    return fastact.relu(x, backend="cython")


def counter(name: str) -> int:
    return fastact.config()["buffers"][name]


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def run_alone(code: str) -> None:
    """Run code in an interpreter of its own: what it does to the process stays there."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.fixture(autouse=True)
def empty_buffers():
    before = fastact.get_buffer_limit()
    gc.collect()
    fastact.clear_buffers()
    fastact.set_buffer_limit(LIMIT)
    yield
    fastact.set_buffer_limit(before)
    fastact.clear_buffers()


def test_default_limit_is_the_documented_one():
    run_alone(
        "import os; os.environ.pop('FASTACT_BUFFER_LIMIT', None)\n"
        "import fastact\n"
        "from fastact import _cpu\n"
        "default = min(2**30, _cpu.memory() // 8)\n"
        "assert fastact.get_buffer_limit() == fastact.config()['buffers']['limit'] == default\n"
        "fastact.set_buffer_limit(1); fastact.set_buffer_limit(None)\n"
        "assert fastact.get_buffer_limit() == default\n"
    )


def test_none_goes_back_to_the_variable():
    code = "import fastact as f; f.set_buffer_limit(7); f.set_buffer_limit(None); print(f.get_buffer_limit())"
    assert output_of(code, FASTACT_BUFFER_LIMIT="12345678") == "12345678"


@pytest.mark.parametrize("nbytes", [1 << 16, (1 << 16) + 4, 3 << 18, 1 << 21, LARGE, LARGE + 4, 9 << 20])
def test_result_is_an_ordinary_aligned_array(nbytes):
    x = ones(nbytes)
    y = relu(x)
    assert type(y) is np.ndarray
    assert y.base is None
    assert y.flags.owndata and y.flags.writeable and y.flags.c_contiguous
    assert address(y) % 64 == 0
    assert get_handler_name(y) == "fastact"
    np.testing.assert_array_equal(y, x)


def test_small_results_stay_with_numpys_own_memory():
    assert get_handler_name(relu(ones(SMALL))) == get_handler_name()


def test_the_handler_is_ours_for_the_result_only():
    before = get_handler_name()
    assert before != "fastact"
    relu(ones(LARGE))
    assert get_handler_name() == before
    assert get_handler_name(ones(LARGE)) == before


@pytest.mark.parametrize("shape", [(8, 16, 32, 64), (1, 16, 32, 64), (20, 1, 30, 40), (70, 80, 9, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1)])
def test_axis_order_is_that_of_empty_like(shape, order):
    x = np.ones(shape, np.float32).transpose(order)
    for a in (x, x[::-1, :, ::-1]):
        assert relu(a).strides == np.empty_like(a).strides
        assert str(relu(a).flags) == str(np.empty_like(a).flags)


def test_memory_is_recycled():
    x = ones(LARGE)
    y = relu(x)
    first, hits, misses = address(y), counter("hits"), counter("misses")
    for _ in range(5):
        del y
        y = relu(x)
        assert address(y) == first
    assert counter("hits") == hits + 5
    assert counter("misses") == misses


def test_live_results_never_share_memory():
    x = ones(LARGE)
    live = [relu(x) for _ in range(8)]
    del live[::2]
    live += [relu(x) for _ in range(8)]
    starts = sorted(address(y) for y in live)
    assert all(b - a >= LARGE for a, b in pairwise(starts))


def test_counters_add_up():
    x = ones(LARGE)
    used = counter("in_use_bytes")
    live = [relu(x) for _ in range(3)]
    assert counter("in_use_bytes") == used + 3 * LARGE
    assert counter("idle_bytes") == counter("idle_blocks") == 0
    live.pop()
    assert counter("in_use_bytes") == used + 2 * LARGE
    assert (counter("idle_bytes"), counter("idle_blocks")) == (LARGE, 1)
    fastact.clear_buffers()
    assert counter("idle_bytes") == counter("idle_blocks") == 0
    assert counter("in_use_bytes") == used + 2 * LARGE
    np.testing.assert_array_equal(live[0], x)


@pytest.mark.parametrize("nbytes", [(1 << 16) + 4, 100_000, 1_000_000, LARGE + 4, 7_000_000])
def test_rounding_wastes_an_eighth_at_most(nbytes):
    used = counter("in_use_bytes")
    y = relu(ones(nbytes))
    assert y.nbytes <= counter("in_use_bytes") - used <= y.nbytes * 9 // 8 + 65536


def test_idle_memory_is_bounded_and_the_best_fit_goes_first():
    fastact.set_buffer_limit(3 * LARGE)
    x, other = ones(LARGE), ones(LARGE // 2)
    y = relu(other)
    live = [relu(x) for _ in range(6)]
    del y
    while live:
        live.pop()
        assert counter("idle_bytes") <= 3 * LARGE
    assert counter("idle_blocks") == 3
    misses = counter("misses")
    relu(other)
    assert counter("misses") == misses + 1, "its block was as large as what had to go"


def test_block_beyond_the_limit_is_not_kept():
    fastact.set_buffer_limit(LARGE - 1)
    relu(ones(LARGE))
    assert counter("idle_blocks") == 0
    relu(ones(LARGE // 8))
    relu(ones(LARGE))
    assert counter("idle_blocks") == 1, "it drives nothing out"


def test_lower_limit_takes_effect_at_once():
    x = ones(LARGE)
    live = [relu(x) for _ in range(4)]
    del live
    assert counter("idle_blocks") == 4
    fastact.set_buffer_limit(2 * LARGE)
    assert fastact.get_buffer_limit() == 2 * LARGE
    assert counter("idle_blocks") == 2


def test_zero_turns_recycling_off():
    x = ones(LARGE)
    kept = relu(x)
    relu(x)
    fastact.set_buffer_limit(0)
    assert counter("idle_blocks") == 0
    y = relu(x)
    assert get_handler_name(y) == get_handler_name()
    del y, kept
    assert counter("idle_blocks") == 0


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), ("1 GB", TypeError), (1.5, TypeError)])
def test_bad_limits_are_refused(value, error):
    with pytest.raises(error):
        fastact.set_buffer_limit(value)
    assert fastact.get_buffer_limit() == LIMIT


def test_huge_limit_is_accepted():
    fastact.set_buffer_limit(1 << 80)
    assert fastact.get_buffer_limit() >= 1 << 30


PATTERNS = """
import random, sys, threading
import numpy as np

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

if sys.argv[1] == "numpy":
    relu = lambda x: np.maximum(x, np.float32(0))
    prelu = lambda x: np.where(x > 0, x, np.float32(0.25) * x)
    backward = lambda dy, x: np.where(x > 0, dy, np.float32(0.25) * dy)
else:
    import fastact
    relu = lambda x: fastact.relu(x, backend="cython", n_threads=1)
    prelu = lambda x: fastact.prelu(x, 0.25, backend="cython", n_threads=1)
    backward = lambda dy, x: fastact.prelu_backward(dy, x, 0.25, backend="cython", n_threads=1)[0]
x = np.ones(12 << 20, np.float32)

def part(share):
    return x[: int(len(x) * share)]

def random_sizes(alive, count, seed, largest=1):
    rng, live = random.Random(seed), []
    for _ in range(count):
        live.append(relu(part(rng.uniform(0.01, largest))))
        del live[:-alive]

def dropped():
    rng = random.Random(0)
    for _ in range(60):
        relu(part(rng.uniform(0.01, 1)))

def small_kept():
    kept = []
    for _ in range(100):
        relu(part(1 / 6))
        kept.append(relu(part(1 / 24)))

def training():
    layers = [part(share) for share in (1 / 3, 1 / 6, 1 / 6, 1 / 12, 1 / 5, 1 / 24, 1 / 100)]
    for _ in range(10):
        results = [prelu(a) for a in layers]
        while results:
            dx = backward(results[-1], layers[len(results) - 1])
            results.pop()

def threads():
    team = [threading.Thread(target=random_sizes, args=(1, 30, seed, 1 / 3)) for seed in range(4)]
    [t.start() for t in team]
    [t.join() for t in team]

before = status("VmRSS")
{
    "one alive": lambda: random_sizes(1, 60, 0), "three alive": lambda: random_sizes(3, 60, 0), "dropped": dropped,
    "small kept": small_kept, "training": training, "threads": threads,
}[sys.argv[2]]()
peak = status("VmHWM") - before
counters = {"hits": 0, "misses": 0} if sys.argv[1] == "numpy" else fastact._buffers.counters()
print(peak, counters["hits"], counters["misses"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
@pytest.mark.parametrize("pattern", ["one alive", "three alive", "dropped", "small kept", "training", "threads"])
def test_peak_of_memory_is_near_numpys(pattern):
    """The results alone, without their operand, so this is stricter than the process's peak."""
    numpys, _, _ = map(int, output_of(PATTERNS, "numpy", pattern).split())
    peak, hits, misses = map(int, output_of(PATTERNS, "fastact", pattern).split())
    assert peak <= 1.3 * numpys
    if pattern == "small kept":
        assert hits >= 99, "the large ones; what is kept is new memory"
    else:
        assert hits > 1.5 * misses


ALONE = """
import os, time
import numpy as np, fastact
from fastact._built import buffers
MB = 1 << 20
x = np.arange(64 * MB // 4, dtype="f4")
def relu(nbytes):
    return fastact.relu(x[: nbytes // 4], backend="cython", n_threads=1)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") - before
def counter(name):
    return buffers.counters()[name]
relu(MB // 4); fastact.clear_buffers()
before = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_larger_block_serves_a_smaller_request_and_its_tail_is_given_back():
    """64 MB idle: 32 MB more would be beyond recent use, so the block is shared; then its rest has to go."""
    run_alone(
        ALONE + "relu(64 * MB)\n"
        "small = relu(32 * MB)\n"
        "assert counter('hits') == 1 and counter('idle_bytes') == 32 * MB and counter('in_use_bytes') == 32 * MB\n"
        "large = relu(64 * MB)\n"
        "assert counter('idle_bytes') == 0 and resident() < 100 * MB, 'the tail went to make room'\n"
        "assert (small == x[: len(small)]).all() and (large == x).all()\n"
        "del large, small\n"
        "assert counter('in_use_bytes') == 0 and counter('idle_bytes') == 96 * MB\n"
        "assert counter('idle_blocks') == 2\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_small_live_result_holds_a_large_block_for_two_epochs_at_most():
    run_alone(
        ALONE + "buffers.set_epoch(100)\n"
        "relu(64 * MB); small = relu(32 * MB)\n"
        "assert resident() > 60 * MB\n"
        "time.sleep(0.3)\n"
        "relu(MB // 4)\n"
        "assert resident() < 36 * MB\n"
        "assert (small == x[: len(small)]).all()\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_idle_memory_goes_by_itself_as_calls_go_on():
    run_alone(
        ALONE + "buffers.set_epoch(100)\n"
        "live = [relu(16 * MB) for _ in range(4)]; del live\n"
        "assert counter('idle_bytes') == 64 * MB\n"
        "time.sleep(0.3)\n"
        "assert counter('idle_bytes') == 64 * MB and resident() > 60 * MB, 'without a call it stays'\n"
        "relu(MB // 4)\n"
        "assert counter('idle_bytes') == MB // 4 and resident() < 4 * MB\n"
        "assert counter('recent_peak_bytes') == MB // 4\n"
    )


def test_block_in_use_all_the_time_outlives_the_epochs():
    run_alone(
        ALONE + "buffers.set_epoch(20)\n"
        "end = time.monotonic() + 0.2\n"
        "while time.monotonic() < end:\n"
        "    relu(MB)\n"
        "assert counter('misses') == 2, 'the warm-up and the first'\n"
    )


def test_new_memory_comes_first_where_recent_use_allows_it():
    """The large block stays whole for the next large request: 64 and 8 MB are within 80."""
    run_alone(
        ALONE + "relu(64 * MB)\n"
        "small = relu(8 * MB)\n"
        "assert counter('idle_bytes') == 64 * MB and counter('hits') == 0\n"
    )


def test_what_lived_for_long_is_kept_when_it_is_dropped():
    run_alone(
        ALONE + "buffers.set_epoch(20)\ny = relu(MB)\ntime.sleep(0.1)\ndel y\nassert counter('idle_bytes') == MB\n"
    )


def test_what_is_kept_follows_recent_use():
    """A peak of 64 MB allows 80 MB; after two epochs one result at a time, of any size, allows 1.25 of the largest."""
    run_alone(
        ALONE + "buffers.set_epoch(50)\n"
        "live = [relu(16 * MB) for _ in range(4)]; del live\n"
        "def sizes():\n"
        "    for eighths in range(8, 16):\n"
        "        relu(eighths * MB // 4)\n"
        "sizes()\n"
        "assert counter('idle_bytes') <= 80 * MB\n"
        "time.sleep(0.15)\n"
        "sizes()\n"
        "assert counter('idle_bytes') <= 1.25 * counter('recent_peak_bytes') <= 1.25 * 4 * MB\n"
    )


@pytest.mark.parametrize("factor", [1, 2, 5, 0.9, 0.5, 0.001])
def test_resize(factor):
    x = np.arange(1, LARGE // 4 + 1, dtype=np.float32)
    y = relu(x)
    n = int(x.size * factor)
    y.resize(n, refcheck=False)
    m = min(n, x.size)
    np.testing.assert_array_equal(y[:m], x[:m])
    assert not y[m:].any()
    used = counter("in_use_bytes")
    del y
    assert counter("in_use_bytes") < used


def test_views_keep_the_memory():
    x = np.arange(LARGE // 4, dtype=np.float32)
    tail = relu(x)[-1000:]
    bits = relu(x).view(np.int32)
    flat = memoryview(relu(x))
    others = [relu(ones(LARGE)) for _ in range(4)]
    np.testing.assert_array_equal(tail, x[-1000:])
    np.testing.assert_array_equal(bits.view(np.float32), x)
    np.testing.assert_array_equal(np.asarray(flat), x)
    del others


def test_threads():
    sizes = [1 << 16, 100_000, 1 << 20, LARGE]
    inputs = [ones(n) for n in sizes]
    used, errors, inbox = counter("in_use_bytes"), [], []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        live = []
        try:
            for _ in range(200):
                x = inputs[rng.integers(len(inputs))]
                y = relu(x)
                y *= seed + 1
                live.append(y)
                if len(live) > 3:
                    old = live.pop(rng.integers(len(live)))
                    assert (old == seed + 1).all()
                    inbox.append(old)  # ... to be freed by whichever thread comes next
                    del old, y
                if len(inbox) > 8:
                    del inbox[:4]
                if rng.random() < 0.02:
                    fastact.clear_buffers()
                if rng.random() < 0.02:
                    fastact.set_buffer_limit(int(rng.integers(1, LIMIT)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    inbox.clear()
    gc.collect()
    assert counter("in_use_bytes") == used
    assert counter("idle_bytes") <= fastact.get_buffer_limit()
    fastact.clear_buffers()
    assert counter("idle_bytes") == counter("idle_blocks") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_of_a_fork_starts_without_idle_blocks():
    run_alone(
        "import os, numpy as np, fastact\n"
        "x = np.ones(1 << 20, np.float32)\n"
        "relu = lambda: fastact.relu(x, backend='cython', n_threads=1)\n"
        "live = [relu() for _ in range(3)]; mine = live.pop(); del live\n"
        "count = lambda: fastact.config()['buffers']['idle_blocks']\n"
        "assert count() == 2\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    ok = count() == 0 and (relu() == mine).all() and count() == 1\n"
        "    os._exit(0 if ok else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "assert count() == 2 and (relu() == mine).all()\n"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_threads_allocate():
    run_alone(
        "import os, threading, warnings\n"
        "import numpy as np, fastact\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # Python 3.12 warns of forks with threads
        "relu = lambda x: fastact.relu(x, backend='cython', n_threads=1)\n"
        "x = np.ones(1 << 18, np.float32)\n"
        "mine, stop = relu(x), threading.Event()\n"
        "def work():\n"
        "    while not stop.is_set():\n"
        "        relu(x)\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[t.start() for t in threads]\n"
        "def child():\n"
        "    ok = fastact.config()['buffers']['idle_blocks'] == 0 and (mine == 1).all()\n"
        "    for _ in range(20):\n"
        "        ok = ok and (relu(x) == 1).all()\n"
        "    os._exit(0 if ok else 1)\n"
        "for _ in range(30):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        child()\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "stop.set()\n"
        "[t.join() for t in threads]\n"
    )


def test_results_alive_at_the_end_of_the_interpreter():
    run_alone(
        "import sys, numpy as np, fastact\n"
        "x = np.ones(1 << 20, np.float32)\n"
        "class Late:\n"
        "    def __init__(self): self.y = fastact.relu(x, backend='cython'); self.me = self\n"
        "sys.late = Late(); keep = fastact.relu(x, backend='cython'); keep_view = keep[1:]\n"
    )


def test_absurd_size_is_a_memory_error():
    x = np.broadcast_to(np.float32(1), (1 << 57,))
    with pytest.raises(MemoryError):
        relu(x)
    np.testing.assert_array_equal(relu(ones(LARGE)), ones(LARGE))


@pytest.mark.skipif(sys.platform != "linux", reason="the address space can be bounded on Linux only")
@pytest.mark.parametrize("limit", [1 << 62, 1 << 28])
def test_idle_blocks_are_released_before_a_memory_error(limit):
    """300 MB idle, 200 MB of address space left: 400 MB are there only if the idle ones are released."""
    run_alone(
        "import resource, numpy as np, fastact\n"
        f"fastact.set_buffer_limit({limit})\n"
        "relu = lambda x: fastact.relu(x, backend='cython', n_threads=1)\n"
        "row = np.ones(1 << 20, np.float32)\n"
        "relu(row); fastact.clear_buffers()\n"
        "live = [relu(row) for _ in range(75)]; del live\n"
        "idle = fastact.config()['buffers']['idle_bytes']; assert idle >= 200 << 20\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), resource.RLIM_INFINITY))\n"
        "y = relu(np.broadcast_to(row, (100, row.size)))\n"
        "assert y.nbytes == 400 << 20 and (y[::33] == 1).all()\n"
        "assert fastact.config()['buffers']['idle_blocks'] == 0\n"
        "try:\n"
        "    relu(np.broadcast_to(row, (1000, row.size)))\n"
        "except MemoryError:\n"
        "    pass\n"
        "else:\n"
        "    raise SystemExit('4 GB were there')\n"
        "assert fastact.config()['buffers']['recent_peak_bytes'] < 1 << 30\n"
    )
