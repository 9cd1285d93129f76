"""Adversarial discriminative adaptation: an encoder of the target learns to pass for that of the source."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.discriminator import HIDDEN, apply_mlp, domain_accuracy, domain_cross_entropy, init_mlp
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import mean_of_rows
from jaxft.types import Array, Context, Frozen, Key, Memory, Metrics, Objective, Turn, Weights


def adda(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    discriminator: Any = None,
    hidden: int = HIDDEN,
) -> Objective:
    """From a model that the source has trained: what learns becomes the target's encoder, the source's stays behind.

    discriminator:  min ½ (mean −log σ(D(M_s(s))) + mean −log σ(−D(M_t(t))))
    encoder:        L = mean −log σ(D(M_t(t))), the label turned around

    M_s is the model as training starts, a copy of what learns kept among the frozen arrays, and runs as in evaluation.
    The head is the source's: keep it so, with ``ft.freeze("head/**")`` as the adaptation or as part of it. The term
    stands alone, without a task beside it. In every step the discriminator learns first, then the encoder.

    Args:
        layer: what the discriminator, two hidden layers with ReLU, reads: "features", "logits", "probabilities", or
            the number of a hidden state.
        source: name of a view.
        target: name of a view; labels are read of neither.
        discriminator: an optax transformation for it; the step's if None.
        hidden: units of each hidden layer.

    Raises:
        InputError: a view is not in the batch, has no rows, or features of another size; the model does not give the
            layer.

    Example:
        >>> import jaxft as ft
        >>> adaptation, objective = ft.freeze("head/**"), adda()

    References:
        Tzeng et al., "Adversarial Discriminative Domain Adaptation", 2017.
    """

    def init(key: Key, context: Context) -> tuple[Frozen, Weights, tuple[()]]:
        f_s, f_t = (layer_of(context, view, layer)[0] for view in (source, target))
        check_domains(f_s, f_t, "adda")
        encoder = jax.tree.map(jnp.copy, context.delta)  # a copy: the delta may be donated with the state
        return encoder, init_mlp(key, (f_s.shape[1], hidden, hidden, 1)), ()

    def apply(
        frozen: Frozen, weights: Weights, memory: Memory, context: Context
    ) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen
        features, counts = layer_of(context, target, layer)
        return mean_of_rows(jax.nn.softplus(-apply_mlp(weights, features)[:, 0]), counts), (memory, {})

    def learn(
        frozen: Frozen, weights: Weights, memory: Memory, context: Context
    ) -> tuple[Array, tuple[Memory, Metrics]]:
        before = context._replace(forward=lambda view: context.forward(view, delta=frozen, train=False))
        (f_s, counts_s), (f_t, counts_t) = layer_of(before, source, layer), layer_of(context, target, layer)
        check_domains(f_s, f_t, "adda")
        z_s, z_t = (apply_mlp(weights, jax.lax.stop_gradient(f))[:, 0] for f in (f_s, f_t))
        loss = domain_cross_entropy(z_s, z_t, source_mask=counts_s, target_mask=counts_t)
        return loss, (memory, {"accuracy": domain_accuracy(z_s, z_t, counts_s, counts_t)})

    turn = Turn("discriminator", learn, "weights/**", optimizer=discriminator, first=True, alone=True)
    return Objective(init, apply, (turn,))
