"""Facts about this machine: cores that may be used, cache sizes, memory.  No policy.

Read from where the operating system tells them (sysfs, cgroup, affinity mask); what cannot be found out
has a modest default.  Each fact is read once.
"""

import os
import platform
from functools import cache
from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_DEFAULT_CACHES = {"L1d": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}


@cache
def cores() -> int:
    """Cores that the affinity mask and the cgroup's quota leave to this process (at least 1)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            available = min(available, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, available)


@cache
def caches() -> dict[str, int]:
    """Sizes in bytes of the data caches that one core sees: L1d, L2, L3."""
    found = dict(_DEFAULT_CACHES)
    for index in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        name = {"1": "L1d", "2": "L2", "3": "L3"}.get(level)
        if name and kind != "Instruction" and size[:-1].isdigit():
            found[name] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}.get(size[-1], 0)
    return found


@cache
def sharing() -> int:
    """The cores that the system says share the last-level cache (1 where it does not say)."""
    try:
        shared = (_CACHES / "index3" / "shared_cpu_list").read_text()
        spans = [[int(core) for core in span.split("-")] for span in shared.split(",")]
    except (OSError, ValueError):
        return 1
    return sum(span[-1] - span[0] + 1 for span in spans)


@cache
def memory() -> int:
    """Bytes of physical memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 4 << 30


@cache
def model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
