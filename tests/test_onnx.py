"""fastact.onnx: PRelu inside ONNX Runtime, models that are rewritten for it, and ONNX's own tests.

To find out whether fastact computes a node, a test runs it with a slope that does not broadcast: fastact and ONNX
Runtime have different messages.
"""

import collections
import functools
import itertools
import json
import logging
import re
import threading
import warnings

import numpy as np
import pytest
from helpers import ROOT, SCRIPTS, assert_same_bits, backends, output_of, slopes, values

import fastact
import fastact.onnx
from fastact import reference

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install fastact[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install fastact[onnx]")
if backends.missing("cython"):
    pytest.skip("needs the compiled core", allow_module_level=True)

from fake_onnxruntime import Failed, FakeRuntime  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from onnx.backend.base import Backend, BackendRep  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

LIBRARY = fastact.onnx.library_path()
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
NUMPY = {FLOAT: np.float32, DOUBLE: np.float64}
NEWEST = min(onnx.defs.onnx_opset_version(), 25)  # ONNX Runtime follows later
X_SHAPE, SLOPE_SHAPE = (2, 3, 4, 5), (3, 1, 1)


# ---- models and sessions ----------------------------------------------------------------------------


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def node(*inputs, output="y", op="PRelu", **attributes):
    return helper.make_node(op, list(inputs), [output], name=f"{op}_{output}", **attributes)


def model(*nodes, opset=16, kind=FLOAT, inputs=("x", "s"), outputs=("y",), **parts):
    """A model whose inputs have no shape, so that they take any."""
    graph = helper.make_graph(
        list(nodes), "test", [info(n, kind) for n in inputs], [info(n, kind) for n in outputs],
        initializer=parts.pop("initializer", ()),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *parts.pop("opsets", ())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **parts)


def prelu_model(opset=16, kind=FLOAT):
    return model(node("x", "s"), opset=opset, kind=kind)


def session(made, library=True, **settings):
    """A session on the CPU; `settings` are attributes of its options."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for name, value in settings.items():
        setattr(options, name, value)
    if library:
        options.register_custom_ops_library(LIBRARY)
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feed(x_shape=X_SHAPE, slope_shape=SLOPE_SHAPE, dtype=np.float32, seed=0):
    """Operands with every special value in X where there is room."""
    x, slope = np.array(values(x_shape, dtype, seed)), np.array(slopes(slope_shape, dtype, seed))
    tiny = np.finfo(dtype).smallest_subnormal
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -3 * tiny, np.finfo(dtype).min], dtype)
    if x.size >= 4 * len(special):
        x.reshape(-1)[:: x.size // len(special)][: len(special)] = special
    return {"x": x, "s": slope}


def expected(x, s):
    with np.errstate(all="ignore"):
        return np.asarray(reference.prelu(x, np.broadcast_to(s, x.shape)))


def checked(made, given):
    """A model that onnx's checker has seen, which asks for a shape of each input and output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for value in (*copy.graph.input, *copy.graph.output):
        axes = given.get(value.name, given["x"]).ndim
        value.CopyFrom(info(value.name, value.type.tensor_type.elem_type, [f"{value.name}{k}" for k in range(axes)]))
    onnx.checker.check_model(copy)
    return copy


def is_ours(running, kind=FLOAT, slope_shape=SLOPE_SHAPE):
    """Whether fastact computes PRelu there."""
    with pytest.raises(Exception, match=r"PRelu") as error:
        running.run(None, feed(slope_shape=(11, *slope_shape[1:]), dtype=NUMPY[kind]))
    return "fastact: PRelu node" in str(error.value)


# ---- results --------------------------------------------------------------------------------------

# Every slope that broadcasts to these, of every rank.
SHAPES = [(), (1,), (7,), (1, 6), (5, 1, 3), X_SHAPE, (2, 1, 3, 2, 2), (0, 3), (3, 0, 2)]
BROADCASTS = [
    (shape, slope)
    for shape in SHAPES
    for rank in range(len(shape) + 1)
    for slope in itertools.product(*({1, length} for length in shape[len(shape) - rank :]))
]
# Large enough for two threads, in every form of alpha.
LARGE = [((2, 64, 40, 40), slope) for slope in [(1,), (64, 1, 1), (40,), (40, 1), (2, 64, 1, 1), (64, 40, 40)]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", [FLOAT, DOUBLE])
def test_every_broadcast(kind, threads):
    """The contract's bits, and ONNX Runtime's own where it computes the same.

    They differ where X is 0: ONNX Runtime gives X, fastact a zero of the other sign if the slope is negative.  For
    float64, ONNX Runtime compares X to 0 in float32.  Old versions also give NaN for an infinite X.
    """
    made = prelu_model(kind=kind)
    ours = session(made, intra_op_num_threads=threads)
    theirs = session(made, library=False, intra_op_num_threads=threads)
    assert is_ours(ours, kind)
    for shape, slope in BROADCASTS + LARGE:
        given = feed(shape, slope, NUMPY[kind])
        (y,) = ours.run(None, given)
        assert_same_bits(y, expected(given["x"], given["s"]), f"{shape} {slope}")
        with np.errstate(all="ignore"):
            zero = given["x"].astype(np.float32) == 0
        same = np.isfinite(given["x"]) & (~zero | ((given["x"] == 0) & (given["s"] >= 0)))
        assert_same_bits(y[same], theirs.run(None, given)[0][same], f"{shape} {slope}")


def test_a_slope_of_one_element_may_have_more_axes():
    given = feed((3,), (1, 1))
    (y,) = session(prelu_model()).run(None, given)
    assert_same_bits(y, expected(given["x"], given["s"].reshape(1)))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_16_bits(kind):
    """Rounded once from the float32 formula."""
    nodes = [node(n, op="Cast", to=kind, output=f"{n}16") for n in "xs"]
    nodes += [node("x16", "s16", output="y16"), node("y16", op="Cast", to=FLOAT)]
    running, given = session(model(*nodes, opset=19)), feed(slope_shape=(5,))
    (y,) = running.run(None, given)
    casts = [node("x", op="Cast", to=kind, output="x16"), node("x16", op="Cast", to=FLOAT)]
    rounded = session(model(*casts, opset=19, inputs=("x",)))
    x, s = (rounded.run(None, {"x": given[n]})[0] for n in "xs")
    assert_same_bits(y, rounded.run(None, {"x": expected(x, s)})[0])


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_operator_sets_that_need_no_change(opset):
    """ONNX defined PRelu anew in 7, 9 and 16."""
    made = prelu_model(opset)
    running = session(made)
    assert is_ours(running)
    given = feed(slope_shape=(5,))
    assert_same_bits(running.run(None, given)[0], expected(given["x"], given["s"]))


@pytest.mark.parametrize("opset", range(1, 7))
def test_operator_sets_that_onnxruntime_does_not_run(opset):
    """A slope of one axis meant something else in them, so the library leaves them to `accelerate`."""
    with pytest.raises(Exception, match=rf"implementation for PRelu\({1 if opset < 6 else 6}\)"):
        session(prelu_model(opset))


@pytest.mark.parametrize("opset", range(1, NEWEST + 1))
def test_accelerated_operator_sets(opset):
    """Before 7, a slope of one axis belongs to axis 1; in the library and in OPS."""
    attributes = {"consumed_inputs": [0, 0]} if opset < 6 else {}
    made = model(node("x", "s", **attributes), opset=opset)
    given = feed(slope_shape=(3,) if opset < 7 else (5,))
    faster = checked(fastact.onnx.accelerate(made), given)
    assert (faster.graph.node[0].domain == "fastact") == (opset < 16)
    assert is_ours(session(faster), slope_shape=given["s"].shape)
    want = expected(given["x"], given["s"].reshape(-1, 1, 1) if opset < 7 else given["s"])
    assert_same_bits(session(faster).run(None, given)[0], want)
    for evaluated in (faster,) if opset < 7 else (made, faster):
        got = ReferenceEvaluator(evaluated, new_ops=fastact.onnx.OPS).run(None, given)[0]
        assert_same_bits(got, want)


# ---- sessions -------------------------------------------------------------------------------------


def test_sessions_without_the_library_are_as_before():
    """And both kinds beside each other, in either order of creation."""
    made, given = prelu_model(), {"x": values(X_SHAPE), "s": abs(slopes(SLOPE_SHAPE))}
    before, ours, after = session(made, library=False), session(made), session(made, library=False)
    assert [is_ours(s) for s in (before, ours, after)] == [False, True, False]
    assert len({s.run(None, given)[0].tobytes() for s in (before, ours, after)}) == 1


BRANCHES = [
    node("x", "s", output="a"),
    node("x", "s", output="b"),
    node("a", "s", output="c"),
    node("b", "s", output="d"),
    node("c", "d", op="Max"),
]
SESSIONS = {
    "sequential": {},
    "parallel": {"execution_mode": ort.ExecutionMode.ORT_PARALLEL, "inter_op_num_threads": 2},
    "not optimised": {"graph_optimization_level": ort.GraphOptimizationLevel.ORT_DISABLE_ALL},
    "no reuse of memory": {"enable_mem_reuse": False, "enable_mem_pattern": False},
}


@pytest.mark.parametrize("settings", SESSIONS.values(), ids=SESSIONS)
@pytest.mark.parametrize("threads", [1, 2])
def test_branches_in_two_sessions_from_two_threads(settings, threads):
    """All nodes, several runs at once."""
    made = model(*BRANCHES)
    running = [session(made, intra_op_num_threads=threads, **settings) for _ in range(2)]
    given = [feed((2, 64, 40, 40), (64, 1, 1), seed=k) for k in range(2)]
    got = [[] for _ in range(4)]

    def runs(k):
        for _ in range(5):
            got[k].append(running[k % 2].run(None, given[k // 2])[0])

    callers = [threading.Thread(target=runs, args=(k,)) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for k, results in enumerate(got):
        x, s = given[k // 2]["x"], given[k // 2]["s"]
        assert len(results) == 5
        for y in results:
            assert_same_bits(y, expected(expected(x, s), s))


IN_PLACE = {
    "X is not used again": ([node("x", op="Identity", output="a"), node("a", "s", output="b"), node("b", op="Abs")], 1),
    "X is used again": ([node("x", op="Abs", output="a"), node("a", "s", output="b"), node("a", "b", op="Sub")], 0),
    "X is its own slope": ([node("x", op="Neg", output="a"), node("a", "a", output="b"), node("b", op="Neg")], None),
}


@pytest.mark.parametrize(("nodes", "case"), IN_PLACE.values(), ids=IN_PLACE)
def test_results_in_the_memory_of_x(nodes, case):
    """ONNX Runtime may lay y over X where nobody reads X later."""
    x, s = values((2, 64, 40, 40)), slopes((64, 1, 1))
    given = {"x": x, "s": s}
    if case is None:
        given.pop("s")
        want = -expected(-x, -x)
    else:
        a = x if case else abs(x)
        want = abs(expected(a, s)) if case else a - expected(a, s)
    assert_same_bits(session(model(*nodes, inputs=tuple(given))).run(None, given)[0], want)


def test_results_in_the_callers_memory():
    """IO binding."""
    running, given = session(prelu_model()), feed()
    binding, y = running.io_binding(), np.full(X_SHAPE, 99, np.float32)
    for name, array in given.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    running.run_with_iobinding(binding)
    assert_same_bits(y, expected(given["x"], given["s"]))


def test_shapes_are_inferred():
    """Also where only some lengths, or none, are known."""
    for shape, shown in [((2, 3), [2, 3]), (("n", 3, None), ["n", 3, None])]:
        made = prelu_model()
        made.graph.input[0].CopyFrom(info("x", shape=shape))
        assert [n if n != -1 else None for n in session(made).get_outputs()[0].shape] == shown
    assert session(prelu_model()).get_outputs()[0].type == "tensor(float)"


def optimised(made, path, library):
    """A model as a session leaves it."""
    session(made, library, optimized_model_filepath=str(path))
    return onnx.load(path)


def test_transposes_are_removed_as_before(tmp_path):
    """Those around PRelu of a channels-last model.  ONNX Runtime moves transposes across its own operators only."""
    pool = functools.partial(node, op="MaxPool", kernel_shape=[2, 2])
    to_nchw, to_nhwc = (functools.partial(node, op="Transpose", perm=p) for p in ([0, 3, 1, 2], [0, 2, 3, 1]))
    made = model(
        to_nchw("x", output="a"), pool("a", output="b"), to_nhwc("b", output="c"), node("c", "s", output="d"),
        to_nchw("d", output="e"), pool("e", output="f"), to_nhwc("f"), opset=11, inputs=("x",),
        initializer=[onnx.numpy_helper.from_array(slopes((3,)), "s")],
    )  # fmt: skip
    made.graph.input[0].CopyFrom(info("x", shape=("n", 4, 4, 3)))
    kinds = [[n.op_type for n in optimised(made, tmp_path / "o.onnx", library).graph.node] for library in (False, True)]
    assert kinds[0] == kinds[1]
    assert kinds[0].count("Transpose") == 2


@pytest.mark.parametrize("opset", [11, 16])
def test_saved_models_run_with_and_without(opset, tmp_path):
    saved, given = optimised(prelu_model(opset), tmp_path / "o.onnx", True), {"x": -values(X_SHAPE), "s": slopes((5,))}
    ours, theirs = session(saved), session(saved, library=False)
    assert [is_ours(running) for running in (ours, theirs)] == [True, False]
    assert_same_bits(ours.run(None, given)[0], expected(given["x"], given["s"]))
    assert (theirs.run(None, given)[0] == expected(given["x"], given["s"])).all()


def test_profiling(tmp_path):
    running = session(prelu_model(), enable_profiling=True, profile_file_prefix=str(tmp_path / "profile"))
    running.run(None, feed())
    with open(running.end_profiling()) as file:
        events = json.load(file)
    assert any(event["name"] == "PRelu_y_kernel_time" for event in events)


def test_a_forked_child():
    assert output_of(str(SCRIPTS / "onnx_fork.py")).split() == ["right"] * 3


def test_imports():
    """Neither package is imported before it is needed."""
    code = "import sys, fastact, fastact.onnx; print({'onnx', 'onnxruntime'} & set(sys.modules))"
    assert output_of("-c", code).strip() == "set()"


# ---- bad input ------------------------------------------------------------------------------------

BAD_SLOPES = [((2, 3), (2,)), ((2, 3), (3, 3)), ((2, 3), (1, 2, 3)), ((), (2,)), ((0, 3), (2, 3)), ((1, 3), (2, 3))]


@pytest.mark.parametrize(("x", "slope"), BAD_SLOPES)
def test_a_slope_that_does_not_broadcast(x, slope):
    def text(shape):
        return f"({','.join(map(str, shape))})"

    given = feed(x, slope)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument) as error:
        session(prelu_model()).run(None, given)
    said = f"node 'PRelu_y', X float32 {text(x)}, slope float32 {text(slope)}: slope does not broadcast to X"
    assert said in str(error.value)


def test_a_channel_axis_that_is_not_there():
    faster = fastact.onnx.accelerate(prelu_model(6))
    with pytest.raises(Exception, match=r"X float32 \(3\), slope float32 \(3\): slope does not broadcast"):
        session(faster).run(None, feed((3,), (3,)))


@pytest.mark.parametrize("opset", [9, 16])
def test_an_unknown_dtype(opset):
    with pytest.raises(Exception, match=r"int32.*PRelu.*node \(PRelu_y\)"):
        session(prelu_model(opset, TensorProto.INT32))


def test_a_process_that_has_not_imported_the_library():
    code = "import sys, onnxruntime as o; o.SessionOptions().register_custom_ops_library(sys.argv[1])"
    with pytest.raises(AssertionError, match=r"call fastact\.onnx\.library_path\(\)"):
        output_of("-c", code, LIBRARY)


def test_an_onnxruntime_that_is_too_old():
    with pytest.raises(Failed) as error:
        FakeRuntime(17).register(LIBRARY)
    assert "need ONNX Runtime 1.18 or newer, and this is 1.17.0" in str(error.value)


@pytest.mark.parametrize("version", [18, 23, 24, 40])
@pytest.mark.parametrize("steps", [None, 0, 1])
def test_other_versions_and_threads_that_fail(version, steps):
    """Shapes that are copied and shapes that are read where they lie; indices that the host's threads do not run."""
    runtime = FakeRuntime(version, STEPS=steps)
    runtime.register(LIBRARY)
    before = runtime.alive
    for shape, slope in [(X_SHAPE, (3, 1, 1)), ((2, 64, 40, 40), (40,)), ((), ())]:
        given = feed(shape, slope)
        assert_same_bits(runtime.run(given["x"], given["s"]), expected(given["x"], given["s"]))
    assert runtime.steps > 1 if steps is None else runtime.steps == steps  # of the large one
    assert runtime.in_place() == [(0, 0)]
    with pytest.raises(Failed, match="node 'the node', X float32"):
        runtime.run(*feed((3,), (2,)).values())
    assert runtime.alive == before  # every status and object was released


@pytest.mark.parametrize("slot", ["CREATE_DOMAIN", "ADD_OPERATOR", "ADD_DOMAIN"])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_registration_that_fails(slot, calls):
    runtime = FakeRuntime(30, **{slot: calls})
    with pytest.raises(Failed, match=f"{slot} fails"):
        runtime.register(LIBRARY)
    assert runtime.alive == (2 if slot == "ADD_DOMAIN" else 0)  # domains that were made serve the next session


@pytest.mark.parametrize("version", [20, 30])
@pytest.mark.parametrize(
    "slot", ["GET_INPUT", "GET_OUTPUT", "GET_DATA", "GET_INFO", "GET_AXES", "GET_SHAPE", "GET_SHAPE_REFERENCE"]
)
def test_a_host_that_fails(slot, version):
    """Its own status is passed on."""
    runtime = FakeRuntime(version, **{slot: 1})
    runtime.register(LIBRARY)
    before = runtime.alive
    unused = {"GET_INFO", "GET_AXES", "GET_SHAPE"} if version >= 24 else {"GET_SHAPE_REFERENCE"}
    if slot in unused:
        runtime.run(*feed().values())
    else:
        runtime.run(*feed((), ()).values()) if slot == "GET_OUTPUT" else None
        with pytest.raises(Failed, match=f"{slot} fails"):
            runtime.run(*feed().values())
    assert runtime.alive == before


def test_64_axes():
    for version in (20, 30):
        runtime = FakeRuntime(version)
        runtime.register(LIBRARY)
        big = np.ones((1,) * 64, np.float32)
        assert runtime.run(big, np.ones((), np.float32)).ndim == 64


# ---- accelerate -------------------------------------------------------------------------------------


def with_branches(opset):
    """A PRelu in each branch of an If, which see x and s of the graph around them."""
    branches = {
        f"{name}_branch": helper.make_graph([node("x", "s", output=name)], name, [], [info(name)])
        for name in ("then", "else")
    }
    made = model(node("c", op="If", **branches), opset=opset)
    made.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, ()))
    return made


def with_functions(opset):
    """G calls F, and a node of no declared type follows: ONNX Runtime has to infer the type of each call's result."""
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    call = functools.partial(node, domain="local")
    functions = [
        helper.make_function("local", "F", ["a", "b"], ["y"], [node("a", "b")], opsets[:1]),
        helper.make_function(
            "local", "G", ["a", "b"], ["y"], [call("a", "b", op="F", output="c"), node("c", "b")], opsets
        ),
    ]
    nodes = [call("x", "s", op="G", output="z"), node("z", op="Abs")]
    return model(*nodes, opset=16, functions=functions, opsets=opsets[1:])


def with_own_prelu(opset):
    """A local function that replaces ONNX's operator: accelerate leaves it alone."""
    function = helper.make_function(
        "", "PRelu", ["a", "b"], ["y"], [node("a", op="Neg")], [helper.make_opsetid("", opset)]
    )
    return model(node("x", "s"), opset=opset, functions=[function])


MODELS = {
    "plain": (prelu_model, 1),
    "chain": (lambda opset: model(node("x", "s", output="a"), node("a", "s"), opset=opset), 2),
    "subgraphs": (with_branches, 2),
    "ai.onnx": (lambda opset: model(node("x", "s", domain="ai.onnx"), opset=opset), 1),
}


@pytest.mark.parametrize(("make", "count"), MODELS.values(), ids=MODELS)
def test_accelerate(make, count, tmp_path, caplog):
    """An object, bytes and a path give the same new model, a second call changes nothing, and it has the results."""
    made = make(11)
    text = made.SerializeToString(deterministic=True)
    path = tmp_path / "model.onnx"
    path.write_bytes(text)
    with caplog.at_level(logging.DEBUG, "fastact.onnx"):
        results = [fastact.onnx.accelerate(given) for given in (made, text, path, str(path))]
    assert sum("moved to the domain" in record.message for record in caplog.records) == 4 * (count + 1)
    assert made.SerializeToString(deterministic=True) == text
    faster = results[0]
    assert all(result == faster for result in results)
    assert faster is not made
    assert fastact.onnx.accelerate(faster) == faster
    assert {p.key: p.value for p in faster.metadata_props} == {"fastact.accelerated": str(count)}
    assert faster.SerializeToString().count(b"PRelu") == text.count(b"PRelu")
    given = feed() | ({"c": np.array(True)} if make is with_branches else {})
    checked(faster, given)
    y = session(faster).run(None, given)[0]
    want = expected(given["x"], given["s"])
    assert_same_bits(y, want if count != 2 or make is with_branches else expected(want, given["s"]))
    with pytest.raises(Exception, match="fastact"):
        session(faster, library=False)


@pytest.mark.parametrize(("opset", "moved"), [(6, 2), (7, 0), (15, 0), (16, 0)])
def test_local_functions(opset, moved):
    """From operator set 7 on their nodes stay, and fastact computes them."""
    made, given = with_functions(opset), feed()
    faster = fastact.onnx.accelerate(made)
    assert [n.domain for f in faster.functions for n in f.node if n.op_type == "PRelu"] == ["fastact" * (moved > 0)] * 2
    if moved:
        assert faster.metadata_props[0].value == "2"
    else:
        assert faster == made
        assert is_ours(session(faster))
        want = abs(expected(expected(given["x"], given["s"]), given["s"]))
        assert_same_bits(session(faster).run(None, given)[0], want)


def test_later_operator_sets_are_left_alone():
    made = prelu_model(16)
    assert fastact.onnx.accelerate(made) == made


def test_nodes_that_are_added_later_count_too():
    faster = fastact.onnx.accelerate(prelu_model(11))
    faster.graph.node.append(node("y", "s", output="z"))
    faster = fastact.onnx.accelerate(faster)
    assert faster.metadata_props[0].value == "2"
    assert [o.domain for o in faster.opset_import] == ["", "fastact"]


def test_lists_of_subgraphs():
    """ONNX's own operators have none; somebody else's may."""
    made = model(node("x", op="Other", domain="other", bodies=[with_branches(11).graph]), opset=11)
    assert fastact.onnx.accelerate(made).metadata_props[0].value == "2"


def test_external_data_stays_where_it_is(tmp_path):
    slope = slopes(SLOPE_SHAPE)
    stored = onnx.numpy_helper.from_array(slope, "s")
    onnx.save(
        model(node("x", "s"), opset=11, inputs=("x",), initializer=[stored]), tmp_path / "model.onnx",
        save_as_external_data=True, location="slopes.bin", size_threshold=0,
    )  # fmt: skip
    faster = fastact.onnx.accelerate(tmp_path / "model.onnx")
    assert faster.graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert not faster.graph.initializer[0].raw_data
    (tmp_path / "faster.onnx").write_bytes(faster.SerializeToString())
    options = ort.SessionOptions()
    options.register_custom_ops_library(LIBRARY)
    running = ort.InferenceSession(tmp_path / "faster.onnx", options, providers=["CPUExecutionProvider"])
    x = feed()["x"]
    assert_same_bits(running.run(None, {"x": x})[0], expected(x, slope))


DAMAGED = {
    "no PRelu": (lambda: model(node("x", op="Relu")), "the model 'test' has no PRelu node"),
    "a PRelu of its own": (lambda: with_own_prelu(11), "has no PRelu node"),
    "noise": (lambda: b"\xff" * 10, "the model of 10 bytes is damaged or no ONNX model"),
    "nothing": (lambda: b"", "it has no graph"),
    "cut": (lambda: prelu_model().SerializeToString()[:-5], "is damaged or no ONNX model"),
}


@pytest.mark.parametrize(("make", "message"), DAMAGED.values(), ids=DAMAGED)
def test_models_that_cannot_be_accelerated(make, message, tmp_path):
    given = make()
    with pytest.raises(ValueError, match=message):
        fastact.onnx.accelerate(given)
    if isinstance(given, bytes):
        (tmp_path / "model.onnx").write_bytes(given)
        with pytest.raises(ValueError, match=r"model\.onnx"):
            fastact.onnx.accelerate(tmp_path / "model.onnx")


def test_arguments_that_are_no_models(tmp_path):
    with pytest.raises(TypeError, match="not int"):
        fastact.onnx.accelerate(3)
    with pytest.raises(FileNotFoundError):
        fastact.onnx.accelerate(tmp_path / "none.onnx")


# ---- ONNX's own tests -------------------------------------------------------------------------------


class SessionBackend(Backend):
    """ONNX Runtime with the library, on models that were accelerated where they have a PRelu."""

    @classmethod
    def prepare(cls, made, device="CPU", **kwargs):
        if any(n.op_type == "PRelu" for n in made.graph.node):
            made = fastact.onnx.accelerate(made)
        return SessionRep(session(made))


class SessionRep(BackendRep):
    def __init__(self, running):
        self.running = running

    def run(self, inputs, **kwargs):
        return self.running.run(None, dict(zip((i.name for i in self.running.get_inputs()), inputs, strict=True)))


NODE_TESTS = ["leakyrelu", "leakyrelu_default", "leakyrelu_example", "prelu_broadcast", "prelu_example"]
NODE_TESTS = [*NODE_TESTS, *(f"{name}_expanded" for name in NODE_TESTS), "relu", "relu_expanded_ver18"]
PRELUS = [f"PReLU_{axes}d{more}" for axes in (1, 2, 3) for more in ("", "_multiparam")]
CONFORMANCE = [*NODE_TESTS, "ReLU", "LeakyReLU", "LeakyReLU_with_negval", *PRELUS]  # the latter come from PyTorch
BACKENDS = [fastact.onnx.FastactBackend, SessionBackend]


@functools.cache
def conformance_tests(backend):
    """ONNX's own tests of the three operators, by their names; their data are made now, which takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test import BackendTest

        cases = BackendTest(backend, __name__).test_cases.values()
    return {
        name.removeprefix("test_").removesuffix("_cpu"): case(name)
        for case in cases
        for name in dir(case)
        if re.match("test_(relu|prelu|leakyrelu).*_cpu$", name, re.IGNORECASE)
    }


@pytest.mark.parametrize("name", CONFORMANCE)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.__name__)
def test_conformance(backend, name):
    conformance_tests(backend)[name].debug()


def test_all_conformance_tests_are_named():
    assert set(CONFORMANCE) == conformance_tests(BACKENDS[0]).keys()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize(("opset", "slope"), [(16, (5,)), (16, (3, 1, 1)), (6, (3,))])
def test_ops_of_integers(dtype, opset, slope):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = (np.arange(120).reshape(X_SHAPE) * 2**20 - 2**26).astype(dtype)
    s = np.arange(2, 2 + slope[0]).astype(dtype).reshape(slope)
    got = ReferenceEvaluator(prelu_model(opset, kind), new_ops=fastact.onnx.OPS).run(None, {"x": x, "s": s})[0]
    want = np.where(x > 0, x, x * (s.reshape(-1, 1, 1) if opset < 7 else s))
    assert_same_bits(got, want)


def test_the_other_methods_of_the_backend():
    backend, given = fastact.onnx.FastactBackend, feed()
    made, want = checked(prelu_model(), given), expected(given["x"], given["s"])
    assert_same_bits(backend.run_model(made, given)[0], want)
    assert_same_bits(backend.run_model(made, list(given.values()))[0], want)
    assert_same_bits(backend.run_node(node("x", "s"), list(given.values()))[0], want)
    assert_same_bits(backend.run_node(node("x", op="Relu"), given["x"])[0], np.asarray(reference.relu(given["x"])))
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    with pytest.raises(AttributeError, match="nothing"):
        fastact.onnx.nothing  # noqa: B018


# ---- the page and the example -----------------------------------------------------------------------


def test_the_page(tmp_path, monkeypatch):
    """Its blocks, one after the other."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)


# How many activations of which shape each model has, by the papers.
ACTIVATIONS = {
    "mobilefacenet": {(64, 56, 56): 2, (128, 56, 56): 1, (128, 28, 28): 9, (256, 28, 28): 1, (256, 14, 14): 13,
                      (512, 14, 14): 1, (512, 7, 7): 2, (256, 7, 7): 4},
    "arcface_r50": {(64, 112, 112): 2, (64, 56, 56): 2, (128, 56, 56): 1, (128, 28, 28): 3, (256, 28, 28): 1,
                    (256, 14, 14): 13, (512, 14, 14): 1, (512, 7, 7): 2},
}  # fmt: skip


@pytest.mark.parametrize("name", ["mobilefacenet", "arcface_r50", "mobilefacenet_relu"])
def test_the_example(name, tmp_path):
    """It fails by itself if the two sessions differ."""
    path = tmp_path / "model.onnx"
    table = output_of(
        str(ROOT / "examples" / "onnx_face_models.py"), "--model", name, "--output", str(path), "--batch", "1",
        "--rounds", "1",
    ).splitlines()  # fmt: skip
    assert [line.split()[:2] for line in table[1:]] == [["1", "1"], ["1", "2"]]
    kind = "Relu" if name.endswith("relu") else "PRelu"
    shapes = onnx.shape_inference.infer_shapes(onnx.load(path))
    known = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)[1:] for v in shapes.graph.value_info}
    seen = collections.Counter(known[n.output[0]] for n in shapes.graph.node if n.op_type == kind)
    assert seen == ACTIVATIONS[name.removesuffix("_relu")]
