"""Tokens are the tokenizer's own, computed once; the cache is never stale and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import Table, check_max_length, eval_batches, pack, spans, tokenise

TEXTS = ("a good film", "a film with no end", "bad", "good good good good good good good good")
PAIRS = ("bad", "a", "good film with no end a good film", "end")


class Counted:
    """A tokenizer that counts its calls."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **changes):
        self.calls += 1
        return self._tokenizer(*args, **changes)


def flat(dataset):
    return dataset.columns["input_ids"].values


def expected(tokenizer, table, max_length):
    return tokenizer(
        list(table["text"]),
        text_pair=list(table["text_pair"]) if "text_pair" in table else None,
        truncation=True,
        max_length=max_length,
        padding="max_length",
        return_tensors="np",
    )


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("max_length", [4, 7, 20])
@pytest.mark.parametrize("columns", [{"text": TEXTS}, {"text": TEXTS, "text_pair": PAIRS}], ids=["text", "pair"])
def test_tokens_are_those_of_the_tokenizer(tokenizer, columns, max_length):
    table = Table.of(columns)
    batch = tokenise(tokenizer, table, max_length=max_length).rows(np.arange(len(table)))
    want = expected(tokenizer, table, max_length)
    np.testing.assert_array_equal(batch["input_ids"], want["input_ids"])
    np.testing.assert_array_equal(batch["attention_mask"], want["attention_mask"])
    assert ("token_type_ids" in batch) == ("text_pair" in table)
    if "text_pair" in table:
        np.testing.assert_array_equal(batch["token_type_ids"], want["token_type_ids"])
    assert all(array.dtype == np.int32 for array in batch.values())


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("max_length", "truncated"), [(20, 0), (10, 0), (9, 1), (6, 2), (3, 3)])
def test_truncation_is_counted(tokenizer, max_length, truncated):
    dataset = tokenise(tokenizer, Table.of({"text": TEXTS}), max_length=max_length)
    assert dataset.truncated == truncated
    assert max(dataset.lengths) <= max_length


def test_the_second_time_the_tokenizer_is_not_called(tokenizer, cache):
    counted = Counted(tokenizer)
    table = Table.of({"text": TEXTS})
    first = tokenise(counted, table, max_length=5)
    assert counted.calls > 0
    counted.calls = 0
    # What an earlier call left in the tokenizer does not change what it does.
    tokenizer(["a"], truncation=True, max_length=3, padding="max_length")
    second = tokenise(counted, table, max_length=5)
    assert counted.calls == 0
    assert second.truncated == first.truncated == 2
    np.testing.assert_array_equal(flat(second), flat(first))
    np.testing.assert_array_equal(second.lengths, first.lengths)
    assert len(list((cache / "tokens").iterdir())) == 1


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "change",
    ["max_length", "text", "boundary", "order", "pair", "tokenizer"],
)
def test_whatever_changes_the_tokens_is_computed_anew(tokenizer, changed_tokenizer, change):
    tokenise(tokenizer, Table.of({"text": TEXTS}), max_length=5)
    columns = {
        "text": {"text": ("a bad film", *TEXTS[1:])},
        "boundary": {"text": ("a good", " filma film with no end", *TEXTS[2:])},
        "order": {"text": TEXTS[::-1]},
        "pair": {"text": TEXTS, "text_pair": PAIRS},
    }.get(change, {"text": TEXTS})
    counted = Counted(changed_tokenizer if change == "tokenizer" else tokenizer)
    tokenise(counted, Table.of(columns), max_length=6 if change == "max_length" else 5)
    assert counted.calls > 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "foreign"])
def test_a_damaged_entry_is_made_anew(tokenizer, cache, damage):
    table = Table.of({"text": TEXTS})
    first = tokenise(tokenizer, table, max_length=5)
    (entry,) = (cache / "tokens").iterdir()
    content = bytearray(entry.read_bytes())
    place = content.find(flat(first).tobytes())
    content[place] ^= 0xFF
    damaged = {"truncated": content[:-40], "flipped": content, "emptied": b"", "foreign": b"\x93NUMPY and more"}
    entry.write_bytes(bytes(damaged[damage]))
    counted = Counted(tokenizer)
    again = tokenise(counted, table, max_length=5)
    assert counted.calls > 0
    np.testing.assert_array_equal(flat(again), flat(first))
    counted.calls = 0
    tokenise(counted, table, max_length=5)
    assert counted.calls == 0


