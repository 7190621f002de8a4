"""Facts about this machine: the processors and the memory that may be used, and the sizes of the caches.  No policy.

The operating system tells them in three places: the affinity mask (the processors that a thread may use), control
groups (bounds on what a group of processes may use) and sysfs (files that describe the hardware).  A fact that cannot
be found out has a modest default.  A fact that may change while the process runs is read when it is asked for, any
other one only once.
"""

import math
import os
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_DEFAULT_CACHES = {"L1d": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}


QUOTA_SECONDS = 1.0  # how long a quota is valid after it was read; reading it takes 0.3 ms
_quota = (-math.inf, 0)  # when it was read, and the number of processors that it amounts to


def processors() -> int:
    """The number of processors that the calling thread may use now.

    It is the number in the thread's affinity mask, or the control groups' quota if that is smaller.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, quota() or available))


def quota() -> int:
    """The number of processors that the control groups' quotas amount to, rounded up; 0 if there is no quota.

    A quota bounds the processor time of a group: 150 ms in every 100 ms, for instance, amount to 1.5 processors.
    """
    global _quota
    if time.monotonic() - _quota[0] > QUOTA_SECONDS:
        _quota = time.monotonic(), read_quota()
    return _quota[1]


def read_quota(root: Path = Path("/")) -> int:
    """What `quota` returns, read from the control groups' files."""
    quotas = []
    for folder in _control_groups("cpu", root):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            quotas.append(max(1, -(-int(words[0]) // int(words[1]))))
    return min(quotas, default=0)


@cache
def memory() -> int:
    """Bytes of memory that this process may use: the machine's memory, or less if a control group has a limit."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        physical = 4 << 30
    return read_memory(physical)


def read_memory(physical: int, root: Path = Path("/")) -> int:
    """What `memory` returns, read from the control groups' files.

    If a group has no limit, its file says "max" or has a number that is larger than any memory.
    """
    limits = [physical]
    for folder in _control_groups("memory", root):
        for word in _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes"):
            limits += [int(word)] if word.isdigit() else []
    return min(limits)


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control group and of those of its ancestors that can be seen.

    Groups form a hierarchy, a tree of folders.  A controller bounds the use of one resource, such as memory.  Version 1
    of control groups has several hierarchies, each for some controllers; version 2 has one hierarchy for all.

    The file /proc/self/cgroup says where in each hierarchy this process's group is.  The file /proc/self/mountinfo says
    where each hierarchy is mounted.  In a container only a part of it may be mounted.  Other lines are skipped.
    """
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and number.isdigit():
            paths |= dict.fromkeys(controllers.split(","), path)  # in version 2 `controllers` is empty: the key is ""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = (part.split(" ") for part in line.partition(" - "))
        if len(before) < 5 or len(after) < 3:
            continue
        (top, mounted), (kind, _, options) = before[3:5], after[:3]
        if kind == "cgroup2":
            path = paths.get("")
        else:
            path = paths.get(controller) if kind == "cgroup" and controller in options.split(",") else None
        if path is None:
            continue
        parts, top_parts = PurePosixPath(path).parts, PurePosixPath(_unescaped(top)).parts
        # In a container the path may be that on the host.  If it is not below the mounted folder, the group is taken to
        # be the mounted folder itself.
        below = parts[len(top_parts) :] if parts[: len(top_parts)] == top_parts and ".." not in parts else ()
        folder = root / _unescaped(mounted).lstrip("/")
        yield folder
        for part in below:
            folder = folder / part
            yield folder


def _unescaped(field: str) -> str:
    """A field of mountinfo, decoded: that file writes a backslash and an octal number for a blank and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


@cache
def caches() -> dict[str, int]:
    """Sizes in bytes of the data caches that one core sees: L1d, L2, L3."""
    found = dict(_DEFAULT_CACHES)
    for index in sorted(_CACHES.glob("index*")):
        level, kind, size = ("".join(_words(index / name)) for name in ("level", "type", "size"))
        name = {"1": "L1d", "2": "L2", "3": "L3"}.get(level)
        if name and kind in ("Data", "Unified") and size[:-1].isdigit():
            found[name] = int(size[:-1]) << {"K": 10, "M": 20, "G": 30}.get(size[-1], 0)
    return found


@cache
def sharing() -> int:
    """The number of cores that share the last-level cache, by what the system says; 1 if it does not say."""
    shared = "".join(_words(_CACHES / "index3" / "shared_cpu_list"))
    try:
        spans = [[int(core) for core in span.split("-")] for span in shared.split(",")]
    except ValueError:
        return 1
    return sum(span[-1] - span[0] + 1 for span in spans)


@cache
def model() -> str:
    """The processor's name."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    import platform  # here, because importing it takes 1 ms and only config() needs it

    return platform.processor() or platform.machine()
