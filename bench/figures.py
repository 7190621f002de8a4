"""The figures that the package must meet, as comparison groups with targets: `pytest --figures ROW,...`.

A row is a function that yields groups.  "copy_add" is a copy (one input) or an addition (two inputs) with the same
number of threads, with ordinary or with streaming stores, whichever is faster.  Arrays are made when a group runs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import pairwise, product

import numpy as np

import fastact
from fastact import _cpu
from fastact._tables import OPERATIONS, Operation

from .comparison import HALVES, MAIN, PRELU, contest, outputs
from .contestants import CONTESTANTS, COPY, Call, Fastact, Outputs
from .groups import Group, Target, Work, bounds, ready
from .thresholds import NEVER, thresholds
from .timing import Statement
from .workloads import WORKLOADS, Task, Workload, dtype_of, make_task, task_of

KB, MB = 1 << 10, 1 << 20
# Machines report the cache of a whole socket (480 MB on this one), and a process has a part of it.  Here the times are
# those of memory from 64 MB for each array on, and the arrays of 256 MB together exceed the whole cache.
MEMORY_SIZES = (64 * MB, 256 * MB)
CACHE_SIZES = tuple(int(MB * size) for size in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32))  # inputs and results
NEW_SIZES = tuple(size * KB for size in (64, 128, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 768 << 10))
START_SIZES = tuple(4 * KB << shift for shift in range(15))
DTYPES = ("float32", "float64")
IN_L2 = (32 * KB, 100 * KB, 400 * KB)  # bytes of an array of 16-bit floats
# PReLU's time in L2 as a multiple of the bandwidth bound, as its instructions allow it (conversions, and a sum in
# double).  The figures were found by a trial.
INSTRUCTIONS = {"float16": 1.6, "bfloat16": 3.3}
PEERS = ("torch", "onednn", "jax", "onnxruntime", "numexpr")
BLOCK = 1 << 20  # random elements, repeated in longer arrays


def variants() -> tuple[str, ...]:
    """The compiled backends that can be used here."""
    return tuple(name for name in ("cython", "numba") if name in fastact.available_backends())


def thread_counts() -> tuple[int, ...]:
    """One thread, and all."""
    return tuple(sorted({1, fastact.get_num_threads()}))


def exact(name: str) -> bool:
    """Whether a contestant of a figure must have the reference's bits."""
    return name.split()[0] in ("fastact", *variants())


def figure(
    row: str,
    name: str,
    make: Callable[[], tuple[Task | None, dict[str, Call]]],
    targets: list[Target],
    threads: int = 1,
    session: Callable[[str], AbstractContextManager] = lambda name: nullcontext(),
    copies: Callable[[Task], dict[str, Call]] | None = None,
    free: Sequence[str] = (),
) -> Group:
    """A group whose contestants are calls; `make` also gives the task whose result all of them must have."""

    def work() -> Work:
        task, calls = make()
        return Work(ready(calls), task, exact=exact, bounds=copies(task) if copies else {}, free=free)

    members = dict.fromkeys(who for target in targets for who in (target.name, *target.baselines))
    return Group(row, name, tuple(members), work, targets=tuple(targets), session=session, threads=threads)


