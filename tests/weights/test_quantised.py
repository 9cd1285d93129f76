"""Weights in few bits: their bytes and levels are those of the papers, and they compute as what they dequantise to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.weights import Int8, MissingRuleError, int8, lift, low_rank, materialise, materialise_all, nf4, scaled


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape) + 31 * len(shape) + seed), shape)


def bytes_of(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def stacked_int8() -> Int8:
    return int8(normal(5, 4, 4), inputs=(1,))


def convolve(w: Any, x: Any) -> Any:
    return jax.lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def through(c: Any, w: Any) -> tuple[Any, None]:
    return jnp.tanh(c @ w), None


def layers(w: Any, x: Any) -> Any:
    return jax.lax.scan(jax.checkpoint(through), x, w)[0]


MATRICES: dict[str, Callable[[], Any]] = {
    "int8": lambda: int8(normal(6, 4), inputs=(0,)),
    "nf4": lambda: nf4(normal(6, 4)),
    "nf4 double": lambda: nf4(normal(6, 4), double=True),
    "nf4 of many blocks": lambda: nf4(
        jnp.concatenate([normal(90, 4), normal(30, 4, seed=1) * 9]).T.reshape(6, -1)[:, :4]
    ),
    "low rank on int8": lambda: low_rank(int8(normal(6, 4), inputs=(0,)), normal(6, 2), normal(2, 4)),
    "low rank on nf4": lambda: low_rank(nf4(normal(6, 4)), normal(6, 2), normal(2, 4)),
    "scaled low rank on nf4": lambda: scaled(low_rank(nf4(normal(6, 4)), normal(6, 2), normal(2, 4)), normal(1, 4)),
}
PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "x @ W": (lambda w, x: x @ w, (3, 6)),
    "x @ Wᵀ": (lambda w, x: x @ w.T, (3, 4)),
    "W @ x": (lambda w, x: w @ x, (4, 3)),
    "Wᵀ @ x": (lambda w, x: w.T @ x, (6, 3)),
    "batched x @ W": (lambda w, x: x @ w, (2, 5, 3, 6)),
    "vmap over inputs": (lambda w, x: jax.vmap(lambda x: x @ w)(x), (3, 6)),
    "jit and checkpoint": (lambda w, x: jax.jit(jax.checkpoint(lambda w, x: jnp.sin(x @ w)))(w, x), (3, 6)),
    "cond": (lambda w, x: jax.lax.cond(x[0, 0] > 9, lambda: x @ w, lambda: -x @ w), (3, 6)),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_and_their_gradients_are_those_of_the_dequantised_weight(matrix: str, product: str) -> None:
    function, shape = PRODUCTS[product]
    w, x = MATRICES[matrix](), normal(*shape)
    whole = materialise(w)

    def both(x: Any) -> tuple[Any, Any]:
        results = lift(function)(w, x), function(whole, x)
        return results[0], results[1]

    values = jax.jit(both)(x)
    np.testing.assert_allclose(*values, atol=2e-5)
    got, expected = jax.jit(jax.jacrev(lambda x: tuple(jnp.sum(jnp.sin(y)) for y in both(x))))(x)
    assert float(jnp.max(jnp.abs(expected))) > 0
    np.testing.assert_allclose(got, expected, atol=1e-4)


CASES: dict[str, tuple[Callable[[], Any], Callable[..., Any], tuple[Any, ...]]] = {
    "int8, rows": (MATRICES["int8"], lambda w, i: w[i], (jnp.array([[0, 5], [2, 1]]),)),
    "int8, columns": (MATRICES["int8"], lambda w, i: jnp.take(w, i, axis=1), (jnp.array([0, 3, 2]),)),
    "int8, rows out of range": (MATRICES["int8"], lambda w, i: jnp.take(w, i, axis=0), (jnp.array([0, 9]),)),
    "int8, rows out of range, filled": (
        MATRICES["int8"],
        lambda w, i: w.at[i].get(mode="fill", fill_value=3.0),
        (jnp.array([0, 9]),),
    ),
    "int8, heads": (
        lambda: int8(normal(6, 3, 4), inputs=(0,)),
        lambda w, x: x @ w.reshape(6, 12),
        (normal(5, 6),),
    ),
    "int8, scaled": (MATRICES["int8"], lambda w, x: x @ (-(2 * w[None]) / 3)[0], (normal(3, 6),)),
    "int8, convolution": (lambda: int8(normal(3, 3, 2, 5), inputs=(0, 1, 2)), convolve, (normal(2, 8, 8, 2),)),
    "int8, scan over layers": (stacked_int8, layers, (normal(3, 4),)),
    "int8, layer by traced number": (stacked_int8, lambda w, i, x: x @ w[i], (jnp.array(2), normal(3, 4))),
    "nf4, rows": (MATRICES["nf4"], lambda w, i: w[i], (jnp.array([[0, 5], [2, 1]]),)),
    "nf4, rows across blocks": (lambda: nf4(normal(50, 7), double=True), lambda w, i: w[i], (jnp.array([0, 49, 9]),)),
    "nf4, one row": (MATRICES["nf4"], lambda w, i: jnp.take(w, i, axis=0), (jnp.array(3),)),
    "nf4, rows out of range": (MATRICES["nf4"], lambda w, i: jnp.take(w, i, axis=0), (jnp.array([0, 9]),)),
    "nf4, rows out of range, filled": (
        MATRICES["nf4"],
        lambda w, i: w.at[i].get(mode="fill", fill_value=3.0),
        (jnp.array([0, 9]),),
    ),
    "nf4, tied": (lambda: nf4(normal(6, 4)), lambda w, i: w[i] @ w.T, (jnp.array([0, 5]),)),
    "nf4, convolution, transposed": (
        lambda: nf4(normal(5, 2, 3, 3)),
        lambda w, x: convolve(w.transpose(0, 1, 3, 2).transpose(2, 3, 1, 0), x),
        (normal(2, 8, 8, 2),),
    ),
    "nf4, scan over layers": (lambda: nf4(normal(5, 4, 4), stacked=1), layers, (normal(3, 4),)),
    "nf4 double, scan over layers": (lambda: nf4(normal(5, 9, 9), stacked=1, double=True), layers, (normal(3, 9),)),
    "low rank on int8, scan over layers": (
        lambda: low_rank(stacked_int8(), normal(5, 4, 2), normal(5, 2, 4), batch_axes=1),
        layers,
        (normal(3, 4),),
    ),
    "low rank on nf4, rows": (MATRICES["low rank on nf4"], lambda w, i: w[i], (jnp.array([0, 5]),)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_computes_as_the_dequantised_weight(case: str) -> None:
    make, function, arguments = CASES[case]
    w = make()
    expected = jax.jit(function)(materialise(w), *arguments)
    np.testing.assert_allclose(materialise_all(jax.jit(lift(function))(w, *arguments)), expected, atol=3e-5)


@pytest.mark.parametrize(
    ("function", "primitive"),
    [
        (jnp.sin, "sin"),
        (lambda w: w + 1.0, "add"),
        (lambda w: w * jnp.ones(4), "mul"),
        (lambda w: w.astype(int), "convert_element_type"),
        (lambda w: jnp.concatenate([w, w]), "concatenate"),
        (lambda w: w[jnp.array([0]), jnp.array([1])], "gather"),
    ],
)
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_what_has_no_rule_is_refused_by_name(kind: str, function: Callable[..., Any], primitive: str) -> None:
    with pytest.raises(MissingRuleError, match=rf"'{primitive}' has no rule .* (Int8|Nf4) float32\[6, 4\]"):
        lift(function)(MATRICES[kind]())


@pytest.mark.parametrize(
    ("function", "primitive"),
    [
        (lambda w: 2.0 * w, "mul"),
        (lambda w: w.reshape(24), "reshape"),
        (lambda w: jnp.take(w, jnp.array([0, 2]), axis=1), "gather"),
        (lambda w: jax.lax.scan(lambda c, row: (c + row @ jnp.ones(4), None), 0.0, w)[0], "scan"),
    ],
)
def test_what_blocks_do_not_allow_is_refused_by_name(function: Callable[..., Any], primitive: str) -> None:
    with pytest.raises(MissingRuleError, match=rf"'{primitive}' has no rule .* Nf4 float32\[6, 4\]"):
        lift(function)(MATRICES["nf4"]())


def test_a_scan_does_not_take_blocks_for_rows() -> None:
    w = nf4(normal(32, 64))
    assert w.codes.shape[0] == w.shape[0]
    with pytest.raises(MissingRuleError, match="'scan' has no rule"):
        lift(lambda w: jax.lax.scan(lambda c, row: (c + row @ jnp.ones(64), None), 0.0, w)[0])(w)


def test_int8_is_symmetric_to_127_for_each_output() -> None:
    w = int8(jnp.array([[1.27, 0.0, -3.0], [-0.5, 0.0, 1.5]]), inputs=(0,))
    np.testing.assert_array_equal(w.base, [[127, 0, -127], [-50, 0, 64]])
    np.testing.assert_allclose(w.factor, [[0.01, 0, 3 / 127]], rtol=1e-6)
    assert (w.base.dtype, w.factor.dtype, w.dtype) == (jnp.int8, jnp.float32, jnp.float32)


def test_nf4_takes_the_nearest_level_two_codes_a_byte() -> None:
    block = jnp.zeros(64).at[:5].set(jnp.array([-8.0, 8.0, 0.3, 4.0, 0.65]))
    w = nf4(block.reshape(8, 8))
    np.testing.assert_array_equal(w.absmax, [8.0])
    # -1, 1, 0 (0.0375 is nearer to 0 than to 0.0796), 0.5 (0.4407), 0.08125 (0.0796), 0
    np.testing.assert_array_equal(w.codes[0, :3], [0 | 15 << 4, 7 | 12 << 4, 8 | 7 << 4])
    expected = [-8.0, 8.0, 0.0, 8 * 0.44070982933044434, 8 * 0.07958029955625534, 0.0]
    np.testing.assert_allclose(materialise(w).reshape(-1)[:6], expected, rtol=1e-6)


def test_the_sixteen_levels_are_kept_exactly() -> None:
    first = nf4(jnp.linspace(-1, 1, 6400).reshape(100, 64)[:, :64])
    levels = jnp.unique(materialise(nf4(jnp.linspace(-1, 1, 64))))
    assert levels.shape == (16,)
    np.testing.assert_array_equal(materialise(nf4(jnp.tile(levels, 4))), jnp.tile(levels, 4))
    assert first.absmax.shape == (100,)


def test_double_quantisation_rounds_the_absmaxes_less_their_mean() -> None:
    blocks = jnp.linspace(1, 3, 300)[:, None] * jnp.ones(64)
    w = nf4(blocks, double=True)
    assert (w.absmax.dtype, w.absmax.shape, w.factor.shape, w.mean.shape) == (jnp.int8, (2, 256), (2,), ())
    np.testing.assert_allclose(w.mean, 2.0, rtol=1e-5)
    np.testing.assert_allclose(w.factor, jnp.array([1.0, 1.0]) / 127, rtol=1e-5)
    np.testing.assert_allclose(materialise(w), blocks, atol=0.5 / 127 + 1e-5)
    assert float(jnp.max(jnp.abs(materialise(w) - blocks))) > 1e-3


@pytest.mark.parametrize(
    ("make", "most", "exactly"),
    [
        (lambda w: int8(w, inputs=(0,)), 0.3, 384 * 1536 + 4 * 1536),
        (nf4, 0.18, 384 * 1536 // 2 + 4 * 384 * 1536 // 64),
        (lambda w: nf4(w, double=True), 0.14, 384 * 1536 // 2 + 384 * 1536 // 64 + 4 * 36 + 4),
    ],
)
def test_bytes(make: Callable[[Any], Any], most: float, exactly: int) -> None:
    w = normal(384, 1536)
    assert bytes_of(make(w)) == exactly <= most * w.nbytes


@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.01), ("nf4", 0.1), ("nf4 double", 0.1)])
def test_the_error_on_normal_weights(kind: str, bound: float) -> None:
    w = normal(384, 256)
    make = {"int8": lambda: int8(w, inputs=(0,)), "nf4": lambda: nf4(w), "nf4 double": lambda: nf4(w, double=True)}
    error = float(jnp.linalg.norm(materialise(make[kind]()) - w) / jnp.linalg.norm(w))
    assert bound / 3 < error < bound


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_the_cast_changes_what_it_dequantises_to(kind: str) -> None:
    w = MATRICES[kind]()
    cast = lift(lambda w: w.astype(jnp.bfloat16))(w)
    assert (cast.dtype, materialise(cast).dtype, bytes_of(cast)) == (jnp.bfloat16, jnp.bfloat16, bytes_of(w))
    np.testing.assert_array_equal(materialise(cast), materialise(w).astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_no_gradient_reaches_what_is_kept(kind: str) -> None:
    w = MATRICES[kind]()

    def loss(parts: Any) -> Any:
        return jnp.sum(jnp.sin(lift(lambda w, x: x @ w)(parts, normal(3, 6))))

    for leaf in jax.tree.leaves(jax.grad(loss, allow_int=True)(w)):
        assert leaf.dtype == jax.dtypes.float0 or not leaf.any()


def test_an_empty_weight_is_refused() -> None:
    with pytest.raises(ft.InputError, match=r"at least one element, but its shape is \[0, 4\]"):
        nf4(jnp.zeros((0, 4)))


def test_its_kind_says_how_it_is_kept() -> None:
    assert [make().kind for make in MATRICES.values()][-3:] == [
        "low-rank 2 on int8",
        "low-rank 2 on nf4",
        "scaled low-rank 2 on nf4",
    ]


LAYERS, WIDTH = 8, 256


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_step_never_holds_all_layers_dequantised(kind: str) -> None:
    def make(seed: int) -> Any:
        w = normal(WIDTH, WIDTH, seed=seed) / WIDTH**0.5
        return int8(w, inputs=(0,)) if kind == "int8" else nf4(w)

    def loss(factors: Any, bases: Any, x: Any) -> Any:
        for base, (a, b) in zip(bases, factors, strict=True):
            x = jnp.tanh(lift(lambda w, x: x @ w)(low_rank(base, a, b), x))
        return jnp.sum(x)

    bases = [make(seed) for seed in range(LAYERS)]
    factors = [(normal(WIDTH, 2), normal(2, WIDTH)) for _ in range(LAYERS)]

    def temporary(bases: Any) -> int:
        compiled = jax.jit(jax.grad(loss)).lower(factors, bases, normal(4, WIDTH)).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    one = 4 * WIDTH * WIDTH
    assert temporary(bases) < temporary([materialise(base) for base in bases]) + 3 * one
    assert temporary(bases) < LAYERS / 2 * one
