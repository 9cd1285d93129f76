"""A scaled weight computes as its product would, on arrays and over other weights, and refuses the rest by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.weights import MissingRuleError, Scaled, lift, low_rank, materialise, materialise_all, scaled


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape) + 31 * len(shape) + seed), shape)


def outputs() -> Scaled:
    return scaled(normal(6, 4), normal(1, 4))


def inputs() -> Scaled:
    return scaled(normal(6, 4), normal(6, 1))


def whole() -> Scaled:
    return scaled(normal(6, 4), normal(1, 1))


def head_outputs() -> Scaled:
    return scaled(normal(6, 3, 4), normal(1, 3, 4))


def one_factor_a_head() -> Scaled:
    return scaled(normal(6, 3, 4), normal(1, 3, 1))


def merged_heads() -> Scaled:
    return scaled(normal(3, 4, 6), normal(3, 4, 1))


def stack() -> Scaled:
    return scaled(normal(5, 4, 4), normal(5, 1, 4))


def one_row() -> Scaled:
    return scaled(normal(1, 4), normal(1, 4))


def over_low_rank() -> Scaled:
    return scaled(low_rank(normal(6, 4), normal(6, 2), normal(2, 4), scale=0.7), normal(1, 4))


def stack_over_low_rank() -> Scaled:
    branch = low_rank(normal(5, 4, 4), normal(5, 4, 2), normal(5, 2, 4), scale=0.3, batch_axes=1)
    return scaled(branch, normal(5, 1, 4))


def twice() -> Scaled:
    return scaled(outputs(), normal(6, 1))


def kernel_outputs() -> Scaled:
    return scaled(normal(3, 3, 2, 5), normal(1, 1, 1, 5))


def kernel_inputs() -> Scaled:
    return scaled(normal(3, 3, 2, 5), normal(1, 1, 2, 1))


def kernel_over_low_rank() -> Scaled:
    return scaled(low_rank(normal(3, 3, 2, 5), normal(3, 3, 2, 2), normal(2, 5)), normal(1, 1, 1, 5))


def grouped_kernel() -> Scaled:
    return scaled(normal(3, 3, 1, 4), normal(1, 1, 1, 4))


def convolve(spec: tuple[str, str, str], groups: int = 1) -> Callable[..., Any]:
    return lambda w, x: jax.lax.conv_general_dilated(
        x, w, (2, 1), "SAME", dimension_numbers=spec, feature_group_count=groups
    )


def layers(body: Callable[..., Any]) -> Callable[..., Any]:
    return lambda w, x: jax.lax.scan(body, x, w)[0]


def through(c: Any, w: Any) -> tuple[Any, None]:
    return jnp.tanh(c @ w), None


LAST = ("NHWC", "HWIO", "NHWC")
CASES: dict[str, tuple[Callable[[], Scaled], Callable[..., Any], tuple[Any, ...]]] = {
    "outputs, x @ W": (outputs, lambda w, x: x @ w, (normal(3, 6),)),
    "outputs, x @ Wᵀ": (outputs, lambda w, x: x @ w.T, (normal(3, 4),)),
    "outputs, W @ x": (outputs, lambda w, x: w @ x, (normal(4, 3),)),
    "outputs, Wᵀ @ x": (outputs, lambda w, x: w.T @ x, (normal(6, 3),)),
    "inputs, x @ W": (inputs, lambda w, x: x @ w, (normal(3, 6),)),
    "inputs, x @ Wᵀ": (inputs, lambda w, x: x @ w.T, (normal(3, 4),)),
    "inputs, W @ x": (inputs, lambda w, x: w @ x, (normal(4, 3),)),
    "inputs, Wᵀ @ x": (inputs, lambda w, x: w.T @ x, (normal(6, 3),)),
    "one number, x @ W": (whole, lambda w, x: x @ w, (normal(3, 6),)),
    "batched x @ W": (outputs, lambda w, x: x @ w, (normal(2, 5, 3, 6),)),
    "outer product": (outputs, lambda w, x: jnp.einsum("a,io->aio", x, w), (normal(3),)),
    "x · W in float32 of bfloat16": (
        outputs,
        lambda w, x: jax.lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32),
        (normal(3, 6),),
    ),
    "tied W Wᵀ, factors outside": (inputs, lambda w: w @ w.T, ()),
    "head outputs": (head_outputs, lambda w, x: jnp.einsum("bi,iho->bho", x, w), (normal(5, 6),)),
    "head outputs flattened": (head_outputs, lambda w, x: x @ w.reshape(6, 12), (normal(5, 6),)),
    "one factor a head": (one_factor_a_head, lambda w, x: jnp.einsum("bi,iho->hbo", x, w), (normal(5, 6),)),
    "one factor a head, a head at a time": (
        one_factor_a_head,
        lambda w, x: jnp.einsum("bhi,iho->bho", x, w),
        (normal(5, 3, 6),),
    ),
    "merged heads": (merged_heads, lambda w, x: jnp.einsum("bho,hoi->bi", x, w), (normal(5, 3, 4),)),
    "merged heads flattened": (merged_heads, lambda w, x: x @ w.reshape(12, 6), (normal(5, 12),)),
    "rows": (outputs, lambda w, i: w[i], (jnp.array([[0, 5], [2, 1]]),)),
    "rows with factors of their own": (inputs, lambda w, i: w[i], (jnp.array([[0, 5], [2, 1]]),)),
    "rows by take": (inputs, lambda w, i: jnp.take(w, i, axis=0), (jnp.array([0, 5, 2]),)),
    "columns": (outputs, lambda w, i: jnp.take(w, i, axis=1), (jnp.array([0, 3, 2]),)),
    "rows out of range, filled": (
        inputs,
        lambda w, i: w.at[i].get(mode="fill", fill_value=3.0),
        (jnp.array([0, 9]),),
    ),
    "rows of a table of one": (one_row, lambda w, i: w[i] + 1.0, (jnp.array([0, 0]),)),
    "one row, traced": (inputs, lambda w, i: w[i], (jnp.array(2),)),
    "slices": (inputs, lambda w: w[1:3, ::2], ()),
    "split axes": (outputs, lambda w: w.reshape(2, 3, 2, 2), ()),
    "new axis, scaled": (outputs, lambda w: -(2 * w[None]) / 3, ()),
    "over low rank, x @ W": (over_low_rank, lambda w, x: x @ w, (normal(3, 6),)),
    "over low rank, x @ Wᵀ": (over_low_rank, lambda w, x: x @ w.T, (normal(3, 4),)),
    "over low rank, scaled": (over_low_rank, lambda w, x: x @ (w * 3 / 2.0), (normal(3, 6),)),
    "over low rank, rows": (over_low_rank, lambda w, i: w[i], (jnp.array([0, 5]),)),
    "twice scaled": (twice, lambda w, x: x @ w, (normal(3, 6),)),
    "convolution, outputs": (kernel_outputs, convolve(LAST), (normal(2, 8, 8, 2),)),
    "convolution, inputs": (kernel_inputs, convolve(LAST), (normal(2, 8, 8, 2),)),
    "convolution over low rank": (kernel_over_low_rank, convolve(LAST), (normal(2, 8, 8, 2),)),
    "convolution in groups, outputs": (grouped_kernel, convolve(LAST, groups=4), (normal(2, 8, 8, 4),)),
    "convolution, channels first": (
        kernel_inputs,
        lambda w, x: convolve(("NCHW", "OIHW", "NCHW"))(w.transpose(3, 2, 0, 1), x),
        (normal(2, 2, 8, 8),),
    ),
    "scan over layers": (stack, layers(through), (normal(3, 4),)),
    "scan over remembered layers": (stack, layers(jax.checkpoint(through)), (normal(3, 4),)),
    "scan over layers, low rank": (stack_over_low_rank, layers(through), (normal(3, 4),)),
    "scan over rows with factors of their own": (
        inputs,
        lambda w, x: jax.lax.scan(lambda c, row: (jnp.sin(c) + row @ x, None), 0.0, w)[0],
        (normal(4),),
    ),
    "mapped layers": (stack, lambda w, x: jax.vmap(jnp.matmul, (None, 0))(x, w), (normal(3, 4),)),
    "layer by number": (stack, lambda w, x: x @ w[2], (normal(3, 4),)),
    "layer by traced number": (stack, lambda w, i, x: x @ w[i], (jnp.array(2), normal(3, 4))),
    "vmap over inputs": (outputs, lambda w, x: jax.vmap(lambda x: x @ w)(x), (normal(3, 6),)),
    "jit inside": (outputs, lambda w, x: jax.jit(lambda w, x: x @ w)(w, x), (normal(3, 6),)),
    "checkpoint": (inputs, lambda w, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x), (normal(3, 6),)),
    "cond": (outputs, lambda w, x: jax.lax.cond(x[0, 0] > 9, lambda: x @ w, lambda: -x @ w), (normal(3, 6),)),
    "while": (
        stack,
        lambda w, x: jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ w[i]), x),
        (normal(3, 4),),
    ),
    "gradient inside": (outputs, lambda w, x: jax.grad(lambda x: jnp.sum(jnp.sin(x @ w)))(x), (normal(3, 6),)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_as_its_product(case: str) -> None:
    make, function, arguments = CASES[case]
    w = make()
    expected = function(materialise(w), *arguments)
    np.testing.assert_allclose(materialise_all(jax.jit(lift(function))(w, *arguments)), expected, atol=3e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_factor_gets_the_gradient_of_the_product(case: str) -> None:
    make, function, arguments = CASES[case]
    w = make()

    def through_parts(factor: Any) -> Any:
        return jnp.sum(jnp.sin(materialise_all(lift(function)(scaled(w.base, factor), *arguments))))

    def through_product(factor: Any) -> Any:
        return jnp.sum(jnp.sin(function(materialise(w.base) * factor, *arguments)))

    got, expected = jax.jit(jax.grad(through_parts))(w.factor), jax.jit(jax.grad(through_product))(w.factor)
    assert float(jnp.max(jnp.abs(expected))) > 0
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("make", "function", "primitive"),
    [
        (outputs, jnp.sin, "sin"),
        (outputs, jnp.sum, "reduce_sum"),
        (outputs, lambda w: w + 1.0, "add"),
        (outputs, lambda w: w * jnp.ones(4), "mul"),
        (outputs, lambda w: w.reshape(24), "reshape"),
        (outputs, lambda w: w.astype(int), "convert_element_type"),
        (outputs, lambda w: jnp.broadcast_to(w, (3, 6, 4)), "broadcast_in_dim"),
        (outputs, lambda w: jax.lax.scan(lambda c, row: (c + row @ jnp.ones(4), None), 0.0, w)[0], "scan"),
        (outputs, lambda w: w[jnp.array([0]), jnp.array([1])], "gather"),
        (lambda: scaled(normal(6, 4), normal(6, 4)), lambda w: jnp.ones((3, 6)) @ w, "dot_general"),
        (outputs, lambda w: w @ w.T, "dot_general"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(
    make: Callable[[], Scaled], function: Callable[..., Any], primitive: str
) -> None:
    with pytest.raises(MissingRuleError, match=rf"'{primitive}' has no rule .*Scaled float32\["):
        lift(function)(make())


@pytest.mark.parametrize(
    ("make", "groups"),
    [
        (lambda: scaled(normal(3, 3, 1, 4), normal(1, 3, 1, 1)), 1),
        (lambda: scaled(normal(3, 3, 2, 4), normal(1, 1, 2, 1)), 2),
    ],
)
def test_convolutions_whose_factor_is_of_neither_side_are_refused(make: Callable[[], Scaled], groups: int) -> None:
    w = make()
    with pytest.raises(MissingRuleError, match="'conv_general_dilated' has no rule"):
        lift(convolve(LAST, groups))(w, normal(1, 4, 4, w.shape[2] * groups))


@pytest.mark.parametrize("shape", [(4,), (1, 5), (2, 4), (1, 1, 4)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ft.InputError, match=r"the weight is \[6, 4\]"):
        scaled(normal(6, 4), jnp.ones(shape))


def test_the_cast_keeps_the_factor_in_float32() -> None:
    w = scaled(jnp.full((2, 2), 3.0), jnp.full((1, 2), 1 + 2**-10))
    product = jax.jit(lift(lambda w, x: x @ w.astype(jnp.bfloat16)))(w, jnp.ones((1, 2), jnp.bfloat16))
    assert product.dtype == jnp.bfloat16
    cast = lift(lambda w: w.astype(jnp.bfloat16))(w)
    assert (cast.dtype, cast.factor.dtype) == (jnp.bfloat16, jnp.float32)


def test_it_is_materialised_in_float32() -> None:
    w = scaled(jnp.full((2, 2), 3.0, jnp.bfloat16), jnp.full((1, 2), np.float32(1.01)))
    assert materialise(w).dtype == jnp.bfloat16
    np.testing.assert_array_equal(materialise(w), jnp.full((2, 2), 3 * np.float32(1.01)).astype(jnp.bfloat16))


def test_its_kind_names_what_it_scales() -> None:
    assert (outputs().kind, over_low_rank().kind) == ("scaled", "scaled low-rank 2")


@pytest.mark.parametrize("make", [outputs, inputs])
def test_the_product_costs_one_product(make: Callable[[], Scaled]) -> None:
    shape = (1, 192) if make is outputs else (256, 1)
    w, x = scaled(normal(256, 192), normal(*shape)), normal(64, 256)
    found = jax.jit(lift(lambda w, x: x @ w)).lower(w, x).compile().cost_analysis()["flops"]
    theory = 2 * 64 * 256 * 192
    assert theory <= found <= 1.01 * theory


def test_many_factors_over_one_weight() -> None:
    base, factors, x = normal(6, 4), normal(5, 1, 4), normal(3, 6)
    product = jax.vmap(lift(lambda w, x: x @ w), in_axes=(Scaled(base=None, factor=0), None))
    np.testing.assert_allclose(product(scaled_many(base, factors), x), (x @ base) * factors, atol=1e-5)


def scaled_many(base: Any, factors: Any) -> Scaled:
    return Scaled(base=base, factor=factors)
