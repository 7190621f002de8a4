"""What is timed: twelve workloads as data, and the arrays of one workload.

A workload is a shape, a channel axis and a form of alpha, named after the model that it comes from; a user's own shape
is also a workload.  `Task` holds one operation's arrays for one workload.  Signs are random, because code with branches
is fast on sorted or all-positive data.  Expected results come from the reference.  Only the last workload's arrays are
kept, so the groups of one workload should run one after the other.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from fastact import reference
from fastact._tables import OPERATIONS, TYPES, Operation

from . import layouts
from .layouts import Layout

ALPHA_FORMS = ("shared", "channel", "full")
PARTS = ("workloads", "models", "sizes", "signs", "threads", "accuracy", "layouts")  # the parts with operations
SEED = 2015  # of the data
SMALL = 2**16  # elements of a workload in an untimed run


@dataclass(frozen=True)
class Workload:
    """One layer's activation: the shape of x, where its channels are and which form alpha has."""

    name: str
    shape: tuple[int, ...]
    channel_axis: int
    alpha: str  # one of ALPHA_FORMS; "full" is one alpha per element of a sample
    origin: str
    part: str = "workloads"  # the part of the comparison, one of PARTS
    offset: float = 0.0  # added to x's normal values, which gives the mix of signs
    layout: Layout = layouts.PLAIN  # how the operands lie in memory

    @property
    def alpha_shape(self) -> tuple[int, ...]:
        """The shape of alpha as an argument."""
        if self.alpha == "shared":
            return (1,)
        return (self.shape[self.channel_axis],) if self.alpha == "channel" else (1, *self.shape[1:])

    @property
    def broadcast_shape(self) -> tuple[int, ...]:
        """The shape in which alpha broadcasts against x by NumPy's rules."""
        if self.alpha != "channel":
            return self.alpha_shape
        shape = [1] * len(self.shape)
        shape[self.channel_axis] = self.shape[self.channel_axis]
        return tuple(shape)

    def small(self) -> "Workload":
        """The same layer on a smaller input: every axis but the channels is halved until it is small."""
        shape = list(self.shape)
        free = [axis for axis in range(len(shape)) if axis != self.channel_axis % len(shape)]
        while free and math.prod(shape) > SMALL:
            axis = max(free, key=lambda axis: shape[axis])
            if shape[axis] == 1:
                break
            shape[axis] = (shape[axis] + 1) // 2
        return replace(self, shape=tuple(shape))

    def facts(self) -> dict[str, Any]:
        """What is saved with each time."""
        where = f" on axis {self.channel_axis}" if self.alpha == "channel" else ", one an element"
        return {
            "workload": self.name,
            "shape": self.shape,
            "alpha": "shared alpha" if self.alpha == "shared" else f"{math.prod(self.alpha_shape)} alphas{where}",
            "origin": self.origin,
            "offset": self.offset,
        }


