"""What a batch must hold for a model, checked where shapes are known and before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft.errors import InputError
from jaxft.models.cache import Cache
from jaxft.models.config import ImageConfig, ModelConfig, TextConfig
from jaxft.models.slots import Taken

_BESIDE = ("attention_mask", "token_type_ids", "segment_ids")
NOISE = "embedding_noise"
"""Where a batch has what is added to the word embeddings of ``input_ids``, ``[batch, length, dim]``."""


def check_inputs(batch: Mapping[str, Any], config: ModelConfig, taken: Taken) -> None:
    """Refuses a batch that the model cannot read.

    Args:
        batch: of the model.
        config: of the model.
        taken: places that a prompt and prefixes take.

    Raises:
        InputError: no tokens or pixels, or of another shape or type than the model's, or more tokens than it has
            positions or its cache has room for; in a compiled program the tokens a cache holds are not known, so that
            one call with more new tokens than it has places is all that is refused there. Tokens or kinds that the
            model does not embed, where their values are known. Noise for word embeddings that it does not look up.
    """
    if isinstance(config, TextConfig):
        cache = batch.get("cache")
        if config.task != "seq2seq" or cache is None or not cache.encoded:
            others = taken.encoder if config.task == "seq2seq" else taken.encoder + taken.decoder
            _check_tokens(batch, "input_ids", config.max_positions, taken.prompt + others)
            _check_beside(batch)
            _check_values(batch, config)
        elif NOISE in batch:
            raise InputError(f"{NOISE} has no words to be added to: the cache holds the encoder's states already")
        if config.task == "seq2seq":
            _check_tokens(batch, "decoder_input_ids", config.max_target_positions, taken.decoder)
        if cache is not None:
            new = batch["decoder_input_ids" if config.task == "seq2seq" else "input_ids"].shape[1]
            first = config.task != "seq2seq" and cache.prompt is None
            _check_room(cache, new + (taken.prompt if first else 0))
    if isinstance(config, ImageConfig):
        if NOISE in batch:
            raise InputError(f"{NOISE} is for models of text; this one reads pixels: add the noise to these")
        _check_pixels(batch, config)


def noised(words: Array, noise: Array | None) -> Array:
    """Word embeddings ``[batch, length, dim]`` with noise, where there is any, in their dtype.

    Raises:
        InputError: the noise has another shape.
    """
    if noise is None:
        return words
    if noise.shape != words.shape:
        raise InputError(
            f"expected {NOISE} of the shape of the word embeddings, {list(words.shape)}; got {list(noise.shape)}"
        )
    return words + noise.astype(words.dtype)


def _check_tokens(batch: Mapping[str, Any], name: str, most: int, taken: int) -> None:
    if name not in batch:
        raise InputError(f"expected a batch with {name} [batch, length]; it has {', '.join(batch) or 'nothing'}")
    shape = batch[name].shape
    if len(shape) != 2:
        raise InputError(f"expected {name} of shape [batch, length]; got {list(shape)}")
    if not jnp.issubdtype(batch[name].dtype, jnp.integer):
        raise InputError(f"expected {name} as whole numbers, the tokens' ids; got {batch[name].dtype}")
    if shape[1] + taken > most:
        share = f", of which a prompt or prefix takes {taken}" if taken else ""
        advice = f"truncate it to {most - taken}" if taken < most else "take a shorter prompt or prefix"
        raise InputError(f"the input is {shape[1]} tokens long but the model has {most} positions{share}: {advice}")


def _check_beside(batch: Mapping[str, Any]) -> None:
    """What stands beside the tokens says something of each."""
    shape = batch["input_ids"].shape
    for name in _BESIDE:
        if name in batch and batch[name].shape != shape:
            raise InputError(
                f"expected {name} of the shape of input_ids, {list(shape)}; got {list(batch[name].shape)}: make both "
                "from the same texts"
            )


def _check_values(batch: Mapping[str, Any], config: TextConfig) -> None:
    """Out of the table an embedding is NaN, or another's; only in a compiled program is it too late to say."""
    mask = batch.get("attention_mask")
    for name, rows in (("input_ids", config.vocab_size), ("token_type_ids", config.token_types)):
        values = batch.get(name)
        if values is None or rows < 2 or any(isinstance(x, jax.core.Tracer) for x in (values, mask)):
            continue
        seen = np.asarray(values) if mask is None else np.asarray(values)[np.asarray(mask) > 0]
        if seen.size and not 0 <= (worst := int(seen.max() if seen.min() >= 0 else seen.min())) < rows:
            raise InputError(
                f"{name} holds {worst}, but the model embeds 0 to {rows - 1}: encode the texts with its own tokenizer"
            )


def _check_room(cache: Cache, new: int) -> None:
    places = cache.visible.shape[1]
    held = 0 if isinstance(cache.place, jax.core.Tracer) else int(cache.place)
    if held + new > places:
        raise InputError(
            f"the cache has {places} places, of which {held} hold tokens, and {new} more do not fit: "
            "make it with empty_cache(…, places=…) for the prompt and all that is written"
        )


def _check_pixels(batch: Mapping[str, Any], config: ImageConfig) -> None:
    if "pixels" not in batch:
        raise InputError(
            f"expected a batch with pixels [batch, height, width, channels]; it has {', '.join(batch) or 'nothing'}"
        )
    shape, dtype = batch["pixels"].shape, batch["pixels"].dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"expected pixels as floats, (level / 255 - mean) / std; got {dtype}: normalise the images")
    size = config.image_size or tuple(shape[1:3])
    if len(shape) != 4 or tuple(shape[1:]) != (*size, config.channels):
        height, width = config.image_size or ("height", "width")
        raise InputError(
            f"expected pixels of shape [batch, {height}, {width}, {config.channels}]; got {list(shape)}: "
            "resize or convert the images"
        )
