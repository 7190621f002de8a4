"""The figures that the package must hold, as data: who is timed against whom, on what, and the target.

A race is a set of contestants that take turns on the same arrays, and the ratios that are read off it; a
row of the requirements is a function that yields races.  `figures` measures whole rows, the bench_ modules
a few races of one in each pytest run.  "Limit" is copy (one input) or add (two inputs) with the same number
of threads, the better of ordinary and streaming stores.  Arrays are made when a race is run.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import pairwise, product

import numpy as np

import fastact
from fastact import _cpu, _limit
from fastact._tables import OPERATIONS, Operation

from .cases import FORMS, HALVES, MAIN, PRELU
from .contestants import CONTESTANTS, Call, Fastact, Outputs
from .thresholds import NEVER, thresholds
from .timing import FULL, QUICK, Effort, Statement, Turns, take_turns
from .workloads import WORKLOADS, Task, Workload, dtype_of, make_task, task_of

KB, MB = 1 << 10, 1 << 20
# Machines report the cache of a whole socket (480 MB on the one at hand), of which a process has its share: from
# 64 MB for each array on the times are memory's here, and 256 MB is above the cache by any count.
MEMORY_SIZES = (64 * MB, 256 * MB)
CACHE_SIZES = tuple(int(MB * size) for size in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32))  # inputs and results
FRESH_SIZES = tuple(size * KB for size in (64, 128, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 768 << 10))
START_SIZES = tuple(4 * KB << shift for shift in range(15))
DTYPES = ("float32", "float64")
MASKED = ("float32", "float16")  # with a mask and without
IN_L2 = (32 * KB, 100 * KB, 400 * KB)  # of an array of 16-bit floats
# What the instructions of PReLU's loops allow in L2, times the bound: conversions, and a sum in double.  Of a trial.
INSTRUCTIONS = {"float16": 1.6, "bfloat16": 3.3}
PEERS = ("torch", "onednn", "jax", "onnxruntime", "numexpr")
BLOCK = 1 << 20  # random elements, repeated in longer arrays


@dataclass(frozen=True)
class Ratio:
    """One contestant's time over the best baseline's."""

    name: str
    baselines: tuple[str, ...]
    target: float | None = None  # None: for information
    kind: str = ""  # what it is summarised with
    scale: float = 1.0  # the baseline's time is multiplied by it: where its traffic is not the same
    mean_target: float | None = None  # of the geometric mean over the kind


@dataclass(frozen=True)
class Line:
    """One measured figure."""

    case: str
    kind: str
    name: str
    baseline: str
    value: float
    against: float
    unit: str  # "s" or "B"
    ratio: float
    target: float | None = None
    mean_target: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is above its target."""
        return self.target is not None and self.ratio > self.target


def against(case: str, name: str, value: float, figure: float, unit: str) -> Line:
    """A line of what stands against a fixed figure."""
    return Line(case, name, name, "required", value, figure, unit, value / figure, 1.0)


@dataclass(frozen=True)
class Race:
    """Contestants that take turns; `make` gives them and the task whose result they must all have."""

    name: str
    make: Callable[[], tuple[Task | None, dict[str, Call]]]
    ratios: tuple[Ratio, ...]
    session: Callable[[str], AbstractContextManager] = lambda name: nullcontext()
    threads: int = 1  # the most that are in play

    def run(self, effort: Effort = FULL) -> Turns:
        """Take turns."""
        return take_turns(self.make()[1], effort, self.session, self.threads > 1)

    def lines(self, turns: Turns) -> Iterator[Line]:
        """What came out."""
        for r in self.ratios:
            best, kind = turns.best(*r.baselines), r.kind or r.name
            seconds = turns.seconds(r.name), turns.seconds(best) * r.scale
            ratio = turns.ratio(r.name, *r.baselines) / r.scale
            yield Line(self.name, kind, r.name, best, *seconds, "s", ratio, r.target, r.mean_target)


def raced(row: Callable[[bool], Iterator[Race]], quick: bool = False) -> Iterator[Line]:
    """The lines of a row of races."""
    for race in row(quick):
        yield from race.lines(race.run(QUICK if quick else FULL))


# ---- arrays ----


