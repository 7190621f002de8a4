"""Whole networks: training steps and inferences in PyTorch, inferences in ONNX Runtime, with fastact and without.

MobileFaceNet, Conv-TasNet and ArcFace's ResNet-50 come from the examples; FSRCNN(56, 12, 4) is from Dong et al. 2016.
The contestant "relu" has ReLU in the place of PReLU, as the fastest that an activation can be.
"""

import contextlib
import copy
import importlib.util
import io
import sys
import warnings
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
NETWORKS = {"mobilefacenet": 8, "convtasnet": 2, "fsrcnn": 2, "arcface_r50": 2}  # and the batch size of a training step
MODELS = ("mobilefacenet", "arcface_r50")  # those of the example for ONNX Runtime, which needs no PyTorch
PLAIN = ("mobilefacenet training step torch", "mobilefacenet inference", "convtasnet inference torch")  # in a plain run
CLOSE = 1e-2  # the tolerance, of the largest output: sums have another order, in dozens of layers


@lru_cache
def example(name: str) -> ModuleType:
    """A module of examples/."""
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # torch's saving and exporting look it up there
    spec.loader.exec_module(module)
    return module


def networks(full: bool = True) -> Iterator[Group]:
    """Every network in every host that is installed; without `full` only the quick ones."""
    hosts = {"torch": ("torch", "torch_enabled", "relu"), "onnxruntime": ("onnxruntime", "ort_fastact")}
    for (host, members), network, what in product(hosts.items(), NETWORKS, ("training step", "inference")):
        trains = what != "inference"
        if CONTESTANTS[members[1]].missing() or (trains and host != "torch"):
            continue
        if network not in MODELS and CONTESTANTS["torch"].missing():
            continue
        if full or f"{network} {what} {host}".startswith(PLAIN):
            yield _group(host, network, what, NETWORKS[network] if trains else 1, members)


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
    """The first output of every contestant must be the first contestant's, within CLOSE."""
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
    """FSRCNN, which makes the brightness of a frame twice as large."""
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

    if network in MODELS:
        model = example("onnx_face_models").made(network, 17).SerializeToString()
        image = np.random.default_rng(0).standard_normal((batch, 3, 112, 112), np.float32)
    else:
        model, image = _exported(network, batch)

    def prepare(name: str) -> Call:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = fastact.get_num_threads()
        CONTESTANTS[name].configure(options)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"image": image})[0]

    return prepare


def _exported(network: str, batch: int) -> tuple[bytes, np.ndarray]:
    """PyTorch's network as ONNX, and its input.  The newer exporter would need one more package."""
    import torch

    model, x = _torch_model(network, batch)
    with warnings.catch_warnings(), io.BytesIO() as file:
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces what it calls a constant
        torch.onnx.export(model.eval(), (x,), file, input_names=["image"], opset_version=17, dynamo=False)
        return file.getvalue(), x.numpy()
