"""LoRA and DoRA, between factors at our weights and those of PEFT's modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.train.peft_fields import pattern
from jaxft.train.peft_files import CONFIG
from jaxft.train.peft_names import Site
from jaxft.train.peft_sites import ADVICE, Loaded, Written
from jaxft.types import Array
from jaxft.weights import LowRank, Scaled, materialise


def read_lora(
    fields: Mapping[str, Any],
    notes: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Array]],
    places: Mapping[str, Site],
) -> Loaded:
    """The factors at each weight; a fused module gives every piece its A, and its own columns of B."""
    loaded = Loaded({}, {"rank": {}, "alpha": {}})
    for module, found in parts.items():
        a, b, magnitude = _checked(module, found, places[module], bool(fields.get("use_dora")))
        rank, alpha = a.shape[-1], pattern(fields, "alpha_pattern", module, "lora_alpha")
        expected = pattern(fields, "rank_pattern", module, "r")
        if expected != rank:
            raise InputError(
                f"{module} has rank {rank} in the adapter's file but {expected!r} in its {CONFIG}: "
                "write or fetch it again"
            )
        ranges = {entry.path: (0, rank) for entry in places[module].parts}
        noted = {path: tuple(held) for path, held in notes.get("parts", {}).items() if path in ranges}
        for entry, columns in places[module].cuts():
            start, stop = (noted or ranges).get(entry.path, (0, 0))
            if start == stop:
                continue
            held = {"a": a[..., start:stop], "b": b[start:stop, columns]}
            loaded.parts[entry.path] = held if magnitude is None else {**held, "m": magnitude[columns]}
            loaded.options["rank"][entry.path] = stop - start
            share = ((stop - start) / rank) ** (0.5 if fields.get("use_rslora") else 1)
            loaded.options["alpha"][entry.path] = alpha if share == 1 else alpha * share
    return loaded


def _checked(module: str, found: Mapping[str, Array], site: Site, dora: bool) -> tuple[Array, Array, Array | None]:
    """A [*inputs, r], B [r, outputs] and, of DoRA, m [outputs]."""
    names = {"A": "lora_A", "B": "lora_B"} | ({"magnitude_vector": "lora_magnitude_vector"} if dora else {})
    if missing := [name for part, name in names.items() if part not in found]:
        raise InputError(f"the adapter lacks {missing[0]} of {module!r}: write or fetch it again")
    if other := sorted(found.keys() - names.keys()):
        raise InputError(f"the adapter holds {other[0]!r} of {module!r}, but its {CONFIG} does not say what it is for")
    a, b = found["A"], found["B"]
    convolution = len(site.inputs) == 3
    there, ones = [site.inputs[-1], *site.inputs[:-1]], [1, 1] if convolution else []
    if list(a.shape[1:]) != there or list(b.shape) != [site.outputs, a.shape[0], *ones]:
        raise InputError(
            f"{module} has lora_A {list(a.shape)} and lora_B {list(b.shape)} in the adapter, but these params "
            f"expect [r, {', '.join(map(str, there))}] and [{', '.join(map(str, [site.outputs, 'r', *ones]))}]: "
            "load its base model"
        )
    magnitude = found.get("magnitude_vector")
    if magnitude is not None and magnitude.size != site.outputs:
        raise InputError(
            f"{module} has lora_magnitude_vector {list(magnitude.shape)} in the adapter, but these params have "
            f"{site.outputs} outputs: load its base model"
        )
    a = jnp.transpose(a, (2, 3, 1, 0) if convolution else (1, 0))
    return a, b.reshape(b.shape[:2]).T, None if magnitude is None else magnitude.reshape(-1)


def write_lora(
    adapted: Mapping[str, list[str]],
    bound: Mapping[str, Any],
    magnitudes: Mapping[str, Array],
    places: Mapping[str, Site],
) -> Written:
    """The factors of each module.

    The pieces of a fused module share A where theirs are equal; else each has ranks of its own, and rows of B that are
    zero for the others.

    Args:
        adapted: the adapted paths of each module.
        bound: the weights by path.
        magnitudes: m of DoRA by path; none of plain LoRA.
        places: every module.
    """
    written = Written({}, {}, {})
    ranks, alphas = {}, {}
    for module, paths in adapted.items():
        site, leaves = places[module], {path: _branch(bound[path]) for path in paths}
        for path, leaf in leaves.items():
            _check_shape(path, leaf)
        a, b, ranges = _joined(site, leaves)
        names = _names(module, site)
        written.tensors[names["A"]] = a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T
        written.tensors[names["B"]] = b.T.reshape(*b.T.shape, *((1, 1) if a.ndim == 4 else ()))
        if magnitudes:
            lengths = _lengths(site, bound, magnitudes)
            written.tensors[names["m"]] = lengths.reshape(1, -1, 1, 1) if a.ndim == 4 else lengths
        if ranges:
            written.notes.setdefault("parts", {}).update(ranges)
        ranks[module], alphas[module] = a.shape[-1], _alpha(module, leaves, a.shape[-1])
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    written.fields.update(
        r=rank,
        lora_alpha=alpha,
        rank_pattern={module: r for module, r in ranks.items() if r != rank},
        alpha_pattern={module: value for module, value in alphas.items() if value != alpha},
        fan_in_fan_out=all(places[module].conv1d for module in adapted),
        init_lora_weights=True,
        use_dora=bool(magnitudes),
        use_rslora=False,
    )
    return written


def _names(module: str, site: Site) -> dict[str, str]:
    name = f"{module}.lora_embedding_{{}}" if site.embedding else f"{module}.lora_{{}}.weight"
    return {"A": name.format("A"), "B": name.format("B"), "m": f"{module}.lora_magnitude_vector"}


def _branch(leaf: Any) -> LowRank:
    return leaf.base if isinstance(leaf, Scaled) else leaf


def _check_shape(path: str, leaf: LowRank) -> None:
    if isinstance(leaf.base, (LowRank, Scaled)):
        raise InputError(f"{path!r} is a low-rank branch on a {type(leaf.base).__name__} weight: {ADVICE}")
    is_layer = leaf.ndim in (2, 4) and leaf.a.shape[-2] == 1 and all(size == 1 for size in leaf.b.shape[:-2])
    if not is_layer:
        raise InputError(
            f"{path!r} has shape {list(leaf.shape)}, not [in, out] of a linear layer or [height, width, in, out] of a "
            f"convolution: {ADVICE}"
        )


def _joined(site: Site, leaves: Mapping[str, LowRank]) -> tuple[np.ndarray, np.ndarray, dict[str, list[int]]]:
    """A [*inputs, r], B [r, outputs] of the module, and the ranks of each piece where they differ."""
    factors = {path: (np.asarray(leaf.a)[..., 0, :], _b(leaf)) for path, leaf in leaves.items()}
    first = next(iter(factors.values()))[0]
    if len(factors) == len(site.parts) and all(np.array_equal(a, first) for a, _ in factors.values()):
        return first, np.concatenate([factors[entry.path][1] for entry in site.parts], axis=1), {}
    rank, ranges = sum(a.shape[-1] for a, _ in factors.values()), {}
    b, start = np.zeros((rank, site.outputs), first.dtype), 0
    for entry, columns in site.cuts():
        if entry.path in factors:
            own = factors[entry.path][1]
            b[start : start + len(own), columns] = own
            ranges[entry.path] = [start, start + len(own)]
            start += len(own)
    ordered = [factors[entry.path][0] for entry in site.parts if entry.path in factors]
    return np.concatenate(ordered, axis=-1), b, ranges


def _b(leaf: LowRank) -> np.ndarray:
    b = np.asarray(leaf.b)
    return b.reshape(b.shape[-2:]).T


def _lengths(site: Site, bound: Mapping[str, Any], magnitudes: Mapping[str, Array]) -> np.ndarray:
    """m of the module; where a piece is not adapted, the lengths that it has."""
    found = []
    for entry in site.parts:
        if entry.path in magnitudes:
            found.append(np.asarray(magnitudes[entry.path]).reshape(-1))
        else:
            w = np.asarray(materialise(bound[entry.path]), np.float32)
            found.append(np.linalg.norm(w.reshape(-1, w.shape[-1]), axis=0))
    return np.concatenate([array.astype(found[0].dtype) for array in found])


def _alpha(module: str, leaves: Mapping[str, LowRank], rank: int) -> float | int:
    """α = s·r, as the shortest number that gives the very same float32 s back."""
    scales = {path: float(np.asarray(leaf.scale).reshape(-1)[0]) for path, leaf in leaves.items()}
    if len(set(scales.values())) > 1:
        raise InputError(
            f"{', '.join(map(repr, scales))} are parts of {module!r} in Hugging Face's files and have the scales "
            f"{', '.join(f'{scale:.6g}' for scale in scales.values())}, but the PEFT format holds one: adapt them with "
            "the same alpha / rank"
        )
    exact = next(iter(scales.values())) * rank
    short = float(f"{exact:.6g}")
    value = short if np.float32(short / rank) == np.float32(exact / rank) else exact
    return int(value) if value.is_integer() else value
