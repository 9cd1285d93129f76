"""Does SmolLM2 learn how films are reviewed from sentences of reviews?

SmolLM2-135M-Instruct with LoRA on all matrices of its layers, on the movie sentences of the packaged sentiment set,
each a document of its own, packed into rows of 256 tokens that attention does not cross. The perplexity is that of
every token but the first of sentences that were held out, and of the token that ends each.

    python experiments/smollm2_text.py            about ten minutes on two cores, 4 GB of memory

The learning rate, 5e-4, and the number of steps were set before anything was measured on the test sentences; the dev
sentences, the last of the training table, are watched and choose nothing. A sentence is on one side only, but sentences
of one review may be on both. Result: experiments/results/NAME.md, NAME.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import tyro

import jaxft as ft
from experiments import language, report


@dataclass(frozen=True)
class Config:
    """The run.

    Attributes:
        dev: of the training table, the last so many sentences; all others are learned from.
        test: of the test table, the first so many sentences.
        length: tokens of a packed row.
        batch_size: rows a step.
        steps: of training.
        rank: of LoRA; alpha is twice that.
        rate: the peak learning rate.
        seed: of the adapter, the order of the rows and the continuations.
        continuations: test sentences that are continued before and after.
        words: of a sentence that are given.
        name: of the files in experiments/results.
    """

    dev: int = 300
    test: int = 900
    length: int = 256
    batch_size: int = 4
    steps: int = 84
    rank: int = 8
    rate: float = 5e-4
    seed: int = 0
    continuations: int = 8
    words: int = 5
    name: str = "smollm2_text"


def openings(config: Config, test: ft.data.Table) -> list[tuple[str, str]]:
    """The first words of the first long test sentences, and the rest of each."""
    split = [text.split() for text in test["text"]]
    long = [words for words in split if len(words) >= 2 * config.words][: config.continuations]
    return [(" ".join(words[: config.words]), " ".join(words[config.words :])) for words in long]


def run(config: Config) -> tuple[dict[str, Any], str]:
    """The figures, and the page of the results."""
    ft.enable_compile_cache()
    model = ft.load_model("smollm2", task="lm")
    movies = ft.data.sentiment("movies")

    def rows(table: ft.data.Table) -> ft.data.Dataset:
        return ft.data.pack(model.tokenizer, table, length=config.length)

    last = len(movies.train)
    train = rows(movies.train.take(range(last - config.dev)))
    dev = rows(movies.train.take(range(last - config.dev, last)))
    test = rows(movies.test.take(range(config.test)))
    batches = ft.data.eval_batches(test, batch_size=config.batch_size)
    pairs = openings(config, movies.test)

    def continued(params: Any) -> list[str]:
        given, key = [opening for opening, _ in pairs], jax.random.key(config.seed)
        return ft.complete(model, given, params=params, max_new_tokens=32, temperature=0.8, top_p=0.95, key=key)

    before, wrote_before = language.token_nll(model, model.params, batches), continued(model.params)
    done = language.finetune(
        model,
        train,
        dev,
        rank=config.rank,
        rate=config.rate,
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        evaluate_every=max(config.steps // 4, 1),
    )
    after, wrote_after = language.token_nll(model, done.params, batches), continued(done.params)

    counted = before.labels != language.IGNORED
    ends = before.labels == model.tokenizer.eos_token_id
    counts = {"all tokens": counted, "words only": counted & ~ends, "the ends of sentences": ends}
    lines = [
        (name, f"{chosen.sum():,}", *(language.shown(language.figure(found, chosen)) for found in (before, after)))
        for name, chosen in counts.items()
    ]
    figures = {
        "train_rows": len(train),
        "test_rows": len(test),
        "test_tokens": int(counted.sum()),
        "fill_rate": ft.data.fill_rate(train),
        "perplexity_before": language.figure(before)[0],
        "perplexity_after": language.figure(after)[0],
        "trained": done.trained,
        "minutes": done.minutes,
        "step_seconds": done.step_seconds,
        "memory_mib": report.peak_mebibytes(),
    }
    samples = [
        tuple(map(language.cell, (opening, rest, one, other)))
        for (opening, rest), one, other in zip(pairs, wrote_before, wrote_after, strict=True)
    ]
    return figures, page(config, figures, lines, language.curve(done.history), samples)


def page(
    config: Config,
    figures: dict[str, Any],
    lines: list[tuple[str, ...]],
    curve: list[tuple[str, str]],
    samples: list[tuple[str, ...]],
) -> str:
    """The page written to experiments/results."""
    tokens = config.batch_size * config.length
    return (
        f"# Does SmolLM2 learn how films are reviewed?\n\n`{report.command(__file__, config)}`\n\n"
        f"SmolLM2-135M-Instruct, LoRA of rank {config.rank} on all matrices of its layers ({figures['trained']:,} "
        f"parameters learn), {config.steps} steps of {config.batch_size} × {config.length} tokens, peak learning rate "
        f"{config.rate:g}. {figures['train_rows']} packed rows of training sentences, "
        f"{100 * figures['fill_rate']:.1f} % of whose places hold a token, of which the steps see "
        f"{min(config.steps * config.batch_size, figures['train_rows'])}. A step takes {figures['step_seconds']:.1f} s "
        f"({tokens / figures['step_seconds']:.0f} tokens/s), training {figures['minutes']:.1f} minutes, "
        f"{figures['memory_mib']:,.0f} MiB at most. {report.machine()}\n\n"
        f"Perplexity of the first {config.test} test sentences ({figures['test_rows']} packed rows; 95 % intervals "
        "over rows):\n\n"
        f"{report.markdown_table(('tokens', 'count', 'before', 'after'), lines)}\n\n"
        "Perplexity of the dev sentences while it learns:\n\n"
        f"{report.markdown_table(('step', 'perplexity'), curve)}\n\n"
        f"Continuations of the first {config.words} words of the first test sentences twice as long or more (drawn "
        "at temperature 0.8 among the tokens of probability 0.95, the same key for both; at most 32 tokens):\n\n"
        f"{report.markdown_table(('opening', 'the review', 'before', 'after'), samples)}\n"
    )


def main(config: Config) -> None:
    """Runs, prints the page and writes it with its figures."""
    figures, text = run(config)
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / f"{config.name}.md").write_text(text, encoding="utf-8")
    report.write_csv(report.RESULTS / f"{config.name}.csv", [figures])
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
