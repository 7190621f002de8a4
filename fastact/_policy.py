# cython: infer_types=True
"""The rules for threads and streaming stores, each once: how many threads, whether to stream, when to let the GIL go.

Cython compiles this text (policy.pxd has the types), and the compiled core calls it from C; without the core the same
lines run as they are.  What was set for the process is kept here as well, because both sides read it: the thresholds
(`set_thresholds`), the bounds on threads (`set_bounds`), and a number that tells the fast path when to forget what it
has looked up (`changed`).
"""

import itertools

from fastact import _cpu
from fastact._tables import MOST_THREADS

# A second thread costs 1.6 us: its start, the wait for it, cache lines that move between cores.  A core reads and
# writes 50 to 100 GB/s in its L2.  Two threads took, of one thread's time, by the bytes of a call: relu 1.62 at 128 KB,
# 0.82 at 256 KB; prelu_backward 1.0 at 192 KB, 0.76 at 384 KB.
bytes_per_thread = 128 << 10
bytes_per_summing_thread = 192 << 10
# A helper that sleeps (pool.h) has to be woken: that costs its caller 13 us, and the helper begins some 50 us later.
# Between PyTorch's convolutions two threads took 1.05 to 1.15 of one thread's time at 3.2 MB, 0.65 to 0.9 at 8.7 MB.
# After 6 ms of rest they took 2.5 of it at 0.25 MB, 1.15 at 4 MB, 1.0 to 1.08 at 6 MB, 0.8 at 12 MB.
bytes_to_wake = 5 << 20
# Streaming stores leave the result out of the caches, and do not read its lines first.  They pay as soon as what a
# call reads and writes is more than the caches that are a core's own.  On a core with 2 MB of L2, copy and add took,
# of their time with ordinary stores, 1.8 and 1.5 at 1.5 MB for each thread, 0.81 and 0.84 at 3 MB, 0.6 for 200 MB.
stream_bytes_per_thread = 5 * _cpu.caches()["L2"] // 4
# A last-level cache keeps a result for its next reader.  Where the cache is this machine's own, streaming begins when
# three quarters of it are used; with several threads, nine eighths (`streams`).  A virtual machine may report the cache
# of a whole socket and show few of its cores: a cache of more than 32 MB for each core that shares it is not taken for
# the machine's own.
stream_bytes = 3 * _cpu.caches()["L3"] // 4 if _cpu.sharing() * (32 << 20) >= _cpu.caches()["L3"] else 0
# Elements (some 5 us of work) below which letting other Python threads run costs more than it gives.
gil_elements = 32768
# Partial sums from which all threads add them up: some 50 us of work.
parallel_reduction = 32768

_numbers = itertools.count(1)
process_threads = 0  # the bound that somebody gave for the process; 0: nobody
thread_source = 0  # the source of threads that somebody gave for the process, by its number in fastact.h; 0: nobody
openmp_variables = MOST_THREADS  # what OMP_NUM_THREADS and OMP_THREAD_LIMIT allow
oversubscription = 0  # explicit bounds may go up to this, even beyond the processors (tests only)
contexts = False  # whether use_backend or threads was ever used: then a call has to ask the context
generation = 0  # another one after each change of backend or SIMD level


def threads_that_pay(traffic, summed):
    """How many threads this many bytes of reading and writing are worth."""
    return max(1, traffic // (bytes_per_summing_thread if summed else bytes_per_thread))


def wakes(traffic):
    """Whether this many bytes are worth waking helpers that sleep."""
    return traffic >= bytes_to_wake


def streams(traffic, threads):
    """Whether a result is written by streaming stores.

    One core alone writes faster by streaming stores as soon as much of its result goes to memory.  Two cores read and
    write a last-level cache so fast that they gain by what is still in it.  Time of streaming over ordinary stores with
    32 MB of cache: relu of 16.8 MB (34 MB read and written) 0.87 on one thread, 1.26 on two; relu_backward of 12 MB
    (36 MB) 0.71 and 0.93.
    """
    bound = stream_bytes if threads == 1 else stream_bytes + stream_bytes // 2
    return traffic >= bound and traffic // threads >= stream_bytes_per_thread


def bound_on_threads(explicit, processors, openmp):
    """The bound in force: what somebody asked for (0: nobody did), else what OpenMP's limits allow.

    `processors` are those that the caller may use, `openmp` what the loaded runtimes allow it.
    """
    if explicit:
        return min(explicit, max(processors, oversubscription))
    return max(1, min(processors, min(openmp_variables, openmp)))


def thresholds():
    """The thresholds in force."""
    return {
        "stream_bytes": stream_bytes,
        "stream_bytes_per_thread": stream_bytes_per_thread,
        "bytes_per_thread": bytes_per_thread,
        "bytes_per_summing_thread": bytes_per_summing_thread,
        "bytes_to_wake": bytes_to_wake,
        "gil_elements": gil_elements,
        "parallel_reduction": parallel_reduction,
    }


def set_thresholds(**given):
    """Set some of the thresholds, for tests and benchmarks; return all of them as they were before."""
    global stream_bytes, stream_bytes_per_thread, bytes_per_thread, bytes_per_summing_thread, gil_elements
    global parallel_reduction, bytes_to_wake
    before = thresholds()
    if unknown := given.keys() - before:
        raise TypeError(f"there are no thresholds {', '.join(unknown)}: there are {', '.join(before)}")
    after = before | {name: int(value) for name, value in given.items()}
    if min(after["bytes_per_thread"], after["bytes_per_summing_thread"]) < 1 or max(after.values()) >= 1 << 62:
        raise ValueError(f"thresholds are from 1 (those for a thread) or 0 to 2**62, not {given}")
    stream_bytes = after["stream_bytes"]
    stream_bytes_per_thread = after["stream_bytes_per_thread"]
    bytes_per_thread = after["bytes_per_thread"]
    bytes_per_summing_thread = after["bytes_per_summing_thread"]
    bytes_to_wake = after["bytes_to_wake"]
    gil_elements = after["gil_elements"]
    parallel_reduction = after["parallel_reduction"]
    return before


def bounds():
    """The bounds on threads that were set."""
    return {
        "process_threads": process_threads,
        "thread_source": thread_source,
        "openmp_variables": openmp_variables,
        "oversubscription": oversubscription,
    }


def set_bounds(**given):
    """Set some of the bounds; return all of them as they were before."""
    global process_threads, thread_source, openmp_variables, oversubscription
    before = bounds()
    if unknown := given.keys() - before:
        raise TypeError(f"there are no bounds {', '.join(unknown)}: there are {', '.join(before)}")
    after = before | given
    # Only what changes is written: calls that run without the GIL read the last two meanwhile.
    if process_threads != after["process_threads"]:
        process_threads = after["process_threads"]
    if thread_source != after["thread_source"]:
        thread_source = after["thread_source"]
    if openmp_variables != after["openmp_variables"]:
        openmp_variables = after["openmp_variables"]
    if oversubscription != after["oversubscription"]:
        oversubscription = after["oversubscription"]
    return before


def changed():
    """The backend or the SIMD level is another one now."""
    global generation
    generation = next(_numbers)  # two changes at the same time get different numbers


def ask_contexts():
    """From now on a call has to ask the context for its backend and its threads."""
    global contexts
    contexts = True
