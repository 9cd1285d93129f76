"""Adaptations: which arrays learn, and how they enter the model."""

from jaxft.adapt.chain import chain
from jaxft.adapt.dora import dora
from jaxft.adapt.ia3 import ia3
from jaxft.adapt.lowrank import lora
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.partial import freeze, full, tune
from jaxft.adapt.quantise import quantisation_error, quantise
from jaxft.adapt.summary import summary
from jaxft.adapt.thin import bitfit, norms

__all__ = [
    "MaskedRank",
    "bitfit",
    "chain",
    "dora",
    "freeze",
    "full",
    "ia3",
    "lora",
    "merge",
    "norms",
    "quantisation_error",
    "quantise",
    "summary",
    "tune",
]