def test_two_processes_write_the_cache_at_once(tokenizer, cache):
    script = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from conftest import make_tokenizer\n"
        "from jaxft.data import Table, tokenise\n"
        "table = Table.of({'text': [f'a good film {n}' for n in range(500)]})\n"
        "sys.stdin.readline()\n"
        "print(tokenise(make_tokenizer(), table, max_length=8).columns['input_ids'].values.sum())\n"
    )
    start = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(start, env=os.environ, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    counted = Counted(tokenizer)
    table = Table.of({"text": [f"a good film {n}" for n in range(500)]})
    assert str(flat(tokenise(counted, table, max_length=8)).sum()) == answers[0]
    assert counted.calls == 0
    assert len(list((cache / "tokens").iterdir())) == 1


@pytest.mark.usefixtures("cache")
def test_labels_are_added_as_they_are_given(tokenizer):
    table = Table.of({"text": TEXTS, "label": ["x"] * 4})
    assert "labels" not in tokenise(tokenizer, table, max_length=5).columns
    ids = tokenise(tokenizer, table, max_length=5, labels=np.arange(4))
    scores = tokenise(tokenizer, table, max_length=5, labels=[0.5, 1, 2, 3])
    assert ids.columns["labels"].dtype == np.int32
    assert scores.columns["labels"].dtype == np.float32
    with pytest.raises(InputError, match="finite numbers, but that of row 3 is nan"):
        tokenise(tokenizer, table, max_length=5, labels=[0.5, 1, float("nan"), 3])
    for wrong in (np.arange(3), ["a", "b", "c", "d"]):
        with pytest.raises(InputError, match="expected 4 numeric labels"):
            tokenise(tokenizer, table, max_length=5, labels=wrong)


@pytest.mark.usefixtures("cache")
def test_padding_uses_the_tokenizers_padding_token(tokenizer):
    (batch,) = eval_batches(tokenise(tokenizer, Table.of({"text": ["good"]}), max_length=6), batch_size=1)
    np.testing.assert_array_equal(batch["input_ids"], [[2, 5, 3, 0, 0, 0]])


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("texts", "message"),
    [((), "no rows"), (("good", " \n"), "'text' is empty in row 2"), (("good", 3), "'text' must be text, but row 2")],
)
def test_bad_texts_are_refused(tokenizer, texts, message):
    with pytest.raises(InputError, match=message):
        tokenise(tokenizer, Table.of({"text": texts}), max_length=6)


@pytest.mark.usefixtures("cache")
def test_a_row_without_tokens_is_refused():
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    silent = Tokenizer(models.WordLevel({"[UNK]": 0, "good": 1}, unk_token="[UNK]"))
    silent.normalizer = normalizers.Replace("-", "")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=silent)
    with pytest.raises(InputError, match="no token in row 2"):
        tokenise(tokenizer, Table.of({"text": ["good", "---"]}), max_length=6)


def test_lengths_beyond_the_model_or_too_short_are_refused(tokenizer, cache):
    check_max_length(512, max_positions=512)
    for wrong in (513, 0, -1):
        with pytest.raises(InputError, match=f"the model's 512 positions, got {wrong}"):
            check_max_length(wrong, max_positions=512)
    with pytest.raises(InputError, match="more than the 2 special tokens of a row, got 2"):
        tokenise(tokenizer, Table.of({"text": TEXTS}), max_length=2)
    assert not (cache / "tokens").exists()


def test_a_model_that_came_without_a_tokenizer_is_named():
    table = Table.of({"text": TEXTS, "question": TEXTS, "context": TEXTS})
    for prepare in (
        lambda: tokenise(None, table, max_length=8),
        lambda: pack(None, table, length=8),
        lambda: spans(None, table, max_length=8, stride=1),
    ):
        with pytest.raises(InputError, match=r"got None: .* put a tokenizer\.json beside its config\.json"):
            prepare()


@pytest.mark.parametrize("texts", [["a good film"], ("bad",), "bad"])
def test_texts_without_a_table_are_refused(tokenizer, texts):
    with pytest.raises(InputError, match=r"expects a table.*Table\.of"):
        tokenise(tokenizer, texts, max_length=8)
