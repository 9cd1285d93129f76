"""Prompts compared: over templates, choices of examples and their orders, with mean, low, high and spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxft.errors import InputError
from jaxft.prompting.classify import METHODS, classify
from jaxft.prompting.shots import choose_shots
from jaxft.prompting.templates import Row, Template, Verbaliser, as_template, as_verbaliser
from jaxft.types import Model, Params


class Rows(NamedTuple):
    """Rows and their labels."""

    rows: Sequence[Row]
    labels: Sequence[str]


class Prompt(NamedTuple):
    """One cell of the grid."""

    template: Template
    shots: int
    seed: int
    order: int


def compare_prompts(
    model: Model,
    examples: Rows,
    test: Rows,
    labels: Verbaliser | Sequence[str] | Mapping[str, str],
    *,
    templates: Sequence[Template | str],
    shots: Sequence[int] = (0, 1, 4, 8),
    seeds: Sequence[int] = (0, 1, 2),
    orders: int = 1,
    methods: Sequence[str] = ("plain",),
    reduce: str = "mean",
    params: Params | None = None,
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Accuracy of every prompt of a grid, a row each.

    Without examples there is neither a choice nor an order of them: one row a template and method.

    Args:
        model: as of `classify`.
        examples: labelled rows to show.
        test: labelled rows to ask about.
        labels: label -> word or words.
        templates: one or several.
        shots: numbers of examples.
        seeds: each chooses other examples.
        orders: how many orders of each choice.
        methods: "plain", "calibrated", "pmi".
        reduce: over the tokens of a word, "mean" or "sum".
        params: bound to an adaptation; the model's own if None.
        batch_size: prompts that are read at once.

    Returns:
        Dicts with ``template`` (its number), ``shots``, ``seed``, ``order``, ``method`` and ``accuracy``.

    Raises:
        InputError: as of `classify`; a label of a row that is none; an empty axis.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> rows = Rows([{"text": "A wonderful film."}, {"text": "Boring and awful."}], ["good", "bad"])
        >>> found = compare_prompts(model, rows, rows, ["bad", "good"], templates=["{text} It was {label}"], shots=(0,))
        >>> sorted(found[0])
        ['accuracy', 'method', 'order', 'seed', 'shots', 'template']
    """
    words = as_verbaliser(labels)
    axes = {"templates": templates, "shots": shots, "seeds": seeds, "methods": methods}
    if empty := [name for name, values in axes.items() if not len(values)] or ([] if orders >= 1 else ["orders"]):
        raise InputError(f"a grid has at least one of each: {empty[0]} has none")
    if wrong := [name for name in methods if name not in METHODS]:
        raise InputError(f"a method is one of {', '.join(METHODS)}, but is {wrong[0]!r}")
    known = list(words)
    for part, (_, given) in (("examples", examples), ("test", test)):
        if unknown := [label for label in given if label not in known]:
            raise InputError(f"a row of {part} has the label {unknown[0]!r}, but the labels are {', '.join(known)}")
    truth = np.array([known.index(label) for label in test.labels])
    found = []
    for number, prompt in _cells([as_template(one) for one in templates], shots, seeds, orders):
        shown = _examples(examples, known, prompt)
        for method in methods:
            predicted = classify(
                model,
                test.rows,
                words,
                template=prompt.template,
                examples=shown,
                method=method,
                reduce=reduce,
                params=params,
                batch_size=batch_size,
            )
            accuracy = float(np.mean(predicted.probabilities.argmax(axis=1) == truth))
            cell = {"template": number, "shots": prompt.shots, "seed": prompt.seed, "order": prompt.order}
            found.append({**cell, "method": method, "accuracy": accuracy})
    return found


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each method and number of shots mean, low, high and standard deviation over all else.

    Args:
        rows: of `compare_prompts`.

    Example:
        >>> row = {"template": 0, "shots": 1, "seed": 0, "order": 0, "method": "plain", "accuracy": 0.5}
        >>> summarise([row, row | {"seed": 1, "accuracy": 1.0}])[0]["mean"]
        0.75
    """
    groups: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["shots"]), []).append(row["accuracy"])
    return [
        {
            "method": method,
            "shots": shots,
            "prompts": len(values),
            "mean": statistics.fmean(values),
            "low": min(values),
            "high": max(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        }
        for (method, shots), values in groups.items()
    ]


def _cells(
    templates: Sequence[Template], shots: Sequence[int], seeds: Sequence[int], orders: int
) -> Iterator[tuple[int, Prompt]]:
    for number, template in enumerate(templates):
        for count in shots:
            choices = [(seed, order) for seed in seeds for order in range(orders if count > 1 else 1)]
            for seed, order in choices if count else [(0, 0)]:
                yield number, Prompt(template, count, seed, order)


def _examples(examples: Rows, known: Sequence[str], prompt: Prompt) -> list[tuple[Row, str]]:
    numbers = [known.index(label) for label in examples.labels]
    chosen = choose_shots(numbers, prompt.shots, seed=prompt.seed)
    if prompt.order:
        chosen = np.random.default_rng((prompt.seed, prompt.order)).permutation(chosen).tolist()
    return [(examples.rows[row], examples.labels[row]) for row in chosen]
