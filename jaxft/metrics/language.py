"""Figures of a language model, from sums over tokens: no logits reach the host."""

from __future__ import annotations

import math

from jaxft.errors import InputError


def language_metrics(nll: float, tokens: int, correct: int) -> dict[str, float]:
    """Mean cross-entropy of a token, its perplexity, and the share of tokens guessed.

    perplexity = exp(nll / tokens)

    Args:
        nll: sum of −log p over the tokens that count, in nats.
        tokens: how many count.
        correct: how many of them had the largest logit.

    Raises:
        InputError: no token counts.

    Example:
        >>> language_metrics(nll=8.0, tokens=4, correct=1)
        {'loss': 2.0, 'perplexity': 7.389..., 'accuracy': 0.25}
    """
    power = perplexity(nll, tokens)
    return {"loss": nll / tokens, "perplexity": power, "accuracy": correct / tokens}


def perplexity(nll: float, tokens: int) -> float:
    """exp(nll / tokens), infinite where that overflows.

    Args:
        nll: sum of −log p over the tokens that count, in nats.
        tokens: how many count.

    Raises:
        InputError: no token counts.

    Example:
        >>> round(perplexity(3 * math.log(10), 3), 6)
        10.0
    """
    if tokens < 1:
        raise InputError("a perplexity needs at least one token that counts: every label is -100")
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf
