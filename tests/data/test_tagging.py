"""A tag on the first piece of its word, and read back from there."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from jaxft import InputError
from jaxft.data import Table, Vocabulary, batches, tag, tag_vocabulary, word_tags

WORDS = (["Wolfgang", "lives", "in", "Massachusetts"], ["unaffable", "people", "of", "Zanzibar", "."])
TAGS = (["PER", "O", "O", "LOC"], ["O", "O", "O", "LOC", "O"])
NAMES = Vocabulary(("LOC", "O", "PER"))


def table(words=WORDS, tags=TAGS):
    return Table.of({"words": words, "tags": tags})


def test_labels_stand_on_first_pieces(minilm_tokenizer):
    names = tag_vocabulary(table())
    assert names == NAMES
    dataset = tag(minilm_tokenizer, table(), max_length=32, labels=names)
    batch = dataset.rows(np.arange(2))
    want = minilm_tokenizer([" ".join(row) for row in WORDS], padding="max_length", max_length=32, return_tensors="np")
    np.testing.assert_array_equal(batch["input_ids"], want["input_ids"])
    np.testing.assert_array_equal(batch["attention_mask"], want["attention_mask"])
    for row in range(2):
        counted = batch["labels"][row] != -100
        assert [NAMES.names[i] for i in batch["labels"][row][counted]] == TAGS[row]
        pieces = minilm_tokenizer.convert_ids_to_tokens(batch["input_ids"][row])
        heads = [not piece.startswith(("##", "[")) for piece in pieces]
        np.testing.assert_array_equal(counted, heads)
    assert any(piece.startswith("##") for piece in pieces)
    assert word_tags(dataset, np.where(batch["labels"] < 0, 1, batch["labels"]), names) == list(TAGS)
    assert word_tags(dataset, np.eye(3)[batch["labels"].clip(0)], names) == list(TAGS)


@pytest.mark.parametrize("prefix", [False, True])
def test_byte_level_tokenizers_see_the_blanks_between_words(prefix):
    bytes_of = Tokenizer(models.BPE({byte: i for i, byte in enumerate(sorted(ByteLevel.alphabet()))}, []))
    bytes_of.pre_tokenizer = ByteLevel(add_prefix_space=prefix)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_of)
    dataset = tag(tokenizer, table([["he", "ran"]], [["O", "LOC"]]), max_length=8, labels=NAMES)
    assert dataset.columns["input_ids"].values.tolist() == tokenizer("he ran")["input_ids"]
    assert dataset.starts[0].tolist() == [0, 2 + prefix]


def test_words_that_are_cut_off_have_no_tag(minilm_tokenizer):
    dataset = tag(minilm_tokenizer, table(), max_length=6, labels=NAMES)
    assert dataset.truncated == 1
    found = word_tags(dataset, np.full((2, 6), 1), NAMES)
    assert [len(row) for row in found] == [4, 5]
    assert found[1][-1] is None
    assert found[1][0] == "O"
    assert dataset.lengths.max() <= 6


def test_without_labels_words_still_have_places(minilm_tokenizer):
    dataset = tag(minilm_tokenizer, table().drop("tags"), max_length=16, labels=None)
    assert set(dataset.columns) == {"input_ids"}
    assert word_tags(dataset, np.zeros((2, 16), int), NAMES) == [["LOC"] * 4, ["LOC"] * 5]


def test_rows_that_fill_a_batch_do_not_count(minilm_tokenizer):
    batch = batches(tag(minilm_tokenizer, table(), max_length=32, labels=NAMES), batch_size=3, seed=0)[0]
    assert (batch["labels"][~batch["mask"]] == -100).all()
    assert (batch["labels"][batch["mask"]] >= 0).any()


def test_a_word_without_pieces_has_no_label(minilm_tokenizer):
    dataset = tag(
        minilm_tokenizer, table([["good", "\u200b", "film"]], [["O", "PER", "O"]]), max_length=8, labels=NAMES
    )
    assert dataset.columns["labels"].values.tolist() == [-100, 1, 1, -100]
    assert word_tags(dataset, np.ones((1, 8), int), NAMES) == [["O", None, "O"]]


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (WORDS, (TAGS[0], TAGS[1][:-1]), "row 2 of the table has 5 words but 4 tags"),
        (WORDS, (TAGS[0], None), "'tags' must be a list, one a word, but row 2"),
        (WORDS, (TAGS[0], "LOC"), "'tags' must be a list, one a word, but row 2"),
        (WORDS, (TAGS[0], ["O", "O", "O", "LOK", "O"]), r"tag 'LOK' in row 2 .* is unknown \(nearest: LOC"),
        ((WORDS[0], "a film"), TAGS, "'words' must be a list of texts, but row 2"),
        ((WORDS[0], ["a", 3]), TAGS, "'words' must be a list of texts, but row 2"),
        ((WORDS[0], []), (TAGS[0], []), "'words' is empty or has a blank word in row 2"),
        ((WORDS[0], ["a", " "]), (TAGS[0], ["O", "O"]), "'words' is empty or has a blank word in row 2"),
        ((["\u200b"],), (["O"],), "finds no token in the words of row 1"),
        ((), (), "but no rows"),
    ],
)
def test_rows_that_cannot_be_are_refused(minilm_tokenizer, words, tags, message):
    with pytest.raises(InputError, match=message):
        tag(minilm_tokenizer, table(words, tags), max_length=16, labels=NAMES)


def test_settings_and_predictions_that_cannot_be_are_refused(minilm_tokenizer):
    with pytest.raises(InputError, match="max_length must be a whole number from 3 up"):
        tag(minilm_tokenizer, table(), max_length=2, labels=NAMES)
    with pytest.raises(InputError, match="needs a fast tokenizer"):
        tag(object(), table(), max_length=8, labels=NAMES)
    with pytest.raises(InputError, match="a tagger needs two"):
        tag_vocabulary(table([["a"]], [["O"]]))
    dataset = tag(minilm_tokenizer, table(), max_length=32, labels=NAMES)
    with pytest.raises(InputError, match="predictions of 2 rows, got 1"):
        word_tags(dataset, np.zeros((1, 32), int), NAMES)
    with pytest.raises(InputError, match=r"row 1 are \[3\], too short"):
        word_tags(dataset, np.zeros((2, 3), int), NAMES)
    with pytest.raises(InputError, match="predicted to have tag 3, but there are 3"):
        word_tags(dataset, np.full((2, 32), 3), NAMES)
