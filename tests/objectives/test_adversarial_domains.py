"""Adversarial terms at work: the features of two shifted domains come nearer than the source alone brings them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxft as ft
from jaxft import objectives as o

STEPS, RATE, ROWS = 300, 3e-3, 240
KEYS = jax.random.split(jax.random.key(0), 5)
LABELS = jnp.arange(ROWS) % 3
CENTRES = 2 * jax.random.normal(KEYS[0], (3, 8))
SHIFT = 1.5 * jax.random.normal(KEYS[1], (8,))
BATCH = {
    "source": {"x": CENTRES[LABELS] + jax.random.normal(KEYS[1], (ROWS, 8)), "labels": LABELS},
    "target": {"x": CENTRES[LABELS] + jax.random.normal(KEYS[2], (ROWS, 8)) + SHIFT},
}
PARAMS = {
    "body": {"kernel": jax.random.normal(KEYS[3], (8, 16)) / 3, "bias": jnp.zeros(16)},
    "head": {"kernel": jax.random.normal(KEYS[4], (16, 3)) / 4, "bias": jnp.zeros(3)},
}
TASK, RAMP = ft.cross_entropy("source"), ft.reversal_schedule(STEPS)
BESIDE: dict[str, Callable[[], ft.Objective]] = {
    "dann": lambda: ft.dann(scale=RAMP),
    "cdan": lambda: ft.cdan(scale=RAMP),
    "cdan+e": lambda: ft.cdan(scale=RAMP, entropy=True),
    "mdd": lambda: ft.mdd(scale=RAMP),
    "wdgrl": lambda: ft.wdgrl(critic=optax.adam(1e-3)),
    "mcd": lambda: ft.mcd(),
}


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    features = jnp.tanh(batch["x"] @ params["body"]["kernel"] + params["body"]["bias"])
    return ft.Outputs(logits=features @ params["head"]["kernel"] + params["head"]["bias"], features=features)


def trained(objective: ft.Objective, params: Any = PARAMS, adaptation: ft.Adaptation | None = None) -> Any:
    adaptation = adaptation or ft.full()
    step = ft.make_step(model, adaptation, objective, optax.adam(RATE))

    @jax.jit
    def run(params: Any) -> Any:
        frozen, state = step.init(jax.random.key(1), params, BATCH)
        state, _ = jax.lax.scan(lambda state, _: (step.update(frozen, state, BATCH)[0], None), state, length=STEPS)
        return adaptation.bind(frozen.model, state.delta)

    return run(params)


def told_apart(params: Any) -> float:
    """How often a new discriminator, linear, is right about rows it has not seen."""
    f_s, f_t = (model(params, BATCH[view]).features for view in BATCH)
    optimizer, net = optax.adam(0.05), o.init_mlp(jax.random.key(2), (16, 1))

    def loss(net: Any) -> Any:
        return o.domain_cross_entropy(*(o.apply_mlp(net, f[::2])[:, 0] for f in (f_s, f_t)))

    def descend(carry: Any, _: Any) -> Any:
        updates, state = optimizer.update(jax.grad(loss)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    (net, _), _ = jax.lax.scan(descend, (net, optimizer.init(net)), length=300)
    right_s, right_t = o.apply_mlp(net, f_s[1::2]) > 0, o.apply_mlp(net, f_t[1::2]) <= 0
    return float(right_s.mean() + right_t.mean()) / 2


def gap(params: Any) -> float:
    f_s, f_t = (model(params, BATCH[view]).features.mean(0) for view in BATCH)
    return float(jnp.sum((f_s - f_t) ** 2))


def right(params: Any) -> float:
    return float(jnp.mean(jnp.argmax(model(params, BATCH["target"]).logits, axis=1) == LABELS))


@cache
def source_only() -> Any:
    return trained(ft.combine(task=TASK))


@pytest.mark.parametrize("name", [*BESIDE, "adda"])
def test_a_method_brings_the_domains_together(name: str) -> None:
    """The means of the features come to less than six tenths of their squared distance; no class is lost for it."""
    plain = source_only()
    if name == "adda":
        adapted = trained(ft.adda(), plain, ft.freeze("head/**"))
    else:
        adapted = trained(ft.combine(task=TASK, domain=BESIDE[name]()))
    assert gap(adapted) < 0.6 * gap(plain)
    assert right(adapted) >= right(plain) - 0.02
    if name != "mcd":  # which moves the target to where its heads agree, not to the source
        assert told_apart(adapted) < told_apart(plain) - 0.02


def test_the_source_alone_leaves_them_apart() -> None:
    """Without a difference between domains the test above would say nothing."""
    plain = source_only()
    assert told_apart(plain) > 0.9
    assert gap(plain) > 1.0
    assert 0.5 < right(plain) < 0.97


def test_mcd_makes_its_heads_agree_on_the_target() -> None:
    """The discrepancy falls from that of two heads trained apart."""
    objective = ft.combine(task=TASK, heads=ft.mcd())
    step = ft.make_step(model, ft.full(), objective, optax.adam(RATE))
    frozen, state = step.init(jax.random.key(1), PARAMS, BATCH)
    update = jax.jit(step.update)
    found = []
    for _ in range(60):
        state, metrics = update(frozen, state, BATCH)
        found.append(float(metrics["heads/features"]))
    assert min(found[-10:]) < 0.5 * max(found)
