"""Adaptations: which arrays learn, and how they enter the model; averages; many adapters at once."""

from jaxft.adapt.averaging import Soup, greedy_soup, interpolate, uniform_soup
from jaxft.adapt.chain import chain
from jaxft.adapt.concatenate import concatenate_rank
from jaxft.adapt.lowrank import lora
from jaxft.adapt.many import serve, stack_deltas, swap_delta
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.narrow import narrow, release
from jaxft.adapt.partial import freeze, full, tune
from jaxft.adapt.summary import summary
from jaxft.adapt.task_vectors import dare, task_arithmetic, ties

__all__ = [
    "MaskedRank",
    "Soup",
    "chain",
    "concatenate_rank",
    "dare",
    "freeze",
    "full",
    "greedy_soup",
    "interpolate",
    "lora",
    "merge",
    "narrow",
    "release",
    "serve",
    "stack_deltas",
    "summary",
    "swap_delta",
    "task_arithmetic",
    "ties",
    "tune",
    "uniform_soup",
]
