"""Noise at the word embeddings: what it is, in every family of text models, and that it is never ignored."""

from __future__ import annotations

import numpy as np
import pytest

import jaxft as ft
from jaxft.models.cache import empty_cache
from jaxft.trees import leaf_paths
from jaxft.trees.paths import replace
from tests.models.golden import golden, run

WORDS = "embeddings/word/embedding"
TEXTS = ("bert_gelu", "roberta_classify", "distilbert_classify", "electra_classify", "gpt1_lm", "gpt2_classify")
OTHERS = ("llama_classify", "qwen3_lm", "t5_relu", "encoder_decoder_bert")


def inputs(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A batch in which no token comes twice, and noise for it."""
    ids = 5 + np.arange(6).reshape(2, 3)
    width = leaf_paths(golden(name).model.params)[WORDS].shape[1]
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if name in ("t5_relu", "encoder_decoder_bert"):
        batch["decoder_input_ids"] = np.full((2, 2), 4)
    return batch, np.random.default_rng(0).normal(size=(2, 3, width)).astype(np.float32)


@pytest.mark.parametrize("name", TEXTS + OTHERS)
def test_it_is_added_to_the_rows_of_the_table(name: str) -> None:
    model, (batch, noise) = golden(name).model, inputs(name)
    table = np.array(leaf_paths(model.params)[WORDS])
    table[batch["input_ids"]] += noise
    found, expected = (
        run(model, batch | {"embedding_noise": noise}),
        run(model, batch, replace(model.params, {WORDS: table})),
    )
    for one, other in zip(
        found.encoder_hidden_states or found.hidden_states,
        expected.encoder_hidden_states or expected.hidden_states,
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(found.hidden_states[-1] - run(model, batch).hidden_states[-1]).max() > 1e-3


def test_noise_of_another_shape_is_refused() -> None:
    batch, noise = inputs("electra_classify")
    with pytest.raises(ft.InputError, match=r"embedding_noise of the shape of the word embeddings, \[2, 3, \d+\]; got"):
        run(golden("electra_classify").model, batch | {"embedding_noise": np.repeat(noise, 2, axis=2)})


def test_models_that_look_up_no_words_refuse_it() -> None:
    images = golden("vit_classify")
    with pytest.raises(ft.InputError, match="embedding_noise is for models of text; this one reads pixels"):
        run(images.model, images.batch | {"embedding_noise": np.zeros((1, 1, 1))})
    batch, noise = inputs("t5_relu")
    model = golden("t5_relu").model
    cache = run(model, batch | {"cache": empty_cache(model.config.cache_sizes, rows=2, places=4)}).cache
    again = {"decoder_input_ids": batch["decoder_input_ids"][:, :1], "cache": cache, "embedding_noise": noise}
    with pytest.raises(ft.InputError, match="no words to be added to"):
        run(model, again)
