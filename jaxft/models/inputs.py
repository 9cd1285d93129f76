"""What a batch must hold for a model, checked where shapes are known and before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.models.cache import Cache
from jaxft.models.config import ImageConfig, ModelConfig, TextConfig
from jaxft.models.slots import Taken


def check_inputs(batch: Mapping[str, Any], config: ModelConfig, taken: Taken) -> None:
    """Refuses a batch that the model cannot read.

    Args:
        batch: of the model.
        config: of the model.
        taken: places that a prompt and prefixes take.

    Raises:
        InputError: no tokens or pixels, or of another shape than the model's, or more tokens than it has positions or
            its cache has room for; in a compiled program the tokens a cache holds are not known, so that one call with
            more new tokens than it has places is all that is refused there.
    """
    if isinstance(config, TextConfig):
        cache = batch.get("cache")
        if config.task != "seq2seq" or cache is None or not cache.encoded:
            others = taken.encoder if config.task == "seq2seq" else taken.encoder + taken.decoder
            _check_tokens(batch, "input_ids", config.max_positions, taken.prompt + others)
        if config.task == "seq2seq":
            _check_tokens(batch, "decoder_input_ids", config.max_target_positions, taken.decoder)
        if cache is not None:
            new = batch["decoder_input_ids" if config.task == "seq2seq" else "input_ids"].shape[1]
            first = config.task != "seq2seq" and cache.prompt is None
            _check_room(cache, new + (taken.prompt if first else 0))
    if isinstance(config, ImageConfig):
        _check_pixels(batch, config)


def _check_tokens(batch: Mapping[str, Any], name: str, most: int, taken: int) -> None:
    if name not in batch:
        raise InputError(f"expected a batch with {name} [batch, length]; it has {', '.join(batch) or 'nothing'}")
    shape = batch[name].shape
    if len(shape) != 2:
        raise InputError(f"expected {name} of shape [batch, length]; got {list(shape)}")
    if shape[1] + taken > most:
        share = f", of which a prompt or prefix takes {taken}" if taken else ""
        advice = f"truncate it to {most - taken}" if taken < most else "take a shorter prompt or prefix"
        raise InputError(f"the input is {shape[1]} tokens long but the model has {most} positions{share}: {advice}")


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
