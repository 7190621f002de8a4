"""The driver where nothing was compiled: walks a plan's chunks in Python and calls Numba's kernels by ctypes.

The same chunks, cascade and fold as _cython/driver.pyx (which says why), so dalpha has the same bits with and
without a C compiler; ctypes lets go of the GIL during a kernel, so chunks run in threads.  A call costs some
20 us and a run 2 us, which only small arrays and cropped ones notice.
"""

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from ._layout import GROUP, Plan

RADIX = 32
_RUNNING, _EACH, _FENCE = 1, 4, 8
_Kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_ssize_t] * 8)
_pool: ThreadPoolExecutor | None = None
_making = threading.Lock()


def _threads_pool() -> ThreadPoolExecutor:
    """One for the process, so that callers at once share its threads."""
    global _pool
    with _making:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="fastact")
        return _pool


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _locate(dims, index: int) -> tuple[int, int, int]:
    """Byte offsets (y, dy, x) of the index-th turn of these loops."""
    at = [0, 0, 0]
    for dim in reversed(dims):
        index, k = divmod(index, dim.size)
        at = [a + k * s for a, s in zip(at, dim.strides, strict=True)]
    return tuple(at)


def _run_chunk(kernel, addresses, plan: Plan, itemsize: int, flags: int, chunk: int, partial, each: int) -> None:
    """One chunk: a strip of columns of one group of rows of one plane."""
    strips = -(-plan.columns // plan.chunk_columns)
    strip, group, plane = chunk % strips, chunk // strips % plan.groups, chunk // (strips * plan.groups)
    first = strip * plan.chunk_columns
    width = min(plan.chunk_columns, plan.columns - first)
    m, a = plan.m, first
    if plan.running:
        start, n = first, width
    elif plan.segments == 1:
        start, n = first * m, width * m
    else:
        a, k = divmod(first, plan.segments)
        start = a * m + k * plan.segment
        n = m = min(plan.segment, m - k * plan.segment)
    step = plan.channels if not plan.running else plan.m + (GROUP if plan.joined else 0)
    base = [address + start * itemsize + off for address, off in
            zip(addresses[:3], _locate(plan.planes, plane), strict=True)]  # fmt: skip
    offset = (plane * step + a) * itemsize
    alpha = addresses[3] + offset
    lanes = width + -width % GROUP + GROUP
    acc = [np.zeros(GROUP + lanes)[GROUP:] for _ in range(3)] if partial is not None else []
    row, stop = group * plan.chunk_rows, min((group + 1) * plan.chunk_rows, plan.n_rows)
    radix = 2 * RADIX if plan.running else RADIX
    left, turns = radix, 0
    while row < stop:
        at = [address + off for address, off in zip(base, _locate(plan.rows, row), strict=True)]
        take = 1
        if plan.joined:
            take = min(stop - row, left) if acc else stop - row
            n = min(take * plan.m, plan.elements - row * plan.m)
        y, dy, x = (where if given else 0 for where, given in zip(at, addresses[:3], strict=True))
        kernel(y, dy, x, alpha, acc[0].ctypes.data if acc else each and each + offset, n, m, flags)
        row += take
        left -= take
        if acc and left == 0 and row < stop:
            _move_up(acc, 0)
            left, turns = radix, turns + 1
            if turns % radix == 0:
                _move_up(acc, 1)
    if acc:
        _move_up(acc, 0)
        _move_up(acc, 1)
        partial[plane, group, first : first + width] = acc[2][:width]


def _move_up(acc, level: int) -> None:
    acc[level + 1] += acc[level]
    acc[level][:] = 0


def _fold(plan: Plan, partial: np.ndarray) -> np.ndarray:
    """The partial sums of each alpha, added in pairs, pairs of pairs, ...: groups, then copies and repeats."""
    shape = (plan.n_planes, plan.copies, plan.channels, plan.repeats)
    columns = _in_pairs(partial.transpose(1, 0, 2)).reshape(shape)
    return _in_pairs(columns.transpose(1, 3, 0, 2).reshape(-1, plan.n_planes * plan.channels))


def _in_pairs(terms: np.ndarray) -> np.ndarray:
    """The sum along the first axis: pairs, pairs of pairs, ..."""
    pending: dict[int, np.ndarray] = {}
    for total in terms:
        level = 0
        while level in pending:
            total = pending.pop(level) + total
            level += 1
        pending[level] = total
    total = np.zeros(terms.shape[1:])
    for level in sorted(pending):
        total = pending[level] + total
    return total


class _Team:
    """The caller and helpers, who take part after part until none is left.

    However the caller ends (Ctrl-C, say), nobody works any more: the addresses are good for as long as the call lasts.
    """

    def __init__(self, share, parts: int) -> None:
        self.share, self.parts = share, parts
        self.next, self.active, self.errors = 0, 0, []
        self.changed = threading.Condition()

    def work(self) -> None:
        """Take parts."""
        while True:
            with self.changed:
                part, self.next = self.next, self.next + 1
            if part >= self.parts:
                return
            self.share(part)

    def help(self) -> None:
        """The same in a helper's thread, which signals never interrupt: the count of the active comes out even."""
        with self.changed:
            self.active += 1
        try:
            self.work()
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self.changed:
                self.active -= 1
                self.changed.notify_all()

    def run(self) -> None:
        """All parts; what a part raised."""
        try:
            with suppress(RuntimeError):  # no more threads, or the interpreter is shutting down: alone then
                for _ in range(self.parts - 1):
                    _threads_pool().submit(self.help)
            self.work()
        finally:
            self._end()
        if self.errors:
            raise self.errors[0]

    def _end(self) -> None:
        """Wait until nobody works, whatever arrives meanwhile."""
        interrupt = None
        while True:
            try:
                with self.changed:
                    self.next = self.parts
                    while self.active:
                        self.changed.wait()
                break
            except BaseException as error:
                interrupt = error
        if interrupt:
            raise interrupt


def execute(kernel, addresses, plan: Plan, itemsize: int, flags: int, threads: int, dalpha) -> None:
    """As driver.pyx's execute."""
    kernel = _Kernel(kernel)
    flags |= _FENCE | (_RUNNING if plan.running else 0)
    each = dalpha.ctypes.data if flags & _EACH else 0
    summed = dalpha is not None and not each
    partial = np.empty((plan.n_planes, plan.groups, plan.columns)) if summed else None

    def share(part: int, parts: int) -> None:
        with np.errstate(all="ignore"):
            for chunk in range(plan.chunks * part // parts, plan.chunks * (part + 1) // parts):
                _run_chunk(kernel, addresses, plan, itemsize, flags, chunk, partial, each)

    threads = max(1, min(threads, plan.chunks))
    if threads == 1:
        share(0, 1)
    else:
        _Team(lambda part: share(part, threads), threads).run()
    if summed:
        with np.errstate(all="ignore"):
            dalpha[:] = _fold(plan, partial)


class Bound:
    """As driver.pyx's Bound."""

    def __init__(self, *arguments) -> None:
        self.arguments = arguments

    def __call__(self) -> None:
        execute(*self.arguments, None)
