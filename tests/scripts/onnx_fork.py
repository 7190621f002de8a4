"""Sessions with the library in a process that forks, for test_onnx.py: a new one in the child, and the parent's before
and after.
"""

import os
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import fastact.onnx

warnings.simplefilter("ignore")  # a process with threads forks
graph = helper.make_graph(
    [helper.make_node("PRelu", ["x", "s"], ["y"])],
    "test",
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xs"],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8).SerializeToString()
x = np.random.default_rng(0).standard_normal((2, 64, 40, 40)).astype(np.float32)


def new_session():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.register_custom_ops_library(fastact.onnx.library_path())
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check(session):
    (y,) = session.run(None, {"x": x, "s": np.float32([0.25])})
    assert np.array_equal(y, np.where(x > 0, x, x * np.float32(0.25)))
    print("right", flush=True)


session = new_session()
check(session)
child = os.fork()
if not child:
    check(new_session())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
check(session)
