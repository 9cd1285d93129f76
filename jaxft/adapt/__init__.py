"""Adaptations: which arrays learn, and how they enter the model."""

from jaxft.adapt.chain import chain
from jaxft.adapt.lowrank import lora
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.mixout import mix, mixout
from jaxft.adapt.partial import freeze, full, tune
from jaxft.adapt.summary import summary

__all__ = ["MaskedRank", "chain", "freeze", "full", "lora", "merge", "mix", "mixout", "summary", "tune"]
