"""Language models, chat and sequences: runs whose models write, and `jaxft generate`."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import shutil

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from jaxft.cli.rebuild import load_run
from jaxft.models import load_model
from jaxft.train import load_adapter
from tests.cli.conftest import PLAIN, SPECIAL, WORDS, word_tokenizer, write_weights
from tests.cli.test_bad_input import check_refusal
from tests.cli.test_text_tasks import evaluated, history, write_jsonl

TEMPLATE = (
    "{% for message in messages %}{{ 'the ' if message.role == 'user' else 'a ' }}{{ message.content }} [SEP] "
    "{% endfor %}{% if add_generation_prompt %}{{ 'a ' }}{% endif %}"
)


def save_tokenizer(directory, **options):
    PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]", **options
    ).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "llama"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    more = {"intermediate_size": 32, "max_position_embeddings": 48, "vocab_size": len(SPECIAL + WORDS)}
    write_weights(directory, {"model_type": "llama", "eos_token_id": 3, **sizes, **more}, "lm")
    return save_tokenizer(directory, chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "t5"
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2, "vocab_size": len(SPECIAL + WORDS)}
    tokens = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
    write_weights(directory, {"model_type": "t5", "dropout_rate": 0.0, **sizes, **tokens}, "seq2seq")
    return save_tokenizer(directory)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Texts that say the same few words in turn."""
    path = tmp_path_factory.mktemp("documents") / "texts.txt"
    rng = random.Random(0)
    path.write_text("\n\n".join(" ".join(["the film was fine"] * rng.randint(1, 4)) for _ in range(40)) + "\n")
    return path


@pytest.fixture(scope="module")
def language_run(finetune_words, decoder, documents, tmp_path_factory):
    from jaxft.cli import main

    out = tmp_path_factory.mktemp("runs") / "lm"
    words = finetune_words(out, task="lm", model=decoder, train=documents, eval=documents, max_length=24, epochs=12)
    assert main(words) == 0
    return out


def test_texts_are_learned_and_the_smallest_perplexity_predicts(language_run, jaxft, documents, tmp_path):
    figures = evaluated(jaxft, language_run, documents)
    found = history(language_run, "perplexity")
    assert figures["step"] == min(found, key=lambda step: (found[step], step))
    assert figures["perplexity"] == pytest.approx(min(found.values()))
    assert figures["perplexity"] < 6 < len(WORDS)
    out = tmp_path / "p.csv"
    assert jaxft("predict", "--run", language_run, "--data", documents, "--out", out).code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == documents.read_text().strip().split("\n\n")
    counted = sum(int(row["tokens"]) for row in rows)
    mean = sum(math.log(float(row["perplexity"])) * int(row["tokens"]) for row in rows) / counted
    assert mean == pytest.approx(figures["loss"], abs=1e-4)


def test_a_run_announces_how_full_its_rows_are(jaxft, finetune_words, decoder, documents, tmp_path):
    words = finetune_words(
        tmp_path / "run", task="lm", model=decoder, train=documents, eval=None, max_length=24, method="top", epochs=1
    )
    ended = jaxft(*[word for word in words if word != "--quiet"])
    assert ended.code == 0, ended.err
    assert re.match(r"packed into \d+ rows of 24 tokens, [89]\d\.\d% of them filled\n", ended.out)
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_run_continues_what_it_learned(language_run, jaxft, decoder, tmp_path):
    words = ("generate", "--run", language_run, "--max-new-tokens", "3", "--prompt")
    ended = jaxft(*words, "the film", "the film was fine the")
    assert (ended.code, ended.out) == (0, "was fine the\n\nfilm was fine\n"), ended
    assert jaxft(*words, "the film", "--stop", " fine").out == "was\n"
    adapter = jaxft(*words, "the film", "--run", language_run / "adapter", "--model", decoder)
    assert (adapter.code, adapter.out) == (0, "was fine the\n"), adapter
    assert jaxft("export", "--run", language_run, "--format", "merged", "--out", tmp_path / "merged").code == 0
    merged = jaxft("generate", "--model", tmp_path / "merged", "--prompt", "the film", "--max-new-tokens", "3")
    assert merged.out == "was fine the\n"


def test_drawn_texts_depend_on_the_seed_alone(jaxft, decoder, tmp_path):
    prompts, found = tmp_path / "p.txt", {}
    prompts.write_text("the film\n\na plot was\n")
    for seed in (0, 0, 1):
        out = tmp_path / f"{seed}{len(found)}.jsonl"
        words = ("generate", "--model", decoder, "--data", prompts, "--temperature", 1, "--top-k", 9, "--top-p", 0.9)
        ended = jaxft(*words, "--max-new-tokens", 12, "--seed", seed, "--out", out)
        assert (ended.code, ended.out) == (0, f"2 texts in {out}\n"), ended
        found[out.name] = [json.loads(line) for line in out.read_text().splitlines()]
    (first, same, other) = found.values()
    assert first == same != other
    assert [row["prompt"] for row in first] == ["the film", "a plot was"]


