"""What an adaptation adds to the params: sub-trees at places where they had nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.trees import leaf_paths, select
from jaxft.types import Choice, Params, PyTree
from jaxft.weights import is_structured


def kernels(selector: Choice, params: Params, method: str) -> dict[str, Any]:
    """The selected leaves by path, which must be the kernels [inputs, outputs] of dense layers.

    Raises:
        InputError: one is none; or the selector matches nothing.
    """
    try:
        mask = leaf_paths(select(selector, params))
    except InputError as error:
        raise InputError(f"{method} is for the transformers of load_model: {error}") from error
    found = {path: leaf for path, leaf in leaf_paths(params, is_leaf=is_structured).items() if mask[path]}
    for path, leaf in found.items():
        if not path.endswith("/kernel") or leaf.ndim != 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{method} expects kernels [inputs, outputs] of dense layers, but {path!r} is {leaf.dtype} of shape "
                f"{list(leaf.shape)}; select …/kernel"
            )
    return found


def nested(leaves: Mapping[str, Any]) -> PyTree:
    """A nested dict of leaves, or of sub-trees, by path.

    Example:
        >>> nested({"up/kernel": 1, "up/bias": 2})
        {'up': {'kernel': 1, 'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        functools.reduce(lambda node, parent: node.setdefault(parent, {}), parents, tree)[name] = leaf
    return tree


def graft(params: Params, added: PyTree, path: str = "") -> Params:
    """Params with the leaves of another nested dict at their paths; nothing given is changed.

    Raises:
        InputError: the params have something at such a path already.

    Example:
        >>> graft({"up": {"kernel": 1}}, {"up": {"bias": 2}})
        {'up': {'kernel': 1, 'bias': 2}}
    """
    if not isinstance(params, Mapping) or not isinstance(added, Mapping):
        raise InputError(f"the params have something at {path!r} already, and only one adaptation can add it")
    found = dict(params)
    for name, tree in added.items():
        found[name] = graft(params[name], tree, f"{path}/{name}".lstrip("/")) if name in params else tree
    return found


def ungraft(params: Params, after: Params) -> tuple[Params, PyTree]:
    """Undoes ``graft``: what stands at the paths of params, and what was added beside them.

    Example:
        >>> ungraft({"up": {"kernel": 1}}, {"up": {"kernel": 3, "bias": 2}})
        ({'up': {'kernel': 3}}, {'up': {'bias': 2}})
    """
    if not isinstance(params, Mapping) or not isinstance(after, Mapping):
        return after, {}
    pairs = {name: ungraft(params[name], after[name]) for name in params}
    added = {name: new for name, (_, new) in pairs.items() if new}
    added |= {name: tree for name, tree in after.items() if name not in params}
    return ({name: same for name, (same, _) in pairs.items()} if added else after), added
