"""Floating-point operations of a training step, counted by hand: matrix products only, two for each multiply and add.

Per layer, with N tokens in rows of T, dimension h, feed-forward size f:

    dense products      D = 2 N (4 h^2 + 2 h f)
    attention products  A = 2 * 2 N T h             (scores, and the mixture of values)

A forward pass costs D + A a layer. Backward, each product costs the same again for the gradient of each operand that
needs one. So a trained layer costs 2 D + 2 A more, a frozen layer under something that learns D + 2 A, and a layer
that nothing learned reaches costs nothing. The lowest layer that learns sends no gradient to its input.
"""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """An encoder and a batch."""

    batch: int
    length: int
    hidden: int
    feed_forward: int
    layers: int
    labels: int


def step_flops(method: str, size: Size, *, top: int, rank: int) -> int:
    """Operations of one step of "full", "top" (layers and head), "lora" (on query and value, and head) or "head"."""
    tokens, h = size.batch * size.length, size.hidden
    dense = 2 * tokens * (4 * h * h + 2 * h * size.feed_forward)
    attention = 4 * tokens * size.length * h
    projection = 2 * tokens * h * h
    logits = 2 * size.batch * h * size.labels
    forward = size.layers * (dense + attention) + logits
    if method == "head":
        return forward + logits
    if method == "full":
        return 3 * forward
    head = 2 * logits
    if method == "top":
        return forward + head + top * (2 * dense + 2 * attention) - 3 * projection
    # Each of two weights a layer: x A, (x A) B forward; the gradients of A, B, x A and x backward.
    product = 2 * tokens * h * rank
    adapters = size.layers * 2 * 6 * product - 2 * product
    # In the lowest layer neither its input nor its keys lead to anything that learns.
    lowest = 3 * projection + attention // 2
    return forward + head + size.layers * (dense + 2 * attention) - lowest + adapters


class DecoderSize(NamedTuple):
    """A decoder with gated feed-forward and grouped keys, and a batch; widths are those of all heads together."""

    batch: int
    length: int
    hidden: int
    queries: int
    keys: int
    feed_forward: int
    layers: int
    vocabulary: int


def decoder_lora_flops(size: DecoderSize, *, rank: int) -> int:
    """Operations of one language-modelling step that learns low-rank factors of query and value.

    Nothing else learns: each dense product costs as much again for the gradient of its input, and the table of words,
    which gives the logits, has no gradient of its own.
    """
    s, tokens = size, size.batch * size.length
    projections = 2 * tokens * s.hidden * (s.queries + 2 * s.keys)
    dense = projections + 2 * tokens * (s.queries * s.hidden + 3 * s.hidden * s.feed_forward)
    attention = 4 * tokens * s.length * s.queries
    logits = 2 * tokens * s.hidden * s.vocabulary
    factors = [2 * tokens * rank * (s.hidden + s.queries), 2 * tokens * rank * (s.hidden + s.keys)]
    adapters = s.layers * 3 * sum(factors) - 2 * 2 * tokens * rank * s.hidden
    # In the lowest layer neither its input nor its keys lead to anything that learns.
    lowest = projections + attention // 2
    return 2 * logits + s.layers * (2 * dense + 3 * attention) - lowest + adapters
