"""Which layer of a student learns from which of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.objectives.rows import hidden_state
from jaxft.objectives.teachers import Teacher, teacher_states
from jaxft.types import Array, Context, Frozen, Outputs

LayerMap = Mapping[int, int]
"""Number of the student's hidden state -> the teacher's; 0 is the embeddings, 1 the first layer, -1 the last."""


def evenly(student: int, teacher: int) -> dict[int, int]:
    """Every student layer learns from the last of an equal share of the teacher's, the embeddings from theirs.

    g(m) = m · teacher / student

    Args:
        student: how many layers it has.
        teacher: how many, a multiple.

    Raises:
        InputError: the teacher's is no multiple of the student's.

    Example:
        >>> evenly(3, 6)
        {0: 0, 1: 2, 2: 4, 3: 6}

    References:
        Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020.
    """
    if student < 1 or teacher % student:
        raise InputError(
            f"{teacher} layers of a teacher are no equal shares for {student} of a student: name the pairs, as in "
            "{1: 2, 2: 4}"
        )
    return {layer: layer * (teacher // student) for layer in range(student + 1)}


def check_map(layers: Any, name: str) -> dict[int, int]:
    """Refuses what is no map of layers.

    Raises:
        InputError: it is no mapping of whole numbers, or empty.
    """
    whole = isinstance(layers, Mapping) and all(
        isinstance(n, int) and not isinstance(n, bool) for pair in layers.items() for n in pair
    )
    if not whole or not layers:
        raise InputError(
            f"{name} expects a map from layers of the student to layers of the teacher, such as {{1: 2, 2: 4}}, but "
            f"got {layers!r}"
        )
    return dict(layers)


def paired_states(
    teacher: Teacher, frozen: Frozen, context: Context, view: str | None, layers: Mapping[int, int]
) -> list[tuple[Array, Array]]:
    """Hidden states of student and teacher, a pair for each entry of the map.

    Raises:
        InputError: one has no such layer.
    """
    theirs = teacher_states(teacher, frozen, context, view, list(layers.values()))
    outputs = context.forward(view)
    ours = [hidden_state(outputs, layer, "student") for layer in layers]
    return list(zip(ours, theirs, strict=True))


def attention_index(outputs: Outputs, layer: int, whose: str) -> int:
    """The place of a layer among those that attend, by the number of the hidden state that it makes.

    Raises:
        InputError: it is no such layer.
    """
    number = len(outputs.attentions or ())
    if not number or layer == 0 or not -number <= layer <= number:
        raise InputError(
            f"the {whose} attends in layers 1 to {number}, so that there is no attention of layer {layer}"
            if number
            else f"the {whose} has no attention: this loss is for transformers"
        )
    return layer - 1 if layer > 0 else number + layer
