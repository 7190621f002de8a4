"""Relu, LeakyRelu and PRelu for onnx's reference evaluator, and a backend with them for ONNX's own tests.

ONNX's names in fastact's words: X is x, slope is alpha.  Every other operator is computed by the evaluator itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto
from onnx.backend.base import Backend, BackendRep
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import fastact
from fastact.onnx._rewrite import ALIGNED_SINCE, DOMAIN, ONNX_DOMAINS


class Relu(OpRun):
    """fastact.relu."""

    op_domain = ""

    def _run(self, x: np.ndarray, consumed_inputs: object = None) -> tuple[np.ndarray]:
        return (fastact.relu(x),)


class LeakyRelu(OpRun):
    """fastact.leaky_relu."""

    op_domain = ""

    def _run(self, x: np.ndarray, alpha: float, consumed_inputs: object = None) -> tuple[np.ndarray]:
        return (fastact.leaky_relu(x, alpha),)


class PRelu(OpRun):
    """fastact.prelu.  Integers, which ONNX allows and fastact computes in float64, stay integers."""

    op_domain = ""

    def _run(self, x: np.ndarray, slope: np.ndarray, consumed_inputs: object = None) -> tuple[np.ndarray]:
        opsets = self.run_params["opsets"]
        opset = next((opsets[name] for name in ONNX_DOMAINS if name in opsets), ALIGNED_SINCE)
        return (_prelu(x, slope, 1 if opset < ALIGNED_SINCE else -1),)


def _prelu(x: np.ndarray, slope: np.ndarray, channel_axis: int) -> np.ndarray:
    if x.dtype.kind not in "iu":
        return fastact.prelu(x, slope, channel_axis=channel_axis)
    if slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.ndim - 1 - channel_axis % x.ndim))
    return np.where(x > 0, x, np.broadcast_to(slope, x.shape) * x)


class MovedPRelu(OpRun):
    """What accelerate() makes of PRelu: the same operator in the domain of the library."""

    op_domain = DOMAIN

    def _run(self, x: np.ndarray, slope: np.ndarray, channel_axis: int = -1) -> tuple[np.ndarray]:
        return (_prelu(x, slope, channel_axis),)


MovedPRelu.__name__ = "PRelu"  # the evaluator finds a class by its domain and name

OPS: list[type[OpRun]] = [Relu, LeakyRelu, PRelu, MovedPRelu]


class FastactRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, model: ModelProto | NodeProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=OPS)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Compute the outputs; the inputs are a dict by their names, a sequence in their order, or one array."""
        if not isinstance(inputs, dict):
            listed = [inputs] if isinstance(inputs, np.ndarray) else inputs
            inputs = dict(zip(self._evaluator.input_names, listed, strict=False))
        return tuple(self._evaluator.run(None, inputs))


class FastactBackend(Backend):
    """An ONNX backend on the CPU: fastact for Relu, LeakyRelu and PRelu, the reference evaluator for the rest."""

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> FastactRep:
        """Check a model and make it ready to run."""
        super().prepare(model, device, **kwargs)
        return FastactRep(model)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Sequence[Any] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one node."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        return FastactRep(node).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device == "CPU"
