"""The methods that learn a low-rank update: values by hand, every kind of weight, and inputs they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.adapt import MaskedRank
from jaxft.weights import materialise, scaled

KEY = jax.random.key(0)


def normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape)), shape)


PARAMS: dict[str, Any] = {
    "dense": normal(6, 4),
    "wide": normal(4, 10),
    "heads": normal(6, 3, 2),
    "table": normal(10, 4),
    "conv": normal(3, 3, 4, 6),
    "layers": normal(3, 6, 6),
}
AXES = {"heads": "ioo", "layers": "bio"}
INPUTS = {"dense": 6, "wide": 4, "heads": 6, "table": 10, "conv": 36, "layers": 6}


def through(c: Any, w: Any) -> tuple[Any, None]:
    return jnp.tanh(c @ w), None


USES: dict[str, Callable[[Any], Any]] = {
    "dense": lambda w: normal(5, 6) @ w,
    "wide": lambda w: normal(5, 4) @ w,
    "heads": lambda w: jnp.einsum("bi,iho->bho", normal(5, 6), w),
    "table": lambda w: w[jnp.array([[0, 9], [3, 3]])],
    "conv": lambda w: jax.lax.conv_general_dilated(
        normal(2, 5, 5, 4), w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "layers": lambda w: jax.lax.scan(through, normal(2, 6), w)[0],
}


def matrices(path: str, factor: Any, *, first: bool) -> np.ndarray:
    """A factor as matrices [stack, inputs, rank] or [stack, rank, outputs]."""
    array = np.asarray(factor, np.float64)
    stack = array.shape[0] if path == "layers" else 1
    return (
        array.reshape(stack, -1, array.shape[-1]) if first else array.reshape(stack, array.shape[path == "layers"], -1)
    )


def of_lora_fa(path: str, d: Any, extra: Any) -> np.ndarray:
    return 3.0 / 2 * matrices(path, extra[path], first=True) @ matrices(path, d["b"], first=False)


def of_vera(path: str, d: Any, extra: Any) -> np.ndarray:
    stack = 3 if path == "layers" else 1
    v, b = np.asarray(d["d"], np.float64).reshape(stack, 1, -1), np.asarray(d["b"], np.float64).reshape(stack, 1, -1)
    big_a, big_b = (np.asarray(extra[f"vera_{name}"], np.float64) for name in "AB")
    return ((big_a[: INPUTS[path]] * v) @ big_b[:, : b.shape[-1]]) * b


def of_loha(path: str, d: Any, extra: Any) -> np.ndarray:
    one, two = (matrices(path, d[f"a{i}"], first=True) @ matrices(path, d[f"b{i}"], first=False) for i in (1, 2))
    return 3.0 / 2 * one * two


def of_lokr(path: str, d: Any, extra: Any) -> np.ndarray:
    c, a, b = (np.asarray(d[name], np.float64) for name in "cab")
    if path == "layers":
        return 3.0 / 2 * np.stack([np.kron(c[i], a[i] @ b[i]) for i in range(3)])
    if path == "conv":
        blocks = [np.kron(c, a[i, j] @ b) for i in range(3) for j in range(3)]
        return 3.0 / 2 * np.concatenate(blocks)[None]
    return 3.0 / 2 * np.kron(c, a @ b)[None]


def of_adalora(path: str, d: Any, extra: Any) -> np.ndarray:
    values = np.asarray(d["lambda"], np.float64).reshape(3 if path == "layers" else 1, 1, -1)
    return 3.0 / 2 * (matrices(path, d["p"], first=True) * values) @ matrices(path, d["q"], first=False)


def of_residual(path: str, d: Any, extra: Any) -> np.ndarray:
    def product(a: Any, b: Any) -> np.ndarray:
        return 3.0 / 2 * matrices(path, a, first=True) @ matrices(path, b, first=False)

    return product(d["a"], d["b"]) - product(*extra[path])


FAMILY: dict[str, tuple[Callable[..., ft.Adaptation], Callable[..., np.ndarray]]] = {
    "lora_fa": (lambda s, **o: ft.lora_fa(s, rank=2, alpha=3.0, **o), of_lora_fa),
    "vera": (lambda s, **o: ft.vera(s, rank=2, **o), of_vera),
    "loha": (lambda s, **o: ft.loha(s, rank=2, alpha=3.0, **o), of_loha),
    "lokr": (lambda s, **o: ft.lokr(s, rank=2, alpha=3.0, factor=3, **o), of_lokr),
    "adalora": (lambda s, **o: ft.adalora(s, rank=2, alpha=3.0, **o), of_adalora),
    "pissa": (lambda s, **o: ft.pissa(s, rank=2, alpha=3.0, **o), of_residual),
    "olora": (lambda s, **o: ft.olora(s, rank=2, alpha=3.0, **o), of_residual),
}
DRAWN = [name for name in FAMILY if name not in ("pissa", "olora")]
family = pytest.mark.parametrize("name", FAMILY)


def moved(tree: Any) -> Any:
    """Every array away from zero."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return jax.tree.unflatten(structure, [leaf + jax.random.normal(key, leaf.shape) for leaf, key in pairs])


