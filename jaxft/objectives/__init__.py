"""Objectives: what is minimised. The mathematics of each is also a pure function on arrays."""

from jaxft.objectives.combine import combine
from jaxft.objectives.orthogonality import gram_distance, orthogonality
from jaxft.objectives.task import (
    cross_entropy,
    mean_squared_error,
    negative_log_likelihood,
    softmax_cross_entropy,
)
from jaxft.objectives.tokens import next_token, span_cross_entropy

__all__ = [
    "combine",
    "cross_entropy",
    "gram_distance",
    "mean_squared_error",
    "negative_log_likelihood",
    "next_token",
    "orthogonality",
    "softmax_cross_entropy",
    "span_cross_entropy",
]
