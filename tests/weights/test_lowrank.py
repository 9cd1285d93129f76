"""A low-rank weight computes as its sum would, in every operation that has a rule, and refuses the others by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.weights import LowRank, MissingRuleError, lift, low_rank, materialise, materialise_all


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape) + 31 * len(shape) + seed), shape)


def matrix() -> LowRank:
    return low_rank(normal(6, 4), normal(6, 2), normal(2, 4), scale=0.7)


def heads() -> LowRank:
    return low_rank(normal(6, 3, 4), normal(6, 2), normal(2, 3, 4), scale=0.7)


def merged_heads() -> LowRank:
    return low_rank(normal(3, 4, 6), normal(3, 4, 2), normal(2, 6), scale=0.7)


def stack() -> LowRank:
    return low_rank(normal(5, 4, 4), normal(5, 4, 2), normal(5, 2, 4), scale=0.3, batch_axes=1)


def one_row() -> LowRank:
    return low_rank(normal(1, 4), normal(1, 2), normal(2, 4), scale=0.7)


def double() -> LowRank:
    return low_rank(matrix(), normal(6, 1), normal(1, 4), scale=0.3)


def kernel() -> LowRank:
    return low_rank(normal(3, 3, 2, 5), normal(3, 3, 2, 2), normal(2, 5), scale=2.0)


def convolve(spec: tuple[str, str, str]) -> Callable[..., Any]:
    return lambda w, x: jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=spec)


def layers(body: Callable[..., Any]) -> Callable[..., Any]:
    return lambda w, x: jax.lax.scan(body, x, w)[0]


def through(c: Any, w: Any) -> tuple[Any, None]:
    return jnp.tanh(c @ w), None


CASES: dict[str, tuple[Callable[[], LowRank], Callable[..., Any], tuple[Any, ...]]] = {
    "x @ W": (matrix, lambda w, x: x @ w, (normal(3, 6),)),
    "x @ Wᵀ": (matrix, lambda w, x: x @ w.T, (normal(3, 4),)),
    "W @ x": (matrix, lambda w, x: w @ x, (normal(4, 3),)),
    "Wᵀ @ x": (matrix, lambda w, x: w.T @ x, (normal(6, 3),)),
    "batched x @ W": (matrix, lambda w, x: x @ w, (normal(2, 5, 3, 6),)),
    "x · W in float32 of bfloat16": (
        matrix,
        lambda w, x: jax.lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32),
        (normal(3, 6),),
    ),
    "outer product": (matrix, lambda w, x: jnp.einsum("a,io->aio", x, w), (normal(3),)),
    "W @ Wᵀ x": (matrix, lambda w, x: w @ (w.T @ x), (normal(6, 3),)),
    "tied W Wᵀ": (matrix, lambda w: w @ w.T, ()),
    "heads": (heads, lambda w, x: jnp.einsum("bi,iho->bho", x, w), (normal(5, 6),)),
    "heads flattened": (heads, lambda w, x: x @ w.reshape(6, 12), (normal(5, 6),)),
    "heads, one contracted": (heads, lambda w, x: jnp.einsum("bh,iho->bio", x, w), (normal(5, 3),)),
    "merged heads": (merged_heads, lambda w, x: jnp.einsum("bho,hoi->bi", x, w), (normal(5, 3, 4),)),
    "rows": (matrix, lambda w, i: w[i], (jnp.array([[0, 5], [2, 1]]),)),
    "rows by take": (matrix, lambda w, i: jnp.take(w, i, axis=0), (jnp.array([0, 5, 2]),)),
    "columns": (matrix, lambda w, i: jnp.take(w, i, axis=1), (jnp.array([0, 3, 2]),)),
    "one row, traced": (matrix, lambda w, i: w[i], (jnp.array(2),)),
    "slices": (matrix, lambda w: w[1:3, ::2], ()),
    "rows out of range, filled": (
        matrix,
        lambda w, i: w.at[i].get(mode="fill", fill_value=3.0),
        (jnp.array([0, 9]),),
    ),
    "rows of a table of one": (one_row, lambda w, i: w[i] + 1.0, (jnp.array([0, 0]),)),
    "products with axes of size one": (one_row, lambda w, x: (x @ w) @ w.T, (normal(3, 1),)),
    "a branch on a branch, scaled": (double, lambda w, x: x @ (w * 3 / 2.0), (normal(3, 6),)),
    "split axes": (matrix, lambda w: w.reshape(2, 3, 2, 2), ()),
    "new axis, scaled": (matrix, lambda w: -(2 * w[None]) / 3, ()),
    "convolution": (kernel, convolve(("NHWC", "HWIO", "NHWC")), (normal(2, 8, 8, 2),)),
    "convolution, channels first": (
        kernel,
        lambda w, x: convolve(("NCHW", "OIHW", "NCHW"))(w.transpose(3, 2, 0, 1), x),
        (normal(2, 2, 8, 8),),
    ),
    "scan over layers": (stack, layers(through), (normal(3, 4),)),
    "scan over remembered layers": (stack, layers(jax.checkpoint(through)), (normal(3, 4),)),
    "scan backwards": (stack, lambda w, x: jax.lax.scan(through, x, w, reverse=True)[0], (normal(3, 4),)),
    "mapped layers": (stack, lambda w, x: jax.vmap(jnp.matmul, (None, 0))(x, w), (normal(3, 4),)),
    "layer by number": (stack, lambda w, x: x @ w[2], (normal(3, 4),)),
    "layer by traced number": (stack, lambda w, i, x: x @ w[i], (jnp.array(2), normal(3, 4))),
    "a layer for each row": (
        stack,
        lambda w, i, x: jnp.einsum("bi,bio->bo", x, w[i]),
        (jnp.array([2, 0, 1]), normal(3, 4)),
    ),
    "vmap over inputs": (matrix, lambda w, x: jax.vmap(lambda x: x @ w)(x), (normal(3, 6),)),
    "jit inside": (matrix, lambda w, x: jax.jit(lambda w, x: x @ w)(w, x), (normal(3, 6),)),
    "checkpoint": (matrix, lambda w, x: jax.checkpoint(lambda w, x: jnp.sin(x @ w))(w, x), (normal(3, 6),)),
    "cond": (matrix, lambda w, x: jax.lax.cond(x[0, 0] > 9, lambda: x @ w, lambda: -x @ w), (normal(3, 6),)),
    "while": (
        stack,
        lambda w, x: jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ w[i]), x),
        (normal(3, 4),),
    ),
    "relu, a custom derivative": (matrix, lambda w, x: jax.nn.relu(x @ w), (normal(3, 6),)),
    "gradient inside": (matrix, lambda w, x: jax.grad(lambda x: jnp.sum(jnp.sin(x @ w)))(x), (normal(3, 6),)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_as_its_sum(case: str) -> None:
    make, function, arguments = CASES[case]
    w = make()
    expected = function(materialise(w), *arguments)
    np.testing.assert_allclose(materialise_all(jax.jit(lift(function))(w, *arguments)), expected, atol=3e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_factors_get_the_gradient_of_the_sum(case: str) -> None:
    make, function, arguments = CASES[case]
    w = make()

    def through_parts(a: Any, b: Any) -> Any:
        parts = LowRank(w.base, a, b, w.scale)
        return jnp.sum(jnp.sin(materialise_all(lift(function)(parts, *arguments))))

    def through_sum(a: Any, b: Any) -> Any:
        return jnp.sum(jnp.sin(function(LowRank(w.base, a, b, w.scale).materialise(), *arguments)))

    for got, expected in zip(
        jax.jit(jax.grad(through_parts, (0, 1)))(w.a, w.b),
        jax.jit(jax.grad(through_sum, (0, 1)))(w.a, w.b),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("function", "primitive"),
    [
        (jnp.sort, "sort"),
        (jnp.sin, "sin"),
        (jnp.sum, "reduce_sum"),
        (lambda w: w + 1.0, "add"),
        (lambda w: w * jnp.ones(4), "mul"),
        (lambda w: w.reshape(24), "reshape"),
        (lambda w: w.astype(int), "convert_element_type"),
        (lambda w: jnp.broadcast_to(w, (3, 6, 4)), "broadcast_in_dim"),
        (lambda w: jnp.concatenate([w, w]), "concatenate"),
        (lambda w: jax.lax.scan(lambda c, row: (c + row @ jnp.ones(4), None), 0.0, w)[0], "scan"),
        (lambda w: w[jnp.array([0]), jnp.array([1])], "gather"),
        (lambda w: jnp.linalg.inv(w @ jnp.ones((4, 6))) @ w.at[0].set(1.0), "scatter"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(function: Callable[..., Any], primitive: str) -> None:
    with pytest.raises(MissingRuleError, match=rf"'{primitive}' has no rule .* LowRank float32\["):
        lift(function)(matrix())


def test_grouped_convolutions_are_refused() -> None:
    w = low_rank(normal(3, 3, 1, 4), normal(3, 3, 1, 2), normal(2, 4))
    grouped = lift(
        lambda w, x: jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )
    )
    with pytest.raises(MissingRuleError, match="'conv_general_dilated' has no rule"):
        grouped(w, normal(1, 4, 4, 4))


def test_convolutions_with_inputs_and_outputs_exchanged_are_refused() -> None:
    w = low_rank(normal(3, 3, 2, 1), normal(3, 3, 2, 2), normal(2, 1))
    with pytest.raises(MissingRuleError, match="'conv_general_dilated' has no rule"):
        lift(lambda w, x: convolve(("NHWC", "HWIO", "NHWC"))(w.transpose(0, 1, 3, 2), x))(w, normal(2, 8, 8, 1))


@pytest.mark.parametrize("loop", ["scan", "while"])
def test_one_loop_serves_weights_of_any_rank_and_layout(loop: str) -> None:
    def again(carry: Any) -> Any:
        i, w, x = carry
        return i + 1, w, jnp.tanh(x @ w)

    def looped(w: Any, x: Any) -> Any:
        if loop == "scan":
            return jax.lax.scan(through, x, w)[0]
        return jax.lax.while_loop(few, again, (0, w, x))[2]

    for rank in (2, 3):
        stacked = low_rank(normal(5, 4, 4), normal(5, 4, rank), normal(5, rank, 4), batch_axes=1)
        plain = low_rank(normal(4, 4), normal(4, rank), normal(rank, 4))
        w, x = stacked if loop == "scan" else plain, normal(3, 4)
        np.testing.assert_allclose(lift(looped)(w, x), looped(materialise(w), x), atol=3e-5)


def few(carry: Any) -> Any:
    return carry[0] < 3


def test_a_custom_vjp_is_refused() -> None:
    @jax.custom_vjp
    def double(x: Any) -> Any:
        return 2 * x

    double.defvjp(lambda x: (2 * x, ()), lambda _, g: (2 * g,))
    with pytest.raises(MissingRuleError, match="'custom_vjp_call' has no rule"):
        lift(lambda w, x: double(x @ w))(matrix(), normal(3, 6))


@pytest.mark.parametrize(
    ("a", "b", "batch_axes"),
    [((6, 2), (3, 4), 0), ((5, 2), (2, 4), 0), ((6, 2), (2, 4, 1), 0), ((6, 2), (2, 4), 1)],
)
def test_shapes_that_do_not_fit_are_refused(a: Any, b: Any, batch_axes: int) -> None:
    with pytest.raises(ft.InputError, match=r"but W is \[6, 4\]"):
        low_rank(normal(6, 4), jnp.ones(a), jnp.ones(b), batch_axes=batch_axes)


def test_the_cast_keeps_it_low_rank() -> None:
    product = jax.jit(lift(lambda w, x: x @ w.astype(jnp.bfloat16)))(matrix(), normal(3, 6).astype(jnp.bfloat16))
    assert product.dtype == jnp.bfloat16
    np.testing.assert_allclose(product.astype(jnp.float32), normal(3, 6) @ materialise(matrix()), atol=0.2)


def test_it_is_materialised_in_float32() -> None:
    w = low_rank(jnp.ones((2, 2), jnp.bfloat16), jnp.full((2, 1), 1e-3), jnp.full((1, 2), 3.0), scale=2.0)
    assert materialise(w).dtype == jnp.bfloat16
    exact = 1 + np.float32(1e-3) * 3 * 2
    np.testing.assert_array_equal(materialise(w), jnp.full((2, 2), exact).astype(jnp.bfloat16))


def flops(function: Callable[..., Any], *arguments: Any) -> float:
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("transposed", [False, True])
def test_the_product_costs_two_thin_products(transposed: bool) -> None:
    w = low_rank(normal(256, 192), normal(256, 4), normal(4, 192))
    x = normal(64, 192 if transposed else 256)
    found = flops(lift(lambda w, x: x @ (w.T if transposed else w)), w, x)
    theory = 2 * 64 * 256 * 192 + 2 * 64 * 4 * (256 + 192)
    assert theory <= found <= 1.03 * theory


def test_dropout_needs_a_key_and_follows_it() -> None:
    def product(key: Any) -> np.ndarray:
        w = low_rank(jnp.zeros((400, 1)), jnp.ones((400, 1)), jnp.ones((1, 1)), key=key, dropout=0.25)
        return np.asarray(jax.jit(lift(lambda w: jnp.ones((50, 400)) @ w))(w))

    np.testing.assert_array_equal(product(None), 400)
    np.testing.assert_array_equal(product(jax.random.key(1)), product(jax.random.key(1)))
    assert abs(product(jax.random.key(1)).mean() - 400) < 8
    assert product(jax.random.key(1)).std() > 4


def test_a_legacy_key_drops_too() -> None:
    w = low_rank(jnp.zeros((400, 1)), jnp.ones((400, 1)), jnp.ones((1, 1)), key=jax.random.PRNGKey(0), dropout=0.5)
    assert float(lift(lambda w: jnp.ones((1, 400)) @ w)(w)[0, 0]) not in (0.0, 400.0)


def test_layers_of_a_scan_drop_different_inputs() -> None:
    ones = jnp.ones((2, 30, 1))
    w = low_rank(jnp.zeros((2, 30, 1)), ones, jnp.ones((2, 1, 1)), batch_axes=1, key=jax.random.key(0), dropout=0.5)
    body = lift(lambda w: jax.lax.scan(lambda c, w: (c, jnp.eye(30) @ w), 0.0, w)[1])
    first, second = np.asarray(body(w))
    assert set(np.unique([first, second])) == {0.0, 2.0}
    assert np.any(first != second)
