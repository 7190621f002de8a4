"""The package under sanitizers: `python tests/sanitize.py address` and `python tests/sanitize.py thread`.

address: the Cython variant is built in a copy with AddressSanitizer and UndefinedBehaviorSanitizer, and the tests run
there with recycled memory off, so that an overrun meets no idle block.  thread: kernels, driver with its teams,
recycled memory and fast path are built with ThreadSanitizer and driven by soak.py's threads.  Numba's code is not
instrumented and stays out of that run; nothing is suppressed.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from copies import build, copy_to, test_in

ADDRESS = {
    # Python's own leaks are not ours; NumPy asks for more than there is on purpose; faulthandler has the signals.
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "FASTACT_BUFFER_LIMIT": "0",
    "PYTHONMALLOC": "malloc",  # else one of Python's arenas hides what lies beyond a small object
}
# Not under AddressSanitizer: tests of address space and of recycled memory (off here), and of whole installations.
APART = (
    "test_memory.py",
    "test_buffers.py",
    "test_example.py",
    "test_builds.py",
    "test_free_threaded.py",
    "test_comparison.py",
)
THREAD = {"TSAN_OPTIONS": "halt_on_error=0:exitcode=66:history_size=4", "FASTACT_NUM_THREADS": "3"}


def library(name: str) -> str:
    """Where the compiler has a library of its own."""
    command = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def address(folder: Path, words: list[str]) -> int:
    """The tests (or those that are named) in a copy built with both sanitizers."""
    # Unaligned doubles are what x86 loads allow; simd.h asks for them with intrinsics, the driver never does.
    flags = (
        "-fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
    )
    build(folder, CFLAGS=f"{flags} -g1 -O1")
    preloaded = " ".join(map(library, ("libasan.so", "libubsan.so", "libstdc++.so.6")))
    apart = [f"--ignore=tests/{name}" for name in APART]
    chosen = words or ["-n", "2", "tests", *apart]  # one by one they take 20 minutes
    # Pytest would keep the standard error stream's text, and a fault that ends the process would end it without a word.
    return test_in(folder, "-x", "--capture=sys", *chosen, capture=False, LD_PRELOAD=preloaded, **ADDRESS).returncode


def thread(folder: Path, words: list[str]) -> int:
    """soak.py for some seconds (20) in a copy built with ThreadSanitizer."""
    build(folder, CFLAGS="-fsanitize=thread -g1 -O1")
    # Its shadow memory has a fixed place, which a randomised layout of this address space may take first.
    command = ["setarch", platform.machine(), "-R", sys.executable, "tests/soak.py", *(words or ["20"]), "cython"]
    env = os.environ | THREAD | {"LD_PRELOAD": library("libtsan.so"), "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=env).returncode


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit({"address": address, "thread": thread}[sys.argv[1]](copy_to(Path(temporary) / "copy"), sys.argv[2:]))
