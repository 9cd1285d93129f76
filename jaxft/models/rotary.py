"""Rotary position embeddings, and the ways to stretch them over longer texts than a model was trained on.

References:
    Su, Lu, Pan, Murtadha, Wen, Liu. RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxft.errors import InputError

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
SCALINGS = ("default", "linear", "llama3")


class Rotary(NamedTuple):
    """Cosines and sines [batch or 1, length, head_dim / 2] of the angles of a batch."""

    cos: Array
    sin: Array


class RotarySpec(NamedTuple):
    """Angles of position p: p · θ^(−2i/d), the frequencies rescaled as ``kind`` says.

    Attributes:
        theta: base of the frequencies.
        kind: "default", "linear" (all divided by factor) or "llama3" (only the slow ones are).
        factor: how many times longer texts may be.
        low: wavelengths longer than original / low are divided by factor.
        high: wavelengths shorter than original / high are kept.
        original: positions the model was first trained on.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192


def rotary_from_hf(raw: Mapping[str, Any], *, theta: float = 10000.0) -> RotarySpec:
    """Reads ``rope_parameters`` or the older ``rope_theta`` and ``rope_scaling`` of a ``config.json``.

    Raises:
        InputError: a kind of scaling that is not supported, or one without its numbers.
    """
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise InputError(f"rope_parameters in config.json must be an object with rope_theta; got {scaling!r}")
    if (share := scaling.get("partial_rotary_factor", 1.0)) != 1.0:
        raise InputError(f"partial_rotary_factor must be 1: only whole heads are rotated; got {share!r}")
    base = scaling.get("rope_theta", raw.get("rope_theta", theta))
    if type(base) not in (int, float) or not 0 < base < math.inf:
        raise InputError(f"rope_theta in config.json must be a number above 0; got {base!r}")
    base = float(base)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in SCALINGS:
        raise InputError(f"rope scaling must be one of {', '.join(SCALINGS)}; config.json says {kind!r}")
    if kind == "default":
        return RotarySpec(base)
    names = ("factor",) if kind == "linear" else LLAMA3
    if missing := [name for name in names if name not in scaling]:
        raise InputError(f"the rope scaling {kind!r} in config.json lacks {missing[0]!r}: it is damaged")
    for name in names:
        value = scaling[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} of rope scaling {kind!r} in config.json must be a number above 0; got {value!r}")
    if kind == "linear":
        return RotarySpec(base, kind, float(scaling["factor"]))
    factor, low, high, original = (scaling[name] for name in LLAMA3)
    if not low < high:
        raise InputError(f"low_freq_factor must be below high_freq_factor in config.json; got {low!r} and {high!r}")
    return RotarySpec(base, kind, float(factor), float(low), float(high), int(original))


def frequencies(spec: RotarySpec, head_dim: int) -> np.ndarray:
    """Angle a position, [head_dim / 2]."""
    plain = 1.0 / spec.theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    if spec.kind == "default":
        return plain.astype(np.float32)
    if spec.kind == "linear":
        return (plain / spec.factor).astype(np.float32)
    wavelength = 2 * math.pi / plain
    blend = (spec.original / wavelength - spec.low) / (spec.high - spec.low)
    kept = np.clip(blend, 0.0, 1.0)
    return ((1 - kept) * plain / spec.factor + kept * plain).astype(np.float32)


def rotary(spec: RotarySpec, head_dim: int, positions: Array) -> Rotary:
    """Cosines and sines at ``positions`` [batch or 1, length]."""
    angles = positions[..., None].astype(jnp.float32) * frequencies(spec, head_dim)
    return Rotary(jnp.cos(angles), jnp.sin(angles))


def rotate(x: Array, turn: Rotary) -> Array:
    """Turns the pairs (x_i, x_{i + d/2}) of ``[batch, heads, length, head_dim]`` by the angles of their position."""
    half = x.shape[-1] // 2
    cos, sin = (part[:, None].astype(x.dtype) for part in turn)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
