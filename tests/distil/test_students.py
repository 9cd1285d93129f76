"""Students: chosen layers, saved and loaded, of every kind of stack; nothing learnt; other vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from tests.models.golden import golden

BERT = golden("bert_gelu", pooling="mean", dropout=0.0).model
IDS = jnp.array([[5, 7, 9, 2], [4, 4, 3, 1]])


def forward(model: ft.Model, **inputs: Any) -> ft.Outputs:
    found: ft.Outputs = jax.jit(model.apply)(model.params, inputs or {"input_ids": IDS})
    return found


def test_layers_are_the_teachers() -> None:
    student = ft.distil.shrink(BERT, layers=(1,))
    assert student.config.num_layers == 1
    ours, theirs = ft.leaf_paths(student.params), ft.leaf_paths(BERT.params)
    for path, leaf in ours.items():
        assert leaf is theirs[path.replace("layer_0", "layer_1")]
    assert len(forward(student).hidden_states) == 2


def test_all_layers_are_the_model() -> None:
    same = ft.distil.shrink(BERT, layers=range(BERT.config.num_layers))
    np.testing.assert_array_equal(forward(same).logits, forward(BERT).logits)
    turned = ft.distil.shrink(BERT, layers=(1, 0))
    assert np.abs(forward(turned).logits - forward(BERT).logits).max() > 1e-6


@pytest.mark.parametrize(
    "name", ["bert_gelu", "distilbert_classify", "gpt2_lm", "gpt1_lm", "qwen2_window", "vit_classify"]
)
def test_students_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = golden(name).model
    student = ft.distil.shrink(model, layers=(1,))
    ft.save_model(student, tmp_path / "student")
    labels = list(student.config.labels) or None
    again = ft.load_model(
        tmp_path / "student",
        task=student.config.task,
        labels=labels if student.config.num_labels else None,
        pooling=None if student.config.pooling == "tokens" else student.config.pooling,
    )
    assert again.config.num_layers == 1
    assert again.config == student.config
    for path, leaf in ft.leaf_paths(again.params).items():
        np.testing.assert_array_equal(leaf, ft.leaf_paths(student.params)[path])


def test_windows_stay_with_their_layers() -> None:
    model = golden("qwen2_window").model
    student = ft.distil.shrink(model, layers=(1,))
    assert student.config.windows == model.config.windows[1:2]


def test_an_adaptation_stays_bound() -> None:
    adaptation = ft.lora("**/query/kernel", rank=2)
    frozen, delta = adaptation.init(jax.random.key(0), BERT.params)
    delta = jax.tree.map(lambda leaf: leaf + 0.1, delta)
    bound = BERT._replace(params=adaptation.bind(frozen, delta))
    merged = BERT._replace(params=ft.merge(adaptation, frozen, delta))
    found = [forward(ft.distil.shrink(model, layers=(1,))).logits for model in (bound, merged)]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_from_scratch() -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 2 * BERT.config.num_heads, "intermediate_size": 10}
    student = ft.distil.from_scratch(BERT, seed=3, **sizes)
    assert (student.config.num_layers, student.config.hidden_size) == (1, sizes["hidden_size"])
    assert (student.config.task, student.config.labels) == (BERT.config.task, BERT.config.labels)
    assert forward(student).logits.shape == forward(BERT).logits.shape
    other = ft.distil.from_scratch(BERT, seed=4, **sizes)
    first, second = (model.params["embeddings"]["word"]["embedding"] for model in (student, other))
    assert np.abs(first - second).max() > 0


class Words:
    """What is asked of a tokenizer."""

    def __init__(self, **words: int):
        self.words = words

    def get_vocab(self) -> dict[str, int]:
        return self.words


def with_words(**words: int) -> ft.Model:
    return BERT._replace(tokenizer=Words(**words))


BAD: dict[str, tuple[Any, str]] = {
    "layer": (lambda: ft.distil.shrink(BERT, layers=(0, 9)), "layers 0 to .* of this model, at least one; got 9"),
    "no layer": (lambda: ft.distil.shrink(BERT, layers=()), "got none"),
    "negative": (lambda: ft.distil.shrink(BERT, layers=(-1,)), "got -1"),
    "two stacks": (lambda: ft.distil.shrink(golden("t5_relu").model, layers=(0,)), "encoder and decoder"),
    "no transformer": (lambda: ft.distil.shrink(ft.small_mlp(4, num_labels=2), layers=(0,)), "with none"),
    "field": (lambda: ft.distil.from_scratch(BERT, num_layers=1), "no field of the config.json of this bert"),
    "scratch": (lambda: ft.distil.from_scratch(ft.small_mlp(4, num_labels=2)), "of load_model"),
    "heads": (lambda: ft.distil.from_scratch(BERT, num_attention_heads=7), "not a multiple"),
    "no tokenizer": (
        lambda: ft.distil.same_vocabulary(BERT._replace(tokenizer=None), BERT),
        "teacher has no tokenizer",
    ),
    "words": (
        lambda: ft.distil.same_vocabulary(with_words(a=0, b=1), with_words(a=0, b=2)),
        "'b' is token 1 of the teacher and 2 of the student",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
