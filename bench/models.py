"""Whole models: all PReLU layers that one image (or 4 s of sound) passes, with the shapes of the models' own code.

A model is a list of (how often, layer).  A layer is a workload like any other, so the time that a model spends in PReLU
is the sum of its layers' times.  Sources: MobileFaceNet, Chen et al. 2018, table 1 (33 layers); iresnet50 of
InsightFace's ArcFace (25); torchaudio's ConvTasNet, 3 x 8 blocks of two and one before the masks, 4 s of sound at
8 kHz (49); FSRCNN(56, 12, 4), Dong et al. 2016, on an input of 640 x 360 (7); Real-ESRGAN's SRVGGNetCompact,
`realesr-general-x4v3`, on a tile of 256 x 256 (33).
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from .workloads import ALPHA_FORMS, Workload


class Model(NamedTuple):
    """A model's PReLU layers."""

    name: str
    unit: str  # what one pass takes as input
    layers: tuple[tuple[int, Workload], ...]

    @property
    def count(self) -> int:
        """The number of layers."""
        return sum(times for times, _ in self.layers)


def _model(name: str, unit: str, alpha: str, *layers: tuple[int, int, tuple[int, ...]]) -> Model:
    """Layers as (how often, channels, the rest of the shape), batch 1."""
    return Model(
        name,
        unit,
        tuple(
            (times, Workload(f"{name}.{'x'.join(map(str, (c, *size)))}", (1, c, *size), 1, alpha, name, "models"))
            for times, c, size in layers
        ),
    )


def _square(size: int) -> tuple[int, int]:
    return size, size


MODELS = (
    _model(
        "MobileFaceNet", "image", "channel",
        (2, 64, _square(56)), (1, 128, _square(56)), (9, 128, _square(28)), (1, 256, _square(28)),
        (13, 256, _square(14)), (1, 512, _square(14)), (2, 512, _square(7)), (4, 256, _square(7)),
    ),
    _model(
        "ArcFace_r50", "image", "channel",
        (2, 64, _square(112)), (2, 64, _square(56)), (1, 128, _square(56)), (3, 128, _square(28)),
        (1, 256, _square(28)), (13, 256, _square(14)), (1, 512, _square(14)), (2, 512, _square(7)),
    ),
    _model("Conv-TasNet", "4 s of sound", "shared", (48, 512, (4001,)), (1, 128, (4001,))),
    _model("FSRCNN", "frame", "channel", (2, 56, (360, 640)), (5, 12, (360, 640))),
    _model("Real-ESRGAN_general", "tile", "channel", (33, 64, _square(256))),
)  # fmt: skip
LAYERS = tuple(dict.fromkeys(layer for model in MODELS for _, layer in model.layers))


def from_file(path: Path) -> tuple[Workload, ...]:
    """A user's layers: {"name": ..., "layers": [{"shape": [...], "channel_axis": 1, "alpha": "channel"}, ...]}."""
    model = json.loads(path.read_text())
    found = []
    for layer in model["layers"]:
        shape, alpha = tuple(map(int, layer["shape"])), layer.get("alpha", "channel")
        axis = layer.get("channel_axis", 1 if len(shape) > 1 else -1)
        if not shape or min(shape) < 1 or alpha not in ALPHA_FORMS or not -len(shape) <= axis < len(shape):
            raise ValueError(f"no layer: {layer}; alpha is one of {', '.join(ALPHA_FORMS)}")
        name = f"{model['name']}.{'x'.join(map(str, shape))}"
        found.append(Workload(name, shape, axis % len(shape), alpha, model["name"], "own"))
    layers = tuple(dict.fromkeys(found))
    # Groups are named after their workloads, so layers of one shape with different alphas need names of their own.
    times = Counter(layer.name for layer in layers)
    return tuple(
        replace(layer, name=f"{layer.name}.{layer.alpha}.{layer.channel_axis}") if times[layer.name] > 1 else layer
        for layer in layers
    )
