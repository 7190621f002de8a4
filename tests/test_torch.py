"""fastact.torch beside torch: the functions, the modules and torch's own PReLU under enabled().

CONTESTANTS says what is compared with what, and INPUTS on what.
Skipped where torch is not installed.
"""

import contextlib
import copy
import doctest
import importlib.util
import io
import itertools
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import SANITIZED

torch = pytest.importorskip("torch", reason="torch is not installed (pip install torch==2.13.0 for its CPU build)")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.utils import data  # noqa: E402

import fastact  # noqa: E402
import fastact.torch as ours  # noqa: E402
from fastact.torch import _compute, _host, _operators, _override  # noqa: E402

# torch's own: TorchScript and quantisation are deprecated, and some of its imports warn.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "UserWarning", "FutureWarning")
]


ROOT = Path(__file__).parents[1]


class Contestant(NamedTuple):
    """Ours and torch's function of (x, weight); the `with` block that ours runs in; whether it has slopes."""

    ours: object
    torchs: object
    block: object = contextlib.nullcontext
    slopes: bool = False


def in_module(module):
    """A function of (x, weight) by a module."""
    if not list(module.parameters()):
        return lambda x, weight: module(x)
    return lambda x, weight: torch.func.functional_call(module, {"weight": weight}, (x,))


CONTESTANTS = {
    "relu": Contestant(lambda x, w: ours.relu(x), lambda x, w: F.relu(x)),
    "leaky_relu": Contestant(lambda x, w: ours.leaky_relu(x, 0.2), lambda x, w: F.leaky_relu(x, 0.2)),
    "prelu": Contestant(ours.prelu, F.prelu, slopes=True),
    "ReLU": Contestant(in_module(ours.ReLU()), lambda x, w: F.relu(x)),
    "LeakyReLU": Contestant(in_module(ours.LeakyReLU()), lambda x, w: F.leaky_relu(x)),
    "PReLU": Contestant(in_module(ours.PReLU()), F.prelu, slopes=True),
    "enabled": Contestant(F.prelu, F.prelu, ours.enabled, slopes=True),
    "enabled, torch's memory": Contestant(F.prelu, F.prelu, lambda: ours.enabled(torch_memory=True), slopes=True),
    "operator relu": Contestant(lambda x, w: torch.ops.fastact.relu(x), lambda x, w: F.relu(x)),
    "operator prelu": Contestant(lambda x, w: torch.ops.fastact.prelu(x, w), F.prelu, slopes=True),
}
OURS = [name for name in CONTESTANTS if "operator" not in name]  # what forward AD and the like are promised for
each = pytest.mark.parametrize("contestant", CONTESTANTS.values(), ids=CONTESTANTS)
each_of_ours = pytest.mark.parametrize("contestant", [CONTESTANTS[name] for name in OURS], ids=OURS)

