"""Calls between the operations of other libraries, whose idle threads spin: the row `company` of the figures.

A library that has just computed leaves its threads spinning for milliseconds, because its next operation may come soon.
A call that comes in between finds the processors taken.  Here every timed call follows an operation of the host, and
the contestants take turns call by call, so all of them stand in the same place.  A run counts if the medians of the
host's own times in both halves agree within `STEADY`; else it is made again.
"""

import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import fastact

from .contestants import Call
from .races import Line
from .workloads import WORKLOADS, Task, Workload, make_task

STEADY = 1.3
ATTEMPTS = 4
ROUNDS = 60
DELAYS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # seconds from the host's operation to a call
MAIN = ("prelu", "prelu_backward")
# The least work here, in bytes of x, that several threads are expected to make faster in company.
WORTH = 4e6
# Traffic-like operations of the host that a call is held against: one input, two inputs.
PEERS = {"prelu": "copy", "prelu_backward": "add"}
MEASURED = {
    "torch": ("mobilefacenet_128x28", "arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "arcface_r50_stem"),
    "onnxruntime": ("arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "realesr_general_256"),
    "openvino": ("arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "realesr_general_256"),
}


def company(quick: bool = False) -> Iterator[Line]:
    """Every host that is installed."""
    for host, names in MEASURED.items():
        if fastact.get_num_threads() > 1 and importlib.util.find_spec(host) is not None:
            for name in names[: 1 if quick else None]:
                yield from after(host, name, 5 if quick else ROUNDS)


def after(host: str, workload: str, rounds: int) -> Iterator[Line]:
    """Calls on a workload after the operations of one host."""
    found = next(w for w in WORKLOADS if w.name == workload)
    for op in MAIN:
        yield from HOSTS[host](host, op, found, rounds)


def _task(op: str, workload: Workload) -> tuple[Task, tuple[np.ndarray, ...]]:
    """Arrays, and results whose pages are touched."""
    task = make_task(op, workload, "float32")
    return task, tuple(np.zeros_like(a) for a in ((task.x,) if op == "prelu" else (task.x, task.alpha)))


def _ours(task: Task, out: tuple[np.ndarray, ...], n_threads: int | None) -> Call:
    """The public function, into `out`."""
    axis = task.workload.channel_axis
    if len(out) == 1:
        return lambda: fastact.prelu(task.x, task.alpha, channel_axis=axis, out=out[0], n_threads=n_threads)
    return lambda: fastact.prelu_backward(task.dy, task.x, task.alpha, channel_axis=axis, out=out, n_threads=n_threads)


def _once(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# ---- between PyTorch's operations ------------------------------------------------------------------------------------


def _after_torch(host: str, op: str, workload: Workload, rounds: int) -> Iterator[Line]:
    """Sources "openmp" and "own" against one thread, and against PyTorch's copy or add of the same arrays."""
    import torch

    task, out = _task(op, workload)
    convolution = torch.nn.Conv2d(64, 64, 3, padding=1, groups=64)
    image = torch.randn(1, 64, 56, 56)
    x, dy, y = (torch.from_numpy(a) for a in (task.x, task.x if task.dy is None else task.dy, out[0]))
    automatic, one = _ours(task, out, None), _ours(task, out, 1)
    peer = (lambda: y.copy_(x)) if op == "prelu" else (lambda: torch.add(x, dy, out=y))
    calls = {"openmp": automatic, "own": automatic, "one thread": one, PEERS[op]: peer}

    def prepared(name: str) -> None:
        fastact.set_thread_source("openmp" if name == "openmp" else None)

    try:
        with torch.no_grad():
            seconds = _steady(lambda: convolution(image), calls, rounds, prepared)
    finally:
        fastact.set_thread_source(None)
    nbytes, case = task.x.nbytes, f"{op} {workload.name} between torch's"
    targets = (1.1, 1.3) if nbytes >= 1e6 else (1.2, 1.5)
    yield _line(case, f"openmp / torch's {PEERS[op]}", "openmp", PEERS[op], seconds, targets[op != "prelu"])
    yield _line(case, "own / one thread", "own", "one thread", seconds, 1 / 1.3 if nbytes >= WORTH else 1.1)


# ---- after an inference session --------------------------------------------------------------------------------------


def _session(host: str) -> Call:
    """One operation of ONNX Runtime or OpenVINO on all processors."""
    import onnx
    from onnx import helper

    shape = (1, 64, 112, 112)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "host", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    if host == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = fastact.get_num_threads()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": x})
    import openvino

    compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")
    return lambda: compiled([x])


def _after_session(host: str, op: str, workload: Workload, rounds: int) -> Iterator[Line]:
    """Source "own": calls 0.1 to 100 ms after the host's operation against the same call alone and warm."""
    task, out = _task(op, workload)
    call, one, run = _ours(task, out, None), _ours(task, out, 1), _session(host)
    seconds: dict[str, list[float]] = {"first": [], "after": [], "one thread": [], "alone": []}
    for _ in range(ATTEMPTS):
        hosts = []
        for times in seconds.values():
            times.clear()
        for _ in range(max(3, rounds // len(DELAYS))):
            time.sleep(0.2)  # the host's threads sleep
            for _ in range(10):
                call()
            seconds["alone"] += [_once(call) for _ in DELAYS]
            hosts.append(_once(run))
            run()
            seconds["first"].append(_once(call))
            for delay in DELAYS:
                for name, contestant in (("after", call), ("one thread", one)):
                    run()
                    start = time.perf_counter()
                    while time.perf_counter() - start < delay:
                        pass  # a program between two operations is busy
                    seconds[name].append(_once(contestant))
        if _agree(hosts):
            break
    case, nbytes = f"{op} {workload.name} after {host}'s", task.x.nbytes
    yield _line(case, "own / alone", "after", "alone", seconds, 1.25 if nbytes >= WORTH else 2.0)
    yield _line(case, "own / one thread there", "after", "one thread", seconds, None)
    yield _line(case, "the very first call / alone", "first", "alone", seconds, None)


# ---- turns -----------------------------------------------------------------------------------------------------------


def _steady(
    host: Callable[[], object], calls: dict[str, Call], rounds: int, prepared: Callable[[str], None]
) -> dict[str, list[float]]:
    """Each call's seconds, every one after an operation of the host."""
    seconds: dict[str, list[float]] = {}
    order = random.Random(0)
    for _ in range(ATTEMPTS):
        seconds, hosts = {name: [] for name in calls}, []
        for k in range(rounds + 3):
            # In another order each time: a call finds its arrays where the one before left them.
            for name in order.sample(list(calls), len(calls)):
                call = calls[name]
                prepared(name)
                for _ in range(2):
                    took = _once(host)
                if k < 3:
                    call()  # compiles, starts threads
                    continue
                seconds[name].append(_once(call))
                hosts.append(took)
        if _agree(hosts):
            break
    return seconds


def _agree(seconds: list[float]) -> bool:
    """Whether both halves have about one median."""
    halves = [statistics.median(seconds[k::2] or seconds) for k in (0, 1)]
    halves += [statistics.median(half) for half in (seconds[: len(seconds) // 2], seconds[len(seconds) // 2 :])]
    return max(halves) / min(halves) <= STEADY


def _line(
    case: str, kind: str, name: str, baseline: str, seconds: dict[str, list[float]], target: float | None
) -> Line:
    medians = [statistics.median(seconds[key]) for key in (name, baseline)]
    return Line(case, kind, name, baseline, *medians, "s", medians[0] / medians[1], target)


HOSTS = {"torch": _after_torch, "onnxruntime": _after_session, "openvino": _after_session}
