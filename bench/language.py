"""Measures SmolLM2 in this process and prints the figures as JSON: python -m bench.language lora|decode|packing."""

from __future__ import annotations

import json
import statistics
import sys
import time

import jax
import numpy as np

import jaxft as ft
from bench.measure import measure_step, product_rate
from bench.theory import DecoderSize, decoder_lora_flops
from jaxft.generation.loop import program

BATCH, LENGTH, RANK, STEPS = 4, 128, 8, 8
ROWS, PROMPT, NEW, REPEATS = (1, 8), 16, 64, 5
PACKED = 256


def lora() -> dict[str, float]:
    """A training step with LoRA on query and value."""
    model = ft.load_model("smollm2", task="lm")
    step = ft.make_step(
        model.apply,
        ft.lora("**/attention/{query,value}/kernel", rank=RANK, alpha=16),
        ft.cross_entropy(),
        ft.adamw(1e-4),
    )
    c = model.config
    ids = np.random.default_rng(0).integers(100, c.vocab_size, (BATCH, LENGTH + 1), dtype=np.int32)
    batch = {
        "input_ids": ids[:, :-1],
        "attention_mask": np.ones((BATCH, LENGTH), np.int32),
        "labels": ids[:, 1:],
        "mask": np.ones(BATCH, bool),
    }
    size = DecoderSize(
        BATCH,
        LENGTH,
        c.hidden_size,
        c.num_heads * c.head_dim,
        c.kv_heads * c.head_dim,
        c.intermediate_size,
        c.num_layers,
        c.vocab_size,
    )
    return measure_step(model, step, batch, decoder_lora_flops(size, rank=RANK), steps=STEPS)


def decode() -> dict[str, float]:
    """Tokens a second of the greedy loop, and what is compiled after the first call with each number of rows."""
    model = ft.load_model("smollm2", task="lm")
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **kinds: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    found: dict[str, float] = {}
    for rows in ROWS:
        ids = np.random.default_rng(rows).integers(100, model.config.vocab_size, (rows, PROMPT), dtype=np.int32)
        program.cache_clear()
        seconds, counts = [], []
        for _ in range(1 + REPEATS):
            compiled.clear()
            start = time.perf_counter()
            generated = ft.generate(model, {"input_ids": ids}, max_new_tokens=NEW, stop_tokens=())
            seconds.append(time.perf_counter() - start)
            counts.append(len(compiled))
        assert counts[0], "the first call compiles the loop"
        assert generated.lengths.sum() == rows * NEW
        found |= {
            f"tokens_per_second_{rows}": rows * NEW / statistics.median(seconds[1:]),
            f"first_call_seconds_{rows}": seconds[0],
            f"compiled_later_{rows}": sum(counts[1:]),
        }
    return found | {"product_gflops": product_rate() / 1e9}


def packing() -> dict[str, float]:
    """The share of tokens that are no padding when movie sentences are packed."""
    tokenizer = ft.load_model("smollm2", task="lm").tokenizer
    packed = ft.data.pack(tokenizer, ft.data.sentiment("movies").train["text"], length=PACKED)
    return {"fill_rate": ft.data.fill_rate(packed), "rows": len(packed)}


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print(json.dumps({"lora": lora, "decode": decode, "packing": packing}[sys.argv[1]]()))
