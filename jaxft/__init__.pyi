"""The front door: what users type, nothing else."""

from .errors import InputError as InputError
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
