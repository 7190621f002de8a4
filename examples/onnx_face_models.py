"""An ONNX model made faster
=========================

Write a face recognition model as ONNX, and time it in ONNX Runtime with and without fastact's library.

The models have random weights.  A batch normalisation that follows a convolution is a part of it, as exporters make it.

- ``mobilefacenet``: table 1 of Chen et al. 2018 (arXiv 1804.07573), 33 PReLU layers.
- ``arcface_r50``: the network of 50 layers of Deng et al. 2019 (arXiv 1801.07698, section 3.1), 25 PReLU layers.
- ``mobilefacenet_relu``: MobileFaceNet with ReLU.  The library has no part in it, so both times should be the same.

The two sessions take turns.  Run ``python examples/onnx_face_models.py --help``.  ``main`` returns what it prints, so
that the tests can check it.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import fastact.onnx

# MobileFaceNet's bottlenecks: expansion, channels, how many, the first one's stride.
BOTTLENECKS = [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]
# ArcFace's stages: channels, how many residual units; the first unit of each halves height and width.
STAGES = [(64, 3), (128, 4), (256, 14), (512, 3)]


class Body:
    """Nodes and weights, one layer after the other; `value` and `channels` are what the last one gives."""

    def __init__(self, activation: str = "PRelu", seed: int = 0) -> None:
        self.activation = activation
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.value, self.channels = "image", 3

    def weight(self, array: np.ndarray) -> str:
        """Store an array; its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, *more: str, **attributes: object) -> None:
        """A node that reads the last value."""
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.value, *more], [output], name=output, **attributes))
        self.value = output

    def convolution(
        self, channels: int, size: int, stride: int = 1, depthwise: bool = False, pad: int | None = None,
        linear: bool = False,
    ) -> None:  # fmt: skip
        """A convolution with its bias, followed by the activation unless it is linear."""
        fan_in = size * size * (1 if depthwise else self.channels)
        shape = (channels, 1 if depthwise else self.channels, size, size)
        pads = [size // 2 if pad is None else pad] * 4
        weights = self.weight(self.random.normal(0, np.sqrt(2 / fan_in), shape))
        bias = self.weight(self.random.normal(0, 0.1, channels))
        self.node("Conv", weights, bias, kernel_shape=[size, size], strides=[stride, stride], pads=pads,
                  group=channels if depthwise else 1)  # fmt: skip
        self.channels = channels
        if not linear:
            slopes = (self.random.uniform(0.05, 0.6, (channels, 1, 1)),) if self.activation == "PRelu" else ()
            self.node(self.activation, *map(self.weight, slopes))

    def normalization(self) -> None:
        """A batch normalisation that no convolution can take in."""
        self.node("BatchNormalization", *(
            self.weight(values)
            for values in (
                self.random.uniform(0.5, 1, self.channels),  # scale
                self.random.normal(0, 0.1, self.channels),  # bias
                self.random.normal(0, 0.1, self.channels),  # mean
                self.random.uniform(0.5, 1, self.channels),  # variance
            )
        ))  # fmt: skip

    def bottleneck(self, expansion: int, channels: int, stride: int) -> None:
        """Expand, convolve each channel, project; plus what came in, where the shape is the same."""
        before, same = self.value, stride == 1 and channels == self.channels
        inside = expansion * self.channels
        self.convolution(inside, 1)
        self.convolution(inside, 3, stride, depthwise=True)
        self.convolution(channels, 1, linear=True)
        if same:
            self.node("Add", before)

    def residual_unit(self, channels: int, stride: int) -> None:
        """Normalise, convolve, PReLU, convolve; plus what came in, through a convolution where the shape changes."""
        before = self.value, self.channels
        self.normalization()
        self.convolution(channels, 3)
        self.convolution(channels, 3, stride, linear=True)
        main = self.value
        self.value, self.channels = before
        if stride > 1 or channels != self.channels:
            self.convolution(channels, 1, stride, linear=True)
        self.node("Add", main)

    def embedding(self, size: int) -> None:
        """A fully connected layer on all values, 512 channels of 7 x 7."""
        self.node("Flatten")
        features = 7 * 7 * self.channels
        weights = self.weight(self.random.normal(0, np.sqrt(1 / features), (size, features)))
        self.node("Gemm", weights, self.weight(self.random.normal(0, 0.1, size)), transB=1)
        self.channels = size


def mobilefacenet(activation: str = "PRelu") -> Body:
    """The whole body, from images of 112 x 112 to embeddings of 128 numbers."""
    body = Body(activation)
    body.convolution(64, 3, stride=2)
    body.convolution(64, 3, depthwise=True)
    for expansion, channels, number, stride in BOTTLENECKS:
        for k in range(number):
            body.bottleneck(expansion, channels, stride if k == 0 else 1)
    body.convolution(512, 1)
    body.convolution(512, 7, depthwise=True, pad=0, linear=True)
    body.convolution(128, 1, linear=True)
    body.node("Flatten")
    return body


def arcface_r50() -> Body:
    """The whole body, from images of 112 x 112 to embeddings of 512 numbers."""
    body = Body()
    body.convolution(64, 3)
    for channels, number in STAGES:
        for k in range(number):
            body.residual_unit(channels, 2 if k == 0 else 1)
    body.normalization()
    body.embedding(512)
    return body


MODELS = {
    "mobilefacenet": mobilefacenet,
    "arcface_r50": arcface_r50,
    "mobilefacenet_relu": partial(mobilefacenet, "Relu"),
}


def made(name: str, opset: int) -> onnx.ModelProto:
    """One of MODELS."""
    body = MODELS[name]()
    graph = helper.make_graph(
        body.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, 112, 112))],
        [helper.make_tensor_value_info(body.value, TensorProto.FLOAT, ("batch", body.channels))],
        body.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def sessions(path: Path, threads: int) -> dict[str, onnxruntime.InferenceSession]:
    """One session without the library and one with it."""
    options = [onnxruntime.SessionOptions() for _ in range(2)]
    for each in options:
        each.intra_op_num_threads = threads
    options[1].register_custom_ops_library(fastact.onnx.library_path())
    return {
        name: onnxruntime.InferenceSession(path, each, providers=["CPUExecutionProvider"])
        for name, each in zip(("onnxruntime", "with fastact"), options, strict=True)
    }


