"""What other processes took of this machine's processors while a run was timed.

The load average would count this run and the one before it.  Here the others' time is the kernel's count of the
processors' busy time, less the time of this process and its children.  Time that a hypervisor gave to somebody else
("steal") belongs to the others, too.  Without /proc/stat there is no answer.
"""

import os
from collections.abc import Iterator
from pathlib import Path

BUSY = 0.1  # the share of the processors' time that others may take before a reader is told


class Others:
    """Counts from its creation on."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat = stat
        self.start = self._now()

    def share(self) -> float | None:
        """The others' share of the time of the processors that this process may use; None where it is not known."""
        now = self._now()
        if not self.start or not now or now[1] <= self.start[1]:
            return None
        busy, total, own = (after - before for before, after in zip(self.start, now, strict=True))
        return max(0.0, busy - own) / total

    def note(self) -> Iterator[str]:
        """A warning for the reader, if the share is large."""
        share = self.share()
        if share is not None and share > BUSY:
            yield (
                f"Others took {share:.0%} of the processors' time during this run (/proc/stat less our own): "
                "distrust the times."
            )

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds: the busy time and all time of the processors that this process may use, and our own busy time."""
        try:
            names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            lines = [line.split() for line in self.stat.read_text().splitlines()]
            # user, nice, system, idle, iowait, irq, softirq, steal; a guest's time is in user and nice already
            counts = [list(map(int, line[1:9])) for line in lines if line and line[0] in names]
            ticks = os.sysconf("SC_CLK_TCK")
        except (AttributeError, OSError, ValueError):
            return None
        total, idle = sum(map(sum, counts)), sum(sum(count[3:5]) for count in counts)
        own = sum(os.times()[:4])
        return (total - idle) / ticks, total / ticks, own
