"""Memory that runs out and memory that must not grow.

Every allocation of a call fails once: a small library in front of malloc and mmap counts a thread's requests and
refuses the n-th, for n = 1, 2, ... until the call needs no more.  Each time there is a MemoryError or the right result,
no buffer stays in use, no operand gains a reference, and the same call made again is right.  Then limits on address
space, and many calls without growth.
"""

import shutil
import subprocess
import sys
import sysconfig

import pytest
from helpers import output_of

from fastact import _backends, _built

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux does it")

SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static __thread long target, seen;
void arm(long n) { seen = 0; target = n; }
long disarm(void) { target = 0; return seen; }
static int refused(void) { return target && ++seen == target; }
void *malloc(size_t n) { return refused() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return refused() ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return refused() ? NULL : __libc_realloc(p, n); }
int posix_memalign(void **p, size_t a, size_t n)
{ *p = refused() ? NULL : __libc_memalign(a, n); return *p ? 0 : ENOMEM; }
void *aligned_alloc(size_t a, size_t n) { return refused() ? NULL : __libc_memalign(a, n); }
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (refused()) { errno = ENOMEM; return MAP_FAILED; }
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}
static int kept;
void keep_mappings(int on) { kept = on; }
int munmap(void *p, size_t n)
{
    if (kept) { errno = ENOMEM; return -1; }
    return (int)syscall(SYS_munmap, p, n);
}
"""

FAILING = """
import ctypes, gc, sys
import numpy as np, fastact
shim = ctypes.CDLL(None)
shim.arm.argtypes, shim.disarm.restype = [ctypes.c_long], ctypes.c_long
backend = sys.argv[1]
rng = np.random.default_rng(0)

def made(shape, alpha=()):
    return rng.standard_normal(shape).astype("f4"), rng.standard_normal(shape).astype("f4"), np.full(alpha, 0.25, "f4")

calls = {}
for form, (shape, alpha, axis) in {
    "small": ((4, 3, 5), (3,), 1), "large": ((300_001,), (), 0), "channels last": ((30_000, 33), (33,), 1),
    "many channels": ((3, 9000, 20), (9000,), 1), "full": ((300, 1001), (300, 1001), 0),
}.items():
    x, dy, a = made(shape, alpha)
    calls["relu " + form] = fastact.relu, (x,), {}
    calls["prelu " + form] = fastact.prelu, (x, a), {"channel_axis": axis}
    calls["prelu_backward " + form] = fastact.prelu_backward, (dy, x, a), {"channel_axis": axis}
x, dy, a = made((200, 70), (70,))
calls["strided"] = fastact.prelu_backward, (dy[::2, ::-1], x[::2, ::-1], a), {"channel_axis": 1}
calls["float64 alpha"] = fastact.prelu_backward, (dy, x, a.astype("f8")), {"channel_axis": 1}
calls["out"] = fastact.prelu_backward, (dy, x, a), {"channel_axis": 1, "out": (np.empty_like(x), np.empty_like(a))}
calls["relu_backward"] = fastact.relu_backward, (dy, x), {}
calls["leaky_relu, own dtype"] = fastact.leaky_relu, (x.astype("f8"), 0.3), {"out": np.empty(x.shape)}
calls["integers"] = fastact.relu, (np.arange(-70_000, 70_000),), {}
calls["in place"] = fastact.prelu_backward, (dy.copy(), x, 0.25), {"out": None}  # dx into dy, see below
calls["in place, many channels"] = fastact.prelu_backward, (np.copy(dy), x, a), {"channel_axis": 1, "out": None}
calls["big-endian"] = fastact.prelu, (x.astype(">f4"), a), {"channel_axis": 1}

