"""Whole networks: training steps and inferences in PyTorch, inferences in ONNX Runtime, with fastact and without.

MobileFaceNet, Conv-TasNet and ArcFace's ResNet-50 are those of the examples; FSRCNN(56, 12, 4) is Dong et al. 2016.
A case of "relu" has ReLU in PReLU's place, which is as fast as an activation can get.
"""

import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import fastact

from .checks import WrongResult
from .contestants import CONTESTANTS, Call
from .groups import Group, Work

EXAMPLES = Path(__file__).parents[1] / "examples"
TRAINED = {"mobilefacenet": 8, "convtasnet": 2}  # with this batch
SELDOM = ("convtasnet training step", "fsrcnn inference", "arcface_r50 inference")  # what a plain run leaves out
MODELS = ("mobilefacenet", "arcface_r50")  # of the example for ONNX Runtime
CLOSE = 1e-2  # of the largest output: sums in another order, through dozens of layers


@lru_cache
def example(name: str) -> ModuleType:
    """A module of examples/."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # what torch saves and exports looks there
    spec.loader.exec_module(module)
    return module


def networks(full: bool = True) -> Iterator[Group]:
    """Every network in every host that is installed; without `full` those that do not take long."""
    torch, ort = ("torch", "torch_enabled", "relu"), ("onnxruntime", "ort_fastact")
    for host, names, members in (("torch", (*TRAINED, "fsrcnn"), torch), ("onnxruntime", (*MODELS, "fsrcnn"), ort)):
        if CONTESTANTS[members[1]].missing():
            continue
        for name, what in product(names, ("training step", "inference")):
            batch = 1 if what == "inference" else TRAINED.get(name, 0) * (host == "torch")
            if batch and (full or f"{name} {what}" not in SELDOM):
                yield _group(host, name, what, batch, members)


def _group(host: str, network: str, what: str, batch: int, members: tuple[str, ...]) -> Group:
    threads = fastact.get_num_threads()
    facts = {"network": network, "what": what, "host": host, "batch": batch, "dtype": "float32", "threads": threads}

    def session(name: str) -> Any:
        return CONTESTANTS[name].session(threads, "float32") if name in CONTESTANTS else contextlib.nullcontext()

    made = {"training step": _training, "inference": _inference}[what] if host == "torch" else _onnx
    make = partial(_work, partial(made, network, batch), members)
    return Group("networks", f"{network} {what} {host} batch {batch}", members, make, facts=facts, session=session,
                 threads=threads, patience=0.0)  # fmt: skip


def _work(make: Callable[[], Callable[[str], Call]], members: tuple[str, ...]) -> Work:
    """Every contestant's first output must be the first one's, but for another order of sums."""
    prepare, first = make(), []

    def prepared(name: str) -> Call:
        call = prepare(name)
        found = np.asarray(call(), np.float32)
        if name != "relu":
            first.append(found)
            if not np.abs(found - first[0]).max() <= CLOSE * np.abs(first[0]).max():
                raise WrongResult(f"the output is up to {np.abs(found - first[0]).max():.3g} off {members[0]}'s")
        return call

    return Work({name: partial(prepared, name) for name in members})


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def _torch_model(network: str, batch: int) -> tuple[Any, Any]:
    """A network and its input, from the same random numbers each time."""
    import torch

    torch.manual_seed(0)
    if network == "fsrcnn":
        return fsrcnn(), torch.rand(batch, 1, 180, 320)
    make, data = example("faster_torch_models").NETWORKS[network]
    return make(), data(batch)


def fsrcnn() -> Any:
    """From a frame's brightness to twice its size."""
    from torch import nn

    layers: list[Any] = []
    for inputs, outputs, kernel in ((1, 56, 5), (56, 12, 1), *[(12, 12, 3)] * 4, (12, 56, 1)):
        layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.PReLU(outputs)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(56, 1, 9, 2, 4, 1))


def _variant(model: Any, name: str) -> Any:
    model = copy.deepcopy(model)
    return example("faster_torch_models").with_relu(model) if name == "relu" else model


def _training(network: str, batch: int) -> Callable[[str], Call]:
    model, x = _torch_model(network, batch)

    def prepare(name: str) -> Call:
        import torch

        mine = _variant(model, name)
        optimizer = torch.optim.SGD(mine.parameters(), 1e-3)

        def step() -> float:
            loss = mine(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return prepare


def _inference(network: str, batch: int) -> Callable[[str], Call]:
    model, x = _torch_model(network, batch)

    def prepare(name: str) -> Call:
        import torch

        mine = _variant(model, name).eval()

        def run() -> Any:
            with torch.inference_mode():
                return mine(x)

        return run

    return prepare


# ---- ONNX Runtime ----------------------------------------------------------------------------------------------------


def _onnx(network: str, batch: int) -> Callable[[str], Call]:
    import onnxruntime

    rng = np.random.default_rng(0)
    if network == "fsrcnn":
        model, image = _onnx_fsrcnn(rng), rng.random((batch, 1, 180, 320), np.float32)
    else:
        model = example("onnx_face_models").made(network, 17).SerializeToString()
        image = rng.standard_normal((batch, 3, 112, 112), np.float32)

    def prepare(name: str) -> Call:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = fastact.get_num_threads()
        CONTESTANTS[name].configure(options)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"image": image})[0]

    return prepare


def _onnx_fsrcnn(rng: np.random.Generator) -> bytes:
    """The same layers as `fsrcnn`."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, weights, value = [], [], "image"

    def add(kind: str, *arrays: np.ndarray, **attributes: Any) -> None:
        nonlocal value
        names = [f"{kind}{len(nodes)}_{k}" for k in range(len(arrays))]
        weights.extend(map(numpy_helper.from_array, arrays, names))
        nodes.append(helper.make_node(kind, [value, *names], [f"value{len(nodes)}"], **attributes))
        value = nodes[-1].output[0]

    for inputs, outputs, kernel in ((1, 56, 5), (56, 12, 1), *[(12, 12, 3)] * 4, (12, 56, 1)):
        weight = rng.normal(0, (inputs * kernel**2) ** -0.5, (outputs, inputs, kernel, kernel))
        add("Conv", weight.astype("f4"), pads=[kernel // 2] * 4)
        add("PRelu", rng.uniform(0.05, 0.6, (outputs, 1, 1)).astype("f4"))
    weight = rng.normal(0, 0.02, (56, 1, 9, 9)).astype("f4")
    add("ConvTranspose", weight, strides=[2, 2], pads=[4] * 4, output_padding=[1, 1])
    shapes = {"image": (1, 1, 180, 320), value: (1, 1, 360, 640)}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "fsrcnn", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
