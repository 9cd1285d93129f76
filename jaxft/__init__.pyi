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
from .train import make_step as make_step
from .trees import everything as everything
from .trees import fingerprint as fingerprint
from .trees import glob as glob
from .trees import join as join
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

__version__: str
