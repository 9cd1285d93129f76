"""Structured weights: leaves of the params that keep their parts apart, and the rules by which they compute."""

from jaxft.weights import control, lookup, moves, products, quantised_products, scaled_products
from jaxft.weights.aligned import Aligned
from jaxft.weights.lowrank import LowRank, low_rank
from jaxft.weights.quantised import Int8, Nf4, int8, nf4
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
    "Int8",
    "LowRank",
    "MissingRuleError",
    "Nf4",
    "Scaled",
    "Structured",
    "bind",
    "control",
    "int8",
    "is_structured",
    "lift",
    "lookup",
    "low_rank",
    "materialise",
    "materialise_all",
    "moves",
    "nf4",
    "products",
    "quantised_products",
    "scaled",
    "scaled_products",
    "understands_structured",
]