# Inputs with gaps, of any layout and number of axes: x, and how many channels it has.
INPUTS = {
    "plain": lambda make: make(2, 3, 4, 5),
    "large": lambda make: make(2, 8, 64, 40),
    "2-d": lambda make: make(6, 3),
    "1-d": lambda make: make(7),
    "0-d": lambda make: make(),
    "5-d": lambda make: make(2, 3, 2, 2, 2),
    "channels last": lambda make: make(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last, 3-d": lambda make: make(2, 3, 4, 5, 2).to(memory_format=torch.channels_last_3d),
    "transposed": lambda make: make(3, 6).T,
    "permuted": lambda make: make(4, 2, 3).permute(1, 2, 0),
    "crop": lambda make: make(2, 3, 8, 8)[:, :, 1:5, ::2],
    "expanded": lambda make: make(1, 3, 1).expand(4, 3, 5),
    "empty": lambda make: make(0, 3, 4),
    "one channel": lambda make: make(2, 1, 3),
}
each_input = pytest.mark.parametrize("make_x", INPUTS.values(), ids=INPUTS)


# The ways into fastact: through DLPack's C exchange API, and through arrays, which serve where that is missing.
WAYS = ("exchange", "arrays")


@pytest.fixture(autouse=True, params=WAYS)
def way(request):
    if request.param == "exchange" and _compute._exchange is None:
        pytest.skip("the exchange was not built, or this torch is older than 2.11")
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    before = _compute.use_exchange(request.param == "exchange")
    yield request.param
    _compute.use_exchange(before)
    torch.set_num_threads(threads)
    assert not _override._asked  # no test leaves torch's kernels replaced
    assert len(_host.kernels_of(_host.FORWARD, "CPU")) == 1


@pytest.fixture
def calls(monkeypatch, way):
    """How often each function of fastact is called with success."""
    counted = Counter()

    def counting(name, function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            of = list(_compute.KINDS)[arguments[0]] if way == "exchange" else ""
            if result is not None and result is not True:
                counted[of + name] += 1
            return result

        return call

    if way == "exchange":
        for attribute in ("attempt", "_fast_forward", "_fast_in_place", "attempt_backward", "_fast_backward"):
            name = "_backward" if "backward" in attribute else ""
            monkeypatch.setattr(_compute, attribute, counting(name, getattr(_compute, attribute)))
    else:
        for name in fastact.ops.__all__:
            monkeypatch.setattr(fastact, name, counting(name, getattr(fastact, name)))
    return counted


def make(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=torch.float64).to(dtype)


def slopes(x, shared=False, dtype=None):
    """As many slopes as x has channels, or one."""
    return (torch.rand(1 if shared or x.dim() < 2 else x.size(1)) - 0.2).to(dtype or x.dtype)


def leaf(tensor):
    return tensor.detach().requires_grad_()


def gradients(function, x, weight, dy):
    """y, and the gradients of x and weight (None: not used)."""
    x, weight = leaf(x), leaf(weight)
    y = function(x, weight)
    return y, *torch.autograd.grad(y, (x, weight), dy, allow_unused=True)


def assert_near(ours, torchs, **options):
    if torchs is None:
        assert ours is None
    else:
        torch.testing.assert_close(ours, torchs, equal_nan=True, **options)


# ---- the user's first lines ------------------------------------------------------------------------------------------


def test_the_users_first_lines(calls):
    x = torch.tensor([-2.0, 4.0])
    with ours.enabled():
        calls.clear()  # enabled() tries the kernels once
        relu, prelu = nn.ReLU(), nn.PReLU()
        assert repr(relu(x)) == "tensor([0., 4.])"
        assert prelu(x).tolist() == [-0.5, 4.0]
        assert calls == {"prelu": 1}
    relu, prelu = ours.ReLU(), ours.PReLU()
    assert repr(relu(x)) == "tensor([0., 4.])"
    assert repr(prelu(x).detach()) == "tensor([-0.5000,  4.0000])"
    assert calls == {"prelu": 2, "relu": 1}


def test_which_calls_reach_fastact(calls):
    """Forward and backward of each contestant, once each; torch's own outside of enabled() not at all."""
    for name, contestant in CONTESTANTS.items():
        x = make(2, 3, 64, 64)  # large enough for relu to be recorded by us
        with contestant.block():
            gradients(contestant.ours, x, slopes(x), torch.ones_like(x))
        operation = "prelu" if contestant.slopes else "leaky_relu" if name.startswith(("leaky", "Leaky")) else "relu"
        # enabled() tries itself once as well
        expected = 2 if name.startswith("enabled") else 1
        assert calls == {operation: expected, f"{operation}_backward": expected}, name
        calls.clear()
        gradients(contestant.torchs, x, slopes(x), torch.ones_like(x))
        assert not calls, name


# ---- as torch --------------------------------------------------------------------------------------------------------


@each
@each_input
def test_forward_and_backward_as_torch(contestant, make_x):
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    for dtype, shared in itertools.product(dtypes, (False, True)[: 1 + contestant.slopes]):
        x = make_x(lambda *shape, dtype=dtype: make(*shape, dtype=dtype))
        weight = slopes(x, shared)
        dy = make(*x.shape, dtype=dtype)
        if x.dim() > 1:
            dy = dy.transpose(0, 1).contiguous().transpose(0, 1)
        y, dx, dweight = gradients(contestant.torchs, x, weight, dy)
        with contestant.block():
            our_y, our_dx, our_dweight = gradients(contestant.ours, x, weight, dy)
        assert_near(our_y, y, rtol=0, atol=0)
        assert_near(our_dx, dx, rtol=0, atol=0)
        if dtype in _compute.DTYPES and x.numel():
            assert our_y.stride() == torch.empty_like(x).stride()  # no gaps of x's
        if dweight is None:
            assert our_dweight is None
            continue
        assert (our_dweight.shape, our_dweight.dtype) == (weight.shape, weight.dtype)
        if dtype in _compute.DTYPES:  # then it is exact, and torch's is not
            exact = gradients(F.prelu, x.double(), weight.double(), dy.double())[2].to(dtype)
            assert_near(our_dweight, exact)
        else:
            assert_near(our_dweight, dweight, rtol=0.1, atol=0.5)


@each
def test_results_lie_as_the_input_lies(contestant):
    for memory in (torch.contiguous_format, torch.channels_last):
        x = make(2, 3, 4, 5).to(memory_format=memory)
        with contestant.block():
            y, dx, _ = gradients(contestant.ours, x, slopes(x), make(2, 3, 4, 5))
        assert y.is_contiguous(memory_format=memory) and dx.is_contiguous(memory_format=memory)


@each
def test_expanded_dy(contestant):
    """That of sum().backward() has no strides."""
    x, weight = leaf(make(2, 3, 4)), leaf(slopes(make(2, 3)))
    with contestant.block():
        contestant.ours(x, weight).sum().backward()
    got = x.grad, weight.grad
    x.grad = weight.grad = None
    contestant.torchs(x, weight).sum().backward()
    assert_near(got[0], x.grad)
    assert_near(got[1], weight.grad)


@each
def test_only_what_needs_a_gradient_has_one(contestant):
    for x_too, weight_too in itertools.product((False, True), repeat=2):
        x, weight = make(2, 3, 4).requires_grad_(x_too), slopes(make(2, 3)).requires_grad_(weight_too)
        with contestant.block():
            y = contestant.ours(x, weight)
            assert y.requires_grad == (x_too or (weight_too and contestant.slopes))
            if y.requires_grad:
                y.sum().backward()
        assert (x.grad is not None) == x_too
        assert (weight.grad is not None) == (weight_too and contestant.slopes)


@each
def test_gradcheck(contestant):
    x = make(2, 3, 4, dtype=torch.float64)
    x, weight = leaf(x + 0.1 * x.sign()), leaf(slopes(x))  # not near 0
    inputs = (x, weight) if contestant.slopes else (x,)

    def function(x, weight=weight):
        return contestant.ours(x, weight)

    with contestant.block():
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@each
def test_double_backward_as_torch(contestant):
    x, weight, dy, v = leaf(make(2, 3, 4)), leaf(slopes(make(2, 3))), leaf(make(2, 3, 4)), make(2, 3, 4)

    def second(function):
        (dx,) = torch.autograd.grad(function(x, weight), x, dy, create_graph=True)
        return torch.autograd.grad((dx * v).sum(), (x, weight, dy), allow_unused=True, materialize_grads=True)

    with contestant.block():
        got = second(contestant.ours)
    for mine, torchs in zip(got, second(contestant.torchs), strict=True):
        assert_near(mine, torchs)


@each_of_ours
def test_forward_ad(contestant):
    x, weight, dx, dweight = make(2, 3, 4), slopes(make(2, 3)), make(2, 3, 4), make(3)

    def tangents(function):
        with forward_ad.dual_level():
            y = function(forward_ad.make_dual(x, dx), forward_ad.make_dual(weight, dweight))
            return forward_ad.unpack_dual(y)

    with contestant.block():
        got = tangents(contestant.ours)
    for mine, torchs in zip(got, tangents(contestant.torchs), strict=True):
        assert_near(mine, torchs)


TRANSFORMS = {
    "grad": lambda f, x, w: torch.func.grad(lambda x, w: f(x, w).square().sum(), (0, 1))(x[0], w),
    "vmap": lambda f, x, w: torch.func.vmap(lambda x: f(x, w))(x),
    "vmap, batched slopes": lambda f, x, w: torch.func.vmap(f)(x, w.expand(len(x), -1)),
    "vmap of grad": lambda f, x, w: torch.func.vmap(
        torch.func.grad(lambda w, x: f(x, w).square().sum()), in_dims=(None, 0)
    )(w, x),
    "jacrev": lambda f, x, w: torch.func.jacrev(f, (0, 1))(x[0], w),
    "jacfwd": lambda f, x, w: torch.func.jacfwd(f, (0, 1))(x[0], w),
    "hessian": lambda f, x, w: torch.func.hessian(lambda x, w: f(x, w).square().sum(), (0, 1))(x[0], w),
    "vjp": lambda f, x, w: torch.func.vjp(f, x[0], w)[1](torch.ones_like(x[0])),
    "jvp": lambda f, x, w: torch.func.jvp(f, (x[0], w), (x[1], w)),
    "linearize": lambda f, x, w: torch.func.linearize(lambda x: f(x, w), x[0])[1](x[1]),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@each_of_ours
def test_transforms(contestant, transform):
    x, weight = make(4, 2, 3, 2), slopes(make(2, 3))

    def flat(function):
        return torch.utils._pytree.tree_leaves(transform(function, x, weight))

    with contestant.block():
        got = flat(contestant.ours)
    for mine, torchs in zip(got, flat(contestant.torchs), strict=True):
        assert_near(mine, torchs)


@each
def test_per_sample_gradients_outside_of_transforms(contestant):
    """is_grads_batched goes through vmap of a backward that was recorded in plain tensors."""
    x, weight = leaf(make(2, 3, 4)), leaf(slopes(make(2, 3)))
    dy = make(5, 2, 3, 4)

    def batched(function):
        return torch.autograd.grad(function(x, weight), (x, weight), dy, is_grads_batched=True, allow_unused=True)

    with contestant.block():
        got = batched(contestant.ours)
    for mine, torchs in zip(got, batched(contestant.torchs), strict=True):
        assert_near(mine, torchs)


@each
def test_modes_of_torch(contestant):
    x, weight = make(2, 3, 4), leaf(slopes(make(2, 3)))
    expected = contestant.torchs(x, weight)
    with contestant.block():
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                y = contestant.ours(x, weight)
                assert not y.requires_grad and y.is_inference() == torch.is_inference_mode_enabled()
                assert_near(y, expected.detach())
        y = contestant.ours(x.to("meta"), weight.to("meta"))
        assert y.is_meta and y.shape == x.shape
        with torch._subclasses.FakeTensorMode() as mode:
            fake = contestant.ours(mode.from_tensor(x), mode.from_tensor(weight))
            assert type(fake).__name__ == "FakeTensor" and fake.shape == x.shape
        negative, zero = torch.complex(x, x).conj().imag, torch._efficientzerotensor(x.shape)
        negative_weight = torch.complex(weight, weight).conj().imag
        assert negative.is_neg() and negative_weight.is_neg() and zero.data_ptr() == 0
        for z, w in ((negative, weight), (zero, weight), (x, negative_weight)):
            assert_near(contestant.ours(z, w), contestant.torchs(z, w))
            for dy in (negative, zero):
                for mine, torchs in zip(
                    gradients(contestant.ours, x, w, dy), gradients(contestant.torchs, x, w, dy), strict=True
                ):
                    assert_near(mine, torchs)


@each
def test_writing_after_forward_is_an_error_where_it_is_one_in_torch(contestant):
    """So x can be reused after relu, which keeps its result (as the next layer does) and not x."""
    for size, position in itertools.product((3, 100_000), ("x", "y")):
        outcomes = []
        for function, block in ((contestant.torchs, contextlib.nullcontext), (contestant.ours, contestant.block)):
            with block():
                x = leaf(make(1, 1, size)) * 1
                y = function(x, slopes(x))
                (x if position == "x" else y).add_(1)
                try:
                    outcomes.append(torch.autograd.grad(y.sum(), x) and "no error")
                except RuntimeError as error:
                    outcomes.append(str(error)[:70])
        assert outcomes[0] == outcomes[1], (size, position)


@each_of_ours
def test_autocast(contestant):
    x, weight = make(2, 3, 4), slopes(make(2, 3))
    results = []
    for function, block in ((contestant.torchs, contextlib.nullcontext), (contestant.ours, contestant.block)):
        with torch.autocast("cpu", torch.bfloat16), block():
            results.append(gradients(function, x, weight, torch.ones_like(function(x, weight))))
    for torchs, mine in zip(*results, strict=True):
        if torchs is not None:
            assert mine.dtype is torchs.dtype
            assert_near(mine, torchs, rtol=0.02, atol=0.02)


def test_float32_slopes_with_16_bit_inputs():
    for dtype in (torch.float16, torch.bfloat16):
        x, weight, dy = make(3, 4, 50, dtype=dtype), slopes(make(1, 4)), make(3, 4, 50, dtype=dtype)
        exact = gradients(F.prelu, x.double(), weight.double(), dy.double())
        for name in ("prelu", "PReLU", "operator prelu"):
            y, dx, dweight = gradients(CONTESTANTS[name].ours, x, weight, dy)
            assert (y.dtype, dx.dtype, dweight.dtype) == (dtype, dtype, torch.float32)
            assert_near(y, F.prelu(x.float(), weight).to(dtype), rtol=0, atol=0)
            assert_near(dx, exact[1].to(dtype))
            assert_near(dweight, exact[2].float(), rtol=1e-4, atol=1e-5)
        with ours.enabled(), pytest.raises(RuntimeError, match="promoting"):
            F.prelu(x, weight)


def test_16_bit_floats_go_through_fastact_where_it_takes_them(calls):
    for dtype in (torch.float16, torch.bfloat16):
        x = make(2, 3, dtype=dtype)
        ours.prelu(x, slopes(x))
        assert calls["prelu"] == (dtype in _compute.DTYPES)
        calls.clear()
        with ours.enabled():
            calls.clear()
            F.prelu(x, slopes(x))
        assert calls["prelu"] == (dtype in _compute.DTYPES)
        calls.clear()


def test_special_numbers():
    x = torch.tensor([-0.0, 0.0, torch.nan, torch.inf, -torch.inf, -1e-45])
    for function in (ours.relu, ours.ReLU(), torch.ops.fastact.relu, lambda x: ours.relu(x.clone(), True)):
        for recorded in (False, True):
            y = function(leaf(x) * 1 if recorded else x).detach()
            assert torch.equal(torch.signbit(y), torch.tensor([False] * 6))  # torch's own keeps -0.0
            assert y[2].isnan() and y[3] == torch.inf and not y[[0, 1, 4, 5]].any()
    dy = torch.full_like(x, torch.inf)
    assert torch.equal(
        gradients(lambda x, w: ours.relu(x), x, x, dy)[1] == torch.inf, torch.tensor([0, 0, 1, 1, 0, 0]) > 0
    )


IN_PLACE = {"relu": (ours.relu, F.relu, ()), "leaky_relu": (ours.leaky_relu, F.leaky_relu, (0.2,))}


@pytest.mark.parametrize(("mine", "torchs", "more"), IN_PLACE.values(), ids=IN_PLACE)
def test_in_place(mine, torchs, more, calls):
    x = make(2, 3, 4)
    for recorded in (False, True):
        result = []
        for function in (mine, torchs):
            start = leaf(x) if recorded else x.clone()
            middle = start * 2
            version = middle._version
            y = function(middle, *more, inplace=True)
            assert y is middle or recorded
            assert middle._version > version and y.data_ptr() == middle.data_ptr()
            if recorded:
                (middle * middle).sum().backward()  # what was there counts no more
            result.append((y.detach(), start.grad))
        for a, b in zip(*result, strict=True):
            assert_near(a, b)
    assert sum(calls.values()) == 3
    for bad in (leaf(x), leaf(x)[0]):  # a leaf, and a view of one
        before = bad.detach().clone()
        with pytest.raises(RuntimeError, match="in-place"):
            mine(bad, *more, inplace=True)
        assert torch.equal(bad.detach(), before)
    with torch.inference_mode():
        inference = make(2, 3)
    for bad in (inference, make(1, 3).expand(4, 3)):
        messages = []
        for function in (mine, torchs):
            with pytest.raises(RuntimeError) as error:
                function(bad, *more, inplace=True)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    base = leaf(x) * 1
    mine(base[0], *more, inplace=True)
    base.sum().backward()  # a view of what is no leaf
    saved = leaf(x) * 1
    y = saved.exp()  # keeps y
    mine(y, *more, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# ---- enable, disable, enabled ----------------------------------------------------------------------------------------


def is_replaced():
    return len(_host.kernels_of(_host.FORWARD, "CPU")) > 1


def test_enable_and_disable_may_be_repeated(calls):
    try:
        for _ in range(2):
            assert ours.enable() is None
            assert ours.enable(torch_memory=True) is None
            assert _compute.torch_memory and is_replaced()
            assert ours.disable() is None
            assert ours.disable() is None
            assert not _compute.torch_memory and not is_replaced()
        ours.enable()
        with ours.enabled(torch_memory=True):
            assert _compute.torch_memory
        assert is_replaced() and not _compute.torch_memory
    finally:
        ours.disable()
    calls.clear()
    F.prelu(make(2, 3), slopes(make(2, 3)))
    assert not calls


def test_blocks_nest_and_overlap():
    with ours.enabled():
        with ours.enabled():
            pass
        assert is_replaced()
        ours.disable()
        assert is_replaced()
    assert not is_replaced()
    first, second = ours.enabled(), ours.enabled(torch_memory=True)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_replaced() and _compute.torch_memory
    second.__exit__(None, None, None)
    assert not is_replaced() and not _compute.torch_memory
    with pytest.raises(KeyError), ours.enabled():
        raise KeyError
    assert not is_replaced()


MODES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "another device": lambda: torch.device("meta"),
    "fake tensors": torch._subclasses.FakeTensorMode,
    "forward AD": forward_ad.dual_level,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_it_may_be_called_under_any_mode(mode):
    with mode(), ours.enabled():
        assert is_replaced()


def test_it_holds_for_all_threads(calls):
    with ours.enabled():
        calls.clear()
        thread = threading.Thread(target=lambda: F.prelu(make(2, 3), slopes(make(2, 3))))
        thread.start()
        thread.join()
        assert calls == {"prelu": 1}


def test_a_tape_runs_backward_in_the_other_state():
    x, weight, dy = make(2, 3, 4), slopes(make(2, 3)), make(2, 3, 4)
    expected = gradients(F.prelu, x, weight, dy)[1:]
    for before in (True, False):
        x_, weight_ = leaf(x), leaf(weight)
        with ours.enabled() if before else contextlib.nullcontext():
            y = F.prelu(x_, weight_)
        with contextlib.nullcontext() if before else ours.enabled():
            got = torch.autograd.grad(y, (x_, weight_), dy)
        for mine, torchs in zip(got, expected, strict=True):
            assert_near(mine, torchs)


def test_another_override_is_named():
    """One that was there before, and one that came after us."""
    other = torch.library.Library("aten", "IMPL")
    other.impl(_host.BACKWARD, lambda dy, x, weight: (dy, dy), "CPU")
    with pytest.raises(RuntimeError, match=r"replaced already, at .*test_torch\.py"):
        ours.enable()
    assert not is_replaced()
    other._destroy()
    with ours.enabled():
        other = torch.library.Library("aten", "IMPL")
        other.impl(_host.FORWARD, lambda x, weight: x, "CPU")
        with pytest.raises(RuntimeError, match=r"replaced after .*test_torch\.py"):
            ours.enable()
        other._destroy()
        ours.enable()
        ours.disable()


def test_a_torch_without_the_kernels(monkeypatch):
    """The private names stand in _host; this notices when torch drops one of them."""
    assert _host.kernels_of(_host.FORWARD, "CPU") and _host.kernels_of(_host.BACKWARD, "CPU")
    assert str(torch.ops.aten._prelu_kernel_backward.default._schema).endswith("-> (Tensor, Tensor)")
    for name in ("FORWARD", "BACKWARD"):
        with monkeypatch.context() as patch:
            patch.setattr(_host, name, "_no_such_kernel")
            with pytest.raises(RuntimeError, match=r"_no_such_kernel.*replace_activations"):
                ours.enable()
    assert not is_replaced()


def test_wrong_numbers_are_noticed(monkeypatch):
    for name in ("forward", "backward"):
        with monkeypatch.context() as patch:
            function = getattr(_compute, name)

            def wrong(*arguments, function=function):
                result = function(*arguments)
                return result + 1 if isinstance(result, torch.Tensor) else (result[0], result[1] + 1)

            patch.setattr(_compute, name, wrong)
            with pytest.raises(RuntimeError, match="wrong numbers"):
                ours.enable()
            assert not is_replaced()


def test_what_fastact_does_not_take_goes_to_torchs_kernel(calls, monkeypatch):
    x, weight, dy = make(2, 3, 4), slopes(make(2, 3)), make(2, 3, 4)
    expected = gradients(F.prelu, x, weight, dy)
    with ours.enabled():
        calls.clear()
        monkeypatch.setattr(_compute, "DTYPES", {torch.float64})
        for mine, torchs in zip(gradients(F.prelu, x, weight, dy), expected, strict=True):
            assert_near(mine, torchs, rtol=0, atol=0)
        assert not calls
        quantised = torch.quantize_per_tensor(make(2, 3), 0.1, 0, torch.quint8)
        with pytest.raises(RuntimeError, match="promoting"):
            F.prelu(quantised, weight)


SCRIPTS = ROOT / "tests" / "scripts"


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_each_name_that_may_be_missing_in_torch():
    command = [sys.executable, "-W", "ignore", SCRIPTS / "torch_hidden.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) > 10 and all(line.endswith(" right") for line in lines), done.stdout + done.stderr


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
def test_an_exchange_that_is_wrong_is_left_with_a_warning(monkeypatch, calls):
    for name in ("_fast_forward", "_fast_backward"):
        for fault, words in (
            (lambda *_, **__: (X, X), "wrong numbers|fails"),
            (lambda *_, **__: 1 / 0, "ZeroDivision"),
        ):
            _compute.use_exchange(True)
            with monkeypatch.context() as patch:
                patch.setattr(_compute, name, fault)
                with pytest.warns(RuntimeWarning, match=f"(?s)({words}).*NumPy arrays") as caught:
                    ours.enable()
                assert len(caught) == 1 and caught[0].filename == __file__
                assert F.prelu(-X, W / 2).tolist() == (-X / 2).tolist()
                ours.disable()
                assert not _compute.use_exchange(False)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    ours.enable()
                    ours.disable()


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
def test_the_layout_of_torchs_structs():
    """Our dlpack.h beside the one that this torch was built with, compared by a compiler."""
    header = Path(torch.__file__).parent / "include" / "ATen" / "dlpack.h"
    if not shutil.which("g++") or "DLPackExchangeAPI" not in header.read_text(encoding="utf-8"):
        pytest.skip("there is no g++, or this torch has no exchange API")
    options = ["-std=c++17", "-Wall", "-Werror", "-fsyntax-only", f"-I{header.parents[1]}"]
    command = ["g++", *options, str(SCRIPTS / "dlpack_layout.cpp")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
def test_enable_prints_nothing_and_warns_of_nothing():
    code = "import torch, fastact.torch as t; t.enable(); print(torch.nn.PReLU()(torch.tensor([-2.0])).item())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-0.5\n", "")


# ---- modules ---------------------------------------------------------------------------------------------------------

MODULES = [
    (nn.ReLU, ours.ReLU, {"inplace": True}),
    (nn.LeakyReLU, ours.LeakyReLU, {"negative_slope": 0.3}),
    (nn.PReLU, ours.PReLU, {"num_parameters": 3, "init": 0.1}),
]
each_module = pytest.mark.parametrize(("torchs", "mine", "options"), MODULES, ids=lambda v: getattr(v, "__name__", ""))


@each_module
def test_modules(torchs, mine, options):
    a, b = torchs(**options), mine(**options)
    assert isinstance(b, torchs) and repr(a) == repr(b)
    assert repr(mine(**options, opaque=True)).endswith("opaque=True)")
    b.load_state_dict(a.state_dict())
    a.load_state_dict(b.state_dict())
    x = make(2, 3, 4)
    for clone in (copy.deepcopy(b), pickle.loads(pickle.dumps(b)), reread(b)):
        assert type(clone) is mine and clone.opaque is False
        assert_near(clone(x.clone()), a(x.clone()))
    for freeze in (torch.jit.script, lambda module: torch.jit.trace(module, x.clone())):
        assert_near(freeze(b)(2 * x), a(2 * x))
        assert kinds(freeze(b)) == kinds(freeze(a))  # what exporters look for
        assert kinds(freeze(mine())) == kinds(freeze(torchs()))
    bound = mine(*options.values())
    assert repr(bound) == repr(b)
    with pytest.raises(TypeError):
        mine(*options.values(), *([None] * 4), True)  # opaque is a keyword


def kinds(scripted):
    return [node.kind() for node in scripted.inlined_graph.nodes() if node.kind().startswith("aten")]


def reread(module):
    """The module after torch.save and torch.load."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_scripted_functions():
    @torch.jit.script
    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return ours.prelu(ours.leaky_relu(ours.relu(x - 1), 0.1) + x, weight)

    x, weight = make(2, 3), slopes(make(2, 3))
    assert_near(function(x, weight), F.prelu(F.leaky_relu(F.relu(x - 1), 0.1) + x, weight))
    with ours.enabled():
        assert_near(function(x, weight), F.prelu(F.leaky_relu(F.relu(x - 1), 0.1) + x, weight))
    assert_near(torch.jit.trace(ours.prelu, (x, weight))(2 * x, weight), F.prelu(2 * x, weight))


def test_replace_activations(calls):
    shared = nn.PReLU(3)
    kept = [type("Mine", (nn.ReLU,), {})(), nn.ReLU6(), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))]
    parametrised = nn.PReLU(3)
    nn.utils.parametrize.register_parametrization(parametrised, "weight", nn.Identity())
    quantised = torch.ao.nn.quantized.PReLU(0.1, 0)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(True), shared, nn.Sequential(shared, nn.LeakyReLU(0.3)), *kept,
                          parametrised)  # fmt: skip
    x = make(4, 3)
    expected = model(x.clone())
    hooked = []
    shared.register_forward_hook(lambda *_: hooked.append(1))
    model[1].eval()
    names, parameters = [name for name, _ in model.named_modules()], list(model.parameters())
    types = [type(module) for module in (*kept, parametrised, quantised)]
    assert ours.replace_activations(model) is model and ours.replace_activations(quantised) is quantised
    assert [type(model[i]) for i in (1, 2)] == [ours.ReLU, ours.PReLU] and type(model[3][1]) is ours.LeakyReLU
    assert model[2] is model[3][0] is shared
    assert [type(module) for module in (*kept, parametrised, quantised)] == types
    assert names == [name for name, _ in model.named_modules()]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert model.training and not model[1].training
    assert_near(model(x.clone()), expected)
    assert len(hooked) == 2 and calls["prelu"] == 2 and calls["relu"] == calls["leaky_relu"] == 1
    alone = ours.replace_activations(nn.PReLU(), opaque=True)
    assert type(alone) is ours.PReLU and alone.opaque
    assert torch.fx.symbolic_trace(model)(x.clone()).shape == (4, 3)


# ---- compiling -------------------------------------------------------------------------------------------------------

OPERANDS = {
    "relu": lambda x, w: (x,),
    "leaky_relu": lambda x, w: (x, 0.2),
    "prelu": lambda x, w: (x, w),
}


@pytest.mark.parametrize("name", _operators.OPERATORS)
def test_opcheck(name):
    """The whole of torch's check for one input, its fake kernel for all."""
    operator = getattr(torch.ops.fastact, name).default
    operands = OPERANDS[name.removesuffix("_backward")]
    for kind, make_x in INPUTS.items():
        x = make_x(make)
        given = [*([make(*x.shape)] if name.endswith("backward") else []), *operands(x, slopes(x))]
        given = [leaf(value) if isinstance(value, torch.Tensor) else value for value in given]
        checks = {} if kind == "plain" else {"test_utils": ["test_schema", "test_faketensor"]}
        torch.library.opcheck(operator, tuple(given), **checks)


class Net(nn.Module):
    def __init__(self, opaque):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), ours.ReLU(opaque=opaque), nn.Conv2d(4, 4, 1),
                                    ours.LeakyReLU(0.1, opaque=opaque), ours.PReLU(4, opaque=opaque))  # fmt: skip

    def forward(self, x):
        return self.layers(x)


# inductor runs the C++ compiler, half a minute each.
INDUCTOR = pytest.param("inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++ for inductor"))


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
@pytest.mark.parametrize("opaque", [False, True])
def test_compile(opaque, backend, calls):
    net, x = Net(opaque), make(2, 3, 4, 4)
    expected = net(x)
    expected.sum().backward()
    grads = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    calls.clear()
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    y = compiled(x)
    y.sum().backward()
    assert_near(y, expected)
    for parameter, grad in zip(net.parameters(), grads, strict=True):
        assert_near(parameter.grad, grad)
    assert set(calls) == ({"relu", "leaky_relu", "prelu"} | {f"{n}_backward" for n in OPERANDS} if opaque else set())


@pytest.mark.parametrize("opaque", [False, True])
def test_export(opaque):
    net, x = Net(opaque), make(2, 3, 4, 4)
    exported = torch.export.export(net, (x,))
    targets = {str(node.target) for node in exported.graph.nodes}
    assert {f"fastact.{name}.default" in targets for name in OPERANDS} == {opaque}
    assert_near(exported.module()(x), net(x))


def test_compiled_while_enabled():
    x = make(2, 3, 4, 4)
    with ours.enabled():
        assert_near(
            torch.compile(nn.PReLU(3), fullgraph=True, backend="aot_eager")(x), F.prelu(x, torch.tensor([0.25] * 3))
        )


def test_compiled_functions():
    def function(x, weight):
        return ours.prelu(ours.leaky_relu(ours.relu(x - 1), 0.1) + x, weight)

    x, weight = make(2, 3), slopes(make(2, 3))
    assert_near(torch.compile(function, fullgraph=True, backend="aot_eager")(x, weight), function(x, weight))
    half = x.to(torch.float16)
    assert torch.compile(ours.prelu, fullgraph=True, backend="aot_eager")(half, weight).dtype is torch.float16


# ---- memory ----------------------------------------------------------------------------------------------------------


def results(block):
    x = make(64, 4, 64)
    with block:
        return [F.prelu(x, slopes(x)), *gradients(ours.prelu, x, slopes(x), x)[:2], ours.relu(x), ours.relu(make(3))]


def test_what_a_result_cannot_do():
    """In our memory it cannot grow in place; in torch's it can.  Everything else works in both."""
    for torchs, block in ((False, ours.enabled()), (True, ours.enabled(torch_memory=True))):
        for y in (y.detach() for y in results(block)):
            size = y.numel()
            y.add_(1).resize_(1)  # smaller is always possible
            if torchs:
                assert y.resize_(2 * size).numel() == 2 * size
            else:
                with pytest.raises(RuntimeError, match="resiz"):
                    y.resize_(2 * size)
                with pytest.raises(RuntimeError, match="resiz"):
                    y.untyped_storage().resize_(0)
            y.set_(torch.zeros(3).untyped_storage(), 0, (3,))
            assert not y.any()
            assert pickle.loads(pickle.dumps(y)).numel() == 3
            y.share_memory_()


def test_what_was_read_can_be_resized():
    """As FSDP does with parameters."""
    for contestant in CONTESTANTS.values():
        x, weight, dy = leaf(make(2, 3)), leaf(slopes(make(2, 3))), make(2, 3)
        with contestant.block():
            contestant.ours(x, weight).backward(dy)
        for tensor in (x, weight, dy):
            tensor.untyped_storage().resize_(1000)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer gives no address out twice")
def test_results_lie_in_recycled_memory_and_outlive_what_made_them():
    x = make(64, 4, 64)
    if not fastact.get_buffer_limit():
        pytest.skip("nothing is recycled here")
    before = fastact.config()["buffers"]
    kept = [ours.relu(x) for _ in range(5)]
    views = [y[1:, 0] for y in kept]
    expected = F.relu(x)[1:, 0]
    del kept
    assert all(torch.equal(view, expected) for view in views)
    assert before is not None
    address = ours.relu(x).data_ptr()
    assert ours.relu(x).data_ptr() == address


def test_no_tensor_of_full_size_for_the_slopes():
    x = make(8, 64, 56, 56)
    weight, dy = leaf(slopes(x)), make(8, 64, 56, 56)
    for function, block in ((ours.prelu, contextlib.nullcontext()), (F.prelu, ours.enabled())):
        with block:
            y = function(x, weight)
            with torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
            ) as profile:
                y.backward(dy)
        assert max(event.cpu_memory_usage for event in profile.key_averages()) < x.nbytes // 100


# ---- what users read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ours.__all__)
def test_docstrings(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in doctest.DocTestFinder(recurse=False).find(getattr(ours, name), name, globs={}):
        runner.run(test)
    assert not runner.failures and getattr(ours, name).__doc__


def test_the_page_runs_as_it_stands():
    text = (ROOT / "docs" / "torch.md").read_text(encoding="utf-8")
    for program in re.findall("```python\n(.*?)```", text, re.DOTALL):
        names = {}
        exec(program, names)
        assert type(names["model"][1]) is ours.PReLU


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
def test_the_example(monkeypatch, calls, capsys):
    spec = importlib.util.spec_from_file_location("faster", ROOT / "examples" / "faster_torch_models.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setitem(
        example.NETWORKS, "convtasnet", (lambda: example.ConvTasNet(1, 1), lambda n: torch.randn(n, 1, 400))
    )
    for network, prelus in (("mobilefacenet", 33), ("convtasnet", 3)):
        calls.clear()
        options = ["--batch", "2", "--steps", "2", "--threads", "1", "--float64"]
        found = example.main([*options, "--network", network])
        losses = found[network][1]
        assert calls == {name: 2 * prelus + 2 for name in ("prelu", "prelu_backward")}  # enabled() tries them once
        assert losses["torch"] == pytest.approx(losses["fastact"], rel=1e-10)  # the second is after a step
        assert losses["torch"][0] != losses["relu"][0]
    assert "x, " in capsys.readouterr().out


# ---- threads and processes -------------------------------------------------------------------------------------------


def test_torchs_threads_and_no_more(monkeypatch):
    """Large calls ask for torch's number of threads, from torch's runtime; small ones ask for nothing."""
    seen = []

    def spy(*arguments, n_threads=None, **options):
        seen.append((n_threads, fastact.get_thread_source()))
        return relu(*arguments, n_threads=n_threads, **options)

    _compute.use_exchange(False)
    relu = fastact.relu
    monkeypatch.setattr(fastact, "relu", spy)
    source = "openmp" if _compute._HAS_OPENMP else "own"
    for n in (1, 2):
        torch.set_num_threads(n)
        torch.ops.fastact.relu(make(8, 64, 64, 4)), torch.ops.fastact.relu(make(3))
    assert seen == [(1, "own"), (None, "own"), (2, source), (None, "own")]


@each
def test_many_python_threads(contestant):
    x, weight, dy = make(8, 4, 512), slopes(make(8, 4)), make(8, 4, 512)
    expected = gradients(contestant.torchs, x, weight, dy)
    wrong = []

    def work():
        for _ in range(5):
            for mine, torchs in zip(gradients(contestant.ours, x, weight, dy), expected, strict=True):
                if torchs is not None and not torch.allclose(mine, torchs, rtol=1e-4, atol=1e-4):
                    wrong.append(mine)

    with contestant.block():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


class Activated(data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        x = torch.linspace(-1, 1, 300_000) * (i + 1)
        return ours.relu(x).sum() + F.prelu(x, torch.tensor([0.5])).sum()


def test_data_loader_workers():
    """Forked after torch's threads have run here."""
    with ours.enabled():
        ours.relu(make(1_000_000))
        expected = [Activated()[i] for i in range(4)]
        got = list(data.DataLoader(Activated(), batch_size=None, num_workers=2, timeout=60))
    assert_near(torch.stack(got), torch.stack(expected))


DISTRIBUTED = """
import os, sys, torch, torch.distributed as dist, fastact.torch as ours
from torch import nn
rank, file = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + file, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3), nn.PReLU(3), nn.Linear(3, 3), nn.ReLU(), nn.PReLU())
ours.replace_activations(model[3]); model[4] = ours.replace_activations(model[4])
whole = torch.randn(8, 4)
model(whole).square().sum().div(2).backward()
expected = [p.grad.clone() for p in model.parameters()]
model.zero_grad()
parallel = nn.parallel.DistributedDataParallel(model)
with ours.enabled():
    parallel(whole[4 * rank : 4 * rank + 4]).square().sum().backward()
assert all(torch.allclose(p.grad, e, atol=1e-5) for p, e in zip(model.parameters(), expected))
print("right")
dist.destroy_process_group()
"""


@pytest.mark.parametrize("way", WAYS[:1], indirect=True)
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_distributed_data_parallel(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", DISTRIBUTED]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meeting")], stdout=-1, stderr=-1, text=True)
        for rank in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "right\n"), err


