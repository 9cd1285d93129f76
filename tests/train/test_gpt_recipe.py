"""GPT's recipe from end to end: pairs between new tokens, and the next token beside the task."""

from __future__ import annotations

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import jaxft as ft

GOLDEN = Path(__file__).parent.parent / "golden" / "gpt1_lm"
WORDS = ("one", "two", "three", "four", "five")
TOKENS = ("<start>", "<delimiter>", "<extract>")


@pytest.fixture(scope="module")
def model() -> ft.Model:
    """A tiny GPT for pairs, with its three tokens."""
    names = [*WORDS, "is", "it", *(f"w{index}" for index in range(60))]
    words = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0")
    loaded = ft.load_model(GOLDEN, task="classify", labels=["smaller", "larger"], pooling="last")
    return ft.extend_vocabulary(loaded._replace(tokenizer=tokenizer), TOKENS)


def pairs() -> tuple[ft.data.Table, list[int]]:
    """Whether the first number is the larger, as often yes as no."""
    both = list(itertools.permutations(range(len(WORDS)), 2))
    first, second = ([f"it is {WORDS[pair[side]]}" for pair in both] for side in (0, 1))
    return ft.data.Table.of({"text": first, "text_pair": second}), [int(a > b) for a, b in both]


def test_a_tiny_gpt_learns_a_pair_task_with_an_auxiliary_language_model(model):
    table, labels = pairs()
    start, delimiter, extract = model.tokenizer.convert_tokens_to_ids(list(TOKENS))
    rows = ft.data.structured(
        model.tokenizer, table, start=start, delimiter=delimiter, extract=extract, max_length=12, labels=labels
    )
    first = rows.rows(np.array([0]))["input_ids"][0]
    assert model.tokenizer.decode(first[:9]) == "<start> it is one <delimiter> it is two <extract>"

    objective = ft.combine(task=ft.cross_entropy(), lm=(ft.next_token(), 0.5))
    step = ft.make_step(model.apply, ft.full(), objective, ft.adamw(ft.warmup_linear(1e-2, 150)))
    batches = ft.data.batches(rows, batch_size=20, seed=0)
    frozen, state = step.init(jax.random.key(0), model.params, batches[0])
    result = ft.fit(step, frozen, state, batches, steps=150, log_every=1, progress=False)

    for line in result.history:
        assert line["loss"] == pytest.approx(line["task"] + 0.5 * line["lm"], rel=1e-5)
        assert line["lm/weight"] == 0.5
        assert line["lm/weighted"] == pytest.approx(0.5 * line["lm"])
        assert {"task/accuracy", "lm/accuracy"} <= line.keys()
    early, late = result.history[:10], result.history[-10:]
    for name in ("task", "lm"):
        means = [np.mean([line[name] for line in lines]) for lines in (early, late)]
        assert means[1] < means[0] / 2, f"{name} went from {means[0]:.2f} to {means[1]:.2f}"
    trained = ft.full().bind(frozen.model, result.state.delta)
    figures = ft.evaluate(model.apply, trained, ft.data.eval_batches(rows, batch_size=20))
    assert figures["accuracy"] > 0.9

    untrained = ft.evaluate(model.apply, model.params, ft.data.eval_batches(rows, batch_size=20))
    assert untrained["accuracy"] < 0.8
    tokens = jax.tree.map(np.asarray, trained)["embeddings"]["word"]["embedding"]
    fresh = np.asarray(model.params["embeddings"]["word"]["embedding"])
    assert np.abs(tokens[[start, delimiter, extract]] - fresh[[start, delimiter, extract]]).max(axis=1).min() > 1e-3
