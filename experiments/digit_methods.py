"""The methods that `digits.py` compares, as the shared protocol runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxft as ft
from experiments.shift import Method

WEIGHTS = (0.1, 1.0, 10.0)
TASK = ft.cross_entropy("source")
WARM = 600


def _beside(term: Callable[[], ft.Objective], weights: tuple[float, ...] = WEIGHTS, **options: Any) -> Method:
    """A term beside the source's cross-entropy."""
    return Method(lambda steps, weight: ft.combine(task=TASK, own=(term(), weight)), weights=weights, **options)


def _ramped(term: Callable[[], ft.Objective], weights: tuple[float, ...] = WEIGHTS, **options: Any) -> Method:
    """A term that comes in slowly: what it says is worth little before the source has taught the net anything."""

    def objective(steps: int, weight: Any) -> ft.Objective:
        ramp = ft.reversal_schedule(steps)
        return ft.combine(task=TASK, own=(term(), lambda step: weight * ramp(step)))

    return Method(objective, weights=weights, **options)


def _reversed(term: Callable[[Any], ft.Objective], weights: tuple[float, ...] = WEIGHTS, share: float = 1.0) -> Method:
    """An adversarial term of one weight, its reversal λ rising to the weight that is tried."""

    def objective(steps: int, weight: Any) -> ft.Objective:
        ramp = ft.reversal_schedule(steps)
        return ft.combine(task=TASK, own=(term(lambda step: weight * ramp(step)), share))

    return Method(objective, weights=weights)


def _alone(term: Callable[[], ft.Objective], **options: Any) -> Method:
    return Method(lambda steps, weight: term(), **options)


def _shifted(key: Any, inputs: Any) -> dict[str, Any]:
    """Pictures moved by up to two pixels each way, with noise: the strong view of FixMatch."""
    pixels = inputs["pixels"]
    place_key, noise_key = jax.random.split(key)
    rows, side = pixels.shape[0], pixels.shape[1]
    places = jax.random.randint(place_key, (rows, 2), 0, 5)
    padded = jnp.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)))
    cut = jax.vmap(lambda picture, place: jax.lax.dynamic_slice(picture, (*place, 0), (side, side, pixels.shape[3])))
    return {"pixels": cut(padded, places) + 0.1 * jax.random.normal(noise_key, pixels.shape)}


METHODS: dict[str, Method] = {
    "source only": _alone(lambda: TASK),
    "MMD": _beside(ft.mmd),
    "JMMD": _beside(ft.jmmd),
    "LMMD": _ramped(ft.lmmd),
    "Deep CORAL": _beside(ft.deep_coral, (1.0, 100.0, 10_000.0)),
    "AFN": _beside(ft.adaptive_feature_norm),
    "MCC": _beside(ft.minimum_class_confusion),
    "BNM": _beside(ft.nuclear_norm_maximisation),
    "DeepJDOT": _beside(lambda: ft.deepjdot(alpha=0.1, label_weight=0.1)),
    "DANN": _reversed(lambda scale: ft.dann(scale=scale)),
    "CDAN": _reversed(lambda scale: ft.cdan(scale=scale)),
    "CDAN+E": _reversed(lambda scale: ft.cdan(scale=scale, entropy=True)),
    "MDD": _reversed(lambda scale: ft.mdd(scale=scale), share=0.1),
    "WDGRL": _beside(ft.wdgrl, (0.01, 0.1, 1.0)),
    "MCD": _alone(ft.mcd, optimizer=optax.adam(2e-4)),
    "ADDA": _alone(ft.adda, adaptation=ft.freeze("head/**"), begin=WARM, optimizer=optax.adam(1e-4)),
    "entropy": _ramped(ft.entropy_minimisation, (0.01, 0.1, 1.0)),
    "InfoMax": _ramped(ft.infomax),
    "pseudo-labels": _ramped(lambda: ft.pseudo_labels("target", threshold=0.95)),
    "FixMatch": _ramped(lambda: ft.fixmatch("target", _shifted)),
    "mean teacher": _ramped(lambda: ft.mean_teacher("target", decay=0.99)),
    "VAT": _ramped(lambda: ft.vat("target", input="pixels", radius=2.0)),
    "SHOT": _alone(lambda: ft.shot("target"), adaptation=ft.freeze("head/**"), begin=WARM),
    "batch norm, source only": _alone(lambda: TASK, norm=True),
    "AdaBN": _alone(lambda: TASK, norm=True, statistics="adabn"),
    "Tent": _alone(
        lambda: ft.entropy_minimisation("target"),
        adaptation=ft.norms(),
        begin=WARM,
        norm=True,
        statistics="adabn",
        optimizer=optax.adam(1e-3),
    ),
    "MMD, batch norm joint": _beside(ft.mmd, norm=True, statistics="joint"),
    "MMD, batch norm apart": _beside(ft.mmd, norm=True, statistics="separate"),
}
QUICK = ("source only", "MMD", "Deep CORAL", "MCC", "DANN")