WORKLOADS = (
    Workload("arcface_r50_stem", (8, 64, 112, 112), 1, "channel", "ArcFace ResNet-50, first layer: memory-bound"),
    Workload("arcface_r50_stage3", (8, 256, 14, 14), 1, "channel", "ArcFace ResNet-50, 13 of 25 layers: rows of 196"),
    Workload("arcface_r50_stage4", (8, 512, 7, 7), 1, "channel", "ArcFace ResNet-50, last stage: rows of 49, tails"),
    Workload("mobilefacenet_128x28", (1, 128, 28, 28), 1, "channel", "MobileFaceNet: in cache, one image"),
    Workload("mtcnn_pnet_conv1", (1, 10, 286, 382), 1, "channel", "MTCNN P-Net: few channels, odd planes"),
    Workload("mtcnn_onet_fc", (64, 256), 1, "channel", "MTCNN O-Net, fully connected: alpha runs along the row"),
    Workload("convtasnet_h512", (1, 512, 4001), 1, "shared", "Conv-TasNet: dalpha is a sum over 2 million terms"),
    Workload("gtcrn_stream", (1, 16, 1, 33), 1, "shared", "GTCRN, streaming speech: 528 elements, cost of a call"),
    Workload("realesr_general_256", (1, 64, 256, 256), 1, "channel", "Real-ESRGAN compact net: 33 calls a frame"),
    Workload("facemesh_stem_nhwc", (1, 96, 96, 16), 3, "channel", "MediaPipe face mesh: channels last, few channels"),
    Workload("espnet_b2_nhwc", (1, 128, 256, 131), 3, "channel", "ESPNet: channels last, a prime number of channels"),
    Workload("monai_unet3d", (4, 16, 48, 48, 48), 1, "shared", "MONAI 3-D U-Net: 5-D, memory-bound"),
)
# Sizes from one register to above the caches, in powers of four: 16 channels of one image.
SIZES = tuple(
    Workload(f"n_{16 << shift}", (1, 16, 1 << shift), 1, "channel", "size sweep", "sizes") for shift in range(0, 21, 2)
)
# What a branch costs: elements are positive with a probability of 0.16, 0.5 and 0.84.
SIGNS = tuple(
    Workload(f"offset_{name}", (1, 64, 56, 56), 1, "channel", "sign mixes", "signs", offset)
    for name, offset in (("minus_1", -1.0), ("0", 0.0), ("plus_1", 1.0))
)
SCALING = (
    Workload("scaling_memory", (8, 64, 112, 112), 1, "channel", "thread scaling: from memory", "threads"),
    Workload("scaling_cache", (1, 64, 56, 56), 1, "channel", "thread scaling: in cache", "threads"),
)
ACCURACY = (
    Workload("16_sums", (8, 16, 56, 56), 1, "channel", "error of dalpha", "accuracy"),
    Workload("1_sum", (8, 16, 56, 56), 1, "shared", "error of dalpha", "accuracy"),
)
# The cases of `layouts.CASES` that differ most, and plain arrays.
LAYOUTS = tuple(
    Workload(layout.name, (6, 48, 56, 56), 1, "channel", "memory layouts", "layouts", layout=layout)
    for layout in (*layouts.CASES, layouts.PLAIN)
    if layout.name in ("outer_reversed", "dy_expanded", "rows_reversed", "swapped_bytes", "nhwc", "second_columns",
                        "x_nchw_dy_nhwc", "plain")
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One operation on one workload: the arrays that it reads."""

    op: Operation
    workload: Workload
    x: np.ndarray
    dy: np.ndarray
    alpha: np.ndarray | float  # as fastact takes it; a number for leaky_relu
    broadcast: np.ndarray | float  # the same values, in a shape that broadcasts against x

    @property
    def nbytes(self) -> int:
        """The traffic of one pass: every array of x's size read or written once."""
        return (len(self.op.reads) + 1) * self.x.nbytes

    def by_channel(self, array: np.ndarray) -> np.ndarray:
        """An array of x's shape as (rows, channels, columns); one slope for all is one channel."""
        shape, axis = self.x.shape, self.workload.channel_axis
        if self.workload.alpha == "shared":
            return array.reshape(1, 1, -1)
        return array.reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def dtype_of(name: str) -> np.dtype:
    """A dtype by its name; NumPy knows bfloat16 once ml_dtypes is imported."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def is_float(dtype: str) -> bool:
    """Whether a dtype of this name is a float."""
    return dtype in TYPES


def computing(array: np.ndarray) -> np.ndarray:
    """16-bit floats as float32, which they are computed in; others as they are."""
    name = array.dtype.name
    return array.astype(TYPES[name].computing, copy=False) if is_float(name) else array


@lru_cache(maxsize=1)
def _arrays(workload: Workload, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(SEED)
    scale, kind = 1 if is_float(dtype) else 20, dtype_of(dtype)
    generated = np.float64 if dtype == "float64" else np.float32
    x, dy = ((scale * rng.standard_normal(workload.shape, dtype=generated)).astype(kind, copy=False) for _ in range(2))
    x += kind.type(scale * workload.offset)
    return *workload.layout.laid(x, dy), rng.uniform(0.05, 0.6, workload.alpha_shape).astype(kind)


def make_task(operation: str, workload: Workload, dtype: str) -> Task:
    """The arrays of an operation on a workload; the same ones for every contestant."""
    return task_of(OPERATIONS[operation], workload, *_arrays(workload, dtype))


def task_of(op: Operation, workload: Workload, x: np.ndarray, dy: np.ndarray, alpha: np.ndarray) -> Task:
    """An operation on these arrays."""
    if op.alpha == "array":
        return Task(op, workload, x, dy, alpha, alpha.reshape(workload.broadcast_shape))
    return Task(op, workload, x, dy, 0.01, 0.01)


def plain(task: Task) -> Task:
    """The same values in plain arrays: of one native dtype, in C order."""
    x = np.ascontiguousarray(task.x, task.x.dtype.newbyteorder("="))
    dy = None if task.dy is None else np.ascontiguousarray(task.dy, x.dtype)
    return replace(task, x=x, dy=dy)


def expected_of(task: Task) -> tuple[np.ndarray, ...]:
    """What the reference says: the elementwise result; for a sum also dalpha (float64) and its sum of magnitudes."""
    operands = [computing(getattr(task, name)) for name in task.op.reads]
    if task.op.alpha:
        operands.append(computing(task.broadcast) if task.op.alpha == "array" else task.broadcast)
    result = getattr(reference, task.op.reference)(*operands)
    if computing(task.x) is not task.x:  # 16-bit floats
        result = result.astype(task.x.dtype)
    if not task.op.summed:
        return (result,)
    dy, *others = operands
    magnitudes = getattr(reference, task.op.dalpha)(-np.abs(dy), *others)
    return tuple(
        [result]
        + [
            total.reshape(task.alpha.shape)
            for total in (getattr(reference, task.op.dalpha)(*operands), np.abs(magnitudes))
        ]
    )
