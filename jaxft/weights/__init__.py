"""Structured weights: leaves of the params that keep their parts apart, and the rules by which they compute."""

from jaxft.weights import control, moves, products
from jaxft.weights.lowrank import LowRank, low_rank
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
    "LowRank",
    "MissingRuleError",
    "Structured",
    "bind",
    "control",
    "is_structured",
    "lift",
    "low_rank",
    "materialise",
    "materialise_all",
    "moves",
    "products",
    "understands_structured",
]
