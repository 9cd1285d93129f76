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
    train = rows(data.train.take(range(config.conversations)))
    dev = rows(data.train.take(range(last - config.dev, last)))
    test = rows(data.test.take(range(config.test)))
    batches = ft.data.eval_batches(test, batch_size=config.batch_size)
    pairs = prompts(data.test, config.replies)
    questions = [question for question, _ in pairs]

    before = language.token_nll(model, model.params, batches)
    said_before = replies(model, model.params, questions)
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
    after = language.token_nll(model, done.params, batches)
    said_after = replies(model, done.params, questions)

    words = (before.labels != language.IGNORED) & (before.labels != model.tokenizer.eos_token_id)
    ends = before.labels == model.tokenizer.eos_token_id
    counts = {"all tokens of the replies": words | ends, "words only": words, "the ends of replies": ends}
    lines = [
        (name, f"{chosen.sum():,}", *(language.shown(language.figure(found, chosen)) for found in (before, after)))
        for name, chosen in counts.items()
    ]
    figures = {
        "train_rows": len(train),
        "test_rows": len(test),
        "reply_tokens": int((words | ends).sum()),
        "fill_rate": ft.data.fill_rate(train),
        "perplexity_before": language.figure(before)[0],
        "perplexity_after": language.figure(after)[0],
        "trained": done.trained,
        "minutes": done.minutes,
        "step_seconds": done.step_seconds,
        "memory_mib": report.peak_mebibytes(),
    }
    samples = [
        tuple(map(language.cell, (question, answer, one, other)))
        for (question, answer), one, other in zip(pairs, said_before, said_after, strict=True)
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
        f"# Does SmolLM2 learn how people chat?\n\n`{report.command(__file__, config)}`\n\n"
        f"SmolLM2-135M-Instruct, LoRA of rank {config.rank} on all matrices of its layers ({figures['trained']:,} "
        f"parameters learn), {config.steps} steps of {config.batch_size} × {config.length} tokens, peak learning rate "
        f"{config.rate:g}. {config.conversations} training conversations, at most {config.max_length} tokens of each, "
        f"in {figures['train_rows']} packed rows, {100 * figures['fill_rate']:.1f} % of whose places hold a token. "
        f"A step takes {figures['step_seconds']:.1f} s ({tokens / figures['step_seconds']:.0f} tokens/s), training "
        f"{figures['minutes']:.1f} minutes, {figures['memory_mib']:,.0f} MiB at most. {report.machine()}\n\n"
        f"Perplexity of the replies in the first {config.test} test conversations ({figures['test_rows']} packed rows; "
        "95 % intervals over rows):\n\n"
        f"{report.markdown_table(('tokens', 'count', 'before', 'after'), lines)}\n\n"
        "Perplexity of the replies in the dev conversations while it learns:\n\n"
        f"{report.markdown_table(('step', 'perplexity'), curve)}\n\n"
        "Likeliest replies to the first test conversations that open with three words or more (a slash is a line "
        "break; at most 40 tokens):\n\n"
        f"{report.markdown_table(('message', 'the person’s reply', 'before', 'after'), samples)}\n"
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
