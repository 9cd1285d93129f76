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
