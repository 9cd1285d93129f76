"""A BERT of one layer, for the methods that need the slots of our models."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from jaxft.models.load import build_apply, build_params
from tests.laws.subjects import ROWS, Subject
from tests.models.golden import golden

LENGTH = 6


def tiny_bert() -> Subject:
    config = replace(golden("bert_gelu", pooling="mean", dropout=0.0).model.config, num_layers=1)
    labels = jnp.arange(ROWS) % config.num_labels
    words = jax.random.randint(jax.random.key(7), (ROWS, LENGTH), 1, config.vocab_size // config.num_labels)
    batch = {"input_ids": words + labels[:, None] * (config.vocab_size // config.num_labels), "labels": labels}
    weights = "**/{attention/output,feed_forward/down}/kernel"
    params = build_params(config, {}, 0)
    return Subject(build_apply(config, remat=False), params, batch, weights, "head/**", "encoder/**", "")
