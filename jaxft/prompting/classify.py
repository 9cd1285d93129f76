"""Labels of rows from a decoder that nobody trained for them: zero-shot, with examples, and calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxft.errors import InputError
from jaxft.prompting.calibration import (
    CONTENT_FREE,
    contextual_calibration,
    pointwise_mutual_information,
    probabilities,
)
from jaxft.prompting.scoring import check_decoder, score
from jaxft.prompting.shots import few_shot_prompt, fitting, worded
from jaxft.prompting.templates import Row, Template, Verbaliser, as_template, as_verbaliser, continuation
from jaxft.types import Model, Params

METHODS = ("plain", "calibrated", "pmi")


class Predicted(NamedTuple):
    """What a model says of rows.

    Attributes:
        labels: their names, in the order of the columns.
        probabilities: ``[rows, labels]``.
        shots: how many examples stood in the prompts.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    shots: int

    @property
    def chosen(self) -> list[str]:
        """The likeliest label of each row."""
        return [self.labels[place] for place in self.probabilities.argmax(axis=1)]


def classify(
    model: Model,
    rows: Sequence[Row],
    labels: Verbaliser | Sequence[str] | Mapping[str, str],
    *,
    template: Template | str,
    examples: Sequence[tuple[Row, str]] = (),
    method: str = "plain",
    reduce: str = "mean",
    budget: int | None = None,
    params: Params | None = None,
    batch_size: int = 8,
) -> Predicted:
    """Asks a decoder about rows, and takes the label whose words it finds likeliest.

    s(y) = mean over the words w of y of log p(w | prompt), of each word's tokens their mean or sum; p(y) = softmax s

    Args:
        model: of `load_model`, with task="lm" and its tokenizer.
        rows: what is asked about: maps from the fields of the template to texts.
        labels: label -> word or words that stand for it; or labels that are their own words.
        template: how a row is written, with ``{label}`` at its end.
        examples: rows and their labels, shown before each question in this order.
        method: "plain"; "calibrated" divides by the probabilities of prompts without content (Zhao et al.); "pmi" by
            those behind the template with empty fields, and no examples (Holtzman et al.).
        reduce: over the tokens of a word, "mean" or "sum".
        budget: tokens of a prompt: as many of the last examples are shown as fit every row. Without one all are, or it
            is an error that says how many would fit.
        params: bound to an adaptation; the model's own if None.
        batch_size: prompts that are read at once.

    Raises:
        InputError: no row, a row without a field, labels or a template that are none, examples that do not fit, or a
            model that continues no texts.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> rows = [{"text": "A wonderful film, I loved it."}, {"text": "Boring and awful."}]
        >>> words = {"neg": "bad", "pos": "good"}
        >>> classify(model, rows, words, template="{text} The film was {label}").chosen
        ['pos', 'neg']

    References:
        Schick and Schütze, "Exploiting Cloze Questions for Few-Shot Text Classification and Natural Language
        Inference", 2021 (templates and verbalisers). Brown et al., "Language Models are Few-Shot Learners", 2020.
    """
    shape, words = as_template(template), as_verbaliser(labels)
    check_decoder(model)
    if method not in METHODS:
        raise InputError(f"method is one of {', '.join(METHODS)}, but is {method!r}")
    if not len(rows):
        raise InputError("there is nothing to label: rows are empty")
    shown = worded([row for row, _ in examples], [label for _, label in examples], words)
    shown = _kept(model, shape, rows, shown, words, budget)

    def asked(those: Sequence[Row], before: Sequence[tuple[Row, str]]) -> np.ndarray:
        prompts = [few_shot_prompt(shape, row, before) for row in those]
        each = [continuation(shape, word) for of_label in words.values() for word in of_label]
        found = score(model, prompts, each, reduce=reduce, params=params, batch_size=batch_size)
        ends = np.cumsum([len(of_label) for of_label in words.values()])
        parts = np.split(found, ends[:-1], axis=1)
        return np.stack([part.mean(axis=1) for part in parts], axis=1)

    _check_words(shape, method, shown)
    scores = asked(rows, shown)
    if method == "pmi":
        nothing = dict.fromkeys(shape.fields, "")
        scores = pointwise_mutual_information(scores, asked([nothing], ())[0])
    found = probabilities(scores)
    if method == "calibrated":
        free = [dict.fromkeys(shape.fields, text) for text in CONTENT_FREE]
        found = contextual_calibration(found, probabilities(asked(free, shown)))
    return Predicted(tuple(words), found, len(shown))


def _check_words(template: Template, method: str, shown: Sequence[tuple[Row, str]]) -> None:
    """Prompts without content need words of the template's own, or examples that stand before them."""
    empty = few_shot_prompt(template, dict.fromkeys(template.fields, ""), () if method == "pmi" else shown)
    if method != "plain" and not empty.strip():
        raise InputError(
            f"{method} asks with empty fields, but then nothing is left of {template.text!r}: give the template words "
            "of its own, such as '{text} It was {label}', or an instruction"
        )


def _kept(
    model: Model,
    template: Template,
    rows: Sequence[Row],
    shown: list[tuple[Row, str]],
    words: Mapping[str, Sequence[str]],
    budget: int | None,
) -> list[tuple[Row, str]]:
    """The examples that are shown."""
    if not shown:
        return shown
    each = [continuation(template, word) for of_label in words.values() for word in of_label]
    longest = max(len(ids) for ids in model.tokenizer(each, add_special_tokens=False)["input_ids"])
    room = model.config.max_positions - longest
    count = fitting(model, template, rows, shown, budget=room if budget is None else min(budget, room))
    if count < len(shown) and budget is None:
        raise InputError(
            f"{len(shown)} examples do not fit the {model.config.max_positions} positions of the model with every row; "
            f"{count} do: show fewer, or give a budget to keep those nearest the question"
        )
    return shown[len(shown) - count :]