@pytest.mark.parametrize("path", PARAMS)
@family
def test_the_change_is_that_of_the_paper(name: str, path: str) -> None:
    build, change = FAMILY[name]
    # The matrices of VeRA are cut to a weight when another asks for larger ones.
    chosen = [path, "conv", "wide"] if name == "vera" else path
    adaptation = build(chosen, axes={path: AXES[path]} if path in AXES else None)
    frozen, delta = jax.jit(adaptation.init)(KEY, PARAMS)
    start = USES[path](PARAMS[path])
    np.testing.assert_allclose(jax.jit(ft.lift(USES[path]))(adaptation.bind(frozen, delta)[path]), start, atol=3e-5)
    delta = moved(delta)
    merged = ft.merge(adaptation, frozen, delta)[path]
    extra = getattr(frozen, "extra", ())
    expected = np.asarray(PARAMS[path], np.float64) + change(path, delta[path], extra).reshape(PARAMS[path].shape)
    np.testing.assert_allclose(merged, expected, atol=1e-4)
    bound = jax.jit(ft.lift(USES[path]))(adaptation.bind(frozen, delta)[path])
    np.testing.assert_allclose(bound, USES[path](merged), atol=1e-3)


@pytest.mark.parametrize(
    ("adaptation", "path", "trained"),
    [
        (ft.lora_fa("dense", rank=2), "dense", 2 * 4),
        (ft.vera("dense", rank=5), "dense", 5 + 4),
        (ft.vera("layers", rank=5, axes="bio"), "layers", 3 * (5 + 6)),
        (ft.loha("dense", rank=2), "dense", 2 * 2 * (6 + 4)),
        (ft.lokr("dense", rank=2, factor=4), "dense", 3 * 4 + 2 * (2 + 1)),
        (ft.lokr("conv", rank=2, factor=2), "conv", 2 * 2 + 2 * (9 * 2 + 3)),
        (ft.lokr("heads", rank=1, factor=8, axes="ioo"), "heads", 6 * 6 + 1 * (1 + 1)),
        (ft.adalora("dense", rank=3), "dense", 3 * (6 + 4 + 1)),
        (ft.pissa("dense", rank=2), "dense", 2 * (6 + 4)),
        (ft.olora("conv", rank=2), "conv", 2 * (36 + 6)),
    ],
)
def test_parameters_by_the_formulas(adaptation: ft.Adaptation, path: str, trained: int) -> None:
    row = next(row for row in ft.summary(adaptation, PARAMS).rows if row.path == path)
    assert row.trained == trained


def test_the_summary_counts_what_is_frozen_beside_a_weight() -> None:
    rows = {row.path: row for row in ft.summary(ft.lora_fa("dense", rank=2), PARAMS).rows}
    assert rows["dense"].bytes == 4 * (24 + 2 * 4 + 2 * 6)
    shared = ft.chain(ft.vera(["dense", "wide"], rank=3), ft.tune("table"))
    rows = {row.path: row for row in ft.summary(shared, PARAMS).rows}
    assert rows["vera_A"][1:] == ((6, 3), "frozen beside", 0, 0, 4 * 18, 0)
    assert rows["vera_B"].bytes == 4 * 30
    assert rows["dense"].bytes == 4 * (24 + 3 + 4)


def test_lora_fa_starts_with_the_matrix_of_lora() -> None:
    _, delta = ft.lora("*", rank=2, axes=AXES).init(KEY, PARAMS)
    frozen, _ = ft.lora_fa("*", rank=2, axes=AXES).init(KEY, PARAMS)
    for path in PARAMS:
        np.testing.assert_array_equal(frozen.extra[path], delta[path]["a"])


def test_vera_draws_once_for_all_weights() -> None:
    frozen, delta = ft.vera("*", rank=100, d_init=0.2, axes=AXES).init(KEY, PARAMS)
    a, b = frozen.extra["vera_A"], frozen.extra["vera_B"]
    assert (a.shape, b.shape) == ((36, 100), (100, 10))
    for array, bound in ((a, np.sqrt(6 / 36)), (b, np.sqrt(6 / 100))):
        assert 0.95 * bound < float(jnp.abs(array).max()) <= bound
    assert all((part["d"] == jnp.float32(0.2)).all() and not part["b"].any() for part in delta.values())


