"""Windows hold the text they say, labels point at the answer, and answers are read back exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import Table, disflqa, eval_batches, gold_answers, span_answers, spans

CONTEXT = (
    "The Normans were the people who in the 10th and 11th centuries gave their name to Normandy, a region in France. "
    "They were descended from Norse raiders and pirates from Denmark, Iceland and Norway who swore fealty to King "
    "Charles III of West Francia."
)


def table(*answers, question="In what country is Normandy located?"):
    columns = {"question": [question] * len(answers), "context": [CONTEXT] * len(answers)}
    found = {"answers": [a for a, _ in answers], "answer_start": [s for _, s in answers]}
    return Table.of(columns | found)


def at(text):
    return (text,), (CONTEXT.index(text),)


def logits_at_labels(dataset):
    """Certain logits at each label; windows without the answer are certain of the first token."""
    logits = np.zeros((len(dataset), dataset.max_length, 2), np.float32)
    for window, (start, end) in enumerate(dataset.columns["labels"]):
        sure = 10 if start else 9
        logits[window, start, 0] = logits[window, end, 1] = sure
    return logits


@pytest.mark.parametrize(("max_length", "stride"), [(24, 8), (32, 0), (64, 16), (128, 32)])
def test_answers_come_back_from_their_labels(minilm_tokenizer, max_length, stride):
    texts = ("France", "10th and 11th centuries", "Denmark, Iceland and Norway", "Charles III", "The Normans")
    rows = table(*(at(text) for text in texts))
    dataset = spans(minilm_tokenizer, rows, max_length=max_length, stride=stride)
    labels = dataset.columns["labels"]
    found = labels[:, 0] > 0
    assert set(dataset.of_row[found]) == set(range(len(texts))) or stride == 0
    if stride:
        assert span_answers(dataset, logits_at_labels(dataset)) == list(texts)
    for window in np.flatnonzero(found):
        first, (start, end) = dataset.first[window], labels[window]
        characters = dataset.characters[window]
        piece = CONTEXT[characters[start - first, 0] : characters[end - first, 1]]
        assert piece == texts[dataset.of_row[window]]


def test_windows_cover_the_context_and_share_the_stride(minilm_tokenizer):
    dataset = spans(minilm_tokenizer, table(at("France")), max_length=32, stride=8)
    (batch,) = eval_batches(dataset, batch_size=len(dataset))
    inside = [row[mask == 1] for row, mask in zip(batch["input_ids"], batch["context_mask"], strict=True)]
    whole = minilm_tokenizer(CONTEXT, add_special_tokens=False)["input_ids"]
    joined = list(inside[0])
    for before, after in itertools.pairwise(inside):
        np.testing.assert_array_equal(before[-8:], after[:8])
        joined += list(after[8:])
    assert joined == whole
    assert batch["token_type_ids"][batch["context_mask"] == 1].all()
    assert (batch["attention_mask"].sum(1) <= 32).all()
    assert batch["labels"].shape == (len(dataset), 2)
    assert [len(characters) for characters in dataset.characters] == [len(ids) for ids in inside]


def test_real_questions_are_answered_by_their_labels(minilm_tokenizer):
    rows = disflqa().test.take(range(60))
    dataset = spans(minilm_tokenizer, rows, max_length=192, stride=64)
    answers = span_answers(dataset, logits_at_labels(dataset), max_answer_length=64)
    want = [answers[0] for answers in rows["answers"]]
    assert answers == want
    assert len(dataset) > 60


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_best_span_is_the_best_of_all(minilm_tokenizer, data):
    dataset = spans(minilm_tokenizer, table(at("France")), max_length=40, stride=10)
    seed, longest = data.draw(st.integers(0, 1000)), data.draw(st.integers(1, 6))
    logits = np.random.default_rng(seed).normal(size=(len(dataset), 40, 2)).astype(np.float32)
    best, want = -np.inf, ""
    for window in range(len(dataset)):
        first, characters = dataset.first[window], dataset.characters[window]
        for start in range(len(characters)):
            for end in range(start, min(start + longest, len(characters))):
                score = logits[window, first + start, 0] + logits[window, first + end, 1]
                if score > best:
                    best, want = score, CONTEXT[characters[start, 0] : characters[end, 1]]
    assert span_answers(dataset, logits, max_answer_length=longest) == [want]


def test_rows_without_an_answer_point_at_the_first_token(minilm_tokenizer):
    dataset = spans(minilm_tokenizer, table(at("France"), ((), ())), max_length=96, stride=16)
    assert dataset.columns["labels"][dataset.of_row == 1].tolist() == [[0, 0]]
    logits = logits_at_labels(dataset)
    assert span_answers(dataset, logits, null_threshold=0.0) == ["France", ""]
    assert span_answers(dataset, logits, null_threshold=18.5)[1] != ""


def test_a_table_without_answers_has_no_labels(minilm_tokenizer):
    rows = table(at("France")).drop("answers", "answer_start")
    dataset = spans(minilm_tokenizer, rows, max_length=64, stride=16)
    assert "labels" not in dataset.columns
    ragged = [np.zeros((length, 2)) for length in dataset.lengths]
    assert len(span_answers(dataset, ragged)) == 1


@pytest.mark.parametrize(
    "answers",
    [{"text": ["France"], "answer_start": [104]}, {"text": ("France", "France"), "answer_start": np.array([104, 104])}],
)
def test_answers_are_read_as_squad_writes_them(answers):
    assert CONTEXT.index("France") == 104
    rows = Table.of({"question": ["where?"], "context": [CONTEXT], "answers": [answers]})
    assert gold_answers(rows)[0][0] == ("France", 104)
    plain = Table.of({"context": [CONTEXT], "answers": ["France"], "answer_start": [104]})
    assert gold_answers(plain) == [[("France", 104)]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (("France",), (10,)),
            "answer 'France' to 'In what .*' does not stand at character 10 .* row 2 .*; there stands 's were'",
        ),
        ((("Spain",), (104,)), "there stands 'Franc'; it stands nowhere in it: give the words as"),
        ((("France",), (10**6,)), "there stands ''; it stands at 104"),
        ((("France",), ()), "each answer needs the character it starts at, but row 2"),
        ((("France",), (-1,)), "counted from 0, but row 2 of the table says -1"),
        ((("France",), ("x",)), "counted from 0, but row 2 of the table says 'x'"),
        ((("  ",), (3,)), "an answer is blank or no text in row 2"),
    ],
)
def test_answers_that_are_not_in_their_context_are_refused(minilm_tokenizer, answer, message):
    with pytest.raises(InputError, match=message):
        spans(minilm_tokenizer, table(at("France"), answer), max_length=64, stride=16)


def test_settings_without_room_are_refused(minilm_tokenizer):
    rows = table(at("France"))
    with pytest.raises(InputError, match="question in row 1 of the table has 7 tokens, so a window of 20 leaves 10"):
        spans(minilm_tokenizer, rows, max_length=20, stride=10)
    with pytest.raises(InputError, match="leaves 0 for the context"):
        spans(minilm_tokenizer, rows, max_length=8, stride=0)
    with pytest.raises(InputError, match="stride must be a whole number of tokens from 0 up, got -1"):
        spans(minilm_tokenizer, rows, max_length=20, stride=-1)
    with pytest.raises(InputError, match="max_length must be a whole number from 5 up"):
        spans(minilm_tokenizer, rows, max_length=4, stride=0)
    with pytest.raises(InputError, match="no column 'context'"):
        spans(minilm_tokenizer, rows.drop("context"), max_length=20, stride=0)
    with pytest.raises(InputError, match="is empty in row 1"):
        spans(minilm_tokenizer, table(at("France"), question=" "), max_length=20, stride=0)
    with pytest.raises(InputError, match="a span of characters needs a fast tokenizer"):
        spans(object(), rows, max_length=20, stride=0)


def test_logits_of_other_windows_are_refused(minilm_tokenizer):
    dataset = spans(minilm_tokenizer, table(at("France")), max_length=40, stride=10)
    with pytest.raises(InputError, match=f"logits of {len(dataset)} windows, one row each, got 1"):
        span_answers(dataset, np.zeros((1, 40, 2)))
    with pytest.raises(InputError, match="of window 1, at least 40 tokens, got"):
        span_answers(dataset, np.zeros((len(dataset), 39, 2)))
    with pytest.raises(InputError, match="the logits of window 1 are NaN"):
        span_answers(dataset, np.full((len(dataset), 40, 2), np.nan))
    with pytest.raises(InputError, match="max_answer_length must be a whole number from 1 up"):
        span_answers(dataset, np.zeros((len(dataset), 40, 2)), max_answer_length=0)


def test_no_answer_needs_no_place():
    table = Table.of({"question": ["who", "what"], "context": ["she ran", "he sat"], "answers": [[], ()]})
    assert gold_answers(table) == [[], []]


@pytest.mark.parametrize("text", [" France", "France ", "  France "])
def test_blanks_at_the_ends_of_an_answer_belong_to_no_token(minilm_tokenizer, text):
    context = "Normandy lies in   France  now"
    places = (context.index(text),), (context.index("France"),)
    columns = {"question": ["Where?"] * 2, "context": [context] * 2}
    rows = Table.of(columns | {"answers": [(text,), ("France",)], "answer_start": list(places)})
    labels = spans(minilm_tokenizer, rows, max_length=32, stride=4).columns["labels"]
    assert labels[0].any()
    np.testing.assert_array_equal(labels[0], labels[1])


def test_an_answer_that_no_window_holds_is_not_taught_as_unanswerable(minilm_tokenizer):
    long = CONTEXT[: CONTEXT.index("Normandy")].strip()
    rows = table(((long,), (0,)), at("France"), ((), ()))
    dataset = spans(minilm_tokenizer, rows, max_length=24, stride=4)
    labels, of_row = dataset.columns["labels"], dataset.of_row
    assert (labels[of_row == 0] == -100).all()
    assert dataset.truncated == 1
    assert (labels[of_row == 1] >= 0).all()
    assert (labels[of_row == 2] == 0).all()
