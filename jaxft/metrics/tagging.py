"""Figures of a tagging: one label a token, and the entities that BIO tags mark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxft.errors import InputError
from jaxft.metrics.classification import check_labels, mean_cross_entropy, sound

_IGNORED = -100


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities that BIO tags of one text mark, as (type, first token, last token).

    As in the scorer of CoNLL: "B-X" begins an entity, and so does "I-X" after "O" or after another type.

    Args:
        tags: "O", "B-TYPE" or "I-TYPE" for each token.

    Raises:
        InputError: a tag is none of these.

    Example:
        >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]))
        [('LOC', 3, 3), ('LOC', 4, 4), ('PER', 0, 1)]

    References:
        Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003.
    """
    found = set[tuple[str, int, int]]()
    inside, first = "", 0
    for at, tag in enumerate([*tags, "O"]):
        if not _is_bio(tag):
            raise InputError(f"entities are read from the tags O, B-TYPE and I-TYPE, but one is {tag!r}")
        kind = tag[2:]
        if inside and (tag[0] != "I" or kind != inside):
            found.add((inside, first, at - 1))
            inside = ""
        if kind and not inside:
            inside, first = kind, at
    return found


def tagging_metrics(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Accuracy over tokens and, if the tags are BIO, precision, recall and F1 of whole entities; else macro F1 of tags.

    An entity is right if its type and both ends are; the counts are summed over all texts before the ratios are taken,
    each 0 where nothing is found. Tokens labelled -100 are left out before entities are read, so word pieces after
    the first do not break one. Where a logit of a token that counts is NaN, every figure is.

    Args:
        logits: ``[rows, length, tags]``.
        labels: ``[rows, length]`` integers.
        names: the tags. They are BIO if each is "O", "B-TYPE" or "I-TYPE" and one is not "O".

    Raises:
        InputError: no token counts, a label is none of the tags, or there is not one name a tag.

    Example:
        >>> logits = np.eye(3)[[[1, 2, 0], [1, 0, 0]]] * 9.0
        >>> figures = tagging_metrics(logits, np.array([[1, 2, 0], [0, 0, -100]]), ["O", "B-LOC", "I-LOC"])
        >>> print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        accuracy 0.800, precision 0.500, recall 1.000, f1 0.667, loss 1.800

    References:
        Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003.
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(f"a tagging predicts one tag a token, but logits are {logits.shape}, labels {labels.shape}")
    if len(names) != logits.shape[-1]:
        raise InputError(f"the model has {logits.shape[-1]} tags, but there are {len(names)} names: {list(names)[:5]}")
    counts = labels != _IGNORED
    if not counts.any():
        raise InputError(f"no token counts: every label is {_IGNORED}")
    check_labels(labels[counts], len(names))
    predicted = logits.argmax(-1)
    figures = {"accuracy": float((predicted == labels)[counts].mean())}
    if all(map(_is_bio, names)) and any(name != "O" for name in names):
        figures |= _entity_figures(predicted, labels, counts, names)
    else:
        from sklearn.metrics import f1_score

        figures["f1"] = float(f1_score(labels[counts], predicted[counts], average="macro", zero_division=0.0))
    return sound(figures | {"loss": mean_cross_entropy(logits[counts], labels[counts])}, logits[counts])


def _entity_figures(
    predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    right = found = there = 0
    for row, counted in enumerate(counts):
        guess, truth = (entities([names[tag] for tag in tags[row][counted]]) for tags in (predicted, labels))
        right, found, there = right + len(guess & truth), found + len(guess), there + len(truth)
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (found + there) if found + there else 0.0,
    }


def _is_bio(tag: str) -> bool:
    return tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)
