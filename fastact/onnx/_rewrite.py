"""accelerate(): move the PRelu nodes of older ONNX operator sets to the domain "fastact", which the library serves."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

DOMAIN = "fastact"
DOMAIN_VERSION = 1
COUNT = "fastact.accelerated"  # in metadata_props: how many nodes were moved
ONNX_DOMAINS = ("", "ai.onnx")  # two names of one domain
# From this operator set on nodes stay as they are, because the library takes the built-in operator's place.
REPLACED_SINCE = 16
# From this one on a slope of one axis is aligned at X's end.  Before, it belonged to axis 1.  From here on the library
# takes the built-in operator's place, too, in the versions of ONNX Runtime that were tried.  In local functions nodes
# stay from here on: a moved one would leave ONNX Runtime without the type of the function's result, as it infers that
# type from ONNX's own operators alone.
ALIGNED_SINCE = 7

logger = logging.getLogger("fastact.onnx")


def accelerate(model: "ModelProto | bytes | str | os.PathLike[str]", /) -> "ModelProto":
    """Return a copy of a model in which fastact computes every PRelu node, in a session with the library.

    PRelu nodes of operator sets before 16 become ``fastact.PRelu``, also in subgraphs.  In local functions only those
    of operator sets before 7 do.  A slope of one axis belongs to axis 1 in operator sets before 7, and keeps that
    meaning.  All other nodes stay, because the library takes the built-in operator's place.  A second call changes
    nothing more.

    The library also serves operator sets 7 to 15 without this function.  That is better where the model has transposes,
    which ONNX Runtime's optimiser does not move across ``fastact.PRelu``.

    **The result needs the library**: ONNX Runtime refuses it in a session without `library_path`.

    Parameters
    ----------
    model : onnx.ModelProto, bytes or path
        It is not changed.  External data is neither read nor moved: save the result into the folder of the original.

    Returns
    -------
    onnx.ModelProto
        Its `metadata_props` count the nodes that were moved ("fastact.accelerated").  Each is logged by the logger
        ``fastact.onnx`` at level DEBUG, and their number at level INFO.

    Raises
    ------
    ValueError
        If the bytes or the file are no ONNX model, or if the model has no PRelu.
    TypeError
        If `model` is something else.

    Examples
    --------
    >>> import onnxruntime, fastact.onnx  # doctest: +SKIP
    >>> options = onnxruntime.SessionOptions()  # doctest: +SKIP
    >>> options.register_custom_ops_library(fastact.onnx.library_path())  # doctest: +SKIP
    >>> faster = fastact.onnx.accelerate("model.onnx").SerializeToString()  # doctest: +SKIP
    >>> session = onnxruntime.InferenceSession(faster, options)  # doctest: +SKIP
    """
    result, name = _copy(model)
    local = {(_domain(f.domain), f.name) for f in result.functions}
    moved = found = 0
    for part, nodes in [(result, result.graph.node), *((function, function.node) for function in result.functions)]:
        before = moved
        opset = next((o.version for o in part.opset_import if o.domain in ONNX_DOMAINS), 1)
        for node in _nodes(nodes):
            if node.op_type != "PRelu" or (_domain(node.domain), "PRelu") in local:
                continue
            found += node.domain in (*ONNX_DOMAINS, DOMAIN)
            if node.domain in ONNX_DOMAINS and opset < (REPLACED_SINCE if part is result else ALIGNED_SINCE):
                _move(node, opset)
                moved += 1
        if moved > before and all(o.domain != DOMAIN for o in part.opset_import):
            part.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
    if not found:
        raise ValueError(f"{name} has no PRelu node: there is nothing to accelerate")
    if moved:
        _count(result, moved)
    logger.info("%s: %d of %d PRelu nodes moved to the domain %r", name, moved, found, DOMAIN)
    return result


def _copy(model: "ModelProto | bytes | str | os.PathLike[str]") -> "tuple[ModelProto, str]":
    """The model as a new object, and what errors call it."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    copy = ModelProto()
    if isinstance(model, ModelProto):
        copy.CopyFrom(model)
        return copy, f"the model {copy.graph.name!r}"
    if isinstance(model, (bytes, bytearray, memoryview)):
        data, name = bytes(model), f"the model of {len(model)} bytes"
    elif isinstance(model, (str, os.PathLike)):
        data, name = Path(model).read_bytes(), f"the model {os.fspath(model)!r}"
    else:
        raise TypeError(f"model must be an onnx.ModelProto, bytes or a path, not {type(model).__name__}")
    try:
        copy.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"{name} is damaged or no ONNX model: {error}") from error
    if not copy.HasField("graph"):
        raise ValueError(f"{name} is damaged or no ONNX model: it has no graph")
    return copy, name


def _domain(name: str) -> str:
    return "" if name in ONNX_DOMAINS else name


def _nodes(nodes: "Iterator[NodeProto]") -> "Iterator[NodeProto]":
    """Nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _move(node: "NodeProto", opset: int) -> None:
    """Make it a node of our domain that means the same."""
    node.domain = DOMAIN
    for attribute in [a for a in node.attribute if a.name == "consumed_inputs"]:  # in operator set 1; it means nothing
        node.attribute.remove(attribute)
    if opset < ALIGNED_SINCE:
        from onnx.helper import make_attribute

        node.attribute.append(make_attribute("channel_axis", 1))
    logger.debug("PRelu node %r of operator set %d moved to the domain %r", node.name, opset, DOMAIN)


def _count(model: "ModelProto", moved: int) -> None:
    """Add to the number in the model's metadata."""
    entry = next((p for p in model.metadata_props if p.key == COUNT), None) or model.metadata_props.add(key=COUNT)
    entry.value = str(int(entry.value or 0) + moved)
