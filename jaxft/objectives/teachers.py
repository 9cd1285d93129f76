"""Teachers: a model, several of them, or what one said before; arguments of the step like all that is frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.objectives.ensembles import Ensemble, check_alike, mean_logits
from jaxft.objectives.rows import hidden_state, what_counts
from jaxft.objectives.task import over, part_of
from jaxft.types import PREFIX, TEACHER, Array, Batch, Context, Frozen, Key, Model, Outputs, Params, is_input
from jaxft.weights import lift

Teacher = Model | Ensemble | None
"""A model with whatever its params are, an adaptation bound to them included; several; or None: what `remember` wrote
into columns of the batch."""


def held(teacher: Teacher) -> Frozen:
    """What a step holds of a teacher: its params, which are frozen.

    Raises:
        InputError: it is no teacher.
    """
    if isinstance(teacher, Ensemble):
        return {"members": tuple(model.params for model in teacher.members), "weights": teacher.weights}
    if isinstance(teacher, Model):
        return {"params": teacher.params}
    if teacher is None:
        return {}
    raise InputError(
        "a teacher is a Model, an ensemble of them, or None for the columns that remember wrote, but it is "
        f"{type(teacher).__name__}; bind an adaptation as model._replace(params=adaptation.bind(frozen, delta))"
    )


def only_teacher(teacher: Teacher) -> Callable[[Key, Context], tuple[Frozen, tuple[()], tuple[()]]]:
    """The init of an objective that has a teacher and nothing else of its own."""

    def init(key: Key, context: Context) -> tuple[Frozen, tuple[()], tuple[()]]:
        del key, context
        return held(teacher), (), ()

    return init


def teacher_outputs(teacher: Teacher, frozen: Frozen, context: Context, view: str | None, name: str) -> Outputs:
    """What one model gives of a view, as in evaluation and without gradient.

    Raises:
        InputError: there is no one model to ask.
    """
    if isinstance(teacher, Ensemble):
        raise InputError(f"an ensemble gives logits alone: for {name} name one model as the teacher")
    if teacher is None:
        raise InputError(f"{name} are not among what remember writes into columns: name the model as the teacher")
    return run(teacher, frozen["params"], context, view)


def teacher_logits(
    teacher: Teacher, frozen: Frozen, context: Context, view: str | None, temperature: float | Array = 1.0
) -> tuple[Array, Array]:
    """Logits of student and teacher ``[…, classes]``; the teacher's are without gradient.

    Where the teacher is an ensemble, the softmax of its logits at the temperature is the mean of its members'.

    Raises:
        InputError: one gives no logits, their shapes differ, or there are no columns of a teacher.
    """
    student = context.forward(view).logits
    if student is None:
        raise InputError("predictions are compared, but the student gives no logits: load it with the head of a task")
    if teacher is None:
        found = _remembered_logits(part_of(context.batch, view), student.shape[-1])
    elif isinstance(teacher, Ensemble):
        found = _of_ensemble(teacher, frozen, context, view, temperature)
    else:
        found = _logits(run(teacher, frozen["params"], context, view))
    check_classes(student, found)
    return student, found


def teacher_features(teacher: Teacher, frozen: Frozen, context: Context, view: str | None) -> Array:
    """What the teacher's head reads, ``[batch, dim]``.

    Raises:
        InputError: it gives none.
    """
    if teacher is None:
        return remembered(part_of(context.batch, view), "features")
    found = teacher_outputs(teacher, frozen, context, view, "features").features
    if found is None:
        raise InputError("the teacher gives no features [batch, dim]; load it with a pooling")
    return found


def teacher_states(
    teacher: Teacher, frozen: Frozen, context: Context, view: str | None, layers: Sequence[int]
) -> list[Array]:
    """Hidden states of the teacher.

    Raises:
        InputError: there is no such layer, or it was not remembered.
    """
    if teacher is None:
        part = part_of(context.batch, view)
        return [remembered(part, f"hidden_states/{layer}") for layer in layers]
    outputs = teacher_outputs(teacher, frozen, context, view, "hidden states")
    return [hidden_state(outputs, layer, "teacher") for layer in layers]


def remembered(part: Batch, name: str) -> Array:
    """A column that `remember` wrote.

    Raises:
        InputError: it did not.
    """
    if TEACHER + name not in part:
        kept = sorted(column.removeprefix(TEACHER) for column in part if column.startswith(TEACHER))
        raise InputError(
            f"the teacher is None, so that its {name} are read from the column {TEACHER + name!r}, but the batch has "
            f"{', '.join(kept) or 'nothing'} of a teacher: add it with distil.remember, or name the model"
        )
    found: Array = jax.lax.stop_gradient(jnp.asarray(part[TEACHER + name]))
    return found


def check_classes(student: Array, teacher: Array) -> None:
    """Refuses predictions over different classes or words.

    Raises:
        InputError: the shapes differ.
    """
    if student.shape == teacher.shape:
        return
    kind, hint = "classes", "give the student the teacher's labels, in the same order"
    if student.ndim > 2:
        kind = "tokens and vocabulary"
        hint = "both need one tokenizer; with another, train the student on text that the teacher wrote"
    raise InputError(
        f"student and teacher predict the same {kind}, but the student's logits are {list(student.shape)} and the "
        f"teacher's {list(teacher.shape)}: {hint}"
    )


def rows_compared(part: Batch, logits: Array) -> Array:
    """Which predictions ``[…, classes]`` of a view count: real rows, and of tokens those that are text and labelled."""
    shape, labels = logits.shape[:-1], part.get("labels")
    counts = over(what_counts(part, logits), shape)
    return counts if len(shape) == 1 or labels is None or labels.shape != shape else counts & (labels != -100)


def positive(value: Any, name: str) -> None:
    """Refuses a number that is not above zero; one that is traced is taken as it is.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, int | float | np.number) and not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} is a number above 0, but is {value}")


