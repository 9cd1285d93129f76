"""The laws that hold for every objective."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.types import Context, Outputs

ROWS, PADDING, LENGTH, CLASSES = 6, 2, 5, 3
W = jax.random.normal(jax.random.key(0), (4, CLASSES))
START = 0.5 * W + 0.1
"""Where training starts: what an objective keeps at init is not what it sees later."""


def model(w: Any, inputs: Any, *, train: bool = False, key: Any = None) -> Outputs:
    """Logits from features that are not linear in the weights; all are over tokens where the inputs are."""
    hidden = jnp.sin(inputs["x"] @ w)
    features = hidden if hidden.ndim == 2 else hidden.mean(axis=1)
    outputs = Outputs(logits=inputs["x"] @ w, features=features, hidden_states=(inputs["x"], hidden))
    return outputs if hidden.ndim == 2 else attending(outputs, hidden, inputs)


def attending(outputs: Outputs, hidden: jax.Array, inputs: Any) -> Outputs:
    """With the attention of one head over the tokens."""
    head = hidden[:, None]
    scores = jnp.where(inputs["attention_mask"][:, None, None] > 0, head @ head.swapaxes(2, 3), -1e30)
    return outputs._replace(attentions=(jax.nn.softmax(scores),), projections=((head, head, jnp.cos(head)),))


BASE = ft.Model(model, START, None)
BOTH = ft.ensemble([BASE, ft.Model(model, 2 * START, None)], weights=(1.0, 2.0))
HEAD = {"kernel": jnp.arange(12.0).reshape(CLASSES, 4) / 6, "bias": jnp.ones(4)}
CATEGORIES = jax.nn.softmax(jnp.arange(12.0).reshape(CLASSES, 4) % 5)

OBJECTIVES: dict[str, Callable[[], ft.Objective]] = {
    "cross_entropy": lambda: ft.cross_entropy("source"),
    "cross_entropy smoothed": lambda: ft.cross_entropy("source", label_smoothing=0.1, class_weights=(1.0, 2.0, 0.5)),
    "mean_squared_error": lambda: ft.mean_squared_error("source"),
    "span_cross_entropy": lambda: ft.span_cross_entropy("source"),
    "next_token": lambda: ft.next_token("source"),
    "combine": lambda: ft.combine(
        task=ft.cross_entropy("source"), again=(ft.cross_entropy("source", label_smoothing=1.0), 0.3)
    ),
    "l2_sp": lambda: ft.l2_sp(alpha=1.0, head=None),
    "feature_distance": lambda: ft.feature_distance(BASE, "source", weight=1.0),
    "feature_distance over tokens": lambda: ft.feature_distance(BASE, "source", layers=(-1, 1), weight=1.0),
    "r3f": lambda: ft.r3f("source", input="x", radius=0.3),
    "bss": lambda: ft.bss("source", k=2, weight=1.0),
    "co_tuning": lambda: ft.co_tuning("source", head=HEAD, relationship=CATEGORIES),
    "pseudo_labels": lambda: ft.pseudo_labels("source", threshold=0.5),
    "fixmatch": lambda: ft.fixmatch("source", lambda key, inputs: {"x": jnp.cos(inputs["x"])}, threshold=0.5),
    "mean_teacher": lambda: ft.mean_teacher("source"),
    "vat": lambda: ft.vat("source", input="x"),
    "shot": lambda: ft.shot("source"),
    "shot bank": lambda: ft.shot("source", pseudo="bank", rows=2 * ROWS),
    "shot column": lambda: ft.shot("source", pseudo="column"),
    "deepjdot": lambda: ft.deepjdot(alpha=1.0, label_weight=1.0),
    "erm": lambda: ft.erm(["source"]),
    "group_dro": lambda: ft.group_dro(["source"]),
    "irm": lambda: ft.irm(["source"]),
    "mixup": lambda: ft.mixup("source"),
    "m3sda": lambda: ft.m3sda(["source"], "target"),
    "mmd": lambda: ft.mmd(),
    "mmd biased": lambda: ft.mmd("probabilities", estimator="biased", scales=(0.5, 2.0)),
    "mmd linear": lambda: ft.mmd(estimator="linear"),
    "jmmd": lambda: ft.jmmd(),
    "lmmd": lambda: ft.lmmd(),
    "deep_coral": lambda: ft.deep_coral(),
    "adaptive_feature_norm": lambda: ft.adaptive_feature_norm(),
    "nuclear_norm_maximisation": lambda: ft.nuclear_norm_maximisation(),
    "minimum_class_confusion": lambda: ft.minimum_class_confusion(),
    "entropy_minimisation": lambda: ft.entropy_minimisation(),
    "infomax": lambda: ft.infomax(),
    "dann": lambda: ft.dann(scale=0.5),
    "cdan": lambda: ft.cdan(scale=0.5),
    "cdan entropy": lambda: ft.cdan(scale=0.5, entropy=True),
    "mdd": lambda: ft.mdd(scale=0.5),
    "wdgrl": lambda: ft.wdgrl(),
    "adda": lambda: ft.adda(),
    "mcd": lambda: ft.mcd(),
    "knowledge_distillation": lambda: ft.knowledge_distillation(BASE, "source", temperature=2.0),
    "knowledge_distillation ensemble": lambda: ft.knowledge_distillation(BOTH, "source", temperature=2.0),
    "decoupled_distillation": lambda: ft.decoupled_distillation(BASE, "source"),
    "correlation_distillation": lambda: ft.correlation_distillation(BASE, "source"),
    "gkd": lambda: ft.gkd(BASE, "source", beta=0.3),
    "gkd over tokens": lambda: ft.gkd(BASE, "source", beta=1.0),
    "hints": lambda: ft.hints(BASE, "source", layers={1: 0}),
    "relational_distillation": lambda: ft.relational_distillation(BASE, "source"),
    "contrastive_distillation": lambda: ft.contrastive_distillation(BASE, "source", dim=5, temperature=0.5),
    "hidden_cosine": lambda: ft.hidden_cosine(BASE, "source"),
    "attention_transfer over tokens": lambda: ft.attention_transfer(BASE, "source", layers={1: 1}),
    "tinybert over tokens": lambda: ft.tinybert(BASE, "source", layers={0: 0, 1: 1}),
    "minilm over tokens": lambda: ft.minilm(BASE, "source"),
    "minilm2 over tokens": lambda: ft.minilm2(BASE, "source", heads=3),
    "combine scheduled": lambda: ft.combine(task=(ft.cross_entropy("source"), optax.linear_schedule(0.5, 1.0, 4))),
}
OVER_TOKENS = tuple(name for name in OBJECTIVES if name.startswith(("span", "next_token")) or "over tokens" in name)
ORDERED = {
    "r3f": "each row has noise of its own by its place in the batch",
    "vat": "each row has a direction of its own by its place in the batch",
    "mixup": "each row has a partner of its own by its place in the batch",
}
PAIRED = ("mmd linear",)
"""Rows are paired with their neighbours: the order of the pairs does not matter, when it is that of both views."""
HELD_STILL = {
    "vat": "the direction of the change is held still, which a difference quotient does not do",
    "deepjdot": "the plan is held still, which a difference quotient does not do",
    "mmd": "the width is held still, which a difference quotient does not do",
    "mmd linear": "the width is held still, which a difference quotient does not do",
    "jmmd": "the width is held still, which a difference quotient does not do",
    "lmmd": "the width is held still, which a difference quotient does not do",
    "adaptive_feature_norm": "the norm to grow from is held still, which a difference quotient does not do",
    **dict.fromkeys(("dann", "cdan", "cdan entropy", "mdd"), "the gradient of the features is reversed"),
    "minimum_class_confusion": "weights of rows are held still, which a difference quotient does not do",
}
VIEWS = ("source", "target")
LOOSE = {"vat": 2e-4}
"""How exactly padding is without effect, where a quotient of small differences is part of the value."""
DISCRETE = [name for name in OBJECTIVES if name != "mean_squared_error"]

law = pytest.mark.parametrize("name", OBJECTIVES)


def text(key: jax.Array) -> dict[str, Any]:
    """Rows of three, four or five tokens, the answer in the first three."""
    first = jnp.arange(ROWS) % 2
    return {
        "x": jax.random.normal(key, (ROWS, LENGTH, 4)),
        "input_ids": jax.random.randint(key, (ROWS, LENGTH), 0, CLASSES),
        "attention_mask": (jnp.arange(LENGTH) < 3 + jnp.arange(ROWS)[:, None] % 3).astype(jnp.int32),
        "labels": jnp.stack([first, first + 1], axis=1),
    }


def batch(name: str) -> dict[str, Any]:
    """Two views of rows that all count."""
    key, other = jax.random.split(jax.random.key(5))
    if name in OVER_TOKENS:
        return {"source": text(key), "target": text(other)}
    labels = jnp.arange(ROWS) % CLASSES if name in DISCRETE else jax.random.normal(key, (ROWS, CLASSES))
    rows = {"row": 2 * jnp.arange(ROWS), "pseudo_labels": jnp.arange(ROWS) % CLASSES} if name.startswith("shot") else {}
    source = {"x": jax.random.normal(key, (ROWS, 4)), "labels": labels, **rows}
    return {"source": source, "target": {"x": 0.5 * jax.random.normal(other, (ROWS, 4)) + 0.3, "labels": labels}}


def padded(data: dict[str, Any]) -> dict[str, Any]:
    """The same with rows that do not count, at the end."""

    def longer(part: dict[str, Any]) -> dict[str, Any]:
        rows = {column: jnp.concatenate([value, value[:PADDING]]) for column, value in part.items()}
        return rows | {"mask": jnp.arange(ROWS + PADDING) < ROWS}

    return {view: longer(part) for view, part in data.items()}


def loss_of(name: str, data: dict[str, Any], w: Any, within: Callable[[Any], Any] | None = None) -> jax.Array:
    def context(w: Any) -> Context:
        def forward(view: str | None = None, *, train: bool = True, delta: Any = None, **changes: Any) -> Outputs:
            outputs = model(w if delta is None else delta, {**data[view or "source"], **changes}, train=train)
            return outputs._replace(logits=outputs.logits[..., :2]) if name == "span_cross_entropy" else outputs

        return Context(forward, data, w, jnp.int32(2), jax.random.key(1))

    objective = OBJECTIVES[name]()
    objective = objective if within is None else within(objective)
    return objective.apply(*objective.init(jax.random.key(0), context(START)), context(w))[0]


@cache
def compiled(name: str) -> Callable[[Any, dict[str, Any]], tuple[jax.Array, jax.Array]]:
    """Loss and gradient, compiled once for each shape of the data: all laws but one look at padded rows."""
    return jax.jit(jax.value_and_grad(lambda w, data: loss_of(name, data, w)))


@law
def test_jit_equals_eager(name: str) -> None:
    data = padded(batch(name))
    eager = loss_of(name, data, W)
    np.testing.assert_allclose(compiled(name)(W, data)[0], eager, rtol=1e-5)
    assert eager.shape == ()
    assert eager.dtype == jnp.float32


@law
def test_the_gradient_is_that_of_the_loss(name: str) -> None:
    """Along a direction, by a difference quotient."""
    if name in HELD_STILL:
        pytest.skip(HELD_STILL[name])
    data, step = padded(batch(name)), 2e-3 * jax.random.normal(jax.random.key(8), W.shape)
    above, below = (compiled(name)(W + sign * step, data)[0] for sign in (1, -1))
    along = jnp.sum(compiled(name)(W, data)[1] * step)
    np.testing.assert_allclose(along, (above - below) / 2, rtol=2e-2, atol=5e-6)


@law
@pytest.mark.parametrize("view", VIEWS)
def test_the_order_of_the_rows_does_not_matter(name: str, view: str) -> None:
    if name in ORDERED:
        pytest.skip(ORDERED[name])
    data, order = padded(batch(name)), jax.random.permutation(jax.random.key(2), ROWS + PADDING)
    mixed = {**data, view: {column: value[order] for column, value in data[view].items()}}
    if name in PAIRED:
        order = jnp.arange(ROWS + PADDING).reshape(-1, 2)[::-1].reshape(-1)
        mixed = {part: {column: value[order] for column, value in data[part].items()} for part in VIEWS}
    value = compiled(name)(W, data)[0]
    np.testing.assert_allclose(compiled(name)(W, mixed)[0], value, rtol=1e-5, atol=1e-7)


@law
def test_padding_rows_do_not_count(name: str) -> None:
    data = batch(name)
    longer = padded(data)
    value = compiled(name)(W, longer)[0]
    np.testing.assert_allclose(value, compiled(name)(W, data)[0], rtol=LOOSE.get(name, 1e-5), atol=1e-7)
    for view in VIEWS:
        strange = {
            column: numbers.at[ROWS:].set(1 if jnp.issubdtype(numbers.dtype, jnp.integer) else 7.0)
            for column, numbers in longer[view].items()
            if column != "mask"
        }
        changed = {**longer, view: longer[view] | strange}
        np.testing.assert_allclose(compiled(name)(W, changed)[0], value, rtol=LOOSE.get(name, 1e-6), atol=1e-7)


@law
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("degenerate", ["constant features", "one class", "large", "nothing counts", "identical"])
def test_finite_at_degenerate_inputs(name: str, view: str, degenerate: str) -> None:
    data = padded(batch(name))
    part = dict(data[view])
    match degenerate:
        case "constant features":
            part["x"] = jnp.ones_like(part["x"])
        case "one class":
            part |= {column: jnp.zeros_like(part[column]) for column in ("labels", "input_ids") if column in part}
        case "large":
            part["x"] = part["x"] * 1e4
        case "nothing counts":
            part["mask"] = jnp.zeros_like(part["mask"])
        case "identical":
            part["x"] = data["target" if view == "source" else "source"]["x"]
    loss, gradient = compiled(name)(W, {**data, view: part})
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


@law
def test_labels_of_the_target_cannot_reach_the_loss(name: str) -> None:
    data = padded(batch(name))
    told = {**data, "target": data["target"] | {"labels": jnp.zeros_like(data["target"]["labels"])}}
    for one, other in zip(compiled(name)(W, told), compiled(name)(W, data), strict=True):
        np.testing.assert_array_equal(one, other)


@law
def test_another_term_does_not_rescale_it(name: str) -> None:
    """The gradient of the other term comes on top, whatever its weight."""
    data = padded(batch(name))

    def beside(weight: Any) -> Callable[[ft.Objective], ft.Objective]:
        return lambda term: ft.combine(term=term, anchor=(ft.l2_sp(alpha=1.0, head=None), weight))

    gradient = jax.jit(jax.grad(lambda w, weight: loss_of(name, data, w, beside(weight))))
    anchor = compiled("l2_sp")(W, padded(batch("l2_sp")))[1]
    np.testing.assert_allclose(gradient(W, 0.3) - gradient(W, 0.0), 0.3 * anchor, rtol=1e-4, atol=1e-5)