failed = 0
for name, (f, args, options) in calls.items():
    options = options | {"backend": backend, "n_threads": 1}
    if name.startswith("in place"):
        options["out"] = args[0], None
    before = [np.copy(a) for a in args]

    def restored():
        for a, b in zip(args, before):
            if name.startswith("in place") and a is args[0]:
                a[...] = b

    want = [np.copy(r) for r in ([f(*args, **options)] if f is not fastact.prelu_backward else f(*args, **options))]
    for pool in ("warm", "cold"):
        n = 0
        while True:
            n += 1
            result, error = None, None
            restored()
            if pool == "cold":
                fastact.clear_buffers()
            gc.collect()
            counts = [sys.getrefcount(a) for a in args]
            used = fastact.config()["buffers"].get("in_use_bytes")
            shim.arm(n)
            try:
                result = f(*args, **options)
            except MemoryError:
                error = True
            finally:
                seen = shim.disarm()
            if seen < n:
                break
            failed += bool(error)
            if error:
                assert all((a == b).all() for a, b in zip(args, before)), (name, n)
            if not error:  # it did without: NumPy and the sums have places that do not need the heap
                result = result if isinstance(result, tuple) else (result,)
                assert all((w == g).all() for w, g in zip(want, result)), (name, n)
            result = None
            gc.collect()
            assert fastact.config()["buffers"].get("in_use_bytes") == used, (name, n)
            assert [sys.getrefcount(a) for a in args] == counts, (name, n)
            restored()
            again = f(*args, **options)
            again = again if isinstance(again, tuple) else (again,)
            assert all((w == g).all() for w, g in zip(want, again)), (name, n)
            again = None
            assert n < 500, name
print(failed)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", str(folder / "shim.c"), "-o", str(folder / "shim.so")]
    subprocess.run(command, check=True)
    return str(folder / "shim.so")


@pytest.mark.skipif(_built.driver is None, reason="needs the compiled core")
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")
@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_every_allocation_fails_once(backend, shim):
    if backend == "numba" and _backends.missing("numba"):
        pytest.skip("no Numba here")
    assert int(output_of(FAILING, backend, LD_PRELOAD=shim)) >= 30


HANDLER = """
import ctypes, numpy as np, fastact
from numpy._core.multiarray import get_handler_name
shim = ctypes.CDLL(None)
shim.arm.argtypes = [ctypes.c_long]
x, dy = np.ones((400, 300), "f4", order="F"), np.linspace(-1, 1, 1000)
before, out, errors = dy.copy(), (dy, None), 0
for n in range(1, 60):
    for f, args in ((fastact.relu, (x,)), (fastact.prelu_backward, (dy, -before, 0.5))):
        keywords = {} if f is fastact.relu else {"out": out}
        f(*args, **keywords)  # what the first call looks up is there
        dy[:] = before
        try:
            shim.arm(n)
            f(*args, **keywords)
        except (MemoryError, SystemError, TypeError):  # NumPy's own, where a small object of its own cannot be had
            errors += 1
            shim.disarm()
            assert (dy == before).all(), n  # dx goes there, and nothing can fail after it is written
        shim.disarm()
        assert get_handler_name() == "default_allocator", n
assert errors > 5
print("right")
"""


@pytest.mark.skipif(_built.driver is None, reason="needs the compiled core")
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")
def test_small_objects_fail_as_well(shim):
    """Python's own: no allocator of ours stays in force, and dy survives a call that was to write dx there."""
    assert output_of(HANDLER, LD_PRELOAD=shim, PYTHONMALLOC="malloc") == "right"


UNMAPPED = """
import ctypes, numpy as np, fastact
from fastact._buffers import counters
shim = ctypes.CDLL(None)
MB = 1 << 20
x = np.arange(64 * MB // 4, dtype="f4")
def relu(share):
    return fastact.relu(x[: len(x) // share], backend="cython")
def address(a):
    return a.__array_interface__["data"][0]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
relu(1)
half = relu(2)
assert counters()["hits"] == 1
block = address(half)
shim.keep_mappings(1)
whole = relu(1)  # makes room: the second half of the block is to go, and may not
assert counters()["idle_bytes"] == 0
more = relu(2)  # so much was in use that a block of 64 MB may stay
del half
assert counters()["idle_bytes"] == 64 * MB
again = relu(1)
assert address(again) == block
assert (again == x).all() and (whole == x).all()
before = resident()
del again
fastact.clear_buffers()
assert before - resident() > 60 * MB, "the addresses stay, the pages do not"
shim.keep_mappings(0)
del more
fastact.clear_buffers()
assert counters()["in_use_bytes"] == 64 * MB and counters()["idle_bytes"] == 0
assert (relu(1) == x).all() and (whole == x).all()
print("right")
"""


@pytest.mark.skipif(_backends.driver is None, reason="needs the compiled core")
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")
def test_nothing_can_be_unmapped(shim):
    """The kernel may refuse to split a mapping: a block keeps its length then, and its pages go back all the same."""
    assert output_of(UNMAPPED, LD_PRELOAD=shim) == "right"


