"""Studies: grids of settings, the runs of a grid as few programs, their rows, and tables that can be trusted."""

from jaxft.study.experiment import Experiment
from jaxft.study.grid import Grid, grid, masked
from jaxft.study.main import main
from jaxft.study.reproduce import reproduce
from jaxft.study.runner import run_study
from jaxft.study.store import read_rows

__all__ = ["Experiment", "Grid", "grid", "main", "masked", "read_rows", "reproduce", "run_study"]
