"""Adaptations: which arrays learn, and how they enter the model."""

from jaxft.adapt.adalora import adalora
from jaxft.adapt.averaging import Soup, greedy_soup, interpolate, uniform_soup
from jaxft.adapt.bottleneck import bottleneck, houlsby, parallel_adapter, pfeiffer
from jaxft.adapt.chain import chain
from jaxft.adapt.concatenate import concatenate_rank
from jaxft.adapt.dora import dora
from jaxft.adapt.ia3 import ia3
from jaxft.adapt.loha import loha
from jaxft.adapt.lokr import lokr
from jaxft.adapt.lora_fa import lora_fa
from jaxft.adapt.lowrank import lora
from jaxft.adapt.many import serve, stack_deltas, swap_delta
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.merge import merge
from jaxft.adapt.mixout import mix, mixout
from jaxft.adapt.narrow import narrow, release
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
from jaxft.adapt.task_vectors import dare, task_arithmetic, ties
from jaxft.adapt.thin import bitfit, norms
from jaxft.adapt.vera import vera

__all__ = [
    "MaskedRank",
    "RankBudgetState",
    "Soup",
    "Taken",
    "adalora",
    "bitfit",
    "bottleneck",
    "budget",
    "chain",
    "concatenate_rank",
    "dare",
    "dora",
    "double_rank",
    "freeze",
    "full",
    "greedy_soup",
    "houlsby",
    "ia3",
    "interpolate",
    "loha",
    "lokr",
    "lora",
    "lora_fa",
    "merge",
    "mix",
    "mixout",
    "narrow",
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
    "release",
    "serve",
    "stack_deltas",
    "summary",
    "swap_delta",
    "task_arithmetic",
    "ties",
    "tune",
    "uniform_soup",
    "vera",
]
