"""A step written by hand, as two plain functions over a linear model, and its batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.types import Key, Metrics, Step, StepFrozen, TrainState

WIDTH, CLASSES = 8, 3


def linear_step(optimizer: optax.GradientTransformation, *, noise: float = 0.1) -> Step:
    """Softmax regression on top of a frozen matrix, with noise on the inputs and every part of the state in use."""

    def init(key: Key, params, batch) -> tuple[StepFrozen, TrainState]:
        delta = {"head": params["head"]}
        weights = {"temperature": jnp.ones(())}
        memory = {"mean_loss": jnp.zeros(()), "nothing": jnp.zeros((0, 2))}
        opt_state = optimizer.init({"delta": delta, "weights": weights})
        state = TrainState(jnp.zeros((), jnp.int32), delta, weights, memory, {"rows": jnp.zeros(())}, opt_state, key)
        return StepFrozen({"base": params["base"]}, ()), state

    def loss_of(learned, frozen, batch, key):
        x = batch["x"] + noise * jax.random.normal(key, batch["x"].shape)
        hidden = jnp.tanh(x @ frozen.model["base"])
        logits = hidden @ learned["delta"]["head"]["kernel"] + learned["delta"]["head"]["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits * learned["weights"]["temperature"], batch["labels"]
        )
        return jnp.sum(losses * batch["mask"]) / jnp.sum(batch["mask"])

    def update(frozen: StepFrozen, state: TrainState, batch) -> tuple[TrainState, Metrics]:
        learned = {"delta": state.delta, "weights": state.weights}
        key = jax.random.fold_in(state.key, state.step)
        loss, gradient = jax.value_and_grad(loss_of)(learned, frozen, batch, key)
        changes, opt_state = optimizer.update(gradient, state.opt_state, learned)
        learned = optax.apply_updates(learned, changes)
        memory = {**state.memory, "mean_loss": 0.9 * state.memory["mean_loss"] + 0.1 * loss}
        new = TrainState(
            state.step + 1,
            learned["delta"],
            learned["weights"],
            memory,
            {"rows": state.stats["rows"] + jnp.sum(batch["mask"])},
            opt_state,
            state.key,
        )
        return new, {"loss": loss, "grad_norm": optax.tree.norm(gradient)}

    return Step(init, update)


def linear_params(seed: int = 0, *, width: int = WIDTH) -> dict:
    generator = np.random.default_rng(seed)
    return {
        "base": jnp.asarray(generator.normal(size=(WIDTH, width)), jnp.float32),
        "head": {
            "kernel": jnp.asarray(0.1 * generator.normal(size=(width, CLASSES)), jnp.float32),
            "bias": jnp.zeros(CLASSES),
        },
    }


class LinearBatches:
    """Rows whose label is where a fixed linear map is largest; the batch of a step is a function of (seed, step)."""

    def __init__(self, *, rows: int = 16, seed: int = 0, spoilt: int | None = None):
        self.rows, self.seed, self.spoilt = rows, seed, spoilt

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng((self.seed, step))
        x = generator.normal(size=(self.rows, WIDTH)).astype(np.float32)
        labels = (x @ np.random.default_rng(99).normal(size=(WIDTH, CLASSES))).argmax(-1).astype(np.int32)
        if step == self.spoilt:
            x[3, 2] = np.nan
        return {"x": x, "labels": labels, "mask": np.ones(self.rows, bool)}


def linear_apply(params, batch, *, train=False, key=None):
    """The same model as a model: reads {"base", "head"} and returns logits."""
    from jaxft.types import Outputs

    hidden = jnp.tanh(batch["x"] @ params["base"])
    return Outputs(logits=hidden @ params["head"]["kernel"] + params["head"]["bias"])


def accuracy(frozen: StepFrozen, state: TrainState, *, placement=None) -> dict[str, float]:
    """An evaluation of the bound model on eight fixed batches."""
    from jaxft.train import evaluate

    params = {"base": frozen.model["base"], "head": state.delta["head"]}
    batches = LinearBatches(seed=1)
    return evaluate(linear_apply, params, [batches[step] for step in range(8)], placement=placement)
