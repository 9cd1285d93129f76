"""Objectives: what is minimised. The mathematics of each is also a pure function on arrays."""

from jaxft.objectives.bss import bss, smallest_singular_values
from jaxft.objectives.categories import calibration_temperature, category_relationship, reverse_category_relationship
from jaxft.objectives.co_tuning import co_tuning, soft_cross_entropy
from jaxft.objectives.combine import combine
from jaxft.objectives.feature_distance import channel_attention, feature_distance, squared_feature_distance
from jaxft.objectives.l2_sp import half_squared_distance, l2_sp
from jaxft.objectives.orthogonality import gram_distance, orthogonality
from jaxft.objectives.r3f import r3f, symmetric_kl
from jaxft.objectives.task import (
    cross_entropy,
    mean_squared_error,
    negative_log_likelihood,
    softmax_cross_entropy,
)
from jaxft.objectives.tokens import next_token, span_cross_entropy

__all__ = [
    "bss",
    "calibration_temperature",
    "category_relationship",
    "channel_attention",
    "co_tuning",
    "combine",
    "cross_entropy",
    "feature_distance",
    "gram_distance",
    "half_squared_distance",
    "l2_sp",
    "mean_squared_error",
    "negative_log_likelihood",
    "next_token",
    "orthogonality",
    "r3f",
    "reverse_category_relationship",
    "smallest_singular_values",
    "soft_cross_entropy",
    "softmax_cross_entropy",
    "span_cross_entropy",
    "squared_feature_distance",
    "symmetric_kl",
]
