"""Where no activations can be kept, none are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.models import load_model
from jaxft.study.prefix import find_prefix
from jaxft.study.prefix_columns import PrefixRefused
from jaxft.trees import leaf_paths
from tests.models.golden import GOLDEN
from tests.study.prefix_cases import BATCH, Rows, assert_close, batches_of, mlp_params, mlp_rows, prefix_of, train

BERT = GOLDEN / "bert_gelu"


def tokens() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    ids = random.integers(1, 30, (12, 8)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": random.integers(0, 3, 12)}


@pytest.mark.parametrize(
    ("dropout", "adaptation"),
    [
        (None, ft.tune("head/**")),
        (0.0, ft.full()),
        (0.0, ft.chain(ft.lora("encoder/layer_0/attention/{query,key,value}/kernel", rank=2), ft.tune("**/bias"))),
        (0.0, ft.tune(["embeddings/**", "head/**"])),
    ],
    ids=["dropout", "full", "LoRA in the first layer", "embeddings"],
)
def test_nothing_is_kept_above_what_changes(dropout: float | None, adaptation: ft.Adaptation):
    model = load_model(BERT, task="classify", dropout=dropout)
    assert prefix_of(model.apply, model.params, adaptation, tokens()) is None


@pytest.mark.parametrize("options", [{"remat": True}, {"dtype": jnp.bfloat16}], ids=["remat", "bfloat16"])
def test_other_ways_to_compute_a_layer_are_kept_too(options: dict[str, Any]):
    model, adaptation = load_model(BERT, task="classify", dropout=0.0, **options), ft.tune("head/**")
    prefix = prefix_of(model.apply, model.params, adaptation, tokens())
    assert prefix is not None
    assert prefix.saved > 0.99
    columns = prefix.columns(tokens(), BATCH)
    whole = train(model.apply, model.params, adaptation, batches_of(tokens()))
    kept = train(prefix.apply, model.params, adaptation, batches_of(tokens(), columns))
    assert_close(kept, whole, 1e-5 if "remat" in options else 2e-2)


def normed(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    h = batch["x"] @ params["layer_0"]["kernel"] + params["layer_0"]["bias"]
    h = (h - h.mean(0)) / h.std(0) if train else h
    h = jnp.tanh(h @ params["layer_1"]["kernel"])
    return ft.Outputs(logits=h @ params["head"]["kernel"], features=h)


def test_rows_that_mix_are_noticed():
    rows, adaptation = mlp_rows(), ft.tune("head/**")
    assert prefix_of(normed, mlp_params(), adaptation, rows) is None
    assert prefix_of(normed, mlp_params(), adaptation, rows, train=False) is not None
    shapes = {"x": jax.ShapeDtypeStruct((BATCH, 10), jnp.float32)}
    known = [path != "head/kernel" for path in leaf_paths(mlp_params())]
    prefix = find_prefix(normed, mlp_params(), known, shapes)
    assert prefix is not None
    with pytest.raises(PrefixRefused, match="depend on the rows beside it"):
        prefix.columns(rows, BATCH)


def test_rows_that_are_not_in_their_places_are_noticed():
    def paired(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        both = jnp.concatenate([batch["x"], -batch["x"]]) @ params["layer_0"]["kernel"]
        both = jnp.tanh(jnp.tanh(both) @ params["layer_1"]["kernel"])
        return (both @ params["head"]["kernel"]).reshape(2, -1, 3).sum(0)

    def noisy(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        h = batch["x"] @ params["layer_0"]["kernel"]
        h = h + jax.random.normal(jax.random.key(0), h.shape)
        return jnp.tanh(h @ params["layer_1"]["kernel"]) @ params["head"]["kernel"]

    rows, adaptation = mlp_rows(), ft.tune("head/**")
    assert prefix_of(noisy, mlp_params(), adaptation, rows) is None
    assert prefix_of(paired, mlp_params(), adaptation, rows) is None


@pytest.mark.parametrize(("top", "least"), [(["encoder/stage_2/**", "head/**"], 0.5), (["head/**"], 0.99)])
def test_the_lower_stages_of_a_net_with_frozen_statistics_are_kept(top: list[str], least: float):
    model = load_model(GOLDEN / "resnet_basic", task="classify")
    random = np.random.default_rng(0)
    rows: Rows = {"pixels": random.normal(size=(12, 32, 32, 3)).astype(np.float32), "labels": random.integers(0, 5, 12)}
    prefix = prefix_of(model.apply, model.params, ft.tune(top), rows)
    assert prefix is not None
    assert prefix.saved > least
    columns = prefix.columns(rows, BATCH)
    whole = train(model.apply, model.params, ft.tune(top), batches_of(rows))
    assert_close(train(prefix.apply, model.params, ft.tune(top), batches_of(rows, columns)), whole)


def test_statistics_that_move_are_not_frozen():
    model = load_model(GOLDEN / "resnet_basic", task="classify", update_stats=True)
    random = np.random.default_rng(0)
    rows = {"pixels": random.normal(size=(12, 32, 32, 3)).astype(np.float32)}
    assert prefix_of(model.apply, model.params, ft.tune("head/**"), rows) is None


def test_the_convolutions_of_an_efficientnet_are_kept():
    model = load_model("efficientnet-lite0", task="classify", num_labels=3)
    leaves = jax.tree.leaves(model.params)
    known = jax.tree.leaves(ft.glob("encoder/**", "stem/**")(model.params))
    shapes = {"pixels": jax.ShapeDtypeStruct((BATCH, 64, 64, 3), jnp.float32)}
    prefix = find_prefix(model.apply, model.params, known, shapes, train=False)
    assert len(leaves) == len(known)
    assert prefix is not None
    assert 0.3 < prefix.saved < 0.99


def by_size(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    """Many rows are computed in another way."""
    h = batch["x"] @ params["layer_0"]["kernel"] + params["layer_0"]["bias"]
    h = jnp.tanh(jnp.tanh(h) if len(h) <= 2 * BATCH else jnp.sinh(h) / jnp.cosh(h)) @ params["layer_1"]["kernel"]
    return ft.Outputs(logits=h @ params["head"]["kernel"], features=h)


def test_batches_that_are_another_program_are_refused():
    prefix = prefix_of(by_size, mlp_params(), ft.tune("head/**"), mlp_rows())
    assert prefix is not None
    prefix.columns(mlp_rows(), BATCH)
    with pytest.raises(PrefixRefused, match=f"of {3 * BATCH} rows is another program than that of {BATCH}"):
        prefix.columns(mlp_rows(), 3 * BATCH)
