"""Calls on other than plain arrays: the row `off_plain` of the figures.

They are layouts, mixed dtypes and integers, large and small, against the same call on plain arrays, NumPy's expression
and torch's operator; frames out of a ring buffer, by one thread and by four; and calls inside a `with` of the settings.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

import fastact
from fastact._tables import OPERATIONS, Operation

from .comparison import MAIN
from .contestants import CONTESTANTS, Call
from .figures import KB, MB, figure, measured, size_text, statement, thread_counts, variants
from .groups import Group, Target
from .layouts import CASES, PLAIN, Layout, described, lay
from .timing import Effort, Statement, take_turns
from .workloads import Task, Workload, make_task, plain, task_of

# The most that a call may take, as a multiple of NumPy's expression (OF_NUMPY...), of torch's operator or of a copy.
NEVER_SLOWER = 1.05  # of NumPy's expression or torch's operator
SHAPES = ((2, 48, 28, 28), (6, 48, 56, 56), (166, 48, 56, 56))  # x of 0.3, 3.6 and 100 MB in float32
FEW = ((2, 2, 4, 4), (2, 5, 10, 10))
OF_NUMPY = {"relu": 0.6, "relu_backward": 0.6, "prelu": 0.4, "prelu_backward": 0.4}  # up to 1,000 elements
OF_NUMPY_ANY = 1.5  # operands that are no ndarrays, or 0-d
OF_NUMPY_INTEGERS = 0.5  # operations on integers that compute in float64
OF_NUMPY_FRAMES = 0.4
OF_COPY = 1.1
INTEGERS = ("bool", *(f"{kind}{bits}" for bits in (8, 16, 32, 64) for kind in ("int", "uint")))
INTEGER_SIZES = (64 * KB, MB, 8 * MB, 64 * MB)
BEYOND = 0.5e-6  # seconds that a call inside a new `with` may take in addition to the empty `with` and the call
ROW = "off_plain"


def off_plain(quick: bool = False) -> Iterator[Group]:
    """All groups of this module."""
    for part in (large, integers, small, frames, crowded, inside_with):
        yield from part(quick)


# ---- large -----------------------------------------------------------------------------------------------------------


def large(quick: bool = False) -> Iterator[Group]:
    """Each layout against plain arrays, NumPy and torch; float64 and integers on the smallest shape only."""
    for shape in SHAPES[: 1 if quick else None]:
        for dtype, layout in product(("float32", "float64", "int32")[: 3 if shape == SHAPES[0] else 1], CASES):
            for op, threads in product(map(OPERATIONS.__getitem__, MAIN), thread_counts()[-1 if quick else 0 :]):
                if layout.concerns(op) and (op.integers or dtype != "int32") and layout.dy_dtype != dtype:
                    yield _large(op, _workload(layout, shape), dtype, threads)


def _workload(layout: Layout, shape: tuple[int, ...]) -> Workload:
    if layout.matrix:
        shape = (int(np.prod(shape)) // 64, 64)
    return Workload(layout.name, shape, 1, "channel", "made up", layout=layout)


def _outputs(task: Task, layout: str) -> tuple[np.ndarray, ...] | None:
    """Arrays for the results, the elementwise one in this layout; None if there is no layout."""
    if not layout:
        return None
    first = np.ones(task.x.shape, task.x.dtype)
    return lay(first, **described(first, layout)), *[np.ones_like(task.alpha)] * task.op.summed


def _large(op: Operation, workload: Workload, dtype: str, threads: int) -> Group:
    layout, form = workload.layout, "out" if workload.layout.out else "new"
    case = op, workload, dtype, form, "all" if threads == fastact.get_num_threads() else "one"
    others = [n for n in ("numpy", "torch") if not CONTESTANTS[n].missing() and CONTESTANTS[n].can(*case)]

    def session(name: str) -> AbstractContextManager:
        return CONTESTANTS[name].session(threads, dtype) if name in others else nullcontext()

    def make() -> tuple[None, dict[str, Call]]:
        task = make_task(op.name, workload, dtype)
        same, calls = plain(task), {}
        outs = _outputs(task, layout.out), _outputs(task, layout.out and "c")
        for backend in variants():
            calls[backend] = statement(task, outs[0], backend=backend, n_threads=threads)
            calls[f"{backend} plain"] = statement(same, outs[1], backend=backend, n_threads=threads)
        for name in others:
            with session(name):
                calls[name] = CONTESTANTS[name].prepare(task, outs[0])
        return None, calls

    targets = []
    for backend in variants():
        targets.append(Target(backend, (f"{backend} plain",), layout.target, f"{backend} {layout.name} / plain"))
        targets += [Target(backend, (name,), NEVER_SLOWER, f"{backend} / {name}") for name in others]
    size = size_text(np.prod(workload.shape) * np.dtype(dtype).itemsize)
    return figure(ROW, f"{op.name} {layout.name} {dtype} {size} x{threads}", make, targets, threads, session)


# ---- integers --------------------------------------------------------------------------------------------------------


def integers(quick: bool = False) -> Iterator[Group]:
    """relu against a copy of the same bytes; the operations that compute in float64 against NumPy's expression."""
    for nbytes, dtype, threads in product(INTEGER_SIZES[: 1 if quick else None], INTEGERS, thread_counts()):
        yield _copied(dtype, nbytes, threads)
    for name, dtype, threads in product(MAIN, INTEGERS[1 :: 4 if quick else 1], thread_counts()):
        if not OPERATIONS[name].integers:
            yield _in_float64(OPERATIONS[name], dtype, threads)


