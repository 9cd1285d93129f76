"""Adaptations: which arrays learn, and how they enter the model."""

from jaxft.adapt.bottleneck import bottleneck, houlsby, parallel_adapter, pfeiffer
from jaxft.adapt.chain import chain
from jaxft.adapt.lowrank import lora
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.partial import freeze, full, tune
from jaxft.adapt.prefix import prefix
from jaxft.adapt.prompt import prompt
from jaxft.adapt.reinitialise import reinitialise
from jaxft.adapt.summary import summary

__all__ = [
    "MaskedRank",
    "bottleneck",
    "chain",
    "freeze",
    "full",
    "houlsby",
    "lora",
    "merge",
    "parallel_adapter",
    "pfeiffer",
    "prefix",
    "prompt",
    "reinitialise",
    "summary",
    "tune",
]
