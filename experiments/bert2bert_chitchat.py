"""Does a decoder that starts from an encoder learn to reply sooner than one that starts from nothing?

MiniLM twice, as an encoder and as a decoder with fresh cross-attention (BERT2BERT), against the same architecture with
random weights throughout. A pair is a message of the packaged chitchat and the message that follows it, both of 24
tokens at most; everything learns, by teacher forcing, with AdamW, linear warm-up over 10 % of the steps and linear
decay. Same pairs, same order, same number of steps.

    python experiments/bert2bert_chitchat.py                                      about ten minutes on two quiet cores

Beside the perplexity of held-out replies: the perplexity when each reply is asked for after another message, which
tells how much of the message is used at all, and that of the frequencies of the training replies' tokens. ROUGE is that
of the likeliest replies; a training reply drawn at random is its baseline.

The learning rates were chosen among three by the perplexity of dev pairs, the last of the training table, after 50
steps, and the largest was best for both; the test pairs took no part. The command, with its own table:

    python experiments/bert2bert_chitchat.py --validate --rates 1e-4 3e-4 1e-3 --steps 50 --name bert2bert_rates

Result: experiments/results/NAME.md and NAME.csv.

References:
    Rothe, Narayan, Severyn (2020), Leveraging Pre-trained Checkpoints for Sequence Generation Tasks.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

import jaxft as ft
from experiments import language, report
from jaxft.metrics import perplexity, rouge_metrics
from jaxft.models.load import build_params

STARTS = {"warm": "two MiniLMs", "random": "random weights"}
RATES = {"warm": 1e-3, "random": 1e-3}
SHOWN = 8


@dataclass(frozen=True)
class Config:
    """The comparison.

    Attributes:
        starts: which rows of the table.
        rates: peak learning rates, each for every start; none for those that were chosen.
        pairs: to learn from.
        dev: pairs to choose among learning rates.
        test: pairs to measure on.
        tokens: of a message and of a reply at most; longer pairs are left out.
        batch_size: pairs a step.
        steps: of training.
        seed: of the fresh weights, the order of the pairs and the dropout.
        validate: measures on the dev pairs and writes nothing about the test pairs.
        name: of the files in experiments/results.
    """

    starts: tuple[str, ...] = tuple(STARTS)
    rates: tuple[float, ...] = ()
    pairs: int = 12000
    dev: int = 512
    test: int = 512
    tokens: int = 24
    batch_size: int = 32
    steps: int = 180
    seed: int = 0
    validate: bool = False
    name: str = "bert2bert_chitchat"


class Pairs(NamedTuple):
    """Messages with the messages that follow them, as texts and as tokens."""

    table: ft.data.Table
    rows: ft.data.Dataset


def pairs(model: ft.Model, conversations: Sequence[Sequence[dict[str, str]]], count: int, tokens: int) -> Pairs:
    """So many pairs in a fixed random order, of which neither side is longer than ``tokens``."""
    said = [[" ".join(message["content"].split()) for message in held] for held in conversations]
    every = [pair for held in said for pair in itertools.pairwise(held)]
    both = [every[place] for place in np.random.default_rng(0).permutation(len(every))[: 4 * count]]
    found = model.tokenizer([text for pair in both for text in pair], verbose=False)["input_ids"]
    fits = [len(ids) <= tokens for ids in found]
    kept = [pair for place, pair in enumerate(both) if fits[2 * place] and fits[2 * place + 1]][:count]
    table = ft.data.Table.of({"text": [pair[0] for pair in kept], "target": [pair[1] for pair in kept]})
    start = model.config.decoder_start_token
    rows = ft.data.seq2seq(model.tokenizer, table, max_length=tokens, max_target_length=tokens, start_token=start)
    return Pairs(table, rows)


def train(model: ft.Model, params: Any, rows: ft.data.Dataset, config: Config, rate: float) -> tuple[Any, float]:
    """The trained params, and the minutes it took."""
    objective, optimizer = ft.cross_entropy(), ft.adamw(ft.warmup_linear(rate, config.steps))
    step = ft.make_step(model.apply, ft.full(), objective, optimizer)
    batches = ft.data.batches(rows, batch_size=config.batch_size, seed=config.seed)
    frozen, state = step.init(jax.random.key(config.seed), params, batches[0])
    start = time.perf_counter()
    state = ft.fit(step, frozen, state, batches, steps=config.steps).state
    return ft.full().bind(frozen.model, state.delta), (time.perf_counter() - start) / 60


def after_others(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same replies, each after the message of the row before it; rows that only fill the batch stay."""
    moved = ("input_ids", "attention_mask", "token_type_ids")
    real = np.flatnonzero(batch["mask"])
    order = np.arange(len(batch["mask"]))
    order[real] = np.roll(real, 1)
    return {name: value[order] if name in moved else value for name, value in batch.items()}