def timed(runs: dict[str, onnxruntime.InferenceSession], image: np.ndarray, rounds: int) -> dict[str, float]:
    """The median of each session's times, in milliseconds.  The sessions take turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    results = [session.run(None, {"image": image})[0] for session in runs.values()]
    np.testing.assert_array_equal(*results)
    for _ in range(rounds):
        for name, session in runs.items():
            start = time.perf_counter()
            session.run(None, {"image": image})
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(each)) for name, each in times.items()}


def main(arguments: list[str] | None = None) -> str:
    """Write the model, time it, and return the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="mobilefacenet")
    parser.add_argument("--output", type=Path, help="keep the model in this file")
    parser.add_argument("--opset", type=int, default=11, help="the operator set (default: 11, as in published models)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        path = chosen.output or Path(folder) / "model.onnx"
        onnx.save(made(chosen.model, chosen.opset), path)
        lines = [f"{'batch':>5} {'threads':>7} {'onnxruntime':>11} {'with fastact':>12} {'ratio':>5}   milliseconds"]
        for threads in chosen.threads:
            runs = sessions(path, threads)
            for batch in chosen.batch:
                image = np.random.default_rng(1).normal(size=(batch, 3, 112, 112)).astype(np.float32)
                without, with_library = timed(runs, image, chosen.rounds).values()
                lines.append(
                    f"{batch:5} {threads:7} {without:11.2f} {with_library:12.2f} {without / with_library:5.2f}"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
