"""The front door: what users type, nothing else."""

from . import data as data
from .adapt import chain as chain
from .adapt import freeze as freeze
from .adapt import full as full
from .adapt import lora as lora
from .adapt import merge as merge
from .adapt import summary as summary
from .adapt import tune as tune
from .errors import InputError as InputError
from .models import from_nnx as from_nnx
from .models import load_model as load_model
from .models import save_model as save_model
from .objectives import combine as combine
from .objectives import cross_entropy as cross_entropy
from .objectives import mean_squared_error as mean_squared_error
from .train import adamw as adamw
from .train import data_parallel as data_parallel
from .train import enable_compile_cache as enable_compile_cache
from .train import evaluate as evaluate
from .train import fit as fit
from .train import fully_sharded as fully_sharded
from .train import load_adapter as load_adapter
from .train import make_mesh as make_mesh
from .train import make_step as make_step
from .train import predict as predict
from .train import save_adapter as save_adapter
from .train import warmup_linear as warmup_linear
from .trees import everything as everything
from .trees import fingerprint as fingerprint
from .trees import glob as glob
from .trees import join as join
from .trees import leaf_paths as leaf_paths
from .trees import split as split
from .types import Adaptation as Adaptation
from .types import Context as Context
from .types import Model as Model
from .types import Objective as Objective
from .types import Outputs as Outputs
from .types import Selector as Selector
from .types import Step as Step
from .types import StepFrozen as StepFrozen
from .types import TrainState as TrainState
from .weights import lift as lift

__version__: str
