"""Training: the step, the loop around it, evaluation, checkpoints, optimizers, many devices."""

from jaxft.train.adabn import adabn
from jaxft.train.checkpoint import Checkpointer, Restored, restore
from jaxft.train.compile_cache import enable_compile_cache
from jaxft.train.costs import Cost, cost
from jaxft.train.evaluate import evaluate, predict
from jaxft.train.loop import FitResult, fit
from jaxft.train.merge_report import LogitChange, MergeReport, WeightChange, merge_report
from jaxft.train.optimise import adamw, decayed, slanted_triangular, warmup_linear
from jaxft.train.peft_load import load_adapter
from jaxft.train.peft_save import save_adapter
from jaxft.train.phases import Phase, lp_ft_phases, repartition, unfreezing_phases
from jaxft.train.rates import discriminative_rates, layerwise_rates, lora_plus
from jaxft.train.sharding import Placement, data_parallel, fully_sharded, make_mesh, shard, shard_batch, shardings
from jaxft.train.statistics import statistics_of
from jaxft.train.step import make_step
from jaxft.train.stops import Interrupted, NonFiniteLoss, TrainingStopped
from jaxft.train.token_losses import TokenLosses, label_losses, token_losses
from jaxft.train.topology import Topology, tpu_topology
from jaxft.train.unfreezing import UnfreezingState, gradual_unfreezing, lp_ft

__all__ = [
    "Checkpointer",
    "Cost",
    "FitResult",
    "Interrupted",
    "LogitChange",
    "MergeReport",
    "NonFiniteLoss",
    "Phase",
    "Placement",
    "Restored",
    "TokenLosses",
    "Topology",
    "TrainingStopped",
    "UnfreezingState",
    "WeightChange",
    "adabn",
    "adamw",
    "cost",
    "data_parallel",
    "decayed",
    "discriminative_rates",
    "enable_compile_cache",
    "evaluate",
    "fit",
    "fully_sharded",
    "gradual_unfreezing",
    "label_losses",
    "layerwise_rates",
    "load_adapter",
    "lora_plus",
    "lp_ft",
    "lp_ft_phases",
    "make_mesh",
    "make_step",
    "merge_report",
    "predict",
    "repartition",
    "restore",
    "save_adapter",
    "shard",
    "shard_batch",
    "shardings",
    "slanted_triangular",
    "statistics_of",
    "token_losses",
    "tpu_topology",
    "unfreezing_phases",
    "warmup_linear",
]
