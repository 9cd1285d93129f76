"""Distillation: students, and what a teacher says of a data set, computed once."""

from jaxft.distil.on_policy import on_policy
from jaxft.distil.remember import remember
from jaxft.models.students import from_scratch, same_vocabulary, shrink
from jaxft.objectives.layer_maps import evenly

__all__ = ["evenly", "from_scratch", "on_policy", "remember", "same_vocabulary", "shrink"]
