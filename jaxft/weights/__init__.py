"""Structured weights: leaves of the params that keep their parts apart, and the rules by which they compute."""

from jaxft.weights import control, lookup, moves, products, scaled_products
from jaxft.weights.aligned import Aligned
from jaxft.weights.lowrank import LowRank, low_rank
from jaxft.weights.scaled import Scaled, scaled
from jaxft.weights.structured import (
    MissingRuleError,
    Structured,
    bind,
    is_structured,
    lift,
    materialise,
    materialise_all,
    understands_structured,
)

__all__ = [
    "Aligned",
    "LowRank",
    "MissingRuleError",
    "Scaled",
    "Structured",
    "bind",
    "control",
    "is_structured",
    "lift",
    "lookup",
    "low_rank",
    "materialise",
    "materialise_all",
    "moves",
    "products",
    "scaled",
    "scaled_products",
    "understands_structured",
]
