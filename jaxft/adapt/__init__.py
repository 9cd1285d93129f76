"""Adaptations: which arrays learn, and how they enter the model."""

from jaxft.adapt.adalora import adalora
from jaxft.adapt.bottleneck import bottleneck, houlsby, parallel_adapter, pfeiffer
from jaxft.adapt.chain import chain
from jaxft.adapt.dora import dora
from jaxft.adapt.ia3 import ia3
from jaxft.adapt.loha import loha
from jaxft.adapt.lokr import lokr
from jaxft.adapt.lora_fa import lora_fa
from jaxft.adapt.lowrank import lora
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.olora import olora
from jaxft.adapt.partial import freeze, full, tune
from jaxft.adapt.pissa import pissa
from jaxft.adapt.prefix import prefix
from jaxft.adapt.prompt import prompt
from jaxft.adapt.quantise import quantisation_error, quantise
from jaxft.adapt.rank_budget import RankBudgetState, budget, rank_budget
from jaxft.adapt.reinitialise import reinitialise
from jaxft.adapt.residual import Taken, double_rank
from jaxft.adapt.summary import summary
from jaxft.adapt.thin import bitfit, norms
from jaxft.adapt.vera import vera

__all__ = [
    "MaskedRank",
    "RankBudgetState",
    "Taken",
    "adalora",
    "bitfit",
    "bottleneck",
    "budget",
    "chain",
    "dora",
    "double_rank",
    "freeze",
    "full",
    "houlsby",
    "ia3",
    "loha",
    "lokr",
    "lora",
    "lora_fa",
    "merge",
    "norms",
    "olora",
    "parallel_adapter",
    "pfeiffer",
    "pissa",
    "prefix",
    "prompt",
    "quantisation_error",
    "quantise",
    "rank_budget",
    "reinitialise",
    "summary",
    "tune",
    "vera",
]
