"""Studies: grids of settings, the runs of a grid as few programs, their rows, and tables that can be trusted."""

from jaxft.study.cluster import run_on_ray
from jaxft.study.compare import Comparison, compare
from jaxft.study.curves import cost_front, data_efficiency, learning_curves
from jaxft.study.experiment import Experiment
from jaxft.study.figures import comparison_picture, data_efficiency_picture, front_picture, learning_curves_picture
from jaxft.study.grid import Grid, grid, masked
from jaxft.study.main import main
from jaxft.study.page import write_page
from jaxft.study.prefix import Prefix, find_prefix, known_leaves
from jaxft.study.reproduce import reproduce
from jaxft.study.runner import run_study
from jaxft.study.search import SearchResult, choices, log_uniform, search, uniform
from jaxft.study.statistics import bootstrap_interval, holm, mean_interval, paired_test, t_interval
from jaxft.study.store import read_rows
from jaxft.study.tables import csv_groups, csv_runs, latex_table, markdown_table
from jaxft.study.writers import TensorBoard

__all__ = [
    "Comparison",
    "Experiment",
    "Grid",
    "Prefix",
    "SearchResult",
    "TensorBoard",
    "bootstrap_interval",
    "choices",
    "compare",
    "comparison_picture",
    "cost_front",
    "csv_groups",
    "csv_runs",
    "data_efficiency",
    "data_efficiency_picture",
    "find_prefix",
    "front_picture",
    "grid",
    "holm",
    "known_leaves",
    "latex_table",
    "learning_curves",
    "learning_curves_picture",
    "log_uniform",
    "main",
    "markdown_table",
    "masked",
    "mean_interval",
    "paired_test",
    "read_rows",
    "reproduce",
    "run_on_ray",
    "run_study",
    "search",
    "t_interval",
    "uniform",
    "write_page",
]
