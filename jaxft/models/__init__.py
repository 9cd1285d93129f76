"""Models: pretrained encoders as a pure function and its parameters."""

from __future__ import annotations

from jaxft.models.config import ModelConfig
from jaxft.models.load import describe_model, load_model, save_model
from jaxft.models.nnx import from_nnx
from jaxft.models.small import small_convnet
from jaxft.models.small_mlp import small_mlp, two_encoders
from jaxft.models.students import from_scratch, same_vocabulary, shrink
from jaxft.models.vocabulary import extend_vocabulary
from jaxft.models.warm import warm_start

__all__ = [
    "ModelConfig",
    "describe_model",
    "extend_vocabulary",
    "from_nnx",
    "from_scratch",
    "load_model",
    "same_vocabulary",
    "save_model",
    "shrink",
    "small_convnet",
    "small_mlp",
    "two_encoders",
    "warm_start",
]
