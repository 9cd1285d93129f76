"""``jaxft prompt``: a table of accuracies, a file of prompts, and what a person can get wrong."""

from __future__ import annotations

import csv

import pytest
from transformers import PreTrainedTokenizerFast

from jaxft.cli.app import main
from tests.cli.conftest import SPECIAL, WORDS, word_tokenizer, write_weights

TEMPLATE = "{text} was {label}"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("decoder") / "model"
    raw = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "vocab_size": len(SPECIAL) + len(WORDS),
        "tie_word_embeddings": True,
    }
    write_weights(directory, raw, "lm")
    PreTrainedTokenizerFast(tokenizer_object=word_tokenizer(), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        directory
    )
    return directory


def call(decoder, data, *words):
    return main(["prompt", "--model", str(decoder), "--data", str(data), "--template", TEMPLATE, *map(str, words)])


def test_a_table_and_a_file(decoder, inputs, tmp_path, capsys):
    out = tmp_path / "prompts.csv"
    words = ("--shots", "0,2", "--seeds", 2, "--rows", 10, "--method", "plain", "calibrated", "--out", out)
    assert call(decoder, inputs.train, *words) == 0
    printed = capsys.readouterr().out
    assert "accuracy on 10 rows" in printed
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["shots"], row["seed"], row["method"]) for row in rows] == [
        ("0", "0", "plain"),
        ("0", "0", "calibrated"),
        ("2", "0", "plain"),
        ("2", "0", "calibrated"),
        ("2", "1", "plain"),
        ("2", "1", "calibrated"),
    ]
    mean = sum(float(row["accuracy"]) for row in rows if (row["shots"], row["method"]) == ("2", "plain")) / 2
    line = next(line.split() for line in printed.splitlines() if line.split()[:2] == ["plain", "2"])
    assert line[2:4] == ["2", f"{mean:.3f}"]


def test_examples_from_another_table(decoder, inputs, capsys):
    words = ("--examples", inputs.train, "--shots", "1", "--seeds", 1, "--labels", "bad=bad", "good=good,fine")
    assert call(decoder, inputs.eval, *words) == 0
    assert "accuracy on 30 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shots", "0,x"), "numbers between commas"),
        (("--shots", "-1"), "from 0 up"),
        (("--shots", "40"), "--shots names 40 examples, but there are"),
        (("--seeds", 0), "--seeds is a whole number from 1 up"),
        (("--labels", "good=fine"), "the label 'bad', for which --labels has no words: good"),
        (("--labels", "good", "good=fine"), "names 'good' twice"),
        (("--labels", "good=fine", "bad="), "the label 'bad' has no word"),
        (("--method", "best"), "a method is one of plain, calibrated, pmi, but is 'best'"),
        (("--out", "prompts.txt"), "does not end in .csv or .jsonl"),
        (("--template", "{text} is"), "ends with {label}"),
        (("--template", "{plot} {label}"), "no column 'plot'"),
    ],
)
def test_bad_input(decoder, inputs, words, message, capsys):
    assert call(decoder, inputs.train, *words) == 2
    assert message in capsys.readouterr().err


def test_an_encoder_is_no_decoder(inputs, capsys):
    assert call(inputs.model, inputs.train) == 2
    assert 'task="lm" is for other families' in capsys.readouterr().err
