from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.models import from_nnx
from jaxft.weights import low_rank


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(11)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x, use_running_average=not train)


def test_the_pair_computes_what_the_module_does():
    module, x = Net(nnx.Rngs(0)), jnp.eye(3)
    apply, params = from_nnx(module)
    assert set(params) == {"layers", "norm"}
    assert set(params["layers"]) == {str(index) for index in range(11)}
    np.testing.assert_allclose(jax.jit(apply)(params, x), module(x), atol=1e-6)


def test_params_are_what_is_computed_with_and_other_state_stays():
    apply, params = from_nnx(Net(nnx.Rngs(0)))
    x, before = jnp.eye(3), apply(params, jnp.eye(3))
    other = jax.tree.map(lambda leaf: leaf + 0.5, params)
    assert not np.allclose(apply(other, x), before)
    jax.jit(lambda p: apply(p, x + 4, train=True))(params)
    np.testing.assert_array_equal(apply(params, x), before)
    gradient = jax.grad(lambda p: apply(p, x).sum())(params)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


def test_structured_weights_enter_the_module():
    apply, params = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    x = jnp.arange(6.0).reshape(2, 3)
    lora = low_rank(params["kernel"], jnp.ones((3, 1)), jnp.ones((1, 2)), scale=2.0)
    change = apply(params | {"kernel": lora}, x) - apply(params, x)
    np.testing.assert_allclose(change, np.repeat(2 * x.sum(1, keepdims=True), 2, axis=1), rtol=1e-5)