def measure(model: ft.Model, params: Any, test: Pairs) -> tuple[dict[str, float], list[str]]:
    """The figures of held-out pairs, and the likeliest replies."""
    batches = list(ft.data.eval_batches(test.rows, batch_size=32))
    losses = language.token_nll(model, params, batches)
    others = language.token_nll(model, params, [after_others(batch) for batch in batches])
    messages, truth = list(test.table["text"]), list(test.table["target"])
    replies: list[str] = []
    for first in range(0, len(messages), 64):
        replies += ft.complete(model, messages[first : first + 64], params=params, max_new_tokens=24)
    value, low, high = language.figure(losses)
    figures = {"perplexity": value, "low": low, "high": high, "after_others": language.figure(others)[0]}
    return {**figures, **rouge_metrics(replies, truth), "different_replies": len(set(replies))}, replies


def unigram_perplexity(train_rows: ft.data.Dataset, test_rows: ft.data.Dataset, vocabulary: int) -> float:
    """Of the training replies' token frequencies, one added to each."""
    counts = np.bincount(labels_of(train_rows), minlength=vocabulary) + 1
    found = labels_of(test_rows)
    return perplexity(float(-np.log(counts[found] / counts.sum()).sum()), len(found))


def labels_of(rows: ft.data.Dataset) -> np.ndarray:
    """All labels of a data set, end to end."""
    column = rows.columns["labels"]
    return column.values if isinstance(column, ft.data.Ragged) else column


def run(config: Config) -> tuple[list[dict[str, Any]], str]:
    """A row of figures for each start and rate, and the page."""
    ft.enable_compile_cache()
    warm = ft.warm_start("minilm", seed=config.seed)
    random = build_params(warm.config, {}, config.seed)
    data = ft.data.chitchat()
    learned, last = data.train["messages"], len(data.train) // 10
    training = pairs(warm, learned[:-last], config.pairs, config.tokens)
    held_out = learned[-last:] if config.validate else data.test["messages"]
    test = pairs(warm, held_out, config.dev if config.validate else config.test, config.tokens)

    rows, replies = [], {}
    for start in config.starts:
        for rate in config.rates or (RATES[start],):
            base = warm.params if start == "warm" else random
            params, minutes = train(warm, base, training.rows, config, rate)
            figures, replies[start] = measure(warm, params, test)
            rows.append({"start": start, "rate": rate, "minutes": minutes, **figures})
    drawn = np.random.default_rng(0).integers(len(training.table), size=len(test.table))
    common = {
        "training_pairs": len(training.table),
        "pairs": len(test.table),
        "tokens": len(labels_of(test.rows)),
        "unigram_perplexity": unigram_perplexity(training.rows, test.rows, warm.config.vocab_size),
        "random": rouge_metrics([training.table["target"][i] for i in drawn], list(test.table["target"])),
    }
    columns = (test.table["text"], test.table["target"], *replies.values())
    samples = [tuple(map(language.cell, row)) for row in zip(*(column[:SHOWN] for column in columns), strict=True)]
    return rows, page(config, rows, common, samples, list(replies))


def page(
    config: Config,
    rows: list[dict[str, Any]],
    common: dict[str, Any],
    samples: list[tuple[str, ...]],
    starts: list[str],
) -> str:
    """The page written to experiments/results."""
    lines = [
        (
            STARTS[row["start"]],
            f"{row['rate']:g}",
            language.shown((row["perplexity"], row["low"], row["high"])),
            f"{row['after_others']:.2f}",
            *(f"{row[name]:.3f}" for name in ("rouge1", "rouge2", "rougeL")),
            f"{row['different_replies']}",
            f"{row['minutes']:.1f} min",
        )
        for row in rows
    ]
    random = (f"{common['random'][name]:.3f}" for name in ("rouge1", "rouge2", "rougeL"))
    lines.append(("a training reply at random", "", "", "", *random, "", ""))
    lines.append(("token frequencies", "", f"{common['unigram_perplexity']:.2f}", *("",) * 6))
    names = ("start", "learning rate", "perplexity", "after another message", "ROUGE-1", "ROUGE-2", "ROUGE-L")
    return (
        f"# Does a decoder that starts from an encoder learn to reply sooner?\n\n"
        f"`{report.command(__file__, config)}`\n\n"
        f"Six layers of 384 on each side, all weights learn, {config.steps} steps of {config.batch_size} of "
        f"{common['training_pairs']:,} pairs of at most {config.tokens} tokens a side. Measured on "
        f"{common['pairs']:,} {'dev' if config.validate else 'test'} pairs, {common['tokens']:,} tokens of replies; "
        f"95 % intervals over pairs. {report.peak_mebibytes():,.0f} MiB at most. {report.machine()}\n\n"
        f"{report.markdown_table((*names, 'different replies', 'training'), lines)}\n\n"
        "A model that reads the message is more perplexed after another one; where both figures are the same, it has "
        "learned what replies look like and nothing of what they answer.\n\n"
        "Likeliest replies to the first of these messages:\n\n"
        f"{report.markdown_table(('message', 'the person’s reply', *(STARTS[start] for start in starts)), samples)}\n"
    )


def main(config: Config) -> None:
    """Runs, prints the page and writes it with its figures."""
    if unknown := set(config.starts) - set(STARTS):
        raise SystemExit(f"unknown starts {sorted(unknown)}; choose among {sorted(STARTS)}")
    rows, text = run(config)
    report.write_page(config.name, text, rows)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
