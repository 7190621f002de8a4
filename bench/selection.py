"""Which groups a run has: operations, calls in company, whole networks, and the figures with targets."""

from collections.abc import Callable, Iterator

from . import company, networks
from .comparison import Selection, operation_groups
from .figures import cache, halves, masks, memory, new, peers, small, steps, streaming, threads
from .groups import Group
from .off_plain import off_plain
from .processes import extra, imports

# The rows of figures that the package must meet, by the name that --figures takes.
FIGURES: dict[str, Callable[..., Iterator[Group]]] = {
    "memory": memory,
    "cache": cache,
    "new": new,
    "peers": peers,
    "small": small,
    "teams": threads,
    "steps": steps,
    "streaming": streaming,
    "halves": halves,
    "masks": masks,
    "imports": imports,
    "extra": extra,
    "company": company.company,
    "off_plain": off_plain,
}
SMOKE = ("small", "masks", "new", "streaming", "teams", "company")  # an untimed run takes FEW groups of each
FEW = 4


def groups(selection: Selection, figures: tuple[str, ...], hosted: tuple[str, ...]) -> Iterator[Group]:
    """The groups of a run.  `hosted` says whether it has calls in company and whole networks."""
    if figures:
        for name in figures:
            yield from FIGURES[name](selection.quick)
        return
    yield from operation_groups(selection)
    if selection.timed:
        if "company" in hosted:
            yield from company.company(names=None if selection.full else company.SHOWN)
        if "networks" in hosted:
            yield from networks.networks(selection.full)
        return
    for name in SMOKE if hosted else ():
        found = list(FIGURES[name](True))
        yield from found[:: max(1, len(found) // FEW)][:FEW]
