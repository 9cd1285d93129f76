r"""With few labelled sentences, should a model learn everything it can, or as little as possible?

MiniLM on film sentences: a linear probe, the top two layers, and LoRA of rank 1 and 16, each trained on 64, 256 and
1,024 labelled rows, drawn anew for each of three seeds from a quarter of the training rows. Every run takes 80 steps of
16 rows with AdamW, so that methods and amounts of rows differ in nothing else; texts are cut at 32 tokens. There is no
dropout, so that what lies below the first layer that learns is computed once. The learning rates are those of
`adaptation_methods.py`. Accuracy on every second of the test rows, 1,064 of them.

    python experiments/few_labels.py                     36 runs in nine programs
    python experiments/few_labels.py --rows 64 --method probe --seed 0                                 a minute, one run
    python experiments/few_labels.py --list

It writes experiments/results/few_labels/report: table.md, `data_efficiency.svg` beside it, and index.html to browse.
What is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

from dataclasses import dataclass

import optax

import jaxft as ft

RATES = {"probe": 1e-2, "top": 1e-4, "lora": 1e-3}


@dataclass(frozen=True)
class Config:
    """One run.

    Attributes:
        method: probe trains the head, top the last two layers as well, lora low-rank updates of query and value.
        rank: of the updates.
        rows: labelled sentences, drawn by the seed.
        steps: updates of 16 rows.
        seed: of the head, the rows and their order.
    """

    method: str = "lora"
    rank: int = 1
    rows: int = 1024
    steps: int = 80
    seed: int = 0


def adaptation(c: Config) -> ft.Adaptation:
    if c.method == "probe":
        return ft.tune("head/**")
    if c.method == "top":
        return ft.tune(["encoder/layer_{4,5}/**", "head/**"])
    return ft.chain(ft.lora("**/attention/{query,value}/kernel", rank=c.rank, alpha=16), ft.tune("head/**"))


def build(c: Config) -> ft.Experiment:
    movies = ft.data.sentiment("movies")
    return ft.Experiment(
        model=ft.load_model("minilm", task="classify", labels=movies.labels.names, dropout=0.0, seed=c.seed),
        data={
            "train": movies.train.take(range(0, 8440, 4)),
            "test": movies.test.take(range(0, 2128, 2)),
            "labels": movies.labels,
        },
        adaptation=adaptation(c),
        objective=ft.cross_entropy(),
        optimizer=optax.adamw(RATES[c.method], weight_decay=0.01),
        steps=c.steps,
        seed=c.seed,
        batch_size=16,
        rows=c.rows,
        max_length=32,
    )


if __name__ == "__main__":
    few = {"rows": (64, 256, 1024), "seed": range(3)}
    ft.main(
        Config,
        build,
        grid=ft.grid(method=("probe", "top"), **few) + ft.grid(method="lora", rank=ft.masked(1, 16), **few),
    )
