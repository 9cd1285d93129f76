"""The nouns: an adaptation says what learns, an objective what is minimised, a step is a pure function of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
PyTree = Any
Params = Any
"""A nested dict of arrays; a leaf's path is its keys joined by "/". Tuples and lists may nest too."""
Mask = Any
"""A tree of the structure of the params with a bool at every leaf."""
Selector = Callable[[Params], Mask]
Choice = Selector | str | Sequence[str]
"""What a person may write for a selector: one, a glob, or several globs."""
Frozen = Any
"""Arrays that an adaptation or objective needs and never changes."""
Delta = Any
"""Arrays that learn: what is differentiated, optimised and checkpointed."""
Weights = Any
"""Arrays an objective learns beside the model, such as a discriminator; ``()`` when there are none."""
Memory = Any
"""Arrays an objective carries from step to step without gradient; ``()`` when there are none."""
Metrics = dict[str, Array]
Batch = Mapping[str, Any]
PREFIX = "prefix"
"""Where a batch, or a view of it, has the activations of frozen layers, a tuple of arrays ``[batch, …]``."""
TEACHER = "teacher/"
"""What the names of columns begin with that hold what a teacher said of the rows."""
TRIPLETS = frozenset({"p", "lambda", "q"})
"""The parts of an update in the form of a singular value decomposition: ``p`` is ``[*stack, *in, rank]``, ``lambda``
``[*stack, rank]`` and ``q`` ``[*stack, rank, *out]``."""


def is_input(column: str) -> bool:
    """Whether a model reads the column of a batch; others are for objectives and metrics.

    Example:
        >>> [name for name in ("input_ids", "labels", "mask", "weight", "teacher/logits") if is_input(name)]
        ['input_ids']
    """
    return column not in ("labels", "mask", "weight") and not column.startswith(TEACHER)


class Adaptation(NamedTuple):
    """What learns, and how it enters the model.

    Attributes:
        init: ``init(key, params) -> (frozen, delta)``.
        bind: ``bind(frozen, delta, *, key=None) -> params``; leaves may be structured weights.
            A key turns on what is random in training, such as dropout on a low-rank branch.
    """

    init: Callable[[Key, Params], tuple[Frozen, Delta]]
    bind: Callable[..., Params]


class Outputs(NamedTuple):
    """What a model returns; absent parts are None.

    Attributes:
        logits: ``[batch, classes]`` or ``[batch, length, classes]``.
        features: what the head reads, ``[batch, dim]``.
        hidden_states: one array a layer, the embeddings first, each ``[batch, length, dim]``.
        attentions: one array a layer, each ``[batch, heads, length, length]``.
        projections: queries, keys and values of each layer's self-attention, as its products read them, each
            ``[batch, heads, length, head_dim]``; keys and values may have fewer heads.
        stats: new values of running statistics, a nested dict at their paths in the params.
        token_logits: ``[batch, length, vocabulary]`` logits of the next token, beside the logits of a task.
        cache: keys and values of the tokens seen so far, for generation.
        encoder_hidden_states: as hidden_states, of the encoder that a decoder reads.
    """

    logits: Any = None
    features: Any = None
    hidden_states: Any = None
    attentions: Any = None
    stats: Any = None
    token_logits: Any = None
    cache: Any = None
    encoder_hidden_states: Any = None
    projections: Any = None


class Model(NamedTuple):
    """A pretrained model as a pure function and its parameters.

    Attributes:
        apply: ``apply(params, batch, *, train=False, key=None) -> Outputs``.
        params: nested dict of arrays.
        config: the architecture and task, as read from and written to ``config.json``.
        tokenizer: the Hugging Face tokenizer, or None.
    """

    apply: Callable[..., Outputs]
    params: Params
    config: Any
    tokenizer: Any = None


class Context(NamedTuple):
    """All that an objective may look at.

    Attributes:
        forward: ``forward(view=None, **changes) -> Outputs`` of the bound model on ``batch[view]``
            (the whole batch when no view is named), computed once a view and step. Changed inputs, ``train=False`` or
            another ``key=`` ask for a run of their own; without a key of its own it has the randomness of the view.
            So does ``delta=``, of the structure of this one: it binds the model with those arrays, without what an
            adaptation drops at random, and the run leaves running statistics as they are.
        batch: the batch, a dict of arrays or a dict of such views.
        delta: the arrays that learn.
        step: the number of updates made so far, a scalar integer.
        key: the randomness of this step.
        shared: where the terms of a sum keep what they compute for all of them, such as the outputs of a teacher; None
            outside of a sum.
    """

    forward: Callable[..., Outputs]
    batch: Batch
    delta: Delta
    step: Array
    key: Key
    shared: dict[Any, Any] | None = None


Loss = Callable[[Frozen, Weights, Memory, Context], tuple[Array, tuple[Memory, Metrics]]]


class Turn(NamedTuple):
    """A part of an update with a loss of its own, beside the main part: a critic that learns first, a second phase.

    Attributes:
        name: its loss is the metric of that name, after the last repeat.
        apply: ``apply(frozen, weights, memory, context) -> (loss, (memory, metrics))``.
        learns: selects what it changes in ``{"delta": …, "weights": …}``, such as ``"weights/**"``.
        repeats: how often it is taken in every update.
        optimizer: an optax transformation; the step's if None. Each part has a state of its own.
        first: it is taken before the main part, else after.
        alone: what it learns does not learn in the main part.
    """

    name: str
    apply: Loss
    learns: Choice
    repeats: int = 1
    optimizer: Any = None
    first: bool = False
    alone: bool = False


class Objective(NamedTuple):
    """What is minimised.

    Attributes:
        init: ``init(key, context) -> (frozen, weights, memory)``; pure, and traced once more for shapes.
        apply: ``apply(frozen, weights, memory, context) -> (loss, (memory, metrics))``.
        turns: further parts of every update, for methods that alternate.
    """

    init: Callable[[Key, Context], tuple[Frozen, Weights, Memory]]
    apply: Loss
    turns: tuple[Turn, ...] = ()


class Start(NamedTuple):
    """In what an objective froze: arrays that learn, as they were before they learnt.

    Where a run lets only some arrays learn at first, `repartition` adds those that begin, as they are then.

    Attributes:
        values: by their paths in the delta.
    """

    values: dict[str, Array]


class StepFrozen(NamedTuple):
    """What a step reads and never changes: the model's frozen arrays and the objective's."""

    model: Frozen
    objective: Frozen


class DomainStatistics(NamedTuple):
    """Running statistics of each domain, apart.

    Attributes:
        views: name of the view -> its statistics.
    """

    views: Mapping[str, PyTree]


class TrainState(NamedTuple):
    """Only what changes in training, only arrays."""

    step: Array
    delta: Delta
    weights: Weights
    memory: Memory
    stats: Any
    opt_state: Any
    key: Key


class Step(NamedTuple):
    """A training step, like an optax transformation: nothing is hidden.

    Attributes:
        init: ``init(key, params, batch) -> (frozen, state)``; the batch shows shapes, and what an objective asks for.
        update: ``update(frozen, state, batch) -> (state, metrics)``, pure: the caller jits, vmaps, shards.
    """

    init: Callable[[Key, Params, Batch], tuple[StepFrozen, TrainState]]
    update: Callable[[StepFrozen, TrainState, Batch], tuple[TrainState, Metrics]]