# ---- bad input -------------------------------------------------------------------------------------------------------

X, W = torch.ones(2, 3), torch.ones(3)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    QUANTISED = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)
    SPARSE = {"coo": X.to_sparse(), "csr": X.to_sparse_csr()}
BAD = {
    "sparse": (lambda: ours.prelu(SPARSE["coo"], W), NotImplementedError, "to_dense"),
    "sparse csr": (lambda: ours.relu(SPARSE["csr"]), NotImplementedError, "to_dense"),
    "sparse leaky": (lambda: ours.LeakyReLU()(SPARSE["coo"]), NotImplementedError, "to_dense"),
    "quantised": (lambda: ours.prelu(QUANTISED, W), NotImplementedError, "dequantize"),
    "quantised relu": (lambda: ours.ReLU()(QUANTISED), NotImplementedError, "dequantize"),
    "slopes": (lambda: ours.prelu(X, torch.ones(4)), RuntimeError, "4 slopes and 3 channels.*num_parameters=3"),
    "no slopes": (lambda: ours.prelu(X, torch.ones(0)), RuntimeError, "0 slopes"),
    "slopes of one axis": (lambda: ours.prelu(torch.ones(3), W), RuntimeError, "3 slopes and 1 channels"),
    "slopes of no axis": (lambda: ours.prelu(torch.tensor(1.0), W), RuntimeError, "3 slopes"),
    "two axes": (lambda: ours.prelu(X, torch.ones(1, 3)), RuntimeError, "1D.*flatten"),
    "mixed": (lambda: ours.prelu(X, W.double()), RuntimeError, "float32.*float64.*convert"),
    "mixed, 16 bits": (lambda: ours.prelu(X, W.half()), RuntimeError, "convert"),
    "mixed 16 bits": (lambda: ours.PReLU(dtype=torch.bfloat16)(X.half()), RuntimeError, "convert"),
    "bool": (lambda: ours.relu(X.bool()), RuntimeError, "Boolean"),
    "integers": (lambda: ours.leaky_relu(X.int()), NotImplementedError, "Int"),
    "integer slopes": (lambda: ours.prelu(X.int(), W.int()), NotImplementedError, "Int"),
    "list": (lambda: ours.relu([1.0]), TypeError, "Tensor"),
    "array": (lambda: ours.prelu(np.ones(3), W), TypeError, "Tensor"),
    "number": (lambda: ours.prelu(X, 0.25), TypeError, "Tensor"),
    "word": (lambda: ours.leaky_relu(X, "a"), (TypeError, ValueError), "a"),
    "complex": (lambda: ours.relu(X * 1j), NotImplementedError, "Complex|complex"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_errors(bad):
    function, kind, words = bad
    with pytest.raises(kind, match=f"(?s){words}"):
        function()


def test_integers_as_torch():
    assert_near(ours.relu(torch.tensor([-2, 3])), torch.tensor([0, 3]))


def test_nested_tensors_are_torchs():
    for layout in (torch.strided, torch.jagged):
        x = torch.nested.nested_tensor([torch.ones(2, 3), -torch.ones(4, 3)], layout=layout)
        assert ours.relu(x).is_nested
        for function in (ours.prelu, F.prelu):
            with pytest.raises((NotImplementedError, RuntimeError), match=r"prelu|channel size|irregular"):
                function(x, W)


def test_a_subclass_of_tensor_is_torchs():
    class Named(torch.Tensor):
        pass

    x = make(2, 3).as_subclass(Named)
    for y in (ours.relu(x), ours.leaky_relu(x), ours.prelu(x, slopes(make(2, 3)))):
        assert type(y) is Named