LIMITED = """
import resource, numpy as np, fastact
x = np.ones(1 << 24, "f4")
fastact.relu(x), fastact.prelu_backward(x, x, 0.25)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (96 << 20),) * 2)
kept, errors = [], 0
for _ in range(8):
    try:
        kept.append(fastact.relu(x))
    except MemoryError:
        errors += 1
assert errors and kept
kept.clear()
assert (fastact.relu(x) == 1).all()
print("right")
"""


FIRST_TEAM = """
import ctypes, os, sys, warnings
import numpy as np, fastact
warnings.simplefilter("ignore")
shim = ctypes.CDLL(None)
shim.arm.argtypes, shim.disarm.restype = [ctypes.c_long], ctypes.c_long
x = np.linspace(-1, 1, 1 << 20, dtype="f4").reshape(4, 4096, 64)
def call():
    return fastact.prelu_backward(x, x, np.full(4096, 0.5, "f4"), channel_axis=1, n_threads=2)
want = call()
n = failed = status = 0
while status == 0:
    n += 1
    if (pid := os.fork()) == 0:  # whose pool of threads is empty
        fastact.clear_buffers()
        shim.arm(n)
        try:
            got = call()
        except MemoryError:
            got = None
        seen = shim.disarm()
        again = call()
        right = all((r[0] == want[0]).all() and (r[1] == want[1]).all() for r in (got, again) if r)
        os._exit(3 if not right else 9 if seen < n else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 9, (n, status)
print(n)
"""


@pytest.mark.skipif(_built.driver is None, reason="needs the compiled core")
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="tried on x86-64 with glibc only")
def test_every_allocation_of_the_first_team_fails_once(shim):
    """A thread's own memory included; a team in which one fails is smaller, and the process goes on."""
    assert int(output_of(FIRST_TEAM, LD_PRELOAD=shim)) > 4


NO_THREADS = """
import os, resource, sys, numpy as np, fastact
x = np.linspace(-1, 1, 1 << 22, dtype="f4")
out = np.empty_like(x)
want = np.maximum(x, 0)
backend = sys.argv[1]
fastact.relu(x, out=out, backend=backend, n_threads=1)
before = len(os.listdir("/proc/self/task"))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 10), resource.RLIM_INFINITY))  # a helper's stack is 512 KB
fastact.relu(x, out=out, backend=backend, n_threads=2)
assert all((out[i : i + 4096] == want[i : i + 4096]).all() for i in range(0, len(x), 4096))
assert len(os.listdir("/proc/self/task")) == before
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
fastact.relu(x, out=out, backend=backend, n_threads=2)
assert len(os.listdir("/proc/self/task")) == before + 1
print("right")
"""


@pytest.mark.parametrize("backend", ["cython", "numba"])
@pytest.mark.skipif(_built.driver is None, reason="needs the compiled core")
def test_no_thread_can_be_started(backend):
    """The call runs serially (libgomp would end the process), and the next one with a team again."""
    if _backends.missing(backend):
        pytest.skip(_backends.missing(backend))
    assert output_of(NO_THREADS, backend) == "right"


def test_limited_address_space():
    """MemoryError when it is used up, and all is well when results are dropped."""
    assert output_of(LIMITED) == "right"


GROWING = """
import gc, sys, numpy as np, fastact
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) * 1024
small, alpha = np.ones((4, 3, 5), "f4"), np.full(3, 0.25, "f4")
large = np.ones((64, 32, 1024), "f4")
slopes = np.full(32, 0.25, "f4")
backend = sys.argv[1]
def calls(n_small, n_large):
    for _ in range(n_small):
        fastact.prelu_backward(small, small, alpha, backend=backend)
    for i in range(n_large):
        fastact.prelu_backward(large[: 1 + i % 64], large[: 1 + i % 64], slopes, backend=backend)
calls(1000, 64)
gc.collect()
before = resident()
calls(int(sys.argv[2]), int(sys.argv[3]))
gc.collect()
assert sys.getrefcount(alpha) == sys.getrefcount(slopes) == 2
print(resident() - before)
"""


@pytest.mark.parametrize("backend", ["cython", "numba"])
def test_calls_do_not_grow(backend):
    """10**6 small calls and 10**3 large ones of many sizes."""
    if _backends.missing(backend):
        pytest.skip(_backends.missing(backend))
    small = 10**6 if _built.driver else 10**4
    assert int(output_of(GROWING, backend, str(small), "1000")) < 32 << 20
