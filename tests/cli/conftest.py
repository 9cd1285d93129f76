"""A small random BERT with a tokenizer, tables of its words, and the command line as a function."""

from __future__ import annotations

import csv
import json
import random
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jaxft.cli import main

WORDS = ("fine", "lovely", "great", "dull", "poor", "sad", "film", "plot", "actor", "scene", "the", "a", "was", "very")
GOOD, BAD, PLAIN = WORDS[:3], WORDS[3:6], WORDS[6:]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def jaxft(capsys):
    """Runs a command in this process."""

    def run(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return Ended(code, *capsys.readouterr())

    return run


def write_model(directory, seed=0, positions=24):
    """A Hugging Face directory: two layers of sixteen, random weights, a vocabulary of a few words."""
    raw = {
        "model_type": "bert",
        "max_position_embeddings": positions,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(SPECIAL) + len(WORDS),
        "intermediate_size": 32,
    }
    write_weights(directory, raw, "features", seed)
    words = word_tokenizer()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    return directory


def write_weights(directory, raw, task, seed=0):
    """A ``config.json`` and random weights for it; norms start as those that change nothing."""
    from jaxft.models.config import Request
    from jaxft.models.families import family_of, file_entries
    from jaxft.models.family import config_from_hf
    from jaxft.models.keys import write_arrays

    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(raw))
    rng = np.random.default_rng(seed)
    entries = file_entries(config_from_hf(family_of(raw), raw, Request(task)))
    one, none = ("scale", "var"), ("bias", "mean")
    arrays = {
        entry.path: np.full(entry.shape, float(entry.path.endswith(one)))
        if entry.path.endswith((*one, *none))
        else rng.normal(0, 0.3, entry.shape)
        for entry in entries
    }
    save_file(write_arrays(entries, arrays, ""), directory / "model.safetensors", metadata={"format": "pt"})


def word_tokenizer():
    """A token for each word, and for each of the special ones."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def write_table(path, rows, seed):
    """Texts whose label is told by one of their words."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            label = ("bad", "good")[row % 2]
            words = [*rng.choices(PLAIN, k=rng.randint(1, 3)), rng.choice(GOOD if label == "good" else BAD)]
            rng.shuffle(words)
            writer.writerow([" ".join(words), label])
    return path


class Inputs(NamedTuple):
    model: object
    train: object
    eval: object


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    return Inputs(
        write_model(root / "model"), write_table(root / "train.csv", 48, 1), write_table(root / "eval.csv", 30, 2)
    )


@pytest.fixture(scope="session")
def finetune_words(inputs):
    """The words of a short training run, with others in the place of some or after them."""

    def words(out, **changes):
        options = {
            "model": inputs.model,
            "train": inputs.train,
            "eval": inputs.eval,
            "method": "lora",
            "epochs": 4,
            "batch_size": 8,
            "max_length": 12,
            "lr": 0.05,
            "out": out,
            **changes,
        }
        found = ["finetune", "--quiet"]
        for name, value in options.items():
            if value is True:
                found.append("--" + name.replace("_", "-"))
            elif value is not None and value is not False:
                found += ["--" + name.replace("_", "-"), str(value)]
        return found

    return words


@pytest.fixture(scope="session")
def run(finetune_words, tmp_path_factory):
    """A finished LoRA run, read by several tests and changed by none."""
    out = tmp_path_factory.mktemp("runs") / "lora"
    assert main(finetune_words(out)) == 0
    return out
