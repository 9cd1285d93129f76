"""Templates, verbalisers, examples within a budget, calibration by hand, and grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxft as ft
from jaxft.prompting import (
    Rows,
    Template,
    choose_shots,
    classify,
    compare_prompts,
    contextual_calibration,
    few_shot_prompt,
    fitting,
    nearest_neighbours,
    pointwise_mutual_information,
    probabilities,
    score,
    summarise,
)
from tests.prompting.decoders import decoder

TEMPLATE = Template("{text} it was {label}", separator=" / ")
WORDS = {"neg": ("bad", "dull"), "pos": ("good",)}
ROWS = [{"text": "old film ."}, {"text": "fine"}, {"text": "very great film"}]
EXAMPLES = [({"text": "dull film"}, "neg"), ({"text": "great"}, "pos")]


def test_a_prompt_as_it_is_read() -> None:
    shown = [(row, WORDS[label][0]) for row, label in EXAMPLES]
    prompt = few_shot_prompt(TEMPLATE._replace(instruction="film :"), ROWS[0], shown)
    assert prompt == "film : / dull film it was bad / great it was good / old film . it was"
    braces = Template("{{x}} {text}\n{label}")
    assert few_shot_prompt(braces, {"text": "{y}"}) == "{x} {y}\n"
    assert braces.fields == ("text",)


def test_scores_of_a_label_are_the_mean_over_its_words() -> None:
    model = decoder()
    found = classify(model, ROWS, WORDS, template=TEMPLATE, examples=EXAMPLES)
    shown = [(row, WORDS[label][0]) for row, label in EXAMPLES]
    prompts = [few_shot_prompt(TEMPLATE, row, shown) for row in ROWS]
    each = score(model, prompts, [" bad", " dull", " good"])
    expected = np.exp(np.stack([each[:, :2].mean(axis=1), each[:, 2]], axis=1))
    np.testing.assert_allclose(found.probabilities, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)
    assert (found.labels, found.shots) == (("neg", "pos"), 2)
    assert found.chosen == [found.labels[place] for place in expected.argmax(axis=1)]


def test_calibration_and_mutual_information() -> None:
    model = decoder()
    plain = classify(model, ROWS, WORDS, template=TEMPLATE, examples=EXAMPLES)
    free = classify(
        model, [{"text": text} for text in ("N/A", "", "[MASK]")], WORDS, template=TEMPLATE, examples=EXAMPLES
    )
    q = plain.probabilities / free.probabilities.mean(axis=0)
    found = classify(model, ROWS, WORDS, template=TEMPLATE, examples=EXAMPLES, method="calibrated")
    np.testing.assert_allclose(found.probabilities, q / q.sum(axis=1, keepdims=True), rtol=1e-6)
    nothing = classify(model, [{"text": ""}], WORDS, template=TEMPLATE)
    pmi = classify(model, ROWS, WORDS, template=TEMPLATE, examples=EXAMPLES, method="pmi").probabilities
    ratio = plain.probabilities / nothing.probabilities
    np.testing.assert_allclose(pmi, ratio / ratio.sum(axis=1, keepdims=True), rtol=1e-5)


def test_by_hand() -> None:
    p, free = np.array([[0.6, 0.3, 0.1]]), np.array([[0.5, 0.25, 0.25], [0.7, 0.15, 0.15]])
    q = np.array([0.6 / 0.6, 0.3 / 0.2, 0.1 / 0.2])
    np.testing.assert_allclose(contextual_calibration(p, free)[0], q / q.sum())
    np.testing.assert_allclose(probabilities(np.log(p) - 7), p)
    np.testing.assert_allclose(pointwise_mutual_information(np.log(p), np.log(free[0])), np.log(p / free[0]))


def test_neighbours_by_hand() -> None:
    rng = np.random.default_rng(0)
    anchors, queries = (rng.dirichlet(np.ones(5), size=n) for n in (7, 4))
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    for k in (1, 3, 7):
        found = nearest_neighbours(np.log(anchors), labels, np.log(queries), k=k)
        for query, label in zip(queries, found, strict=True):
            kl = [np.sum(p * np.log(p / query)) for p in anchors]
            near = labels[np.argsort(kl)[:k]].tolist()
            most = max(near.count(one) for one in near)
            assert label == next(one for one in near if near.count(one) == most)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 5))
def test_shots_are_even_different_and_of_the_seed(labels: list[int], shots: int, seed: int) -> None:
    shots = min(shots, len(labels))
    chosen = choose_shots(labels, shots, seed=seed)
    assert len(set(chosen)) == len(chosen) == shots
    assert chosen == choose_shots(labels, shots, seed=seed)
    counts = {label: [labels[row] for row in chosen].count(label) for label in labels}
    for label, count in counts.items():
        assert count == labels.count(label) or count >= max(counts.values()) - 1


def test_examples_within_a_budget() -> None:
    model = decoder()
    many = [({"text": "dull film"}, "bad")] * 9
    assert fitting(model, TEMPLATE, ROWS, many, budget=100) == 9
    assert fitting(model, TEMPLATE, ROWS, many, budget=5 + 6 * 2) == 2
    found = classify(model, ROWS, WORDS, template=TEMPLATE, examples=EXAMPLES * 9, budget=20)
    assert found.shots == 2
    expected = classify(model, ROWS, WORDS, template=TEMPLATE, examples=(EXAMPLES * 9)[-2:])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_a_grid_and_its_summary() -> None:
    model = decoder()
    test = Rows(ROWS, ["neg", "pos", "pos"])
    pool = Rows([row for row, _ in EXAMPLES] * 2, [label for _, label in EXAMPLES] * 2)
    found = compare_prompts(
        model,
        pool,
        test,
        WORDS,
        templates=[TEMPLATE, "{text} : {label}"],
        shots=(0, 1, 2),
        seeds=(0, 1),
        orders=2,
        methods=("plain", "calibrated"),
    )
    assert len(found) == 2 * 2 * (1 + 2 + 2 * 2)
    cell = next(row for row in found if (row["shots"], row["method"], row["template"]) == (0, "plain", 1))
    alone = classify(model, ROWS, WORDS, template="{text} : {label}")
    assert cell["accuracy"] == np.mean([a == b for a, b in zip(alone.chosen, test.labels, strict=True)])
    summary = summarise(found)
    assert [(row["method"], row["shots"], row["prompts"]) for row in summary] == [
        ("plain", 0, 2),
        ("calibrated", 0, 2),
        ("plain", 1, 4),
        ("calibrated", 1, 4),
        ("plain", 2, 8),
        ("calibrated", 2, 8),
    ]
    values = [row["accuracy"] for row in found if (row["method"], row["shots"]) == ("plain", 2)]
    expected = (np.mean(values), min(values), max(values), np.std(values, ddof=1))
    row = summary[4]
    np.testing.assert_allclose((row["mean"], row["low"], row["high"], row["std"]), expected)


def ask(**changes: Any) -> Any:
    return classify(decoder(), **({"rows": ROWS, "labels": WORDS, "template": TEMPLATE} | changes))


def grid(**changes: Any) -> Any:
    options = {"examples": Rows(ROWS, ["neg"] * 3), "test": Rows(ROWS, ["pos"] * 3), "templates": [TEMPLATE]} | changes
    return compare_prompts(decoder(), labels=WORDS, **options)


BAD: dict[str, tuple[Any, str]] = {
    "field": (lambda: ask(rows=[{"txt": "fine"}]), "needs the field 'text', but the row has 'txt'"),
    "no label": (lambda: ask(template="{text}"), "ends with {label}"),
    "label inside": (lambda: ask(template="{label} {text}"), "ends with {label}"),
    "braces": (lambda: ask(template="{text {label}"), "do not match|ends with"),
    "place": (lambda: ask(template="{0} {label}"), "names of columns"),
    "one label": (lambda: ask(labels=["good"]), "at least two, but there is good"),
    "a word": (lambda: ask(labels="good"), "a list or a map"),
    "empty word": (lambda: ask(labels={"a": " ", "b": "good"}), "label 'a' has no word"),
    "twice": (lambda: ask(labels={"a": "good", "b": "good"}), "'good' stands for two labels"),
    "example": (lambda: ask(examples=[(ROWS[0], "other")]), "has the label 'other'"),
    "method": (lambda: ask(method="best"), "one of plain, calibrated, pmi"),
    "no words": (lambda: ask(template="{text} {label}", method="calibrated"), "then nothing is left of"),
    "no words for pmi": (lambda: ask(template="{text} {label}", method="pmi", examples=EXAMPLES), "nothing is left"),
    "no rows": (lambda: ask(rows=[]), "nothing to label"),
    "too many": (lambda: ask(examples=EXAMPLES * 9), "18 examples do not fit the 40 positions .*; 6 do"),
    "no room": (lambda: ask(examples=EXAMPLES, budget=4), "without any example, but the prompt may have 4"),
    "calibration": (lambda: contextual_calibration(np.ones((1, 2)), np.ones((1, 3))), "same labels"),
    "zero": (lambda: contextual_calibration(np.ones((1, 2)), np.array([[1.0, 0.0]])), "label 2 has probability 0"),
    "k": (lambda: nearest_neighbours(np.ones((2, 3)), np.zeros(2), np.ones((1, 3)), k=3), "from 1 to the 2 anchors"),
    "neighbours": (lambda: nearest_neighbours(np.ones((2, 3)), np.zeros(3), np.ones((1, 3))), r"labels \[n\]"),
    "shots": (lambda: choose_shots([0, 1], 3, seed=0), "from 0 to the 2 rows"),
    "axis": (lambda: grid(shots=()), "shots has none"),
    "grid method": (lambda: grid(methods=("best",)), "is 'best'"),
    "grid label": (lambda: grid(test=Rows(ROWS, ["pos", "pos", "so"])), "row of test has the label 'so'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
