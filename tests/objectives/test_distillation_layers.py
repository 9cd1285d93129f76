"""Distillation of layers: values by hand on transformers and pictures, maps of layers, what does not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.models.load import build_apply, build_params
from jaxft.objectives import (
    attention_distance,
    attention_kl,
    attention_map,
    cosine_distance,
    evenly,
    hidden_mse,
    relation_kl,
    score_mse,
)
from jaxft.objectives.relations import scores
from jaxft.types import Context, Outputs
from tests.models.golden import golden

RNG = np.random.default_rng(0)
TEXT = np.arange(5) < np.array([5, 3, 4])[:, None]


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


H, G = normal(3, 5, 4), normal(3, 5, 4)
Q, K = normal(3, 2, 5, 4), normal(3, 2, 5, 6)


def rows_of(values: Any) -> list[np.ndarray]:
    """The part of each row ``[length, …]`` that is text."""
    return [np.asarray(row, np.float64)[TEXT[i]] for i, row in enumerate(values)]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean(np.sum(p * np.log(p / q), axis=-1)))


def relations_by_hand(student: Any, teacher: Any) -> float:
    def relation(x: Any, row: int) -> np.ndarray:
        text = np.asarray(x, np.float64)[row][:, TEXT[row]]
        return softmax(text @ text.swapaxes(1, 2) / np.sqrt(text.shape[-1]))

    return float(np.mean([kl(relation(teacher, row), relation(student, row)) for row in range(3)]))


def attention(seed: int) -> jax.Array:
    z = jax.random.normal(jax.random.key(seed), (3, 2, 5, 5))
    return jax.nn.softmax(jnp.where(TEXT[:, None, None], z, -1e30))


def attention_by_hand(student: Any, teacher: Any) -> float:
    def part(a: Any, row: int) -> np.ndarray:
        return np.asarray(a, np.float64)[row][:, TEXT[row]][:, :, TEXT[row]]

    return float(np.mean([kl(part(teacher, row), part(student, row)) for row in range(3)]))


def test_hidden_states_by_hand() -> None:
    square = [np.mean((f - g) ** 2) for f, g in zip(rows_of(H), rows_of(G), strict=True)]
    np.testing.assert_allclose(hidden_mse(H, G, mask=jnp.asarray(TEXT)), np.mean(square), rtol=1e-5)
    cosines = [
        1 - np.sum(f * g, -1) / np.linalg.norm(f, axis=-1) / np.linalg.norm(g, axis=-1)
        for f, g in zip(rows_of(H), rows_of(G), strict=True)
    ]
    found = cosine_distance(H, G, mask=jnp.asarray(TEXT))
    np.testing.assert_allclose(found, np.concatenate(cosines).mean(), rtol=1e-5)
    np.testing.assert_allclose(cosine_distance(H, 3 * H), 0, atol=1e-6)


def test_attention_maps_by_hand() -> None:
    maps = [np.sum(np.abs(np.asarray(x, np.float64)) ** 2, -1).reshape(3, -1) for x in (H, G)]
    maps = [q / np.linalg.norm(q, axis=1, keepdims=True) for q in maps]
    found = [attention_map(x) for x in (H, G)]
    np.testing.assert_allclose(found[0], maps[0], rtol=1e-5)
    np.testing.assert_allclose(
        attention_distance(*found), np.linalg.norm(maps[0] - maps[1], axis=1).mean() / 2, rtol=1e-5
    )
    assert attention_distance(found[0], found[0]) == 0
    pixels = H[:, :4].reshape(3, 2, 2, 4)
    np.testing.assert_allclose(attention_map(pixels), attention_map(H[:, :4]), rtol=1e-6)
    np.testing.assert_array_equal(attention_map(jnp.zeros((1, 3, 2))), 0)


def test_relations_by_hand() -> None:
    text = jnp.asarray(TEXT)
    np.testing.assert_allclose(relation_kl(Q, K, mask=text), relations_by_hand(Q, K), rtol=1e-5)
    np.testing.assert_allclose(relation_kl(K, K, mask=text), 0, atol=1e-6)
    a, b = attention(0), attention(1)
    np.testing.assert_allclose(attention_kl(a, b, mask=text), attention_by_hand(a, b), rtol=1e-5)
    np.testing.assert_allclose(attention_kl(a, a, mask=text), 0, atol=1e-6)
    square = [np.mean(np.asarray(a - b, np.float64)[row][:, TEXT[row]][:, :, TEXT[row]] ** 2) for row in range(3)]
    np.testing.assert_allclose(score_mse(a, b, mask=text), np.mean(square), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "first", "second"),
    [(hidden_mse, H, G), (cosine_distance, H, G), (relation_kl, Q, K), (score_mse, attention(0), attention(1))],
)
def test_gradients_and_what_does_not_count(loss: Any, first: Any, second: Any) -> None:
    text = jnp.asarray(TEXT)
    check_grads(lambda x: loss(x, second, mask=text), (first,), order=1, modes=["rev"], rtol=2e-2, eps=1e-2)
    np.testing.assert_array_equal(jax.grad(lambda x: loss(first, x, mask=text))(second), 0)
    place = (0, slice(None), slice(None)) if first.ndim == 3 else (0,)
    masked = jax.grad(lambda x: loss(x, second, mask=text.at[0].set(False)))(first)
    np.testing.assert_array_equal(masked[place], 0)


BERT = golden("bert_gelu", pooling="mean", dropout=0.0).model
IDS = jnp.asarray(RNG.integers(1, 40, size=(3, 5)))
BATCH = {"input_ids": IDS, "attention_mask": jnp.asarray(TEXT, jnp.int32), "labels": jnp.array([0, 1, 0])}


def smaller(**changes: int) -> ft.Model:
    """A student of the same family with other sizes."""
    config = replace(BERT.config, **changes)
    return ft.Model(build_apply(config, remat=False), build_params(config, {}, 1), config)


SHALLOW = smaller(num_layers=1)
WIDTH = 2 * BERT.config.num_heads
NARROW = smaller(num_layers=1, hidden_size=WIDTH, embedding_size=WIDTH, intermediate_size=8)
LAST = BERT.config.num_layers


def context(student: ft.Model, batch: Any = BATCH) -> Context:
    def forward(view: str | None = None) -> Outputs:
        return student.apply(student.params, {name: x for name, x in batch.items() if name != "labels"})

    return Context(forward, batch, (), jnp.int32(0), jax.random.key(0))


def value(objective: ft.Objective, student: ft.Model, batch: Any = BATCH) -> float:
    seen = context(student, batch)
    return float(objective.apply(*objective.init(jax.random.key(0), seen), seen)[0])


TERMS: dict[str, Any] = {
    "hints": lambda teacher, last: ft.hints(teacher, layers={0: 0, last: LAST}),
    "attention transfer": lambda teacher, last: ft.attention_transfer(teacher, layers={0: 0, -1: -1}),
    "tinybert": lambda teacher, last: ft.tinybert(teacher, layers={0: 0, last: LAST}),
    "minilm": lambda teacher, last: ft.minilm(teacher),
    "minilm2": lambda teacher, last: ft.minilm2(teacher, heads=2),
    "cosine": lambda teacher, last: ft.hidden_cosine(teacher),
    "relational": lambda teacher, last: ft.relational_distillation(teacher),
}
term = pytest.mark.parametrize("name", TERMS)


@term
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name: str) -> None:
    np.testing.assert_allclose(value(TERMS[name](BERT, LAST), BERT), 0, atol=1e-5)
    assert value(TERMS[name](BERT, 1), SHALLOW) > 1e-3


@term
def test_padding_changes_nothing(name: str) -> None:
    longer = {column: jnp.pad(x, ((0, 0), (0, 2))) if x.ndim == 2 else x for column, x in BATCH.items()}
    objective = TERMS[name](BERT, 1)
    np.testing.assert_allclose(value(objective, SHALLOW, longer), value(objective, SHALLOW), rtol=1e-4)


@term
def test_a_step_lowers_the_loss_and_leaves_the_teacher(name: str) -> None:
    student = SHALLOW if name in ("cosine", "minilm") else NARROW
    step = ft.make_step(student.apply, ft.full(), TERMS[name](BERT, 1), optax.adam(3e-3))
    frozen, state = step.init(jax.random.key(0), student.params, BATCH)
    held = jax.tree.leaves(frozen.objective)
    assert sum(leaf.size for leaf in held) == sum(leaf.size for leaf in jax.tree.leaves(BERT.params))
    update = jax.jit(step.update)
    state, first = update(frozen, state, BATCH)
    for _ in range(20):
        state, last = update(frozen, state, BATCH)
    assert last["loss"] < 0.9 * first["loss"]
    for kept, params in zip(held, jax.tree.leaves(BERT.params), strict=True):
        np.testing.assert_array_equal(kept, params)


def test_scores_of_tinybert_are_those_of_the_softmax() -> None:
    """Softmax of Q Kᵀ / √d is the attention that the model gives."""
    outputs = BERT.apply(BERT.params, {name: x for name, x in BATCH.items() if name != "labels"})
    for (query, key, _), probabilities in zip(outputs.projections, outputs.attentions, strict=True):
        masked = jnp.where(TEXT[:, None, None], scores(query, key), -1e30)
        np.testing.assert_allclose(jax.nn.softmax(masked), probabilities, atol=1e-6)


def test_maps_of_pictures_of_another_size() -> None:
    teacher = ft.small_convnet(16, num_labels=3, channels=(4, 6))
    student = ft.small_convnet(16, num_labels=3, channels=(2, 2, 2))
    batch = {"pixels": normal(3, 16, 16, 1)}
    objective = ft.attention_transfer(teacher, layers={1: 1, 3: 2})
    assert 0 < value(objective, student, batch) < 1
    assert value(ft.attention_transfer(teacher, layers={1: 1, 2: 2}), teacher, batch) == 0
    assert value(ft.hints(teacher, layers={2: 2}), student, batch) > 0


def test_even_maps() -> None:
    assert evenly(2, 6) == {0: 0, 1: 3, 2: 6}
    with pytest.raises(ft.InputError, match="name the pairs"):
        evenly(4, 6)


def with_prompt() -> ft.Model:
    adaptation = ft.prompt(length=2)
    frozen, delta = adaptation.init(jax.random.key(0), BERT.params)
    return BERT._replace(params=adaptation.bind(frozen, delta))


BAD: dict[str, tuple[Any, str]] = {
    "map": (lambda: ft.hints(BERT, layers={}), "such as {1: 2, 2: 4}"),
    "map of names": (lambda: ft.tinybert(BERT, layers={"a": 1}), "from layers of the student"),
    "student layer": (lambda: value(ft.hints(BERT, layers={7: 1}), SHALLOW), "student gives 2 hidden states"),
    "teacher layer": (lambda: value(ft.hidden_cosine(BERT, layers={1: 9}), SHALLOW), "no layer 9"),
    "attention layer": (lambda: value(ft.minilm(BERT, layer=0), SHALLOW), "no attention of layer 0"),
    "prompt": (lambda: value(ft.minilm(with_prompt()), with_prompt()), r"over 7 places, but the tokens are \[3, 5\]"),
    "heads": (lambda: value(ft.minilm(BERT), smaller(num_heads=1)), "head by head"),
    "relation heads": (lambda: value(ft.minilm2(BERT, heads=7), SHALLOW), "into 7 relation heads"),
    "number of heads": (lambda: ft.minilm2(BERT, heads=0), "from 1 up, but are 0"),
    "sizes": (lambda: value(ft.hidden_cosine(BERT), NARROW), "hints learn a map"),
    "ensemble": (lambda: value(ft.minilm(ft.ensemble([BERT])), SHALLOW), "an ensemble gives logits alone"),
    "no attention": (
        lambda: value(ft.minilm(ft.small_mlp(5, num_labels=2)), SHALLOW, {**BATCH, "features": jnp.ones((3, 5))}),
        "the teacher has no attention",
    ),
    "columns": (lambda: value(ft.minilm(None), SHALLOW), "name the model as the teacher"),
    "no column": (lambda: value(ft.hints(None, layers={1: 1}), SHALLOW), "'teacher/hidden_states/1'"),
    "positions": (lambda: attention_map(jnp.ones((2, 3))), "over positions"),
    "maps": (lambda: attention_distance(jnp.ones((2, 3)), jnp.ones((2, 4))), "position by position"),
    "relations": (lambda: relation_kl(Q, Q[:, :1]), "head by head"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
