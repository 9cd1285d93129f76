"""Prompt tuning: learned vectors before the words of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.adapt.added import graft, nested
from jaxft.adapt.options import check_size
from jaxft.errors import InputError
from jaxft.trees import leaf_paths
from jaxft.types import Adaptation, Array, Delta, Frozen, Key, Params
from jaxft.weights import is_structured, lift

WORDS = "embeddings/word/embedding"
STARTS = ("vocabulary", "random")


def prompt(*, length: int = 20, init: str | Sequence[int] = "vocabulary") -> Adaptation:
    """Trains vectors that stand before the words of every text; the model is frozen.

    [p_1, …, p_k, E(t_1), …, E(t_n)] in place of [E(t_1), …, E(t_n)], with word embeddings E

    They are seen by all tokens, have the first positions and the first kind of token, and take k of the model's
    positions. The outputs have no place for them, but for ``attentions``. A mean over the tokens leaves them out; where
    a head reads the first state ("cls"), it is that of p_1, as in Hugging Face PEFT. An encoder-decoder has them before
    the encoder's input. It does not start as the base model. The leaf is ``embeddings/prompt`` ``[length, dim]``.

    Args:
        length: k.
        init: "vocabulary" copies the embeddings of words drawn at random, "random" draws uniformly from ±0.5, and a
            sequence of token ids, such as those of the names of the classes or of an instruction, copies theirs, from
            the front again until there are enough.

    Raises:
        InputError: a length below one, an init that is none of those, or at ``init`` params without a table of words at
            ``embeddings/word/embedding``, or with fewer rows than an id asks for.

    Example:
        >>> params = {"embeddings": {"word": {"embedding": jnp.arange(8.0).reshape(4, 2)}}}
        >>> frozen, delta = prompt(length=3, init=[2, 0]).init(jax.random.key(0), params)
        >>> delta["embeddings"]["prompt"].tolist()
        [[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]

    References:
        Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", 2021.
    """
    check_size(length, "prompt", "length")
    named = isinstance(init, str)
    if init not in STARTS if named else not len(init):
        raise InputError(f"prompt expects init to be 'vocabulary', 'random' or token ids, but got {init!r}")

    def start(key: Key, params: Params) -> tuple[Frozen, Delta]:
        table = _words(params)
        rows, dim = table.shape
        if named and init == "random":
            vectors = jax.random.uniform(key, (length, dim), jnp.float32, -0.5, 0.5)
        else:
            ids = jax.random.randint(key, (length,), 0, rows) if named else np.resize(np.asarray(init, int), length)
            if not named and not 0 <= ids.min() <= ids.max() < rows:
                raise InputError(f"init names tokens from {ids.min()} to {ids.max()}, but the model has {rows}")
            vectors = lift(_rows)(table, ids)
        return params, nested({"embeddings/prompt": vectors.astype(table.dtype)})

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key
        return graft(frozen, delta)

    return Adaptation(start, bind)


def _rows(table: Array, ids: Any) -> Array:
    return jnp.take(table, ids, axis=0)


def _words(params: Params) -> Any:
    table = leaf_paths(params, is_leaf=is_structured).get(WORDS)
    if table is None or table.ndim != 2:
        raise InputError(
            f"prompt expects the params of a model of texts from load_model, with a table of words at {WORDS!r} that "
            "no earlier link of a chain trains; put prompt first in the chain, or choose another method for this model"
        )
    return table
