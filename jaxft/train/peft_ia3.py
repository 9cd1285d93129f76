"""IA3, between the vectors at our weights and those of PEFT's modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.train.peft_files import CONFIG
from jaxft.train.peft_names import Site
from jaxft.train.peft_sites import ADVICE, Loaded, Written
from jaxft.types import Array
from jaxft.weights import LowRank, Scaled


def read_ia3(
    fields: Mapping[str, Any],
    notes: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Array]],
    places: Mapping[str, Site],
) -> Loaded:
    """The vector at each weight, with the axes of the weight; ``options["inputs"]`` are those that rescale inputs."""
    loaded = Loaded({}, {"inputs": []})
    for module, found in parts.items():
        site = places[module]
        if found.keys() != {"l"}:
            raise InputError(f"the adapter holds {', '.join(sorted(found))} of {module!r}, but IA3 expects ia3_l alone")
        into = _is_feedforward(fields.get("feedforward_modules"), module)
        convolution, vector = len(site.inputs) == 3, found["l"]
        size = site.inputs[-1] if into else site.outputs
        expected = [1, size, 1, 1] if convolution else [1, size] if into else [size, 1]
        if list(vector.shape) != expected:
            raise InputError(
                f"{module} has ia3_l {list(vector.shape)} in the adapter, but these params expect {expected} of a "
                f"module that is {'' if into else 'not '}in feedforward_modules: load its base model"
            )
        flat, ones = vector.reshape(-1), [1] * len(site.inputs)
        noted = [entry.path for entry in site.parts if entry.path in notes.get("parts", {})]
        for entry, columns in site.cuts():
            if noted and entry.path not in noted:
                continue
            held = flat.reshape(*ones[1:], size, 1) if into else flat[columns].reshape(*ones, -1)
            loaded.parts[entry.path] = {"l": held}
            loaded.options["inputs"] += [entry.path] if into else []
    return loaded


def _is_feedforward(named: Any, module: str) -> bool:
    """PEFT's rule, which compares the ends of names without regard to their keys."""
    try:
        return (
            re.fullmatch(named, module) is not None
            if isinstance(named, str)
            else any(module.endswith(name) for name in named or ())
        )
    except (re.error, TypeError, AttributeError) as error:
        raise InputError(f"{CONFIG} must give feedforward_modules as names or an expression; got {named!r}") from error


def write_ia3(
    adapted: Mapping[str, list[str]],
    bound: Mapping[str, Any],
    base: Mapping[str, Any],
    places: Mapping[str, Site],
) -> Written:
    """The vector of each module.

    Args:
        adapted: the adapted paths of each module.
        bound: the weights by path.
        base: likewise, without the adaptation; None where an array learned whole.
        places: every module.
    """
    written, into = Written({}, {}, {}), set()
    for module, paths in adapted.items():
        site, factors = places[module], {path: _factor(path, bound[path]) for path in paths}
        if site.embedding:
            raise InputError(f"{paths[0]!r} is a table, which PEFT's IA3 does not rescale: {ADVICE}")
        inputs = {path for path, factor in factors.items() if factor.shape[-1] != bound[path].shape[-1]}
        if inputs:
            into.add(module)
            vector = _of_inputs(module, site, factors, inputs)
        else:
            vector = np.concatenate(
                [
                    factors[entry.path].reshape(-1) if entry.path in factors else np.ones(entry.shape[-1], np.float32)
                    for entry in site.parts
                ]
            )
            for path in paths:
                _check_bias(path, factors[path].reshape(-1), bound, base)
            if len(paths) < len(site.parts):
                written.notes.setdefault("parts", {}).update({path: [] for path in paths})
        convolution = len(site.inputs) == 3
        shape = (1, -1, 1, 1) if convolution else (1, -1) if inputs else (-1, 1)
        written.tensors[f"{module}.ia3_l"] = vector.reshape(shape)
    conv1d = all(places[module].conv1d for module in adapted)
    written.fields.update(fan_in_fan_out=conv1d, init_ia3_weights=True, feedforward_modules=sorted(into))
    return written


def _factor(path: str, leaf: Scaled) -> np.ndarray:
    if isinstance(leaf.base, (LowRank, Scaled)):
        raise InputError(f"{path!r} is scaled as well as a {type(leaf.base).__name__} weight: {ADVICE}")
    factor = np.asarray(leaf.factor)
    wide = [axis for axis, size in enumerate(factor.shape) if size > 1]
    if leaf.ndim not in (2, 4) or (wide and (len(wide) > 1 or wide[0] < leaf.ndim - 2)):
        raise InputError(
            f"{path!r} of shape {list(leaf.shape)} is scaled by {list(factor.shape)}, neither its inputs nor its "
            f"outputs: {ADVICE}"
        )
    return factor


def _of_inputs(module: str, site: Site, factors: Mapping[str, np.ndarray], inputs: set[str]) -> np.ndarray:
    first = next(iter(factors.values()))
    same = all(factor.shape == first.shape and (factor == first).all() for factor in factors.values())
    if len(inputs) < len(site.parts) or not same:
        raise InputError(
            f"{', '.join(map(repr, sorted(inputs)))} read the inputs of {module!r} in Hugging Face's files, which the "
            f"PEFT format rescales for all {len(site.parts)} parts alike: {ADVICE}"
        )
    return first.reshape(-1)


def _check_bias(path: str, vector: np.ndarray, bound: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """PEFT rescales what the module puts out, and so its bias."""
    bias = f"{path.rpartition('/')[0]}/bias".lstrip("/")
    if bias not in bound or bias == path:
        return
    before = base.get(bias)
    if before is None or not np.array_equal(np.asarray(before) * vector.astype(before.dtype), np.asarray(bound[bias])):
        raise InputError(f"{bias!r} is not the base model's times what scales {path!r}: {ADVICE}")
