"""Objectives: what is minimised. The mathematics of each is also a pure function on arrays."""

from jaxft.objectives.combine import combine
from jaxft.objectives.task import cross_entropy, mean_squared_error, softmax_cross_entropy

__all__ = ["combine", "cross_entropy", "mean_squared_error", "softmax_cross_entropy"]
