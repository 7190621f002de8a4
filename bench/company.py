"""Calls between the operations of another library (the host), whose idle threads spin.

A library that has just computed leaves its threads spinning for milliseconds, because its next operation may come soon.
A call in between finds the processors taken and the caches full of other data.  Here each timed call follows an
operation of the host.  The same call alone, with its arrays in the caches, takes turns with it.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np

import fastact

from .comparison import PRELU, contest, outputs
from .contestants import CONTESTANTS, Call
from .groups import Group, Target, Work
from .timing import rest
from .workloads import WORKLOADS, Workload, make_task

ALONE = " alone"  # follows a contestant's name where its calls do not follow the host's
DELAYS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # seconds from a session's operation to a call
WORTH = 4e6  # bytes of x from which several threads should be faster in company, too
# The contestants beside each host: ours, the host's, and a copy or an addition by the host.
OURS = {
    "torch": ("fastact openmp", "fastact own", "fastact one thread", "torch", "torch_enabled", "torch copy / add"),
    "onnxruntime": ("fastact own", "fastact one thread", "onnxruntime", "ort_fastact"),
    "openvino": ("fastact own", "fastact one thread", "openvino"),
}
SHOWN = ("arcface_r50_stage3", "convtasnet_h512")  # the workloads of a plain run
MEASURED = {
    "torch": ("mobilefacenet_128x28", "arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "arcface_r50_stem"),
    "onnxruntime": ("arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "realesr_general_256"),
    "openvino": ("arcface_r50_stage3", "mtcnn_pnet_conv1", "convtasnet_h512", "realesr_general_256"),
}


def company(quick: bool = False, names: tuple[str, ...] | None = None) -> Iterator[Group]:
    """The groups of every host that is installed."""
    for host, workloads in MEASURED.items():
        if fastact.get_num_threads() > 1 and not CONTESTANTS[host].missing():
            for workload in (w for w in WORKLOADS if w.name in (names or workloads[: 1 if quick else None])):
                yield from (_between(host, op, workload) for op in PRELU)


def _between(host: str, op: str, workload: Workload) -> Group:
    threads = fastact.get_num_threads()
    known = contest(op, workload, "float32", "new", "all", [n for n in OURS[host] if n in CONTESTANTS]).members
    there = [n for n in OURS[host] if n in known or (n not in CONTESTANTS)]
    members = [name + where for name in there for where in ("", ALONE)]

    def session(name: str) -> AbstractContextManager:
        peer = CONTESTANTS.get(name.removesuffix(ALONE))
        return peer.session(threads, "float32") if peer else _source("openmp" if "openmp" in name else None)

    def make() -> Work:
        task = make_task(op, workload, "float32")
        out, run = outputs(task), HOSTS[host]()
        prepare: dict[str, Callable[[], Call]] = {}
        for name in there:
            if name in CONTESTANTS:
                prepare[name] = partial(CONTESTANTS[name].prepare, task, None)
            elif name.startswith("fastact"):
                prepare[name] = partial(_ours, task, out, 1 if "one" in name else None)
            else:
                prepare[name] = partial(_torchs, task, out)
        made: dict[str, Call] = {}

        def shared(name: str) -> Call:
            made.setdefault(name, prepare[name]())
            return made[name]

        before = dict.fromkeys(there, run) | {name + ALONE: partial(_warm, made, name) for name in there}
        calls = {name: partial(shared, name.removesuffix(ALONE)) for name in members}
        return Work(
            calls,
            task,
            results=lambda name, found: _results(task, name, found),
            exact=lambda name: name.startswith("fastact"),
            before=before,
            free=[name for name in members if "copy" in name],
        )

    targets = []
    if host == "torch":
        most = (1.1, 1.3) if workload_bytes(workload) >= 1e6 else (1.2, 1.5)
        targets.append(Target("fastact openmp", ("torch copy / add",), most[op != "prelu"]))
        limit = 1 / 1.3 if workload_bytes(workload) >= WORTH else 1.1
        targets.append(Target("fastact own", ("fastact one thread",), limit))
    else:
        limit = 1.25 if workload_bytes(workload) >= WORTH else 2.0
        targets.append(Target("fastact own", (f"fastact own{ALONE}",), limit))
        targets.append(Target("fastact own", ("fastact one thread",)))
    facts = {"operation": op, **workload.facts(), "dtype": "float32", "threads": threads, "host": host}
    return Group("company", f"{op} {workload.name} after {host}", tuple(members), make, facts=facts,
                 targets=tuple(targets), session=session, threads=threads)  # fmt: skip


def workload_bytes(workload: Workload) -> float:
    """The bytes of x in float32."""
    return 4.0 * np.prod(workload.shape)


def _source(name: str | None) -> AbstractContextManager:
    return fastact.thread_source(name) if name else nullcontext()


def _ours(task, out, n_threads: int | None) -> Call:
    """The public function, into `out`."""
    axis = task.workload.channel_axis
    operands = [getattr(task, name) for name in task.op.reads] + [task.alpha]
    into = out if task.op.summed else out[0]
    function = getattr(fastact, task.op.name)
    return lambda: function(*operands, channel_axis=axis, out=into, n_threads=n_threads)


def _torchs(task, out) -> Call:
    """PyTorch's operation of the same traffic: a copy, or an addition."""
    import torch

    x, y = torch.from_numpy(task.x), torch.from_numpy(out[0])
    if not task.op.backward:
        return lambda: y.copy_(x)
    dy = torch.from_numpy(task.dy)
    return lambda: torch.add(x, dy, out=y)


def _results(task, name: str, found) -> tuple[np.ndarray, ...]:
    peer = CONTESTANTS.get(name.removesuffix(ALONE))
    return peer.arrays(task, found) if peer else found if isinstance(found, tuple) else (found,)


def _warm(made: dict[str, Call], name: str) -> None:
    """Wait until no threads spin, then call three times, which brings the call's arrays into the caches."""
    rest()
    for _ in range(3):
        made[name]()


# ---- hosts -----------------------------------------------------------------------------------------------------------


def _convolutions() -> Callable[[], None]:
    """Two convolutions of PyTorch."""
    import torch

    convolution, image = torch.nn.Conv2d(64, 64, 3, padding=1, groups=64), torch.randn(1, 64, 56, 56)

    def run() -> None:
        with torch.no_grad():
            convolution(image)
            convolution(image)

    return run


def _session(host: str) -> Callable[[], None]:
    """An operation of ONNX Runtime or OpenVINO on all processors, then 0.1 to 100 ms of work in the calling thread."""
    import onnx
    from onnx import helper

    shape = (1, 64, 112, 112)
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "host", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    x, delays = np.random.default_rng(0).standard_normal(shape, dtype=np.float32), itertools.cycle(DELAYS)
    if host == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = fastact.get_num_threads()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        operation = partial(session.run, None, {"x": x})
    else:
        import openvino

        compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")
        operation = partial(compiled, [x])

    def run() -> None:
        operation()
        start, delay = time.perf_counter(), next(delays)
        while time.perf_counter() - start < delay:
            pass

    return run


HOSTS = {
    "torch": _convolutions,
    "onnxruntime": partial(_session, "onnxruntime"),
    "openvino": partial(_session, "openvino"),
}
