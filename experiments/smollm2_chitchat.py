"""Does SmolLM2 learn how people chat from a few hundred conversations?

SmolLM2-135M-Instruct with LoRA on all matrices of its layers, on the chitchat conversations of the packaged set: the
last turns of each that fit in 256 tokens, through the model's chat template, packed into rows of 512 tokens; loss on
the replies alone. The perplexity is that of the replies, their ends included, in conversations that were held out.

    python experiments/smollm2_chitchat.py            about ten minutes on two cores, 6 GB of memory

Perplexity of the replies' tokens 66.7 before and 35.6 after, of their words without the ends 58.6 and 38.7; the replies
become as short and casual as those people write, though not as apt.

The learning rate, 5e-4, and the number of steps were set before anything was measured on the test conversations; the
dev conversations, the last of the training table, are watched and choose nothing.
Result: experiments/results/NAME.md and NAME.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

import jaxft as ft
from experiments import language, report


@dataclass(frozen=True)
class Config:
    """The run.

    Attributes:
        conversations: of the training table, the first so many.
        dev: of the training table, the last so many.
        test: of the test table, the first so many.
        max_length: tokens of a conversation.
        length: tokens of a packed row.
        batch_size: rows a step.
        steps: of training.
        rank: of LoRA; alpha is twice that.
        rate: the peak learning rate.
        seed: of the adapter and the order of the rows.
        replies: test conversations whose second message is written before and after.
        name: of the files in experiments/results.
    """

    conversations: int = 480
    dev: int = 30
    test: int = 120
    max_length: int = 256
    length: int = 512
    batch_size: int = 2
    steps: int = 84
    rank: int = 8
    rate: float = 5e-4
    seed: int = 0
    replies: int = 10
    name: str = "smollm2_chitchat"


def prompts(test: ft.data.Table, count: int) -> list[tuple[str, str]]:
    """First messages of three words or more, and what was answered: of the first such test conversations."""
    pairs = ((held[0]["content"], held[1]["content"]) for held in test["messages"])
    return [pair for pair in pairs if len(pair[0].split()) >= 3][:count]


def replies(model: ft.Model, params: Any, questions: list[str]) -> list[str]:
    """The likeliest replies."""
    conversations = [[{"role": "user", "content": question}] for question in questions]
    return ft.reply(model, conversations, params=params, max_new_tokens=40)


def run(config: Config) -> tuple[dict[str, Any], str]:
    """The figures, and the page of the results."""
    ft.enable_compile_cache()
    model = ft.load_model("smollm2", task="lm")
    data = ft.data.chitchat()

    def rows(table: ft.data.Table) -> ft.data.Dataset:
        return ft.data.dialogue(model.tokenizer, table, max_length=config.max_length, length=config.length)

    last = len(data.train)
    packed = language.Rows(
        rows(data.train.take(range(config.conversations))),
        rows(data.train.take(range(last - config.dev, last))),
        rows(data.test.take(range(config.test))),
    )
    pairs = prompts(data.test, config.replies)
    questions = [question for question, _ in pairs]
    found = language.compare(
        model,
        packed,
        config,
        lambda params: replies(model, params, questions),
        ("all tokens of the replies", "words only", "the ends of replies"),
    )
    return found.figures, page(config, found, pairs)


def page(config: Config, found: language.Comparison, pairs: list[tuple[str, str]]) -> str:
    """The page written to experiments/results."""
    data = (
        f"{config.conversations} training conversations, at most {config.max_length} tokens of each, in "
        f"{found.figures['train_rows']} rows."
    )
    return (
        f"# Does SmolLM2 learn how people chat?\n\n`{report.command(__file__, config)}`\n\n"
        f"{language.introduction(config, found.figures, data)}\n\n"
        f"Perplexity of the replies in the first {config.test} test conversations ({found.figures['test_rows']} packed "
        f"rows; 95 % intervals over rows):\n\n{found.perplexities}\n\n"
        f"Perplexity of the replies in the dev conversations while it learns:\n\n{found.curve}\n\n"
        "Likeliest replies to the first test conversations that open with three words or more (a slash is a line "
        "break; at most 40 tokens):\n\n"
        f"{language.samples(('message', 'the person’s reply', 'before', 'after'), pairs, found.wrote)}\n"
    )


def main(config: Config) -> None:
    """Runs, prints the page and writes it with its figures."""
    figures, text = run(config)
    report.write_page(config.name, text, [figures])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
