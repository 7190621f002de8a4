"""Two devices made of one CPU, for test_jax.py: what each way to use both computes."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import fastact
import fastact.jax

rng = np.random.default_rng(0)
x, dy = (rng.standard_normal((4, 8, 50, 60), np.float32) for _ in "xy")
alpha = rng.uniform(-0.2, 0.5, 8).astype(np.float32)
mesh = Mesh(np.array(jax.devices()), ("batch",))
parted = P("batch")


def shard_map(function, inputs, outputs):
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs)


def gradients(function):
    return jax.jit(lambda x, alpha, dy: jax.vjp(function, x, alpha)[1](dy))


def loss(x, alpha, dy):
    return jax.lax.psum((fastact.jax.prelu(x, alpha) * dy).sum(), "batch")


assert len(jax.devices()) == 2
y = fastact.prelu(x, alpha)
dx, dalpha = fastact.prelu_backward(dy, x, alpha)
of_batches = shard_map(fastact.jax.prelu, (parted, P()), parted)
np.testing.assert_array_equal(jax.jit(of_batches)(x, alpha), y)
on_both = jax.pmap(fastact.jax.prelu, in_axes=(0, None))(x.reshape(2, 2, *x.shape[1:]), alpha)
np.testing.assert_array_equal(np.reshape(on_both, x.shape), y)
inside = jax.jit(shard_map(jax.grad(loss, (0, 1)), (parted, P(), parted), (parted, P())))
for function in (gradients(of_batches), inside):
    got = function(x, alpha, dy)
    np.testing.assert_array_equal(got[0], dx)
    np.testing.assert_allclose(got[1], dalpha, rtol=1e-5)  # one sum for each device
np.testing.assert_array_equal(jax.jit(shard_map(fastact.jax.relu, (parted,), parted))(x), fastact.relu(x))
whole = NamedSharding(mesh, parted)
got = gradients(fastact.jax.prelu)(jax.device_put(x, whole), alpha, jax.device_put(dy, whole))
np.testing.assert_array_equal(got[0], dx)  # XLA gathers the batch, so the sum is of the whole
np.testing.assert_array_equal(got[1], dalpha)
if hasattr(jax, "set_mesh"):  # since jax 0.7: shardings that are a part of types
    with jax.set_mesh(jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))):
        sharded = jax.device_put(x, parted)
        y_sharded = jax.jit(fastact.jax.prelu)(sharded, alpha)
        assert y_sharded.sharding.spec[0] == "batch"
        np.testing.assert_array_equal(y_sharded, y)
        got = gradients(fastact.jax.prelu)(sharded, alpha, jax.device_put(dy, parted))
        np.testing.assert_array_equal(got[0], dx)
        np.testing.assert_array_equal(got[1], dalpha)
on_second = fastact.jax.prelu(jax.device_put(x, jax.devices()[1]), alpha)
assert on_second.devices() == {jax.devices()[1]}
np.testing.assert_array_equal(on_second, y)
print("two devices")