def _integers(dtype: str, n: int, seed: int = 0) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    values = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, n * size, "uint8")
    return values.view(dtype)


def _copied(dtype: str, nbytes: int, threads: int) -> Group:
    def make() -> tuple[None, dict[str, Call]]:
        x = _integers(dtype, nbytes // np.dtype(dtype).itemsize)
        task, y = task_of(OPERATIONS["relu"], _workload(PLAIN, x.shape), x, x, x), np.ones_like(x)
        ours = {b: statement(task, (y,), backend=b, n_threads=threads) for b in variants()}
        return None, ours | {"copy": partial(np.copyto, y, x)}

    targets = [Target(b, ("copy",), OF_COPY, f"{b} relu of integers / copy") for b in variants()]
    return figure(ROW, f"relu {dtype} {size_text(nbytes)} x{threads}", make, targets, threads)


def _in_float64(op: Operation, dtype: str, threads: int) -> Group:
    workload = _workload(PLAIN, SHAPES[0])

    def make() -> tuple[None, dict[str, Call]]:
        x, dy = (_integers(dtype, int(np.prod(workload.shape)), seed).reshape(workload.shape) for seed in (0, 1))
        task = task_of(op, workload, x, dy.astype("float64"), np.linspace(0.05, 0.6, 48))
        calls = {backend: statement(task, backend=backend, n_threads=threads) for backend in variants()}
        return None, calls | {"numpy": CONTESTANTS["numpy"].prepare(task, None)}

    targets = [Target(b, ("numpy",), OF_NUMPY_INTEGERS, f"{b} integers / numpy") for b in variants()]
    return figure(ROW, f"{op.name} {dtype} in float64 x{threads}", make, targets, threads)


# ---- small -----------------------------------------------------------------------------------------------------------

# A task's slopes in other forms; NumPy gets them in a shape that broadcasts against x.
ALPHAS: dict[str, Callable[[np.ndarray], object]] = {
    "slopes (C, 1, 1)": lambda slopes: slopes.reshape(-1, 1, 1),
    "float64 slopes": lambda slopes: slopes.astype("float64"),
    "every second slope": lambda slopes: np.repeat(slopes, 2)[::2],
    "slopes (1,)": lambda slopes: slopes[:1],
    "0-d slope": lambda slopes: slopes[0].reshape(()),
    "slopes (2, C, 1, 1)": lambda slopes: np.tile(slopes, (2, 1))[..., None, None],
    "slope 0": lambda slopes: 0,
    "slope 0.25": lambda slopes: 0.25,
    "slopes [0.25]": lambda slopes: [0.25],
}
# Those whose gradient NumPy's expression can give.
ARRAY_FORMS = [name for name, form in ALPHAS.items() if isinstance(form(np.ones(2)), np.ndarray)]
# Operands that are no ndarrays, or have no dimension; x stands for dy as well.
ANY = {
    "list": [1.0, -2.0, 3.0, -4.0],
    "nested list": [[1.0, -2.0], [3.0, -4.0]],
    "float": -1.5,
    "int": -3,
    "NumPy scalar": np.float32(-1.5),
    "0-d": np.array(-1.5, "float32"),
}
ANY_TEXTS = {
    "relu": ("f(x)", "np.maximum(x, 0)"),
    "relu_backward": ("f(x, x)", "np.multiply(x, np.greater(x, 0))"),
    "prelu": ("f(x, a)", "np.where(np.greater(x, 0), x, np.multiply(a, x))"),
    "prelu_backward": (
        "f(x, x, a)",
        "np.where(np.greater(x, 0), x, np.multiply(a, x)), np.sum(np.where(np.greater(x, 0), 0, np.multiply(x, x)))",
    ),
}


def small(quick: bool = False) -> Iterator[Group]:
    """Calls on a few elements, against NumPy's expression: every layout, form of alpha and kind of array."""
    for op, shape in product(map(OPERATIONS.__getitem__, MAIN), FEW[: 1 if quick else None]):
        where = "x".join(map(str, shape))
        for layout in (PLAIN, *CASES):
            if layout.concerns(op) or layout is PLAIN:
                make = partial(make_task, op.name, _workload(layout, shape), "float32")
                yield _small(f"{op.name} {layout.name} {where}", op, make, layout.out)
        made = partial(make_task, op.name, _workload(PLAIN, shape))
        for form in ALPHAS if op.alpha else ():
            if not op.summed or form in ARRAY_FORMS:
                yield _small(f"{op.name} {form} {where}", op, partial(_other, made, "float32", form))
        yield _small(f"{op.name} int32 {where}", op, partial(_other, made, "int32", "float64 slopes"))
    for op, (kind, x) in product(OF_NUMPY, ANY.items()):
        names = {"np": np, "f": getattr(fastact, op), "x": x, "a": 0.25}
        texts = [Statement(text, names) for text in ANY_TEXTS[op]]
        yield _against_numpy(f"{op} of a {kind}", op, lambda texts=texts: texts, OF_NUMPY_ANY, "any")


def _other(make: Callable[[str], Task], dtype: str, form: str) -> Task:
    """A task with slopes in another form."""
    task = make(dtype)
    alpha = ALPHAS[form](np.linspace(0.05, 0.6, task.x.shape[1], dtype="float32"))
    broadcast = np.asarray(alpha)
    return replace(task, alpha=alpha, broadcast=broadcast.reshape(-1, 1, 1) if broadcast.ndim == 1 else broadcast)


def _small(name: str, op: Operation, make: Callable[[], Task], out: str = "") -> Group:
    def calls() -> tuple[Call, Call]:
        task = make()
        outs = _outputs(task, out)
        return statement(task, outs), CONTESTANTS["numpy"].prepare(task, outs)

    return _against_numpy(name, op.name, calls, OF_NUMPY[op.name], "small")


def _against_numpy(name: str, op: str, calls: Callable[[], tuple[Call, Call]], most: float, kind: str) -> Group:
    ours = ("fastact", "numba")[: 2 if "numba" in variants() else 1]

    def make() -> tuple[None, dict[str, Call]]:
        mine, numpys = calls()
        numba = Statement(f'{mine.text[:-1]}, backend="numba")', mine.names)
        return None, {"fastact": mine, "numpy": numpys, "numba": numba}

    targets = [Target(who, ("numpy",), most, f"{who} {kind} {op} / numpy") for who in ours]
    return figure(ROW, name, make, targets)


# ---- frames out of a ring buffer -------------------------------------------------------------------------------------

FRAME = "ring[..., o:o + 33]"
FRAMES = {  # operation -> ours, and NumPy's ways to write it
    "relu": (f"f({FRAME}, out=y, backend=backend)", (f"np.maximum({FRAME}, 0, out=y)",)),
    "prelu": (
        f"f({FRAME}, a, out=y, backend=backend)",
        (f"np.where((v := {FRAME}) > 0, v, a * v)", f"np.copyto(np.multiply(a, v := {FRAME}, out=y), v, where=v > 0)"),
    ),
}


def _frames(op: str) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Each contestant's name, its text for the frame at `o`, and arrays of its own."""
    mine, numpys = FRAMES[op]
    texts = {backend: mine for backend in variants()} | {f"numpy {k}": text for k, text in enumerate(numpys)}
    for name, text in texts.items():
        ring = np.random.default_rng(0).standard_normal((1, 16, 1, 4096), "float32")
        names = {"np": np, "f": getattr(fastact, op), "ring": ring, "a": np.full(1, 0.25, "float32"), "backend": name}
        yield name, text, names | {"y": np.ones((1, 16, 1, 33), "float32"), "offsets": range(0, 4063, 65)}


def frames(quick: bool = False) -> Iterator[Group]:
    """One thread takes 63 frames of 528 elements, one after the other."""
    for op in FRAMES:
        made = {name: Statement(f"[{text} for o in offsets]", names) for name, text, names in _frames(op)}
        numpys = tuple(name for name in made if name.startswith("numpy"))
        targets = [Target(b, numpys, OF_NUMPY_FRAMES, f"{b} {op} frames / numpy") for b in variants()]
        yield figure(ROW, f"{op} 63 frames of a ring buffer", lambda made=made: (None, made), targets)


def crowded(quick: bool = False, n_threads: int = 4) -> Iterator[Group]:
    """Several Python threads, each with a ring buffer of its own: the time per call of all, and the longest stall."""
    for op, (k, what) in product(FRAMES, enumerate(("seconds a call", "longest stall"))):
        numpys = tuple(f"numpy {k}" for k in range(len(FRAMES[op][1])))
        targets = [Target(b, numpys, 1.0, f"frames, {what}") for b in variants()]
        measure = partial(_crowds, op, k, n_threads, quick)
        yield measured(ROW, f"{op} frames in {n_threads} threads, {what}", measure, targets)


def _crowds(op: str, which: int, n_threads: int, quick: bool, effort: Effort) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for _ in range(3 if quick else 9):
        for name, text, _ in _frames(op):
            made = (names for _ in range(n_threads) for who, _, names in _frames(op) if who == name)
            calls = [eval(f"lambda o: {text}", names) for names in made]
            found.setdefault(name, []).append(_crowd(calls, 0.1 if quick else 1.0)[which])
    return found


def _crowd(calls: list[Callable[[int], object]], seconds: float) -> tuple[float, float]:
    """Run each call in its own thread for so many seconds; return seconds per call of all, and the longest stall."""
    done, ready = [], threading.Barrier(len(calls))

    def run(call: Callable[[int], object]) -> None:
        call(0)
        ready.wait()
        longest, count, last = 0.0, 0, time.perf_counter()
        until = last + seconds
        while last < until:
            call(count % 4063)
            now = time.perf_counter()
            longest, count, last = max(longest, now - last), count + 1, now
        done.append((count, longest))

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds / sum(count for count, _ in done), max(longest for _, longest in done)


# ---- settings --------------------------------------------------------------------------------------------------------


def inside_with(quick: bool = False) -> Iterator[Group]:
    """A call inside a new `with`, less the empty `with` and the call alone; for information, less the call only."""
    for block in ("fastact.threads(1)", *(f'fastact.use_backend("{b}")' for b in variants())):
        targets = [Target("beyond with and call", ("required",), 1.0), Target("beyond the call", ("required",))]
        yield measured(ROW, f"with {block}: relu", partial(_inside, block), targets)


def _inside(block: str, effort: Effort) -> dict[str, list[float]]:
    names = {"fastact": fastact, "f": fastact.relu, "x": np.ones(64, "float32"), "y": np.ones(64, "float32")}
    keyword = block.removeprefix("fastact.use_backend(").removesuffix(")") if "backend" in block else ""
    call = f"f(x, out=y, backend={keyword})" if keyword else "f(x, out=y)"
    texts = f"with {block}: f(x, out=y)", f"with {block}: pass", call
    turns = take_turns({text: Statement(text, names) for text in texts}, effort)
    rounds = list(zip(*(turns.times[text] for text in texts), strict=True))
    return {
        "beyond with and call": [max(a - b - c, 1e-12) for a, b, c in rounds],
        "beyond the call": [a - c for a, _, c in rounds],
        "required": [BEYOND] * len(rounds),
    }
