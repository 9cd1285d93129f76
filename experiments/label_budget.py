r"""What does a number of labelled rows buy, by each way to use a pretrained model?

Sentiment of product reviews of at most 48 tokens. SmolLM2-135M-Instruct is asked with the prompt "Review: … Sentiment:"
and the words negative and positive: as it is (zero-shot); behind eight of the labelled rows (in context), with
contextual calibration too; and after it has learnt to write the word, by a prompt of 20 learned vectors (rate 1e-2), by
LoRA of rank 8 on all matrices (5e-4), or whole (3e-5): AdamW, batches of 8, warm-up over a tenth of the steps, linear
decay, 10 epochs of 16 rows, 4 of 64, 2 of 256, one of more. MiniLM, 22.7 M parameters, learns by 160 steps of 32 (1e-4)
from the labelled rows alone, or from them and from what the model with LoRA says of 1,024 reviews (distilled). Three
seeds draw the labelled rows; more rows hold the fewer. In context the examples are of the 16 rows, so that more rows
change nothing there. Accuracy on 400 test rows; FLOPs are the compiler's, of steps of 8 × 32 tokens (MiniLM: 32 × 32)
and of a row as long as the average.

    python experiments/label_budget.py                               hours on two cores
    python experiments/label_budget.py --sizes 16 64 256             the first three sizes

Writes experiments/results/label_budget.md, .csv and three pictures. A cell that is done is kept in a file of the folder
of that name: what is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import tyro

import jaxft as ft
from experiments import label_budget_page, report

TEMPLATE = "Review: {text}\nSentiment: {label}"
LONGEST, BATCH, LENGTHS = 48, 8, (32, 64)
EPOCHS = {16: 10, 64: 4, 256: 2}
SHOTS, UNLABELLED = 8, 1024
STUDENT_STEPS, STUDENT_BATCH = 160, 32
TUNED: dict[str, tuple[ft.Adaptation, float]] = {
    "soft prompt": (ft.prompt(length=20), 1e-2),
    "LoRA": (ft.lora(["**/attention/{query,key,value,output}/kernel", "**/feed_forward/*/kernel"], rank=8), 5e-4),
    "full": (ft.full(), 3e-5),
}
PROMPTED = ("zero-shot", "in context", "in context, calibrated")
STUDENTS = ("MiniLM alone", "distilled")
WAYS = (*PROMPTED, *TUNED, *STUDENTS)


@dataclass(frozen=True)
class Config:
    """The grid; a size of 0 is all rows."""

    sizes: tuple[int, ...] = (16, 64, 256, 1024, 0)
    seeds: tuple[int, ...] = (0, 1, 2)
    ways: tuple[str, ...] = WAYS
    test: int = 400
    name: str = "label_budget"


class Experiment:
    """The models, the rows, and a figure for each cell of the grid."""

    def __init__(self, config: Config):
        self.config = config
        self.model = ft.load_model("smollm2", task="lm")
        found = ft.data.sentiment("amazon")
        self.names = list(found.labels.names)
        self.train, self.test = self._short(found.train), self._short(found.test)
        self.test = self.test.take(np.random.default_rng(0).permutation(len(self.test)).tolist()[: config.test])
        self.truth = np.asarray(found.labels.ids(self.test))
        self.ids = np.asarray(found.labels.ids(self.train))

    def _short(self, table: ft.data.Table) -> ft.data.Table:
        lengths = [len(ids) for ids in self.model.tokenizer(list(table["text"]))["input_ids"]]
        return table.take([row for row, length in enumerate(lengths) if length <= LONGEST])

    def order(self, seed: int) -> list[int]:
        """Training rows as a seed draws them."""
        return np.random.default_rng(seed).permutation(len(self.train)).tolist()

    def labelled(self, size: int, seed: int) -> list[int]:
        """The labelled rows; the first 16 hold the examples."""
        return self.order(seed)[: size or None]

    def prompted(self, seed: int) -> dict[str, float]:
        """Accuracies without any training."""
        rows = self.labelled(16, seed)
        shots = ft.prompting.choose_shots(self.ids[rows].tolist(), SHOTS, seed=seed)
        examples = [({"text": self.train["text"][rows[k]]}, self.names[self.ids[rows[k]]]) for k in shots]
        asked = partial(ft.prompting.classify, self.model, labels=self.names, template=TEMPLATE)
        questions = [{"text": text} for text in self.test["text"]]
        free = [{"text": text} for text in ("N/A", "", "[MASK]")]
        shown = asked(questions, examples=examples).probabilities
        nothing = asked(free, examples=examples).probabilities
        found = {
            "zero-shot": asked(questions).probabilities,
            "in context": shown,
            "in context, calibrated": ft.prompting.contextual_calibration(shown, nothing),
        }
        return {name: self._right(p) for name, p in found.items()}

    def _right(self, probabilities: np.ndarray) -> float:
        return float(np.mean(np.argmax(probabilities, axis=1) == self.truth))

    def tuned(self, way: str, size: int, seed: int) -> dict[str, Any]:
        """Accuracy after training on the labelled rows, and what the model then says of the unlabelled ones."""
        adaptation, rate = TUNED[way]
        steps = self.steps(size)
        params = fit(self.model, adaptation, ft.cross_entropy(), rate, self.batches(size, seed), steps, seed)
        model = self.model._replace(params=params)
        said = self._said(model, self._unlabelled(seed)).tolist() if way == "LoRA" else None
        return {"accuracy": self.right(model), "said": said}

    def batches(self, size: int, seed: int, order: int | None = None) -> ft.data.Batches:
        """Prompts of the labelled rows that a seed draws, and the words to learn, in the order of another."""
        rows = self.labelled(size, seed)
        text = [TEMPLATE.format(text=self.train["text"][row], label="").rstrip() for row in rows]
        table = ft.data.Table.of({"prompt": text, "completion": [f" {self.names[self.ids[row]]}" for row in rows]})
        data = ft.data.prompts(self.model.tokenizer, table, max_length=LENGTHS[-1])
        return ft.data.batches(data, batch_size=BATCH, seed=seed if order is None else order, lengths=LENGTHS)

    def right(self, model: ft.Model) -> float:
        """Accuracy of a model that writes the word."""
        return self._right(self._said(model, list(self.test["text"])))

    def _said(self, model: ft.Model, texts: list[str]) -> np.ndarray:
        rows = [{"text": text} for text in texts]
        return ft.prompting.classify(model, rows, self.names, template=TEMPLATE, batch_size=16).probabilities

    def _unlabelled(self, seed: int) -> list[str]:
        return [self.train["text"][row] for row in self.order(seed)[-UNLABELLED:]]

    def steps(self, size: int) -> int:
        rows = size or len(self.train)
        return EPOCHS.get(size, 1) * rows // BATCH

    @cached_property
    def small(self) -> ft.Model:
        return ft.load_model("minilm", task="classify", labels=self.names)

    def student(self, way: str, size: int, seed: int, said: Any) -> float:
        """Accuracy of MiniLM."""
        rows = self.labelled(size, seed)
        texts = [self.train["text"][row] for row in rows]
        logits = np.log(np.eye(len(self.names))[self.ids[rows]] + 1e-4)
        if way == "distilled":
            texts, logits = texts + self._unlabelled(seed), np.concatenate([logits, np.log(np.asarray(said) + 1e-4)])
        data = ft.data.tokenise(self.small.tokenizer, ft.data.Table.of({"text": texts}), max_length=LENGTHS[-1])
        data = replace(data, columns={**data.columns, "teacher/logits": logits.astype(np.float32)})
        size = min(STUDENT_BATCH, len(texts))
        batches = ft.data.batches(data, batch_size=size, seed=seed, lengths=LENGTHS)
        objective = ft.combine(soft=ft.knowledge_distillation(None))
        params = fit(self.small, ft.full(), objective, 1e-4, batches, STUDENT_STEPS, seed)
        test = ft.data.tokenise(self.small.tokenizer, self.test, max_length=LENGTHS[-1], labels=self.truth)
        return ft.evaluate(self.small.apply, params, ft.data.eval_batches(test, batch_size=100))["accuracy"]

    def accuracy(self, way: str, size: int, seed: int) -> float:
        """Of a cell; what it needs of others is made once."""
        folder = self.config.name
        cause = {"size": size, "seed": seed, "test": self.config.test}
        if way in PROMPTED:
            once = {"seed": seed, "test": self.config.test}
            return report.kept(f"{folder}/prompted-{seed}", once, partial(self.prompted, seed))[way]
        name = f"{size or 'all'}-{seed}"
        if way in TUNED:
            file = f"{folder}/{way.lower().replace(' ', '_')}-{name}"
            return report.kept(file, cause, partial(self.tuned, way, size, seed))["accuracy"]
        said = None
        if way == "distilled":
            said = report.kept(f"{folder}/lora-{name}", cause, partial(self.tuned, "LoRA", size, seed))["said"]
        file = f"{folder}/{way.lower().replace(' ', '_')}-{name}"
        return report.kept(file, cause, partial(self.student, way, size, seed, said))


def fit(
    model: ft.Model,
    adaptation: ft.Adaptation,
    objective: ft.Objective,
    rate: float,
    batches: Any,
    steps: int,
    seed: int,
) -> Any:
    """The params after so many steps, bound."""
    step = ft.make_step(model.apply, adaptation, objective, ft.adamw(ft.warmup_linear(rate, steps)))
    frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
    update = jax.jit(step.update, donate_argnums=1)
    for number in range(steps):
        state, _ = update(frozen, state, batches[number])
    return adaptation.bind(frozen.model, state.delta)


def flops(experiment: Experiment, way: str) -> tuple[float, float]:
    """GFLOP of a training step, and of labelling a row, by the compiler."""
    model = experiment.small if way in STUDENTS else experiment.model
    tokens = int(np.mean([len(ids) for ids in model.tokenizer(experiment.test["text"])["input_ids"]]))
    if way in STUDENTS:
        return _step_gflop(model, ft.full(), (STUDENT_BATCH, 32)), row_gflop(model, model.params, tokens)
    asked = tokens + len(model.tokenizer(TEMPLATE.format(text="", label=""))["input_ids"])
    if way in PROMPTED:
        shots = 0 if way == "zero-shot" else SHOTS
        return 0.0, row_gflop(model, model.params, asked + shots * (asked + 2))
    adaptation, _ = TUNED[way]
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    return _step_gflop(model, adaptation, (BATCH, 32)), row_gflop(model, adaptation.bind(frozen, delta), asked)


def _inputs(shape: tuple[int, int]) -> dict[str, Any]:
    return {name: np.ones(shape, np.int32) for name in ("input_ids", "attention_mask")}


def row_gflop(model: ft.Model, params: Any, tokens: int) -> float:
    """Of a forward pass over a row of so many tokens."""
    program = jax.jit(lambda params, batch: model.apply(params, batch).logits)
    figures: Any = program.lower(params, _inputs((1, tokens))).compile().cost_analysis()
    return float(figures["flops"]) / 1e9


def _step_gflop(model: ft.Model, adaptation: ft.Adaptation, shape: tuple[int, int]) -> float:
    labels = {"labels": np.zeros(shape if model.config.task == "lm" else shape[:1], np.int32)}
    step = ft.make_step(model.apply, adaptation, ft.cross_entropy(), ft.adamw(1e-4))
    frozen, state = step.init(jax.random.key(0), model.params, batch := _inputs(shape) | labels)
    figures: Any = jax.jit(step.update).lower(frozen, state, batch).compile().cost_analysis()
    return float(figures["flops"]) / 1e9


def rows_of(experiment: Experiment) -> list[dict[str, Any]]:
    """Every cell of the grid."""
    config, rows = experiment.config, []
    for way in config.ways:
        cause = {"way": way, "test": config.test}
        step, row = report.kept(f"{config.name}/flops-{way.replace(' ', '_')}", cause, partial(flops, experiment, way))
        for size in config.sizes:
            steps = 0 if way in PROMPTED else STUDENT_STEPS if way in STUDENTS else experiment.steps(size)
            for seed in config.seeds:
                began = time.perf_counter()
                accuracy = experiment.accuracy(way, size, seed)
                print(
                    f"{way}, {size}, seed {seed}: {accuracy:.3f}, {time.perf_counter() - began:.0f} s", file=sys.stderr
                )
                facts = {"way": way, "rows": size or len(experiment.train), "seed": seed, "accuracy": accuracy}
                rows.append(facts | {"training_gflop": steps * step, "inference_gflop": row})
    return rows


def main() -> None:
    config = tyro.cli(Config)
    if unknown := [way for way in config.ways if way not in WAYS]:
        raise SystemExit(f"unknown: {unknown}; ways are {', '.join(WAYS)}")
    ft.enable_compile_cache()
    rows = rows_of(Experiment(config))
    label_budget_page.write(config.name, report.command(__file__, config), rows)


if __name__ == "__main__":
    main()
