"""Scores of labels: equal to a forward pass for each, whatever the model, the padding and the adaptation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.prompting import next_token_log_probabilities, score
from tests.models.golden import golden
from tests.prompting.decoders import decoder

PROMPTS = ("it was", "fine", "film was dull . it was very very old film .", "bad film")
LABELS = (" good", " very bad", " old old old")


def naive(model: ft.Model, prompt: str, label: str, params: Any = None) -> np.ndarray:
    """Log-probabilities of the label's tokens, by a pass over prompt and label."""
    before = model.tokenizer(prompt)["input_ids"]
    ids = before + model.tokenizer(label)["input_ids"]
    batch = {"input_ids": jnp.array([ids])}
    log_p = jax.nn.log_softmax(model.apply(model.params if params is None else params, batch).logits[0])
    return np.array([log_p[place - 1, ids[place]] for place in range(len(before), len(ids))])


@pytest.mark.parametrize("name", ["llama_lm", "gpt2_lm", "qwen2_window"])
def test_equal_to_a_pass_for_each_label(name: str) -> None:
    model = decoder(name)
    for reduce, function in (("sum", np.sum), ("mean", np.mean)):
        expected = [[function(naive(model, prompt, label)) for label in LABELS] for prompt in PROMPTS]
        np.testing.assert_allclose(score(model, PROMPTS, LABELS, reduce=reduce, batch_size=3), expected, atol=1e-4)


def test_one_prompt_of_one_token_and_labels_of_one_token() -> None:
    model = decoder()
    found = score(model, ["it"], [" good", " bad"], batch_size=1)
    expected = [naive(model, "it", label)[0] for label in (" good", " bad")]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_with_an_adaptation_bound(method: str) -> None:
    model = decoder()
    adaptation = {
        "lora": lambda: ft.lora("**/{query,value}/kernel", rank=2),
        "prefix": lambda: ft.prefix(length=3),
        "prompt": lambda: ft.prompt(length=2),
    }[method]()
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    delta = jax.tree.map(lambda leaf: leaf + 0.2 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), delta)
    bound = adaptation.bind(frozen, delta)
    found = score(model, PROMPTS[:2], LABELS, reduce="sum", params=bound)
    expected = [[naive(model, prompt, label, bound).sum() for label in LABELS] for prompt in PROMPTS[:2]]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - score(model, PROMPTS[:2], LABELS, reduce="sum")).max() > 1e-3


def test_the_prompt_is_read_once_for_all_labels() -> None:
    """Compiled work: four labels behind a long prompt cost little more than one."""
    from jaxft.prompting.scoring import _program, _Structure, check_decoder

    model = decoder()
    program: Any = _program(_Structure(model.apply, check_decoder(model), jnp.dtype("float32")))
    ids, mask = np.ones((2, 32), np.int32), np.ones((2, 32), np.int32)

    def flops(labels: int) -> float:
        each = np.ones((labels, 1), np.int32)
        return float(program.lower(model.params, ids, mask, each, each).compile().cost_analysis()["flops"])

    assert flops(4) < 1.5 * flops(1)


def test_next_tokens() -> None:
    model = decoder()
    found = next_token_log_probabilities(model, PROMPTS, batch_size=3)
    for row, prompt in enumerate(PROMPTS):
        ids = jnp.array([model.tokenizer(prompt)["input_ids"]])
        expected = jax.nn.log_softmax(model.apply(model.params, {"input_ids": ids}).logits[0, -1])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


BAD: dict[str, tuple[Any, str]] = {
    "reduce": (lambda: score(decoder(), ["it"], [" good"], reduce="max"), "one of mean, sum"),
    "label": (lambda: score(decoder(), ["it"], [" good", "  "]), "'  ' tokenises to nothing"),
    "labels": (lambda: score(decoder(), ["it"], " good"), "list of continuations"),
    "prompt": (lambda: score(decoder(), ["it", ""], [" good"]), "prompt 2 has no token"),
    "long": (
        lambda: score(decoder(), ["it", "film " * 40], [" good"]),
        "prompt 2 and the longest label have 41",
    ),
    "task": (lambda: score(golden("bert_gelu").model, ["it"], [" good"]), 'loaded with task="lm"; this is a bert'),
    "tokenizer": (lambda: score(golden("llama_lm").model, ["it"], [" good"]), "without tokenizer files"),
    "next batch": (lambda: next_token_log_probabilities(decoder(), ["it"], batch_size=0), "from 1 up, but is 0"),
    "batch": (lambda: score(decoder(), ["it"], [" good"], batch_size=0), "from 1 up, but is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
