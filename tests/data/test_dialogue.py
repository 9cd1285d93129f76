"""Replies and their ends are learned, nothing else; conversations are cut by whole turns."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import Table, dialogue, eval_batches, fill_rate, prompts

TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
TALK = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Héllo 🎬!"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "\n Bye"},
]


def make_chat_tokenizer(template=TEMPLATE):
    """Bytes with a few merges, among them one that could join a prompt's line break and a reply's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate([*letters, "ĊĊ", "He", "re"])}
    words = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ"), ("H", "e"), ("r", "e")]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens([AddedToken(name, special=True) for name in ("<|start|>", "<|end|>", "<|pad|>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def chat():
    return make_chat_tokenizer()


def learned(tokenizer, dataset):
    """The text of the tokens that are labels, and of all tokens, row by row."""
    (batch,) = eval_batches(dataset, batch_size=len(dataset))
    rows = []
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        counted = np.flatnonzero(labels != -100)
        np.testing.assert_array_equal(labels[counted], ids[counted + 1])
        rows.append((tokenizer.decode(labels[counted]), tokenizer.decode(ids[mask == 1])))
    return rows


def test_replies_and_their_ends_are_learned(chat):
    dataset = dialogue(chat, [TALK, TALK[:2]], max_length=200)
    whole = chat.apply_chat_template(TALK, tokenize=False)
    assert learned(chat, dataset) == [
        # The line breaks before " Bye" are one token, half of it the prompt's.
        ("Héllo 🎬!<|end|> Bye<|end|>", whole.rstrip("\n")),
        ("Héllo 🎬!<|end|>", chat.apply_chat_template(TALK[:2], tokenize=False).rstrip("\n")),
    ]
    assert dataset.truncated == 0
    want = chat(whole, add_special_tokens=False)["input_ids"][:-1]
    assert dataset.columns["input_ids"].rows(np.array([0]), len(want)).tolist() == [want]


def test_what_follows_the_last_reply_is_left_out(chat):
    longer = dialogue(chat, [[*TALK, {"role": "user", "content": "more"}]], max_length=200)
    np.testing.assert_array_equal(
        longer.columns["input_ids"].values, dialogue(chat, [TALK], max_length=200).columns["input_ids"].values
    )


def test_a_system_message_is_added_where_there_is_none(chat):
    own = [{"role": "system", "content": "Mine"}, *TALK[:2]]
    rows = learned(chat, dialogue(chat, [TALK[:2], own], max_length=200, system="Be brief"))
    assert rows[0][1].startswith("<|start|>system\nBe brief<|end|>\n<|start|>user\nHi there")
    assert rows[1][1].startswith("<|start|>system\nMine<|end|>\n<|start|>user\nHi there")
    assert {row[0] for row in rows} == {"Héllo 🎬!<|end|>"}


def test_long_conversations_lose_their_oldest_turns(chat):
    talk = [{"role": "system", "content": "S"}]
    for number in range(6):
        talk += [{"role": "user", "content": f"u{number}"}, {"role": "assistant", "content": f"a{number}"}]
    dataset = dialogue(chat, [talk], max_length=80)
    ((replies, text),) = learned(chat, dataset)
    assert dataset.truncated == 1
    assert dataset.lengths[0] <= 80
    assert text.startswith("<|start|>system\nS<|end|>\n<|start|>user\nu")
    assert replies.endswith("a4<|end|>a5<|end|>")
    first = int(text.split("user\nu")[1][0])
    assert replies == "".join(f"a{number}<|end|>" for number in range(first, 6))
    # One turn more would not have fitted.
    assert (
        len(dialogue(chat, [talk[:1] + talk[1 + 2 * (first - 1) :]], max_length=500).columns["input_ids"].values) > 80
    )


def test_the_last_reply_stays_even_when_its_prompt_is_too_long(chat):
    talk = [{"role": "user", "content": "x" * 50}, {"role": "assistant", "content": "abcdef"}]
    ((replies, text),) = learned(chat, dialogue(chat, [talk], max_length=12))
    assert replies == "abcdef<|end|>"
    assert text.endswith("abcdef<|end|>")
    ((replies, text),) = learned(chat, dialogue(chat, [talk], max_length=5))
    assert (replies, text) == ("abcd", "\nabcd")


