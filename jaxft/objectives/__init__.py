"""Objectives: what is minimised. The mathematics of each is also a pure function on arrays."""

from jaxft.objectives.bss import bss, smallest_singular_values
from jaxft.objectives.categories import calibration_temperature, category_relationship, reverse_category_relationship
from jaxft.objectives.co_optimal import CoOptimalPlans, co_optimal_transport
from jaxft.objectives.co_tuning import co_tuning, soft_cross_entropy
from jaxft.objectives.combine import combine
from jaxft.objectives.feature_distance import channel_attention, feature_distance, squared_feature_distance
from jaxft.objectives.gromov_wasserstein import fused_gromov_wasserstein_plan
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
from jaxft.objectives.transport import barycentric_map, ot_map, sinkhorn_plan, squared_distances

__all__ = [
    "CoOptimalPlans",
    "barycentric_map",
    "bss",
    "calibration_temperature",
    "category_relationship",
    "channel_attention",
    "co_optimal_transport",
    "co_tuning",
    "combine",
    "cross_entropy",
    "feature_distance",
    "fused_gromov_wasserstein_plan",
    "gram_distance",
    "half_squared_distance",
    "l2_sp",
    "mean_squared_error",
    "negative_log_likelihood",
    "next_token",
    "orthogonality",
    "ot_map",
    "r3f",
    "reverse_category_relationship",
    "sinkhorn_plan",
    "smallest_singular_values",
    "soft_cross_entropy",
    "softmax_cross_entropy",
    "span_cross_entropy",
    "squared_distances",
    "squared_feature_distance",
    "symmetric_kl",
]