def _rows(n: int, row: int) -> tuple[tuple[int, ...], int, str]:
    channels = max(1, min(64, n // row))
    return (n // (channels * row), channels, row), 1, "channel"


# How alpha runs along x's memory: name -> (shape of about n elements, channel axis, form of alpha).
ROW_FORMS: dict[str, Callable[[int], tuple[tuple[int, ...], int, str]]] = {
    "shared": lambda n: ((1, n), 1, "shared"),
    "rows of 49": lambda n: _rows(n, 49),
    "rows of 196": lambda n: _rows(n, 196),
    "rows of 12544": lambda n: _rows(n, 12544),
    "channels last 16": lambda n: ((n // 16, 16), 1, "channel"),
    "channels last 131": lambda n: ((n // 131, 131), 1, "channel"),
    "full alpha": lambda n: ((1, n // 64, 64), 1, "full"),
    "16 channels": lambda n: ((1, 16, n // 16), 1, "channel"),
}
REQUIRED_FORMS = tuple(ROW_FORMS)[:-1]


class Data:
    """Arrays of up to n elements, made when they are first asked for, their pages touched."""

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
    outputs = data.take("y", shape), data.take("dalpha", workload.alpha_shape)
    task = task_of(op, workload, x, dy, data.take("alpha", workload.alpha_shape))
    return task, outputs[: len(op.writes)]


# ---- contestants ----


def variants() -> tuple[str, ...]:
    """The compiled backends that are there."""
    return tuple(name for name in ("cython", "numba") if name in fastact.available_backends())


def thread_counts() -> tuple[int, ...]:
    """One and all."""
    return tuple(sorted({1, fastact.get_num_threads()}))


def ours(task: Task, backend: str, n_threads: int | None = None, out: Outputs = None, keep: bool = False) -> Statement:
    """A call of fastact that says itself what it wants, as text: functools.partial would add 0.1 us to it."""
    return statement(task, out, keep, backend=backend, n_threads=n_threads)


def statement(task: Task, out: Outputs = None, keep: bool = False, **more: object) -> Statement:
    """A call of fastact as its users write it, with these keywords."""
    call = Fastact.call(task, out)
    keywords = call.keywords | more
    operands = {f"operand{i}": operand for i, operand in enumerate(call.args)}
    text = ", ".join([*operands, *(f"{name}={name}" for name in keywords)])
    return Statement(f"f({text})", {"f": call.func} | operands | keywords, keep)


def limits(inputs: list[np.ndarray], out: np.ndarray, n_threads: tuple[int, ...]) -> dict[str, Call]:
    """The limit's contestants; whoever calls them keeps the arrays."""
    flat = [as_words(array.reshape(-1)) for array in (out, *inputs)]
    return {
        f"{stores} x{n}": _limit.Traffic(*flat, stream=stores == "streaming", n_threads=n).run
        for n in n_threads
        for stores in ("ordinary", "streaming")
    }


def as_words(flat: np.ndarray) -> np.ndarray:
    """16-bit floats as float32 of the same bytes (an odd one aside); others as they are."""
    return flat[: flat.size & ~1].view(np.float32) if flat.dtype.itemsize == 2 else flat


def size_text(nbytes: float) -> str:
    """A size with its unit."""
    return f"{nbytes / MB:.3g} MB" if nbytes >= MB else f"{nbytes / KB:.3g} KB"


# ---- rows ----


def against_limit(
    op: Operation, form: str, dtype: str, n: int, threads: int, target: float, label: str, fewer: bool = False
) -> Race:
    """Both variants with out= against the limit; with `fewer` also against the limit with one thread."""
    limit_threads = tuple({1, threads}) if fewer else (threads,)
    # A full alpha is one more input; its backward moves 5 arrays (dy, x, alpha, dx, dalpha) where add moves 3.
    full = form == "full alpha"
    scale = 5 / 3 if full and op.summed else 1.0

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, form, n, dtype)
        inputs = [getattr(task, name) for name in op.reads] + [task.alpha] * (full and not op.backward)
        calls = {backend: ours(task, backend, threads, out) for backend in variants()}
        return task, calls | limits(inputs, out[0], limit_threads)

    baselines = tuple(f"{stores} x{t}" for t in limit_threads for stores in ("ordinary", "streaming"))
    kind = op.name + f" {dtype}" * (dtype in HALVES)
    ratios = tuple(Ratio(name, baselines, target, f"{name} {kind}", scale) for name in variants())
    name = f"{op.name} {f'{form} ' if op.alpha else ''}{dtype} {label} x{threads}"
    return Race(name, make, ratios, threads=threads)


def _operations_and_forms() -> Iterator[tuple[Operation, str]]:
    for op in map(OPERATIONS.__getitem__, MAIN):
        for form in REQUIRED_FORMS if op.alpha else ("shared",):
            yield op, form


def memory(quick: bool = False) -> Iterator[Race]:
    """Working sets above the last-level cache."""
    for nbytes in (8 * MB,) if quick else MEMORY_SIZES:
        for dtype in DTYPES:
            for op, form in _operations_and_forms():
                for threads in thread_counts():
                    n = nbytes // np.dtype(dtype).itemsize
                    yield against_limit(op, form, dtype, n, threads, 1.10, size_text(nbytes))


def cache(quick: bool = False) -> Iterator[Race]:
    """Working sets within the caches."""
    for nbytes in CACHE_SIZES[::4] if quick else CACHE_SIZES:
        for dtype in DTYPES:
            for op, form in _operations_and_forms():
                arrays = len(op.reads) + 1 + (1 + op.summed) * (form == "full alpha")
                n = nbytes // arrays // np.dtype(dtype).itemsize
                if form == "rows of 12544" and n < 2 * 12544:
                    continue  # less than two channels
                for threads in thread_counts():
                    target = 1.5 if op.summed else 1.15
                    yield against_limit(op, form, dtype, n, threads, target, size_text(nbytes), fewer=True)


def fresh(
    quick: bool = False, sizes: tuple[int, ...] = FRESH_SIZES, dtypes: tuple[str, ...] = DTYPES
) -> Iterator[Race]:
    """Fresh results against out=; for information also with the last result kept while the next one is made."""
    for nbytes in sizes[:5:2] if quick else sizes:
        if nbytes > fastact.get_buffer_limit():
            continue
        for dtype in dtypes:
            for name in ("relu", "prelu", "prelu_backward"):
                for threads in thread_counts():
                    yield _fresh(OPERATIONS[name], dtype, nbytes, threads)


def _fresh(op: Operation, dtype: str, nbytes: int, threads: int) -> Race:
    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "rows of 196", nbytes // np.dtype(dtype).itemsize, dtype)
        calls = {}
        for backend in variants():
            calls[f"{backend} fresh"] = ours(task, backend, threads)
            calls[f"{backend} kept"] = ours(task, backend, threads, keep=True)
            calls[f"{backend} out"] = ours(task, backend, threads, out)
        return task, calls

    ratios = []
    for backend in variants():
        for form, target in (("fresh", 1.15), ("kept", None)):
            ratios.append(Ratio(f"{backend} {form}", (f"{backend} out",), target, f"{backend} {form} {op.name}"))
    return Race(f"{op.name} {dtype} {size_text(nbytes)} x{threads}", make, tuple(ratios), threads=threads)


def peers(quick: bool = False) -> Iterator[Race]:
    """The design's workloads against every peer, fresh against fresh and out= against out=."""
    for workload in [w.small() for w in WORKLOADS[::4]] if quick else WORKLOADS:
        for dtype in DTYPES[:1] if quick else DTYPES:
            for name in MAIN:
                op = OPERATIONS[name]
                for threads in thread_counts():
                    for form in FORMS:
                        task = partial(make_task, name, workload, dtype)
                        race = contest(op, workload, dtype, form, threads, PEERS, task, f"{name} {workload.name}")
                        if race.ratios:
                            yield race


def contest(
    op: Operation,
    workload: Workload,
    dtype: str,
    form: str,
    threads: int,
    others: tuple[str, ...],
    make_task: Callable[[], Task],
    label: str,
) -> Race:
    """Both variants against the others, as far as these can do it."""
    number = "all" if threads == fastact.get_num_threads() else "one"
    names = [f"fastact_{backend}" for backend in variants()]
    for name in others:
        contestant = CONTESTANTS[name]
        if not contestant.missing() and contestant.can(op, workload, dtype, form, number):
            names.append(name)

    def session(name: str) -> AbstractContextManager:
        return CONTESTANTS[name].session(threads, dtype) if name in CONTESTANTS else nullcontext()

    def make() -> tuple[Task, dict[str, Call]]:
        task, out, calls = make_task(), None, {}
        if form == "out":
            out = tuple(np.ones_like(a) for a in (task.x, task.alpha)[: len(op.writes)])
        for name in names:
            with session(name):
                calls[name] = CONTESTANTS[name].prepare(task, out)
        return task, calls

    ratios = []
    for backend in variants():
        for peer in names[len(variants()) :]:
            kind = f"{backend} {op.name} " + f"{dtype} " * (dtype in HALVES) + f"/ {peer}"
            mean = _mean_target(op.name, peer, dtype in HALVES)
            ratios.append(Ratio(f"fastact_{backend}", (peer,), 1.03, kind, mean_target=mean))
    return Race(f"{label} {dtype} {form} x{threads}", make, tuple(ratios), session, threads)


def _mean_target(operation: str, peer: str, half: bool) -> float | None:
    """What the geometric mean over all workloads must not exceed, against a peer."""
    if half:
        return 1 / 20 if (operation, peer) in (*product(PRELU, ("numpy",)), ("prelu_backward", "torch")) else None
    return 1 / 8 if (operation, peer) == ("prelu_backward", "torch") else None


def halves(quick: bool = False) -> Iterator[Race]:
    """16-bit floats: from memory and in L2 against the bound of the same bytes, and against torch and NumPy."""
    dtypes = HALVES if find_spec("ml_dtypes") else HALVES[:1]
    for nbytes, dtype in product((8 * MB,) if quick else MEMORY_SIZES, dtypes):
        for (op, form), threads in product(_operations_and_forms(), thread_counts()):
            target = 1.15 if threads == thread_counts()[-1] else None
            if (op.name, dtype, threads) == ("prelu", "bfloat16", 1):
                target = 1.3
            yield against_limit(op, form, dtype, nbytes // 2, threads, target, size_text(nbytes))
    for nbytes, dtype in product(IN_L2[::2] if quick else IN_L2, dtypes):
        for op, form in _operations_and_forms():
            target = 1.15 * (INSTRUCTIONS[dtype] if op.alpha else 1)
            if form != "rows of 12544" or nbytes // 2 >= 2 * 12544:
                yield against_limit(op, form, dtype, nbytes // 2, 1, target, f"{size_text(nbytes)} an array")
    large = Workload("large", (32, 64, 56, 56), 1, "channel", "made up")
    workloads = [w.small() for w in WORKLOADS[::4]] if quick else [*WORKLOADS, large]
    for workload, dtype in product(workloads, dtypes):
        for name in MAIN:
            task = partial(make_task, name, workload, dtype)
            for threads in thread_counts():
                with_torch = ("torch",) * (name == "prelu_backward")
                with_numpy = ("numpy",) * (threads == 1 and dtype == "float16" and workload is not large)
                for form, others in (("fresh", with_torch), ("out", with_numpy)):
                    label = f"{name} {workload.name}"
                    race = contest(OPERATIONS[name], workload, dtype, form, threads, others, task, label)
                    if race.ratios:
                        yield race


def masks(
    quick: bool = False, sizes: tuple[int, ...] = MEMORY_SIZES, dtypes: tuple[str, ...] = MASKED, bound: bool = True
) -> Iterator[Race]:
    """relu and leaky_relu forward and backward: a mask between them against x, and against copies of as many bytes."""
    for nbytes, dtype in product((8 * MB,) if quick else sizes, dtypes):
        for name, threads in product(("relu", "leaky_relu"), thread_counts()):
            yield _masked(name, dtype, nbytes, threads, bound)


def _masked(name: str, dtype: str, nbytes: int, threads: int, bound: bool) -> Race:
    n = nbytes // dtype_of(dtype).itemsize
    # Each pass copies an array and moves a bit for each element; `bounds` are two copies.
    scale = (4 * nbytes + 2 * n / 8) / (4 * nbytes)
    bounds = tuple(f"{stores} x{threads}" for stores in ("ordinary", "streaming")) if bound else ()

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
        forward, backward = limits([task.x], y, (threads,)), limits([task.dy], dx, (threads,))
        return task, calls | {name: partial(_both, forward[name], backward[name]) for name in bounds}

    ratios = []
    for backend in variants():
        if bound:
            ratios.append(Ratio(f"{backend} mask", bounds, 1.1, f"{backend} {name} with a mask / copies", scale))
        ratios.append(Ratio(f"{backend} mask", (f"{backend} x",), 1.0, f"{backend} {name} with a mask / with x"))
    return Race(f"{name} and backward {dtype} {size_text(nbytes)} x{threads}", make, tuple(ratios), threads=threads)


def _both(first: Call, second: Call) -> None:
    first()
    second()


# Shapes for an alpha of one each channel, of as many elements as the calls on one dimension.
SMALL_SHAPES: dict[int, tuple[int, ...]] = {
    1: (),
    16: (2, 2, 4),
    64: (2, 8, 4),
    256: (64, 4, 1),
    528: (1, 16, 33),
    1000: (10, 10, 10),
}
NUMPY_TEXTS = {  # operation: fresh, out=; and the targets over them
    "relu": ("np.maximum(x, 0)", "np.maximum(x, 0, out=y)", 0.3),
    "prelu": ("np.where(x > 0, x, a * x)", "", 0.15),
}


def small(quick: bool = False, sizes: tuple[int, ...] = tuple(SMALL_SHAPES)) -> Iterator[Race]:
    """Calls on a few elements: the default backend against NumPy, the Numba variant against bare @njit functions."""
    for n in sizes[1::3] if quick else sizes:
        for op in map(OPERATIONS.__getitem__, MAIN):
            for form in ("shared", "channel") if op.alpha else ("",):
                shape = SMALL_SHAPES[n] if form == "channel" else (n,)
                if shape:
                    yield _small(op, form, shape)


def _small(op: Operation, form: str, shape: tuple[int, ...]) -> Race:
    workload = Workload("small", shape, 1 if form == "channel" else 0, form or "shared", "made up")
    numpy_fresh, numpy_out, target = NUMPY_TEXTS.get(op.name, ("", "", None))
    operands = ", ".join((*op.reads, *["alpha"] * bool(op.alpha)))
    numba = "numba" in variants()

    def make() -> tuple[Task, dict[str, Call]]:
        task = make_task(op.name, workload, "float32")
        out = tuple(np.ones_like(a) for a in (task.x, task.alpha)[: len(op.writes)])
        names = {"np": np, "f": getattr(fastact, op.name), "a": task.broadcast, "y": out[0]}
        names |= {"out": out if op.summed else out[0], **{name: getattr(task, name) for name in ("x", "dy", "alpha")}}
        texts = {"fastact": f"f({operands})", "fastact out": f"f({operands}, out=out)"}
        if numpy_fresh:
            texts["numpy"] = numpy_fresh
        if numpy_out:
            texts["numpy out"] = numpy_out
        if numba:
            from . import bare

            names |= {"bare": bare.FRESH[op.name, form], "loop": bare.LOOPS[op.name, form]}
            texts |= {"numba": f'f({operands}, backend="numba")', "njit": f"bare({operands})"}
            texts["numba out"] = f'f({operands}, out=out, backend="numba")'
            texts["njit out"] = f"loop({operands}, {', '.join(['y', 'out[1]'][: len(op.writes)])})"
        calls = {name: Statement(text, names) for name, text in texts.items()}
        if not numpy_fresh:
            calls["numpy"] = CONTESTANTS["numpy"].prepare(task, None)
        return task, calls

    def ratio(name: str, baseline: str, limit: float | None) -> Ratio:
        return Ratio(name, (baseline,), limit, f"{name} {op.name} / {baseline}")

    ratios = [ratio("fastact", "numpy", target), ratio("fastact out", "fastact", 1.0)]
    ratios.append(ratio("fastact out", "numpy out" if numpy_out else "numpy", target))
    if numba:
        limit = None if op.summed else 1.3
        ratios += [ratio("numba", "njit", limit), ratio("numba out", "njit out", limit)]
    return Race(f"{op.name} {form + ' ' if form else ''}{'x'.join(map(str, shape))}", make, tuple(ratios))


def threads(quick: bool = False, sizes: tuple[int, ...] = START_SIZES) -> Iterator[Race]:
    """One thread, all of them whatever the size, and as many as the package chooses; and what starting a team costs."""
    if fastact.get_num_threads() == 1:
        return
    yield _threads(OPERATIONS["relu"], 128 * KB, start=True)  # two chunks: the least that a team can share
    for nbytes in sizes[::5] if quick else sizes:
        for name in MAIN:
            yield _threads(OPERATIONS[name], nbytes)


def _threads(op: Operation, nbytes: int, start: bool = False) -> Race:
    numbers = {"one": 1, "all": fastact.get_num_threads(), "automatic": None}

    def session(name: str) -> AbstractContextManager:
        return (
            thresholds(bytes_per_thread=1, bytes_per_summing_thread=1, bytes_to_wake=0)
            if name.endswith(" all")
            else nullcontext()
        )

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "shared", nbytes // 4, "float32")
        return task, {f"{b} {name}": ours(task, b, n, out) for b in variants() for name, n in numbers.items()}

    ratios = [Ratio(f"{b} automatic", (f"{b} one", f"{b} all"), 1.05, f"{b} threads {op.name}") for b in variants()]
    if start:  # what all threads take beyond their share of one thread's time
        ratios = [Ratio(f"{b} all", (f"{b} one",), None, "start of a team", 1 / numbers["all"]) for b in variants()]
    return Race(f"{op.name} {size_text(nbytes)}", make, tuple(ratios), session, numbers["all"])


def steps(quick: bool = False) -> Iterator[Race]:
    """Time per element from one size to the next, judged where both are in the same cache."""
    sizes, most = [1], 10**6 if quick else 10**8
    while sizes[-1] < most:
        sizes.append(min(most, max(sizes[-1] + 1, int(sizes[-1] * (4 if quick else 1.7)))))
    for op in map(OPERATIONS.__getitem__, MAIN):
        for form in FORMS:
            for n, following in pairwise(sizes):
                yield _step(op, form, n, following, most)


def _step(op: Operation, form: str, n: int, following: int, most: int) -> Race:
    def make() -> tuple[None, dict[str, Call]]:
        calls = {}
        data = _data(most, "float32")
        for size in (n, following):
            workload = Workload("steps", (size,), 0, "shared", "made up")
            task = task_of(op, workload, *(data.take(a, (size,)) for a in ("x", "dy")), data.take("alpha", (1,)))
            out = (data.take("y", (size,)), data.take("dalpha", (1,)))[: len(op.writes)] if form == "out" else None
            calls |= {f"{backend} {size}": ours(task, backend, None, out) for backend in variants()}
        return None, calls

    regimes = [regime(size * 4 * (len(op.reads) + 1)) for size in (n, following)]
    target = 1.3 if regimes[0] == regimes[1] else None
    ratios = tuple(
        Ratio(f"{b} {following}", (f"{b} {n}",), target, f"{b} {op.name} {form}", following / n) for b in variants()
    )
    where = " to ".join(dict.fromkeys(regimes))
    return Race(f"{op.name} {form} {n} to {following} ({where})", make, ratios, threads=fastact.get_num_threads())


def regime(nbytes: int) -> str:
    """The least cache that a working set fits in; two cores have two L2s."""
    caches = _cpu.caches()
    bounds = {"L1": caches["L1d"], "L2": caches["L2"], "L2s": caches["L2"] * _cpu.processors(), "L3": caches["L3"]}
    return next((name for name, bound in bounds.items() if nbytes <= bound), "memory")


def streaming(
    quick: bool = False, sizes: tuple[int, ...] = START_SIZES[7:], names: tuple[str, ...] = ("relu", "prelu_backward")
) -> Iterator[Race]:
    """Results stored with and without streaming, and as the package chooses."""
    for nbytes in sizes:
        for name in names:
            for n_threads in thread_counts():
                yield _streaming(OPERATIONS[name], nbytes, n_threads)


def _streaming(op: Operation, nbytes: int, n_threads: int) -> Race:
    # Forced with just so many threads: where the package would take one, it never looks at streaming.
    forced = {"ordinary": NEVER, "streaming": 1}

    def session(name: str) -> AbstractContextManager:
        stream_bytes = forced.get(name.split()[-1])
        if not stream_bytes:
            return nullcontext()
        return thresholds(
            stream_bytes=stream_bytes,
            stream_bytes_per_thread=0,
            bytes_per_thread=1,
            bytes_per_summing_thread=1,
            bytes_to_wake=0,
        )

    def make() -> tuple[Task, dict[str, Call]]:
        task, out = task_for(op, "rows of 196", nbytes // 4, "float32")
        names = (*forced, "automatic")
        return task, {f"{b} {name}": ours(task, b, n_threads, out) for b in variants() for name in names}

    ratios = []
    for b in variants():
        ratios.append(Ratio(f"{b} streaming", (f"{b} ordinary",), None))
        ratios.append(Ratio(f"{b} automatic", (f"{b} ordinary", f"{b} streaming"), 1.10))
    return Race(f"{op.name} {size_text(nbytes)} x{n_threads}", make, tuple(ratios), session, n_threads)


ROWS: dict[str, Callable[..., Iterator[Race]]] = {
    row.__name__: row for row in (memory, cache, fresh, peers, small, threads, steps, streaming, halves, masks)
}