def test_conversations_are_packed_without_crossing(chat):
    dataset = dialogue(chat, [TALK[:2]] * 10, max_length=50, length=80)
    assert fill_rate(dataset) > 0.9
    assert len(dataset) < 10
    (batch,) = eval_batches(dataset, batch_size=len(dataset))
    assert batch["input_ids"].shape[1] == 80
    alone = dialogue(chat, [TALK[:2]], max_length=50)
    for row in range(len(dataset)):
        for segment in range(1, batch["segment_ids"][row].max() + 1):
            inside = batch["segment_ids"][row] == segment
            for name in ("input_ids", "labels"):
                np.testing.assert_array_equal(batch[name][row][inside], alone.columns[name].values)


def test_tables_of_messages_are_read(chat):
    table = Table.of({"messages": [TALK], "id": [1]})
    assert len(dialogue(chat, table, max_length=100)) == 1


def test_a_template_that_changes_earlier_turns_is_refused():
    forgetful = TEMPLATE.replace("m['content']", "(m['content'] if loop.last else '…')")
    with pytest.raises(InputError, match=r"changes earlier turns when message 2 .* in row 1 .*; use a template"):
        dialogue(make_chat_tokenizer(forgetful), [TALK], max_length=100)
    strict = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="template refuses the conversation in row 1 of the table: roles must alter"):
        dialogue(make_chat_tokenizer(strict), [TALK], max_length=100)
    with pytest.raises(InputError, match="no chat template"):
        dialogue(make_chat_tokenizer(None), [TALK], max_length=100)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([{"role": "user"}], r"message 1 in row 2 .* is \{'role': 'user'\}"),
        (["hello"], "message 1 in row 2 of the table is hello"),
        ("hello", "message 1 in row 2 of the table is hello"),
        ([{"role": "user", "content": None}], "both texts, but message 1"),
        (TALK[:1], "conversation in row 2 of the table has no reply"),
        ([], "has no reply"),
        (TALK[1:], "begins with a reply"),
        ([{"role": "system", "content": "S"}, *TALK[1:]], "begins with a reply"),
    ],
)
def test_conversations_that_cannot_be_are_refused(chat, talk, message):
    with pytest.raises(InputError, match=message):
        dialogue(chat, [TALK, talk], max_length=100)


def test_lengths_without_room_are_refused(chat):
    with pytest.raises(InputError, match="max_length must be a whole number from 2 up"):
        dialogue(chat, [TALK], max_length=1)
    with pytest.raises(InputError, match="length must be a whole number from 100 up to hold rows of max_length 100"):
        dialogue(chat, [TALK], max_length=100, length=99)
    with pytest.raises(InputError, match="has no conversation"):
        dialogue(chat, [], max_length=10)


def test_completions_are_learned_and_prompts_are_not(chat):
    table = Table.of({"prompt": ["Here: ", "x"], "completion": ["yes", "a longer one"]})
    dataset = prompts(chat, table, max_length=40)
    assert learned(chat, dataset) == [
        ("yes<|end|>", "Here: yes<|end|>"),
        ("a longer one<|end|>", "xa longer one<|end|>"),
    ]
    spaced = prompts(chat, table, max_length=40, separator="\n")
    assert learned(chat, spaced)[0] == ("\nyes<|end|>", "Here: \nyes<|end|>")
    assert set(prompts(chat, table, max_length=40, length=60).columns["segment_ids"].values) == {1, 2}


def test_long_prompts_lose_their_beginning_and_long_completions_their_end(chat):
    table = Table.of({"prompt": ["abcdefgh"], "completion": ["xyz"]})
    assert learned(chat, prompts(chat, table, max_length=6)) == [("xyz<|end|>", "ghxyz<|end|>")]
    dataset = prompts(chat, table, max_length=3)
    assert learned(chat, dataset) == [("xy", "hxy")]
    assert dataset.truncated == 1


def test_prompts_that_cannot_be_are_refused(chat):
    with pytest.raises(InputError, match="no column 'completion'"):
        prompts(chat, Table.of({"prompt": ["a"]}), max_length=8)
    with pytest.raises(InputError, match="is empty in row 1"):
        prompts(chat, Table.of({"prompt": ["a"], "completion": [" "]}), max_length=8)
