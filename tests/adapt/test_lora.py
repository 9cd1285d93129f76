"""LoRA: scales, ranks by path, layouts, and inputs it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft

KEY = jax.random.key(0)
PARAMS: dict[str, Any] = {
    "query": {"kernel": jnp.ones((6, 4)), "bias": jnp.zeros(4)},
    "heads": {"kernel": jnp.ones((6, 3, 2))},
    "conv": {"kernel": jnp.ones((3, 3, 4, 8))},
    "layers": {"kernel": jnp.ones((5, 6, 4))},
    "ids": jnp.arange(4).reshape(2, 2),
}


def change(adaptation: ft.Adaptation, path: tuple[str, str]) -> Any:
    """ΔW after every factor is set to one."""
    frozen, delta = adaptation.init(KEY, PARAMS)
    merged = ft.merge(adaptation, frozen, jax.tree.map(jnp.ones_like, delta))
    return merged[path[0]][path[1]] - PARAMS[path[0]][path[1]]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"rank": 2, "alpha": 8}, 8 / 2 * 2),
        ({"rank": np.int64(4), "alpha": np.float32(8)}, 8 / 4 * 4),
        ({"rank": 4, "alpha": 8, "rank_stabilized": True}, 8 / 2 * 4),
        ({"rank": {"query/*": 1, "**": 2}, "alpha": {"**": 3.0}}, 3.0),
    ],
)
def test_the_scale_follows_the_papers(options: dict[str, Any], value: float) -> None:
    selector = ["query/kernel", "conv/kernel"] if isinstance(options["rank"], dict) else "query/kernel"
    np.testing.assert_allclose(change(ft.lora(selector, **options), ("query", "kernel")), value, rtol=1e-6)


@pytest.mark.parametrize(
    ("path", "axes", "a", "b"),
    [
        ("query/kernel", None, (6, 2), (2, 4)),
        ("heads/kernel", "ioo", (6, 2), (2, 3, 2)),
        ("heads/kernel", "iio", (6, 3, 2), (2, 2)),
        ("conv/kernel", None, (3, 3, 4, 2), (2, 8)),
        ("layers/kernel", "bio", (5, 6, 2), (5, 2, 4)),
    ],
)
def test_layouts(path: str, axes: str | None, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    adaptation = ft.lora(path, rank=2, axes=None if axes is None else {"**": axes})
    _, delta = adaptation.init(KEY, PARAMS)
    found = ft.leaf_paths(delta)
    assert found[f"{path}/a"].shape == a
    assert found[f"{path}/b"].shape == b
    bound = 1 / np.sqrt(np.prod(a[(1 if axes == "bio" else 0) : -1]))
    assert 0.5 * bound < float(jnp.max(jnp.abs(found[f"{path}/a"]))) <= bound
    assert not found[f"{path}/b"].any()


def test_alpha_may_be_traced() -> None:
    def scaled(alpha: Any) -> Any:
        return change(ft.lora("query/kernel", rank=1, alpha=alpha), ("query", "kernel"))[0, 0]

    np.testing.assert_allclose(jax.jit(jax.vmap(scaled))(jnp.array([1.0, 2.0])), [1.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("selector", "options", "reason"),
    [
        ("query/kernel", {"rank": 0}, "rank of at least 1"),
        ("query/kernel", {"rank": 2.0}, "rank of at least 1"),
        ("query/kernel", {"rank": {"**": -1}}, "rank of at least 1"),
        ("query/kernel", {"dropout": 1.0}, r"dropout rate in \[0, 1\)"),
        ("query/kernel", {"dropout": np.float32(-0.5)}, r"dropout rate in \[0, 1\)"),
        ("query/kernel", {"rank": {"key/*": 2, "**": 2}}, "'key/\\*' of rank matches none of the 1 selected"),
        (["query/kernel", "conv/kernel"], {"rank": {"query/*": 2}}, "no pattern of rank matches .* 'conv/kernel'"),
        ("query/bias", {}, "expects matrices"),
        ("ids", {}, "floating-point"),
        ("heads/kernel", {}, "which of the axes .* are inputs"),
        ("heads/kernel", {"axes": "oio"}, "one letter an axis"),
        ("heads/kernel", {"axes": "io"}, "one letter an axis"),
        ("query/kernal", {}, "nearest: query/kernel"),
    ],
)
def test_refusals(selector: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        ft.lora(selector, **options).init(KEY, PARAMS)


def test_dropout_drops_the_inputs_of_the_branch_alone() -> None:
    adaptation = ft.lora("query/kernel", rank=1, alpha=1.0, dropout=0.5)
    frozen, delta = adaptation.init(KEY, {"query": PARAMS["query"]})
    delta = jax.tree.map(jnp.ones_like, delta)
    x = jnp.ones((2000, 6))
    product = ft.lift(lambda params: x @ params["query"]["kernel"])
    branch = product(adaptation.bind(frozen, delta, key=KEY)) - 6
    assert set(np.unique(np.round(branch))) <= {0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0}
    assert abs(float(branch.mean()) - 6) < 0.2
    np.testing.assert_allclose(product(adaptation.bind(frozen, delta)), 12)


def test_dropout_acts_on_products_and_not_on_look_ups() -> None:
    adaptation = ft.lora("query/kernel", rank=1, alpha=1.0, dropout=0.5)
    frozen, delta = adaptation.init(KEY, PARAMS)
    ones = jax.tree.map(jnp.ones_like, delta)
    quiet, noisy = (adaptation.bind(frozen, ones, key=key)["query"]["kernel"] for key in (None, KEY))
    ids = jnp.array([0, 3, 5])
    look_up = ft.lift(lambda table: jnp.take(table, ids, axis=0))
    np.testing.assert_array_equal(look_up(noisy), look_up(quiet))
    product = ft.lift(lambda kernel: jnp.ones((8, 6)) @ kernel)
    assert float(jnp.abs(product(noisy) - product(quiet)).max()) > 0.5
