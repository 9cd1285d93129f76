"""Prompts with examples: which ones, in which order, and how many fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxft.errors import InputError
from jaxft.prompting.templates import Row, Template, demonstration, question
from jaxft.types import Model


def choose_shots(labels: Sequence[int], shots: int, *, seed: int) -> list[int]:
    """Rows to be the examples of a prompt, as evenly over the labels as can be, in a random order.

    Args:
        labels: of the rows that may be chosen.
        shots: how many.
        seed: of the choice and of the order.

    Raises:
        InputError: there are not so many rows.

    Example:
        >>> sorted(np.array([0, 0, 0, 1, 1])[choose_shots([0, 0, 0, 1, 1], 4, seed=0)].tolist())
        [0, 0, 1, 1]
    """
    if shots < 0 or shots > len(labels):
        raise InputError(f"shots are from 0 to the {len(labels)} rows to choose from, but are {shots}")
    random = np.random.default_rng(seed)
    values = np.asarray(labels)
    queues = [random.permutation(np.flatnonzero(values == label)).tolist() for label in np.unique(values)]
    random.shuffle(queues)
    chosen: list[int] = []
    while len(chosen) < shots:
        for queue in queues:
            if queue and len(chosen) < shots:
                chosen.append(queue.pop())
    return [int(row) for row in random.permutation(np.asarray(chosen, np.int64))]


def few_shot_prompt(template: Template, row: Row, examples: Sequence[tuple[Row, str]] = ()) -> str:
    """An instruction, examples with their words, and the question about a row.

    Args:
        template: how each is written.
        row: what is asked about.
        examples: rows and the words of their labels, in order.

    Raises:
        InputError: a row lacks a field.

    Example:
        >>> few_shot_prompt(Template("{text} It was {label}", " "), {"text": "Dull."}, [({"text": "Fine."}, "good")])
        'Fine. It was good Dull. It was'
    """
    parts = [template.instruction] if template.instruction else []
    parts += [demonstration(template, shown, word) for shown, word in examples]
    return template.separator.join([*parts, question(template, row)])


def fitting(
    model: Model, template: Template, rows: Sequence[Row], examples: Sequence[tuple[Row, str]], *, budget: int
) -> int:
    """How many of the examples, from the last on, leave room for every row within a budget of tokens.

    The examples nearest the question are kept.

    Args:
        model: with its tokenizer.
        template: how each is written.
        rows: what is asked about.
        examples: rows and words, in order.
        budget: tokens of a prompt.

    Raises:
        InputError: a row is too long without any example.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> shown = [({"text": "Fine."}, "good")] * 9
        >>> fitting(model, Template("{text} It was {label}"), [{"text": "Dull."}], shown, budget=30)
        3
    """

    def length(count: int, row: Row) -> int:
        prompt = few_shot_prompt(template, row, examples[len(examples) - count :])
        return len(model.tokenizer(prompt)["input_ids"])

    longest = max(rows, key=lambda row: length(0, row))
    if length(0, longest) > budget:
        raise InputError(
            f"a row has {length(0, longest)} tokens without any example, but the prompt may have {budget}: shorten it"
        )
    count = len(examples)
    while length(count, longest) > budget:
        count -= 1
    return count


def worded(rows: Sequence[Row], labels: Sequence[str], words: Mapping[str, Sequence[str]]) -> list[tuple[Row, str]]:
    """Rows with the first word of their labels.

    Args:
        rows: examples.
        labels: of these.
        words: of the labels.

    Raises:
        InputError: a label without words.

    Example:
        >>> worded([{"text": "Fine."}], ["pos"], {"neg": ("bad",), "pos": ("good", "great")})
        [({'text': 'Fine.'}, 'good')]
    """
    if unknown := [label for label in labels if label not in words]:
        raise InputError(f"an example has the label {unknown[0]!r}, but the labels are {', '.join(map(repr, words))}")
    return [(row, words[label][0]) for row, label in zip(rows, labels, strict=True)]
