"""What the experiments with SmolLM2 share: LoRA on next tokens, losses of each token, and their tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxft as ft
from experiments import report
from jaxft.metrics import perplexity
from jaxft.train import label_losses

IGNORED = -100
LORA = ["**/attention/{query,key,value,output}/kernel", "**/feed_forward/{up,gate,down}/kernel"]
"""All matrices of every layer."""


class Run(NamedTuple):
    """What a fine-tuning ends with.

    Attributes:
        params: the adapted model's.
        trained: how many numbers learned.
        history: of the losses.
        minutes: of training, its evaluations on the dev rows included.
        step_seconds: the median time of a step.
    """

    params: Any
    trained: int
    history: list[dict[str, Any]]
    minutes: float
    step_seconds: float


class Losses(NamedTuple):
    """Of the tokens of a data set.

    Attributes:
        nll: −log p of each label, ``[rows, length]``; zero where nothing counts.
        labels: ``[rows, length]``.
    """

    nll: np.ndarray
    labels: np.ndarray


def finetune(
    model: ft.Model,
    rows: ft.data.Dataset,
    dev: ft.data.Dataset,
    *,
    rank: int,
    rate: float,
    steps: int,
    batch_size: int,
    seed: int,
    evaluate_every: int,
) -> Run:
    """Trains LoRA on the labels of packed rows, with the perplexity of the dev rows beside the loss."""
    adaptation = ft.lora(LORA, rank=rank, alpha=2.0 * rank)
    step = ft.make_step(model.apply, adaptation, ft.cross_entropy(), ft.adamw(ft.warmup_linear(rate, steps)))
    batches = ft.data.batches(rows, batch_size=batch_size, seed=seed)
    frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
    held_out = ft.data.eval_batches(dev, batch_size=batch_size)

    def evaluation(frozen: Any, state: Any) -> dict[str, float]:
        params = adaptation.bind(frozen.model, state.delta)
        return ft.evaluate(model.apply, params, held_out, task="lm")

    times = Clock(batches)
    start = time.perf_counter()
    result = ft.fit(
        step,
        frozen,
        state,
        times,
        steps=steps,
        evaluate=evaluation,
        evaluate_every=evaluate_every,
        log_every=evaluate_every,
    )
    return Run(
        adaptation.bind(frozen.model, result.state.delta),
        sum(leaf.size for leaf in jax.tree.leaves(result.state.delta)),
        result.history,
        (time.perf_counter() - start) / 60,
        times.step_seconds(),
    )


class Clock:
    """Batches that note when each is asked for: between two of them lies a step, once a few are under way."""

    def __init__(self, batches: ft.data.Batches) -> None:
        self._batches = batches
        self._asked: list[float] = []

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        self._asked.append(time.perf_counter())
        return self._batches[step]

    def step_seconds(self) -> float:
        """The median time between two batches."""
        return float(np.median(np.diff(self._asked)))


def token_nll(model: ft.Model, params: Any, batches: Iterable[dict[str, Any]]) -> Losses:
    """−log p of every label, on the host."""
    nll, labels = zip(*label_losses(model.apply, params, batches), strict=True)
    return Losses(np.concatenate(nll), np.concatenate(labels))


def figure(losses: Losses, counts: np.ndarray | None = None, draws: int = 2000) -> tuple[float, float, float]:
    """The perplexity of the labels that count, and its 95 % interval when rows are drawn with replacement."""
    chosen = losses.labels != IGNORED if counts is None else counts
    sums, tokens = np.where(chosen, losses.nll, 0).sum(axis=1), chosen.sum(axis=1)
    rows = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    drawn = np.exp(sums[rows].sum(axis=1) / tokens[rows].sum(axis=1))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return perplexity(float(sums.sum()), int(tokens.sum())), float(low), float(high)


def shown(value: tuple[float, float, float]) -> str:
    """A perplexity with its interval."""
    return f"{value[0]:.2f} ({value[1]:.2f} – {value[2]:.2f})"


def cell(text: str) -> str:
    """A text that fits a cell of a Markdown table."""
    return " / ".join(part.strip() for part in text.splitlines() if part.strip()).replace("|", "\\|") or "(nothing)"


def curve(history: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Steps and the perplexity of the dev rows."""
    return [(f"{line['step']}", f"{line['eval/perplexity']:.2f}") for line in history if "eval/perplexity" in line]