def run(model: Model, params: Params, context: Context, view: str | None) -> Outputs:
    """What a model that does not learn gives of a view, as in evaluation; one pass for all terms of a sum."""
    part, shared = part_of(context.batch, view), {} if context.shared is None else context.shared
    place = "teacher", id(model), id(part)
    if place not in shared:
        shared[place] = _outputs(model, params, part)
    found: Outputs = shared[place]
    return found


def _of_ensemble(
    teacher: Ensemble, frozen: Frozen, context: Context, view: str | None, temperature: float | Array
) -> Array:
    params, members = frozen["members"], teacher.members
    if not teacher.pick:
        each = [_logits(run(model, mine, context, view)) for model, mine in zip(members, params, strict=True)]
        return mean_logits(each, frozen["weights"], temperature)
    part = part_of(context.batch, view)
    branches = [
        lambda params, one=one, at=at: _logits(_outputs(one, params[at], part)) for at, one in enumerate(members)
    ]
    check_alike([jax.eval_shape(branch, params) for branch in branches])
    chosen = jax.random.categorical(context.key, jnp.log(frozen["weights"]))
    found: Array = jax.lax.switch(chosen, branches, params)
    return found


def _logits(outputs: Outputs) -> Array:
    if outputs.logits is None:
        raise InputError("the teacher gives no logits: load it for the task of the student, or compare hidden states")
    result: Array = outputs.logits.astype(jnp.float32)
    return result


def _outputs(model: Model, params: Params, part: Batch) -> Outputs:
    inputs = {name: value for name, value in part.items() if is_input(name) and name != PREFIX}
    outputs = lift(model.apply)(params, inputs, train=False)
    found: Outputs = jax.lax.stop_gradient(outputs if isinstance(outputs, Outputs) else Outputs(logits=outputs))
    return found


def _remembered_logits(part: Batch, classes: int) -> Array:
    """Those of the columns; where the largest alone were kept, the others share what probability these leave."""
    if TEACHER + "top" not in part:
        return remembered(part, "logits")
    top, places = remembered(part, "top"), jnp.asarray(part[TEACHER + "classes"])
    left = jnp.log1p(-jnp.minimum(jnp.sum(jnp.exp(top), axis=-1), 1 - 1e-6)) - math.log(max(classes - top.shape[-1], 1))
    rest = jnp.broadcast_to(left[..., None], (*left.shape, classes))
    return jnp.put_along_axis(rest, places, top, axis=-1, inplace=False)
