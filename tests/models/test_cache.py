"""A cache that is full: refused where the number of its tokens is known."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.adapt import lora
from jaxft.errors import InputError
from jaxft.models import load_model
from jaxft.models.cache import empty_cache

GOLDEN = Path(__file__).parent.parent / "golden"


def test_tokens_beyond_the_places_of_a_cache_are_refused():
    model = load_model(GOLDEN / "llama_lm", task="lm")
    batch = {"input_ids": np.arange(3, 9).reshape(2, 3), "cache": empty_cache(model.config.cache_sizes, 2, 5)}
    outputs = model.apply(model.params, batch)
    two = {"input_ids": batch["input_ids"][:, :2], "cache": outputs.cache}
    assert model.apply(model.params, two).cache.place == 5
    with pytest.raises(InputError, match="has 5 places, of which 3 hold tokens, and 3 more do not fit"):
        model.apply(model.params, {**batch, "cache": outputs.cache})
    adaptation = lora("**/query/kernel", rank=1)
    params = adaptation.bind(*adaptation.init(jax.random.key(0), model.params))
    with pytest.raises(InputError, match="do not fit"):
        model.apply(params, {**batch, "cache": outputs.cache})
    with pytest.raises(InputError, match="has 2 places, of which 0 hold tokens, and 3 more"):
        jax.jit(model.apply)(model.params, {**batch, "cache": empty_cache(model.config.cache_sizes, 2, 2)})


def test_so_are_those_of_a_decoder_behind_an_encoder():
    model = load_model(GOLDEN / "t5_relu", task="seq2seq")
    ids = np.arange(3, 9).reshape(2, 3)
    cache = empty_cache(model.config.cache_sizes, 2, 4)
    outputs = model.apply(model.params, {"input_ids": ids, "decoder_input_ids": ids, "cache": cache})
    later = {"attention_mask": np.ones_like(ids), "decoder_input_ids": ids[:, :2], "cache": outputs.cache}
    with pytest.raises(InputError, match="has 4 places, of which 3 hold tokens, and 2 more do not fit"):
        model.apply(model.params, later)
