"""TinyBERT: embeddings, attention and hidden states of a student follow chosen layers of its teacher."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.hints import hidden_mse, init_projection, project
from jaxft.objectives.layer_maps import LayerMap, check_map
from jaxft.objectives.relations import projections_of, score_mse, scores, text_of
from jaxft.objectives.rows import hidden_state, what_counts
from jaxft.objectives.task import part_of
from jaxft.objectives.teachers import Teacher, held, teacher_outputs
from jaxft.types import Array, Context, Frozen, Key, Memory, Metrics, Objective, Weights


def tinybert(teacher: Teacher, view: str | None = None, *, layers: LayerMap) -> Objective:
    """Distils embeddings, hidden states and attention layer by layer: the first stage of TinyBERT.

    L = Σ_{s → t} mean (h_s W + b − h_t)² + mean (Q_s K_sᵀ / √d_s − Q_t K_tᵀ / √d_t)²

    Layer 0 is the embeddings, which have no attention. W_e and b_e of the embeddings, and W_h and b_h of all other
    layers together, learn beside the student and are not needed after it. The second stage, of predictions, is
    `knowledge_distillation` at temperature 1. Student and teacher need as many heads and one tokenizer.

    Args:
        teacher: a transformer of `load_model`.
        view: name of the part of the batch; rows that its ``mask`` leaves out do not count, nor do the tokens that its
            ``attention_mask`` does.
        layers: numbers of the student's layers -> the teacher's, as from `layer_maps.evenly`: ``{0: 0, 1: 2, 2: 4, 3:
            6}``.

    Raises:
        InputError: no map of layers; a layer that one does not have; other numbers of heads; the teacher is no one
            model.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="classify", num_labels=2)
        >>> objective = ft.combine(deep=ft.tinybert(teacher, layers={0: 0, 1: 2, 2: 4, 3: 6}))

    References:
        Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020.
    """
    pairs = check_map(layers, "tinybert")

    def init(key: Key, context: Context) -> tuple[Frozen, Weights, tuple[()]]:
        frozen, outputs = held(teacher), context.forward(view)
        theirs = teacher_outputs(teacher, frozen, context, view, "attentions")
        weights = {}
        for layer, other in pairs.items():
            sizes = hidden_state(outputs, layer, "student").shape[-1], hidden_state(theirs, other, "teacher").shape[-1]
            weights[_kind(layer)] = init_projection(jax.random.fold_in(key, int(layer != 0)), *sizes)
        return frozen, weights, ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part, ours = part_of(context.batch, view), context.forward(view)
        theirs = teacher_outputs(teacher, frozen, context, view, "attentions")
        hidden, attention = jnp.zeros(()), jnp.zeros(())
        for layer, other in pairs.items():
            h_s, h_t = hidden_state(ours, layer, "student"), hidden_state(theirs, other, "teacher")
            hidden += hidden_mse(project(weights[_kind(layer)], h_s), h_t, mask=what_counts(part, h_s))
            if layer != 0:
                (q_s, k_s, _), (q_t, k_t, _) = (
                    projections_of(ours, layer, "student"),
                    projections_of(theirs, other, "teacher"),
                )
                text = text_of(part, ours)
                attention += score_mse(scores(q_s, k_s), scores(q_t, k_t), mask=text)
        return hidden + attention, (memory, {"hidden": hidden, "attention": attention})

    return Objective(init, apply)


def _kind(layer: int) -> str:
    return "embeddings" if layer == 0 else "layers"