def test_the_factors_of_weights_of_one_shape_differ() -> None:
    params = {"first": PARAMS["dense"], "second": PARAMS["dense"]}
    for name in ("loha", "lokr", "adalora"):
        _, delta = FAMILY[name][0]("*").init(KEY, params)
        drawn = {part for part, leaf in delta["first"].items() if leaf.any()}
        assert drawn == {"loha": {"a1", "a2", "b1"}, "lokr": {"a", "c"}, "adalora": {"p", "q"}}[name]
        assert all(np.any(delta["first"][part] != delta["second"][part]) for part in drawn)
    _, delta = ft.loha("first", rank=2).init(KEY, params)
    assert np.any(delta["first"]["a1"] != delta["first"]["a2"])


@pytest.mark.parametrize("path", ["dense", "conv"])
@pytest.mark.parametrize("name", DRAWN)
def test_a_base_in_parts_stays_in_parts(name: str, path: str) -> None:
    build, change = FAMILY[name]
    base = scaled(PARAMS[path], jnp.full((1,) * (PARAMS[path].ndim - 1) + PARAMS[path].shape[-1:], 0.5))
    adaptation = build(path)
    frozen, delta = adaptation.init(KEY, {path: base})
    delta = moved(delta)
    bound = adaptation.bind(frozen, delta)[path]
    assert bound.base is base
    expected = materialise(base) + change(path, delta[path], getattr(frozen, "extra", ())).reshape(base.shape)
    np.testing.assert_allclose(ft.lift(USES[path])(bound), USES[path](expected.astype(np.float32)), atol=1e-3)


@pytest.mark.parametrize("build", [ft.pissa, ft.olora])
def test_a_base_in_parts_cannot_be_changed(build: Any) -> None:
    base = scaled(PARAMS["dense"], jnp.ones((1, 4)))
    with pytest.raises(ft.InputError, match=r"changes the weight itself.*'dense'.*quantise after"):
        build("dense", rank=2).init(KEY, {"dense": base})


@pytest.mark.parametrize("build", [ft.lora_fa, ft.vera, ft.adalora])
def test_dropout_is_on_the_branch_alone(build: Any) -> None:
    adaptation = build("dense", rank=2, dropout=0.5)
    frozen, delta = adaptation.init(KEY, PARAMS)
    product = ft.lift(lambda params: jnp.ones((200, 6)) @ params["dense"])
    still = product(adaptation.bind(frozen, delta, key=KEY))
    np.testing.assert_allclose(still, jnp.ones((200, 6)) @ PARAMS["dense"], atol=1e-6)
    dropped = product(adaptation.bind(frozen, moved(delta), key=KEY))
    assert np.unique(np.round(dropped, 3), axis=0).shape[0] > 30
    with pytest.raises(ft.InputError, match=r"dropout rate in \[0, 1\)"):
        build("dense", dropout=1.0)


def test_alpha_may_be_traced_and_differ_by_path() -> None:
    for name in ("lora_fa", "loha", "lokr", "adalora"):
        method = getattr(ft, name)

        def changed(alpha: Any, method: Any = method) -> Any:
            adaptation = method(["dense", "wide"], rank=2, alpha={"dense": alpha, "**": 1.0})
            frozen, delta = adaptation.init(KEY, PARAMS)
            merged = ft.merge(adaptation, frozen, moved(delta))
            return jnp.stack([jnp.sum((merged[path] - PARAMS[path]) ** 2) for path in ("dense", "wide")])

        one, two = jax.jit(jax.vmap(changed))(jnp.array([1.0, 2.0]))
        np.testing.assert_allclose(two / one, [4.0, 1.0], rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda s, p: ft.vera(s, rank=p), "one rank for all"),
        (lambda s, p: ft.lokr(s, factor=0), "a factor of at least 1"),
        (lambda s, p: ft.pissa(s, rank=5), "rank 4 at most"),
        (lambda s, p: ft.olora(s, rank={"dense": 5}), "rank 4 at most"),
        (lambda s, p: ft.loha(s, alpha={"wide": 1.0}), "'wide' of alpha matches none"),
        (lambda s, p: ft.pissa(s, rank={"wide": 1, "**": 2}), "'wide' of rank matches none"),
        (lambda s, p: ft.vera("heads", rank=2), "which of the axes .* are inputs"),
    ],
)
def test_refusals(build: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        build("dense", {"**": 2}).init(KEY, PARAMS)


@family
def test_ranks_are_whole_numbers(name: str) -> None:
    method = getattr(ft, name)
    for rank in (0, 2.0, True):
        with pytest.raises(ft.InputError, match=f"{name} expects a rank of at least 1"):
            method("dense", rank=rank)
    with pytest.raises(ft.InputError, match=rf"{name} expects a whole number .* masked rank .* jaxft\.lora alone"):
        method("dense", rank=MaskedRank(jnp.int32(1), largest=2))
