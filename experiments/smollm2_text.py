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
    packed = language.Rows(
        rows(movies.train.take(range(last - config.dev))),
        rows(movies.train.take(range(last - config.dev, last))),
        rows(movies.test.take(range(config.test))),
    )
    pairs = openings(config, movies.test)

    def continued(params: Any) -> list[str]:
        given, key = [opening for opening, _ in pairs], jax.random.key(config.seed)
        return ft.complete(model, given, params=params, max_new_tokens=32, temperature=0.8, top_p=0.95, key=key)

    kinds = ("all tokens", "words only", "the ends of sentences")
    found = language.compare(model, packed, config, continued, kinds)
    return found.figures, page(config, found, pairs)


def page(config: Config, found: language.Comparison, pairs: list[tuple[str, str]]) -> str:
    """The page written to experiments/results."""
    rows = found.figures["train_rows"]
    data = (
        f"{rows} packed rows of training sentences, of which the steps see "
        f"{min(config.steps * config.batch_size, rows)}."
    )
    return (
        f"# Does SmolLM2 learn how films are reviewed?\n\n`{report.command(__file__, config)}`\n\n"
        f"{language.introduction(config, found.figures, data)}\n\n"
        f"Perplexity of the first {config.test} test sentences ({found.figures['test_rows']} packed rows; 95 % "
        f"intervals over rows):\n\n{found.perplexities}\n\n"
        "Perplexity of the dev sentences while it learns; they are the last of the training table, so sentences of one "
        f"review may lie on both sides:\n\n{found.curve}\n\n"
        f"Continuations of the first {config.words} words of the first test sentences twice as long or more (drawn "
        "at temperature 0.8 among the tokens of probability 0.95, the same key for both; at most 32 tokens):\n\n"
        f"{language.samples(('opening', 'the review', 'before', 'after'), pairs, found.wrote)}\n"
    )


def main(config: Config) -> None:
    """Runs, prints the page and writes it with its figures."""
    figures, text = run(config)
    report.write_page(config.name, text, [figures])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
