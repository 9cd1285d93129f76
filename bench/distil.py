"""Measures teachers and prompts in this process, prints figures as JSON: python -m bench.distil teacher|labels."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import jaxft as ft
from jaxft.prompting import score

LAYERS, BATCH, LENGTH, ROWS, WARM, ROUNDS = (1, 3, 5), 32, 64, 256, 2, 10
PROMPTS, WORDS, REPEATS = 8, 90, 5
LABELS = (" good", " bad", " fine", " dull")


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int, warm: int) -> dict[str, float]:
    """Seconds of each call, the calls taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if number >= warm:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def teacher() -> dict[str, float]:
    """A step of a student of three layers: alone, with what its teacher said before, and with the teacher itself."""
    model = ft.load_model("minilm", task="classify", num_labels=2)
    student = ft.distil.shrink(model, layers=LAYERS)
    random = np.random.default_rng(0)
    ids = random.integers(1000, model.config.vocab_size, (ROWS, LENGTH), dtype=np.int32)
    columns = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": random.integers(0, 2, ROWS)}
    rows = ft.data.arrays(columns)
    told = ft.distil.remember(model, rows, batch_size=BATCH, hidden_states=(-1,))
    task = ft.cross_entropy()

    def of(whom: Any) -> ft.Objective:
        soft, cosine = ft.knowledge_distillation(whom, temperature=2.0), ft.hidden_cosine(whom)
        return ft.combine(task=task, soft=soft, cosine=cosine)

    cases = {"alone": (task, rows), "remembered": (of(None), told), "live": (of(model), rows)}
    calls = {name: _stepper(student, objective, data) for name, (objective, data) in cases.items()}
    found = medians(calls, ROUNDS, WARM)
    return {
        "seconds": found["alone"],
        "remembered_of_alone": found["remembered"] / found["alone"],
        "live_of_alone": found["live"] / found["alone"],
    }


def _stepper(student: ft.Model, objective: ft.Objective, data: ft.data.Dataset) -> Callable[[], Any]:
    """Makes one step further at each call, the cutting of its batch included."""
    batches = ft.data.batches(data, batch_size=BATCH, seed=0)
    step = ft.make_step(student.apply, ft.full(), objective, ft.adamw(1e-5))
    frozen, state = step.init(jax.random.key(0), student.params, batches[0])
    update, held = jax.jit(step.update, donate_argnums=1), [state]

    def call() -> Any:
        held[0], metrics = update(frozen, held[0], batches[int(held[0].step)])
        return metrics["loss"]

    return call


def labels() -> dict[str, float]:
    """Scores of four labels behind prompts that are read once, over the scores of one, and over one pass for each."""
    model = ft.load_model("smollm2", task="lm")
    word = "film "
    prompts = [word * (WORDS + row) for row in range(PROMPTS)]
    texts = [prompt + label for label in LABELS for prompt in prompts]
    length = max(len(row) for row in model.tokenizer(texts)["input_ids"])
    passes = jax.jit(lambda params, batch: jax.nn.log_softmax(model.apply(params, batch).logits)[:, -1])
    ids = np.full((PROMPTS, length), 1000, np.int32)

    def naive() -> Any:
        return [passes(model.params, {"input_ids": ids}) for _ in LABELS]

    calls = {
        "one": lambda: score(model, prompts, LABELS[:1]),
        "four": lambda: score(model, prompts, LABELS),
        "passes": naive,
    }
    found = medians(calls, REPEATS, 1)
    return {
        "seconds": found["one"],
        "four_of_one": found["four"] / found["one"],
        "passes_of_four": found["passes"] / found["four"],
        "tokens": length,
    }


if __name__ == "__main__":
    print(json.dumps({"teacher": teacher, "labels": labels}[sys.argv[1]]()))
