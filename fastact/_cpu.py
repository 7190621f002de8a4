"""Facts about this machine: processors and memory that may be used, cache sizes.  No policy.

Read from where the operating system tells them (affinity mask, control groups, sysfs); what cannot be found out
has a modest default.  What may change while the process runs is read when it is asked for, the rest once.
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


QUOTA_SECONDS = 1.0  # for which a quota that was read stays valid: reading it takes 0.3 ms
_quota = (-math.inf, 0)  # when it was read, and the processors that it amounts to


def processors() -> int:
    """The processors that the calling thread may use now: its affinity mask within the control groups' quota."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, quota() or available))


def quota() -> int:
    """The processors that the control groups' quotas amount to, rounded up; 0 where there is no quota."""
    global _quota
    if time.monotonic() - _quota[0] > QUOTA_SECONDS:
        _quota = time.monotonic(), read_quota()
    return _quota[1]


def read_quota(root: Path = Path("/")) -> int:
    """The same, read from the files."""
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
    """Bytes of memory that this process may use: the machine's, within the control groups' limits."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        physical = 4 << 30
    return read_memory(physical)


def read_memory(physical: int, root: Path = Path("/")) -> int:
    """The same, read from the files; without a limit a file says "max" or a number beyond any memory."""
    limits = [physical]
    for folder in _control_groups("memory", root):
        for word in _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes"):
            limits += [int(word)] if word.isdigit() else []
    return min(limits)


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control group and of all its ancestors that can be seen, versions 1 and 2.

    /proc/self/cgroup has the group's path in each hierarchy, /proc/self/mountinfo where a hierarchy (or a part of it,
    in a container) is mounted.  A line of another form is passed over: other mounts are not our business.
    """
    paths = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and number.isdigit():
            paths |= dict.fromkeys(controllers.split(","), path)  # version 2 names no controllers: ""
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
        # In a container the path may be the host's.  If it is not below the mounted folder, that folder is our group.
        below = parts[len(top_parts) :] if parts[: len(top_parts)] == top_parts and ".." not in parts else ()
        folder = root / _unescaped(mounted).lstrip("/")
        yield folder
        for part in below:
            folder = folder / part
            yield folder


def _unescaped(field: str) -> str:
    """A field of mountinfo, which writes blanks and the like as octal numbers."""
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
def model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    import platform  # 1 ms, and only for config()

    return platform.processor() or platform.machine()