def test_completions_are_learned_after_their_prompts(jaxft, finetune_words, decoder, tmp_path):
    rng = random.Random(0)
    rows = [{"prompt": rng.choice(PLAIN[:4]), "completion": "very fine"} for _ in range(32)]
    table, run, out = write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "run", tmp_path / "p.jsonl"
    words = finetune_words(
        run, task="lm", model=decoder, train=table, eval=table, max_length=24, method="full", epochs=20
    )
    assert jaxft(*words).code == 0
    assert evaluated(jaxft, run, table)["perplexity"] < 1.5, "prompts are random and must not count"
    assert jaxft("predict", "--run", run, "--data", table, "--out", out).code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["prompt"], line["completion"]) for line in lines] == [tuple(row.values()) for row in rows]
    assert {line["tokens"] for line in lines} == {3}, "two words and the end"
    lame = write_jsonl(tmp_path / "lame.jsonl", [{"prompt": "film"}])
    check_refusal(jaxft("predict", "--run", run, "--data", lame, "--out", out), "no column 'completion'")


def test_replies_are_learned(jaxft, finetune_words, decoder, tmp_path):
    rng = random.Random(0)
    rows = [
        {
            "messages": [
                {"role": "user", "content": rng.choice(PLAIN[:4])},
                {"role": "assistant", "content": "very fine"},
            ]
        }
        for _ in range(32)
    ]
    chats, run, out = write_jsonl(tmp_path / "chat.jsonl", rows), tmp_path / "run", tmp_path / "p.jsonl"
    words = finetune_words(
        run, task="chat", model=decoder, train=chats, eval=chats, max_length=24, method="full", epochs=8
    )
    assert jaxft(*words).code == 0
    assert evaluated(jaxft, run, chats)["perplexity"] < 1.5
    ended = jaxft("predict", "--run", run, "--data", chats, "--out", out)
    assert ended.code == 0, ended.err
    replies = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["reply"] for row in replies} == {"very fine"}
    assert [row["messages"] for row in replies] == [row["messages"][:1] for row in rows]
    assert jaxft("generate", "--run", run, "--prompt", "film", "--max-new-tokens", "8").out == "very fine\n"
    alone = write_jsonl(tmp_path / "alone.jsonl", [{"messages": rows[0]["messages"][1:]}])
    check_refusal(jaxft("predict", "--run", run, "--data", alone, "--out", out), "nothing to reply to in row 1")

    # A prompt that nearly fills the model shortens no other reply, and one that fills it is named.
    long, endless = ({"messages": [{"role": "user", "content": " ".join(["film"] * many)}]} for many in (42, 60))
    mixed = write_jsonl(tmp_path / "mixed.jsonl", [long, rows[0]])
    assert jaxft("predict", "--run", run, "--data", mixed, "--out", out).code == 0
    assert json.loads(out.read_text().splitlines()[1])["reply"] == "very fine"
    mixed = write_jsonl(tmp_path / "mixed.jsonl", [rows[0], endless])
    ended = jaxft("predict", "--run", run, "--data", mixed, "--out", out)
    check_refusal(ended, "row 2", "63 tokens, which leave no room for a reply in the 48 positions")


def test_sequences_are_written(jaxft, finetune_words, pair, tmp_path):
    rng = random.Random(0)
    train, run, out = tmp_path / "train.csv", tmp_path / "run", tmp_path / "p.csv"
    rows = [(word, f"very {word}") for word in rng.choices(PLAIN[:4], k=48)]
    train.write_text("text,target\n" + "".join(f"{text},{target}\n" for text, target in rows))
    words = finetune_words(
        run, task="seq2seq", model=pair, train=train, eval=train, max_target_length=5, method="full", epochs=10
    )
    ended = jaxft(*words, "--generate-rows", "8")
    assert ended.code == 0, ended.err
    figures = evaluated(jaxft, run, train)
    assert figures["perplexity"] == pytest.approx(min(history(run, "perplexity").values()))
    assert figures["rouge1"] > 0.5
    assert "ROUGE-L" in (run / "report.md").read_text()
    assert jaxft("predict", "--run", run, "--data", train, "--out", out).code == 0
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == [text for text, _ in rows]
    right = np.mean([row["generated"] == target for row, (_, target) in zip(found, rows, strict=True)])
    assert right > 0.5
    one = jaxft("generate", "--run", run, "--prompt", rows[0][0])
    assert one.out == found[0]["generated"] + "\n"
    ended = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert "tokens that differ" in ended.out, ended
    assert load_model(tmp_path / "merged", task="seq2seq").config.family == "t5"