class Rows(NamedTuple):
    """Packed rows to learn from, to watch, and to measure on."""

    train: ft.data.Dataset
    dev: ft.data.Dataset
    test: ft.data.Dataset


class Comparison(NamedTuple):
    """A model before and after.

    Attributes:
        figures: of the run, for its CSV.
        perplexities: a table of the test rows' tokens.
        curve: a table of the dev rows' perplexity.
        wrote: what it writes before and after.
    """

    figures: dict[str, Any]
    perplexities: str
    curve: str
    wrote: list[tuple[str, str]]


def compare(
    model: ft.Model, rows: Rows, config: Any, write: Callable[[Any], list[str]], kinds: tuple[str, str, str]
) -> Comparison:
    """Measures a model, fine-tunes it with LoRA and measures it again.

    Args:
        model: SmolLM2.
        rows: packed.
        config: of the experiment: rank, rate, steps, batch_size and seed.
        write: ``write(params)``: texts.
        kinds: what all tokens that count, those but the end tokens, and the end tokens are called.
    """
    batches = ft.data.eval_batches(rows.test, batch_size=config.batch_size)
    before, wrote_before = token_nll(model, model.params, batches), write(model.params)
    done = finetune(
        model,
        rows.train,
        rows.dev,
        rank=config.rank,
        rate=config.rate,
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        evaluate_every=max(config.steps // 4, 1),
    )
    after, wrote_after = token_nll(model, done.params, batches), write(done.params)
    counted = before.labels != IGNORED
    ends = before.labels == model.tokenizer.eos_token_id
    lines = [
        (name, f"{chosen.sum():,}", *(shown(figure(found, chosen)) for found in (before, after)))
        for name, chosen in zip(kinds, (counted, counted & ~ends, ends), strict=True)
    ]
    figures = {
        "train_rows": len(rows.train),
        "test_rows": len(rows.test),
        "test_tokens": int(counted.sum()),
        "fill_rate": ft.data.fill_rate(rows.train),
        "perplexity_before": figure(before)[0],
        "perplexity_after": figure(after)[0],
        "trained": done.trained,
        "minutes": done.minutes,
        "step_seconds": done.step_seconds,
        "memory_mib": report.peak_mebibytes(),
    }
    return Comparison(
        figures,
        report.markdown_table(("tokens", "count", "before", "after"), lines),
        report.markdown_table(("step", "perplexity"), curve(done.history)),
        list(zip(wrote_before, wrote_after, strict=True)),
    )


def introduction(config: Any, figures: dict[str, Any], data: str) -> str:
    """The first paragraph of a page: what was trained on what, and what it cost."""
    tokens = config.batch_size * config.length / figures["step_seconds"]
    return (
        f"SmolLM2-135M-Instruct, LoRA of rank {config.rank} on all matrices of its layers ({figures['trained']:,} "
        f"parameters learn), {config.steps} steps of {config.batch_size} × {config.length} tokens, peak learning rate "
        f"{config.rate:g}. {data} {100 * figures['fill_rate']:.1f} % of the places of a packed row hold a token. A "
        f"step takes {figures['step_seconds']:.1f} s ({tokens:.0f} tokens/s), training {figures['minutes']:.1f} "
        f"minutes, {figures['memory_mib']:,.0f} MiB at most. {report.machine()}"
    )


def samples(columns: tuple[str, str, str, str], pairs: list[tuple[str, str]], wrote: list[tuple[str, str]]) -> str:
    """A table of what was given, what a person wrote, and what the model wrote before and after."""
    texts = ((*pair, *two) for pair, two in zip(pairs, wrote, strict=True))
    return report.markdown_table(columns, [tuple(map(cell, row)) for row in texts])
