"""Training: the step, the loop around it, evaluation, checkpoints, optimizers, many devices."""

from jaxft.train.checkpoint import Checkpointer, Restored, restore
from jaxft.train.compile_cache import enable_compile_cache
from jaxft.train.evaluate import classification_metrics, evaluate, predict, regression_metrics, wilson_interval
from jaxft.train.loop import FitResult, fit
from jaxft.train.optimise import adamw, decayed, warmup_linear
from jaxft.train.peft_load import load_adapter
from jaxft.train.peft_save import save_adapter
from jaxft.train.sharding import Placement, data_parallel, fully_sharded, make_mesh, shard, shard_batch, shardings
from jaxft.train.step import make_step
from jaxft.train.stops import Interrupted, NonFiniteLoss, TrainingStopped

__all__ = [
    "Checkpointer",
    "FitResult",
    "Interrupted",
    "NonFiniteLoss",
    "Placement",
    "Restored",
    "TrainingStopped",
    "adamw",
    "classification_metrics",
    "data_parallel",
    "decayed",
    "enable_compile_cache",
    "evaluate",
    "fit",
    "fully_sharded",
    "load_adapter",
    "make_mesh",
    "make_step",
    "predict",
    "regression_metrics",
    "restore",
    "save_adapter",
    "shard",
    "shard_batch",
    "shardings",
    "warmup_linear",
    "wilson_interval",
]
