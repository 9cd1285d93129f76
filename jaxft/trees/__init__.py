"""Params as data: paths, selectors, split and join, fingerprints, the summary table."""

from jaxft.trees.fingerprint import fingerprint
from jaxft.trees.nodes import is_node, nodes
from jaxft.trees.paths import leaf_paths, map_with_path, replace
from jaxft.trees.select import Selection, as_selector, everything, first_match, glob, select
from jaxft.trees.split import join, partition, split
from jaxft.trees.table import Row, Summary

__all__ = [
    "Row",
    "Selection",
    "Summary",
    "as_selector",
    "everything",
    "fingerprint",
    "first_match",
    "glob",
    "is_node",
    "join",
    "leaf_paths",
    "map_with_path",
    "nodes",
    "partition",
    "replace",
    "select",
    "split",
]