def measured(
    row: str, name: str, measure: Callable[..., dict[str, list[float]]], targets: list[Target], unit: str = "s"
) -> Group:
    """A group that measures in its own way: `measure` takes the effort and returns figures by contestant."""
    members = dict.fromkeys(who for target in targets for who in (target.name, *target.baselines))
    return Group(row, name, tuple(members), measure=measure, targets=tuple(targets), unit=unit)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _rows(n: int, row: int) -> tuple[tuple[int, ...], int, str]:
    channels = max(1, min(64, n // row))
    return (n // (channels * row), channels, row), 1, "channel"


# How alpha lies along x's memory: name -> (shape of about n elements, channel axis, form of alpha).
ROW_FORMS: dict[str, Callable[[int], tuple[tuple[int, ...], int, str]]] = {
    "shared": lambda n: ((1, n), 1, "shared"),
    "rows of 49": lambda n: _rows(n, 49),
    "rows of 196": lambda n: _rows(n, 196),
    "rows of 12544": lambda n: _rows(n, 12544),
    "channels last 16": lambda n: ((n // 16, 16), 1, "channel"),
    "channels last 131": lambda n: ((n // 131, 131), 1, "channel"),
    "full alpha": lambda n: ((1, n // 64, 64), 1, "full"),
}


class Data:
    """Arrays of up to n elements.  They are made when they are first asked for, and all their pages are touched."""

    def __init__(self, n: int, dtype: str) -> None:
        self.n, self.dtype, self.flat = n, dtype, {}

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The first elements of x, dy, alpha, y or dalpha in this shape."""
        size = math.prod(shape)
        if self.flat.get(name, np.empty(0)).size < size:
            self.flat[name] = self._make(name, size if "alpha" in name else self.n)
        return self.flat[name][:size].reshape(shape)

    def _make(self, name: str, size: int) -> np.ndarray:
        array = np.empty(size, dtype_of(self.dtype))
        if name in ("y", "dalpha"):
            array.fill(1)
            return array
        rng = np.random.default_rng(list(name.encode()))
        n = min(size, BLOCK)
        block = rng.uniform(0.05, 0.6, n) if name == "alpha" else rng.standard_normal(n)
        for start in range(0, size, BLOCK):
            array[start : start + BLOCK] = block[: size - start]
        return array


_data = lru_cache(maxsize=1)(Data)


def task_for(op: Operation, form: str, n: int, dtype: str) -> tuple[Task, tuple[np.ndarray, ...]]:
    """An operation on about n elements with this form of alpha, and the arrays for its results."""
    data = _data(n, dtype)
    shape, axis, alpha = ROW_FORMS[form](n)
    workload = Workload(form, shape, axis, alpha, "made up")
    x, dy = (data.take(name, shape) for name in ("x", "dy"))
    out = data.take("y", shape), data.take("dalpha", workload.alpha_shape)
    task = task_of(op, workload, x, dy, data.take("alpha", workload.alpha_shape))
    return task, out[: len(op.writes)]


def statement(task: Task, out: Outputs = None, keep: bool = False, **more: object) -> Statement:
    """A call of fastact with these keywords as text, because functools.partial would add 0.1 us to it."""
    call = Fastact.call(task, out)
    keywords = call.keywords | more
    operands = {f"operand{i}": operand for i, operand in enumerate(call.args)}
    text = ", ".join([*operands, *(f"{name}={name}" for name in keywords)])
    return Statement(f"f({text})", {"f": call.func} | operands | keywords, keep)


def size_text(nbytes: float) -> str:
    """A size with its unit."""
    return f"{nbytes / MB:.3g} MB" if nbytes >= MB else f"{nbytes / KB:.3g} KB"


# ---- rows ------------------------------------------------------------------------------------------------------------


def against_copy(
    row: str, op: Operation, form: str, dtype: str, n: int, threads: int, most: float | None, label: str, fewer=False
) -> Group:
    """Both variants with out= against the bandwidth bound; with `fewer` also against the bound with one thread."""
    # A full alpha is one more input.  Its backward moves 5 arrays (dy, x, alpha, dx, dalpha), and add moves 3.
    full = form == "full alpha"
    scale = 5 / 3 if full and op.summed else 1.0

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, form, n, dtype)
        return task, {backend: statement(task, out, backend=backend, n_threads=threads) for backend in variants()}

    def copies(task: Task) -> dict[str, Call]:
        inputs = [getattr(task, name) for name in op.reads] + [task.alpha] * (full and not op.backward)
        return bounds(inputs, task_for(op, form, n, dtype)[1][0], {1, threads} if fewer else {threads})

    kind = op.name + f" {dtype}" * (dtype in HALVES)
    targets = [Target(name, (COPY,), most, f"{name} {kind}", scale) for name in variants()]
    name = f"{op.name} {f'{form} ' if op.alpha else ''}{dtype} {label} x{threads}"
    return figure(row, name, make, targets, threads, copies=copies)


def _operations_and_forms() -> Iterator[tuple[Operation, str]]:
    for op in map(OPERATIONS.__getitem__, MAIN):
        for form in ROW_FORMS if op.alpha else ("shared",):
            yield op, form


def memory(quick: bool = False) -> Iterator[Group]:
    """Working sets above the last-level cache."""
    for nbytes, dtype in product((8 * MB,) if quick else MEMORY_SIZES, DTYPES):
        for (op, form), threads in product(_operations_and_forms(), thread_counts()):
            n = nbytes // np.dtype(dtype).itemsize
            yield against_copy("memory", op, form, dtype, n, threads, 1.10, size_text(nbytes))


def cache(quick: bool = False) -> Iterator[Group]:
    """Working sets within the caches."""
    for nbytes, dtype in product(CACHE_SIZES[::4] if quick else CACHE_SIZES, DTYPES):
        for (op, form), threads in product(_operations_and_forms(), thread_counts()):
            arrays = len(op.reads) + 1 + (1 + op.summed) * (form == "full alpha")
            n = nbytes // arrays // np.dtype(dtype).itemsize
            if form != "rows of 12544" or n >= 2 * 12544:  # otherwise x would have fewer than two channels
                most = 1.5 if op.summed else 1.15
                yield against_copy("cache", op, form, dtype, n, threads, most, size_text(nbytes), fewer=True)


def new(quick: bool = False) -> Iterator[Group]:
    """New results against out=; for information, also where the last result lives on while the next one is made."""
    for nbytes, dtype in product(NEW_SIZES[:5:2] if quick else NEW_SIZES, DTYPES):
        for name, threads in product(("relu", "prelu", "prelu_backward"), thread_counts()):
            if nbytes <= fastact.get_buffer_limit():
                yield _new(OPERATIONS[name], dtype, nbytes, threads)


def _new(op: Operation, dtype: str, nbytes: int, threads: int) -> Group:
    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "rows of 196", nbytes // np.dtype(dtype).itemsize, dtype)
        calls = {}
        for backend in variants():
            for name, given, keep in (("new", None, False), ("kept", None, True), ("out", out, False)):
                calls[f"{backend} {name}"] = statement(task, given, keep, backend=backend, n_threads=threads)
        return task, calls

    targets = [
        Target(f"{backend} {form}", (f"{backend} out",), most, f"{backend} {form} {op.name}")
        for backend, (form, most) in product(variants(), (("new", 1.15), ("kept", None)))
    ]
    return figure("new", f"{op.name} {dtype} {size_text(nbytes)} x{threads}", make, targets, threads)


def against(
    row: str, operation: str, workload: Workload, dtype: str, form: str, threads: int, others: tuple[str, ...]
) -> Iterator[Group]:
    """Both variants against those of the others that can do the operation."""
    number = "all" if threads == fastact.get_num_threads() else "one"
    ours = [f"fastact_{backend}" for backend in variants()]
    present = [name for name in others if not CONTESTANTS[name].missing()]
    group = contest(operation, workload, dtype, form, number, [*ours, *present])
    half, targets = dtype in HALVES, []
    for name, peer in product(ours, group.members[len(ours) :]):
        mean = None
        if half and (operation, peer) in (*product(PRELU, ("numpy",)), ("prelu_backward", "torch")):
            mean = 1 / 20
        elif not half and (operation, peer) == ("prelu_backward", "torch"):
            mean = 1 / 8
        kind = f"{name} {operation} " + f"{dtype} " * half + f"/ {peer}"
        targets.append(Target(name, (peer,), 1.03, kind, mean=mean))
    if targets:
        yield replace(group, part=row, targets=tuple(targets))


def peers(quick: bool = False) -> Iterator[Group]:
    """The workloads against every peer: new results against new ones, out= against out=."""
    workloads = [w.small() for w in WORKLOADS[::4]] if quick else WORKLOADS
    for workload, dtype, name in product(workloads, DTYPES[: 1 if quick else 2], MAIN):
        for threads, form in product(thread_counts(), ("new", "out")):
            yield from against("peers", name, workload, dtype, form, threads, PEERS)


def halves(quick: bool = False) -> Iterator[Group]:
    """16-bit floats: from memory and in L2 against the bandwidth bound, and against torch and NumPy."""
    dtypes = HALVES if find_spec("ml_dtypes") else HALVES[:1]
    for nbytes, dtype in product((8 * MB,) if quick else MEMORY_SIZES, dtypes):
        for (op, form), threads in product(_operations_and_forms(), thread_counts()):
            most = 1.15 if threads == thread_counts()[-1] else None
            if (op.name, dtype, threads) == ("prelu", "bfloat16", 1):
                most = 1.3
            yield against_copy("halves", op, form, dtype, nbytes // 2, threads, most, size_text(nbytes))
    for nbytes, dtype in product(IN_L2[::2] if quick else IN_L2, dtypes):
        for op, form in _operations_and_forms():
            most = 1.15 * (INSTRUCTIONS[dtype] if op.alpha else 1)
            if form != "rows of 12544" or nbytes // 2 >= 2 * 12544:
                yield against_copy("halves", op, form, dtype, nbytes // 2, 1, most, f"{size_text(nbytes)} an array")
    large = Workload("large", (32, 64, 56, 56), 1, "channel", "made up")
    workloads = [w.small() for w in WORKLOADS[::4]] if quick else [*WORKLOADS, large]
    for workload, dtype, name, threads in product(workloads, dtypes, MAIN, thread_counts()):
        if name == "prelu_backward":
            yield from against("halves", name, workload, dtype, "new", threads, ("torch",))
        if threads == 1 and dtype == "float16" and workload is not large:
            yield from against("halves", name, workload, dtype, "out", threads, ("numpy",))


def masks(quick: bool = False) -> Iterator[Group]:
    """relu and leaky_relu forward and then backward: with a mask, against the same with x, and against copies."""
    sizes, dtypes = (8 * MB,) if quick else (256 * KB, *MEMORY_SIZES), ("float32", "float16")
    for nbytes, dtype, name, threads in product(sizes, dtypes, ("relu", "leaky_relu"), thread_counts()):
        yield _masked(name, dtype, nbytes, threads)


def _masked(name: str, dtype: str, nbytes: int, threads: int) -> Group:
    n = nbytes // dtype_of(dtype).itemsize
    # Each of the two passes copies an array and moves a bit for each element; "copies" are two copies of an array.
    scale = (4 * nbytes + 2 * n / 8) / (4 * nbytes)
    copies = [f"copies {stores}" for stores in ("ordinary", "streaming")]

    def make() -> tuple[Task, dict[str, Call]]:
        task, (dx,) = task_for(OPERATIONS[f"{name}_backward"], "shared", n, dtype)
        y, mask = np.ones_like(task.x), np.ones((n + 7) // 8, np.uint8)
        names = {"x": task.x, "dy": task.dy, "y": y, "mask": mask, "dx": dx}
        names |= {"forward": getattr(fastact, name), "backward": getattr(fastact, f"{name}_backward")}
        calls: dict[str, Call] = {}
        for backend in variants():
            more = f"backend={backend!r}, n_threads={threads}"
            first = f"forward(x, return_mask=True, out=(y, mask), {more})"
            calls[f"{backend} mask"] = Statement(f"({first}, backward(dy, mask=mask, out=dx, {more}))[1]", names)
            first = f"forward(x, out=y, {more})"
            calls[f"{backend} x"] = Statement(f"({first}, backward(dy, x, out=dx, {more}))[1]", names)
        pairs = [bounds([a], b, {threads}).values() for a, b in ((task.x, y), (task.dy, dx))]
        for label, first, second in zip(copies, *pairs, strict=True):
            calls[label] = partial(_both, first, second)
        return task, calls

    targets = []
    for b in variants():
        most = 1.1 if nbytes >= MEMORY_SIZES[0] else None
        targets.append(Target(f"{b} mask", tuple(copies), most, f"{b} {name} with a mask / copies", scale))
        targets.append(Target(f"{b} mask", (f"{b} x",), 1.0 if most else None, f"{b} {name} with a mask / with x"))
    label = f"{name} and backward {dtype} {size_text(nbytes)} x{threads}"
    return figure("masks", label, make, targets, threads, free=copies)


def _both(first: Call, second: Call) -> None:
    first()
    second()


def threads(quick: bool = False) -> Iterator[Group]:
    """One thread, all threads at every size, and the number that the package chooses; also the cost to start a team."""
    if fastact.get_num_threads() > 1:
        yield _threads(OPERATIONS["relu"], 128 * KB, start=True)  # two work items: the least that a team can share
        for nbytes, name in product(START_SIZES[::5] if quick else START_SIZES, MAIN):
            yield _threads(OPERATIONS[name], nbytes)


def _threads(op: Operation, nbytes: int, start: bool = False) -> Group:
    numbers = {"one": 1, "all": fastact.get_num_threads(), "automatic": None}

    def session(name: str) -> AbstractContextManager:
        every = thresholds(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0)
        return every if name.endswith(" all") else nullcontext()

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "shared", nbytes // 4, "float32")
        pairs = product(variants(), numbers.items())
        return task, {f"{b} {name}": statement(task, out, backend=b, n_threads=n) for b, (name, n) in pairs}

    targets = [Target(f"{b} automatic", (f"{b} one", f"{b} all"), 1.05, f"{b} threads {op.name}") for b in variants()]
    if start:  # the time of all threads against an equal part of one thread's time
        targets = [Target(f"{b} all", (f"{b} one",), None, "start of a team", 1 / numbers["all"]) for b in variants()]
    name = f"{op.name} {size_text(nbytes)}" + " start" * start
    return figure("teams", name, make, targets, numbers["all"], session)


def steps(quick: bool = False) -> Iterator[Group]:
    """Time per element from one size to the next, with a target where both sizes fit the same cache."""
    sizes, most = [1], 10**6 if quick else 10**8
    while sizes[-1] < most:
        sizes.append(min(most, max(sizes[-1] + 1, int(sizes[-1] * (4 if quick else 1.7)))))
    for name, form, (n, following) in product(MAIN, ("new", "out"), pairwise(sizes)):
        yield _step(OPERATIONS[name], form, n, following, most)


def _step(op: Operation, form: str, n: int, following: int, most: int) -> Group:
    def make() -> tuple[None, dict[str, Call]]:
        calls = {}
        data = _data(most, "float32")
        for size in (n, following):
            workload = Workload("steps", (size,), 0, "shared", "made up")
            task = task_of(op, workload, *(data.take(a, (size,)) for a in ("x", "dy")), data.take("alpha", (1,)))
            out = (data.take("y", (size,)), data.take("dalpha", (1,)))[: len(op.writes)] if form == "out" else None
            calls |= {f"{b} {size}": statement(task, out, backend=b, n_threads=None) for b in variants()}
        return None, calls

    regimes = [regime(size * 4 * (len(op.reads) + 1)) for size in (n, following)]
    limit = 1.3 if regimes[0] == regimes[1] else None
    targets = [
        Target(f"{b} {following}", (f"{b} {n}",), limit, f"{b} {op.name} {form}", following / n) for b in variants()
    ]
    where = " to ".join(dict.fromkeys(regimes))
    name = f"{op.name} {form} {n} to {following} ({where})"
    return figure("steps", name, make, targets, fastact.get_num_threads())


def regime(nbytes: int) -> str:
    """The least cache that a working set fits in; two cores have two L2s."""
    caches = _cpu.caches()
    limits = {"L1": caches["L1d"], "L2": caches["L2"], "L2s": caches["L2"] * _cpu.processors(), "L3": caches["L3"]}
    return next((name for name, limit in limits.items() if nbytes <= limit), "memory")


def streaming(quick: bool = False) -> Iterator[Group]:
    """Results stored with and without streaming, and as the package chooses."""
    for nbytes, name, n in product(START_SIZES[7 :: 3 if quick else 1], ("relu", "prelu_backward"), thread_counts()):
        yield _streaming(OPERATIONS[name], nbytes, n)


def _streaming(op: Operation, nbytes: int, n_threads: int) -> Group:
    # The number of threads is forced, too, so that both kinds of stores are compared with the same number.
    forced = {"ordinary": NEVER, "streaming": 1}

    def session(name: str) -> AbstractContextManager:
        if not (stream := forced.get(name.split()[-1])):
            return nullcontext()
        more = {"bytes_per_thread": 1, "bytes_per_summing_thread": 1, "bytes_to_wake": 0}
        return thresholds(stream_bytes=stream, stream_bytes_per_thread=0, **more)

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "rows of 196", nbytes // 4, "float32")
        names = product(variants(), (*forced, "automatic"))
        return task, {f"{b} {name}": statement(task, out, backend=b, n_threads=n_threads) for b, name in names}

    targets = []
    for b in variants():
        targets.append(Target(f"{b} streaming", (f"{b} ordinary",), None, "streaming / ordinary"))
        targets.append(Target(f"{b} automatic", (f"{b} ordinary", f"{b} streaming"), 1.10))
    return figure("streaming", f"{op.name} {size_text(nbytes)} x{n_threads}", make, targets, n_threads, session)


# ---- bare @njit functions --------------------------------------------------------------------------------------------

# By the number of elements: the shape for a call with one alpha for each channel; () for none.
SMALL_SHAPES: dict[int, tuple[int, ...]] = {
    1: (),
    16: (2, 2, 4),
    64: (2, 8, 4),
    256: (64, 4, 1),
    528: (1, 16, 33),
    1000: (10, 10, 10),
}
NUMPY_TEXTS = {  # operation: NumPy's text for a new result, with out=, and the target for fastact's time over NumPy's
    "relu": ("np.maximum(x, 0)", "np.maximum(x, 0, out=y)", 0.3),
    "prelu": ("np.where(x > 0, x, a * x)", "", 0.15),
}


def small(quick: bool = False) -> Iterator[Group]:
    """Calls on a few elements: the default backend against NumPy, the Numba variant against bare @njit functions."""
    for n, name in product([*SMALL_SHAPES][1 :: 3 if quick else 1], MAIN):
        for form in ("shared", "channel") if OPERATIONS[name].alpha else ("",):
            if shape := SMALL_SHAPES[n] if form == "channel" else (n,):
                yield _small(OPERATIONS[name], form, shape)


def _small(op: Operation, form: str, shape: tuple[int, ...]) -> Group:
    workload = Workload("small", shape, 1 if form == "channel" else 0, form or "shared", "made up")
    numpy_new, numpy_out, most = NUMPY_TEXTS.get(op.name, ("", "", None))
    operands = ", ".join((*op.reads, *["alpha"] * bool(op.alpha)))
    numba = "numba" in variants()

    def make() -> tuple[Task, dict[str, Call]]:
        task = make_task(op.name, workload, "float32")
        out = outputs(task)
        names = {"np": np, "f": getattr(fastact, op.name), "a": task.broadcast, "y": out[0]}
        names |= {"out": out if op.summed else out[0], **{name: getattr(task, name) for name in ("x", "dy", "alpha")}}
        texts = {"fastact": f"f({operands})", "fastact out": f"f({operands}, out=out)"}
        texts |= {"numpy": numpy_new} if numpy_new else {}
        texts |= {"numpy out": numpy_out} if numpy_out else {}
        if numba:
            from . import textbook

            names |= {"bare": textbook.plain(op, form, fresh=True), "loop": textbook.plain(op, form, fresh=False)}
            texts |= {"numba": f'f({operands}, backend="numba")', "njit": f"bare({operands})"}
            texts["numba out"] = f'f({operands}, out=out, backend="numba")'
            texts["njit out"] = f"loop({operands}, {', '.join(['y', 'out[1]'][: len(op.writes)])})"
        calls = {name: Statement(text, names) for name, text in texts.items()}
        if not numpy_new:
            calls["numpy"] = CONTESTANTS["numpy"].prepare(task, None)
        return task, calls

    pairs = [("fastact", "numpy", most), ("fastact out", "fastact", 1.0)]
    pairs.append(("fastact out", "numpy out" if numpy_out else "numpy", most))
    if numba:
        limit = None if op.summed else 1.3
        pairs += [("numba", "njit", limit), ("numba out", "njit out", limit)]
    targets = [Target(name, (other,), limit, f"{name} {op.name} / {other}") for name, other, limit in pairs]
    return figure("small", f"{op.name} {form + ' ' if form else ''}{'x'.join(map(str, shape))}", make, targets)