@pytest.mark.parametrize(("method", "paths"), [("lora", "attention"), ("top", "decoder/layer_1")])
def test_what_learns_in_a_pair(method, paths, jaxft, finetune_words, pair, tmp_path):
    from jaxft.trees import leaf_paths

    table = tmp_path / "train.csv"
    table.write_text("text,target\nfilm,very film\n")
    extra = {"layers": 1} if method == "top" else {}
    run = tmp_path / "run"
    words = finetune_words(run, task="seq2seq", model=pair, train=table, eval=None, method=method, epochs=1, **extra)
    assert jaxft(*words).code == 0
    learned = leaf_paths(load_run(run).state.delta)
    assert learned
    assert all(paths in path or path.startswith("decoder/norm") for path in learned)
    if method == "lora":
        base = load_model(pair, task="seq2seq")
        assert load_adapter(run / "adapter", base.params, config=base.config)


REFUSED = {
    "the head of a decoder": ({"task": "lm", "method": "head"}, "--method head trains a fresh head"),
    "a pair to continue": ({"task": "seq2seq"}, "llama models are loaded for"),
    "a text to classify images by": (
        {"task": "images", "max_length": None},
        "reads texts, but --task images is about images",
    ),
    "texts for a chat": ({"task": "chat"}, "no column 'messages'"),
}


@pytest.mark.parametrize(("changes", "part"), REFUSED.values(), ids=REFUSED)
def test_what_a_decoder_is_not_for(changes, part, jaxft, finetune_words, decoder, inputs, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("text,target,image,label\nfilm,film,a.png,a\nfilm,film,a.png,b\n")
    (tmp_path / "a.png").write_bytes(b"")
    check_refusal(jaxft(*finetune_words(tmp_path / "run", model=decoder, train=table, eval=None, **changes)), part)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_generated(run, jaxft, decoder, inputs, tmp_path):
    words = ("generate", "--model", decoder)
    for options, part in (
        ((), "either --prompt"),
        (("--prompt", "a", "--data", inputs.eval), "either --prompt"),
        (("--prompt", " "), "--prompt needs a text"),
        (("--prompt", "a", "--stop", ""), "--stop needs a text"),
        (("--prompt", "a", "--top-k", "3"), "set a temperature above 0"),
        (("--prompt", "a", "--max-new-tokens", "99"), "the model has 48 positions"),
        (("--prompt", "a", "--out", tmp_path / "t.txt"), "does not end in .csv or .jsonl"),
        (("--prompt", "a", "--seed", "-1"), "--seed must be from 0"),
        (("--data", inputs.eval, "--chat"), "no column 'messages'"),
    ):
        check_refusal(jaxft(*words, *options), part)
    check_refusal(jaxft("generate", "--model", inputs.model, "--prompt", "a"), "is a bert model, which writes no text")
    check_refusal(jaxft("generate", "--run", run, "--prompt", "a"), "says --task classify, which writes no text")
    check_refusal(jaxft("generate", "--prompt", "a"), "name what writes")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    check_refusal(jaxft(*words, "--data", empty), "is empty")
    long = tmp_path / "long.txt"
    long.write_text("the film\n\n" + "the film " * 30)
    ended = jaxft(*words, "--data", long, "--max-new-tokens", 4)
    check_refusal(ended, f"row 2 of {long}: the prompt has 60 tokens and 4 more")


def test_a_damaged_gguf(jaxft, finetune_words, documents, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.gguf").write_bytes(b"GGUF" + bytes(40))
    words = finetune_words(tmp_path / "run", task="lm", model=tmp_path / "model", train=documents, eval=None)
    check_refusal(jaxft(*words), "model.gguf is damaged, truncated or no GGUF file")
    check_refusal(jaxft("generate", "--model", tmp_path / "model", "--prompt", "a"), "is damaged, truncated")


def test_a_vocabulary_larger_than_the_embedding(jaxft, decoder, tmp_path):
    large = tmp_path / "large"
    shutil.copytree(decoder, large)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(large)
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(large)
    ended = jaxft("generate", "--model", large, "--prompt", "a")
    check_refusal(ended, f"has {len(SPECIAL + WORDS) + 1} tokens but the model embeds {len(SPECIAL + WORDS)}")


def test_a_stop_that_is_a_token_ends_the_writing(decoder, jaxft, monkeypatch):
    from jaxft import generation

    asked = []
    complete = generation.complete
    monkeypatch.setattr(
        generation,
        "complete",
        lambda *args, **options: asked.append(options["stop_tokens"]) or complete(*args, **options),
    )
    words = ("generate", "--model", decoder, "--prompt", "the film", "--max-new-tokens", "3")
    assert jaxft(*words, "--stop", "fine", "the film").code == 0
    assert asked == [(3, word_tokenizer().token_to_id("fine"))], "the end of text, and one of the two"
