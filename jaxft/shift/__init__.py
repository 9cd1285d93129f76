"""A shift between two domains: honest selection, diagnostics, importance weights, transforms in closed form."""

from jaxft.objectives.a_distance import proxy_a_distance
from jaxft.shift.criteria import (
    CRITERIA,
    deep_embedded_validation,
    importance_weighted_accuracy,
    infomax,
    negative_entropy,
    negative_mmd,
    nuclear_norm,
    soft_neighbourhood_density,
    source_accuracy,
)
from jaxft.shift.diagnostics import domain_confusion, feature_picture, per_class_recall
from jaxft.shift.importance import density_ratio, kliep, kmm
from jaxft.shift.rows import Labelled, Unlabelled
from jaxft.shift.select import oracle_accuracy, select
from jaxft.shift.transforms import Aligned, coral_transform, subspace_alignment, transfer_components

__all__ = [
    "CRITERIA",
    "Aligned",
    "Labelled",
    "Unlabelled",
    "coral_transform",
    "deep_embedded_validation",
    "density_ratio",
    "domain_confusion",
    "feature_picture",
    "importance_weighted_accuracy",
    "infomax",
    "kliep",
    "kmm",
    "negative_entropy",
    "negative_mmd",
    "nuclear_norm",
    "oracle_accuracy",
    "per_class_recall",
    "proxy_a_distance",
    "select",
    "soft_neighbourhood_density",
    "source_accuracy",
    "subspace_alignment",
    "transfer_components",
]
