"""``--task spans``: questions answered by a part of a context, or by nothing in it.

References:
    Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", 2018.
    Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import ordered_batches, random_tokens, training_batches
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check
from jaxft.errors import InputError
from jaxft.files import read_json_object

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model, Objective

NO_ANSWER = "no answer"
"""The label of a run some of whose questions have none: its prediction is "" where [CLS] beats the best span."""


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import gold_answers, read_table

    needed = ("question", "context", "answers") if labelled else ("question", "context")
    rows = _squad(Path(source)) if source.lower().endswith(".json") else read_table(source, require=needed)
    if not labelled:
        return rows.drop(*(name for name in ("answers", "answer_start", "is_impossible") if name in rows))
    rows = _two_columns(rows)
    marks = rows["is_impossible"] if "is_impossible" in rows else (False,) * len(rows)
    for row, (answers, impossible) in enumerate(zip(gold_answers(rows), marks, strict=True)):
        _check_mark(rows.where(row), answers, impossible)
    return rows


def _check_mark(where: str, answers: Sequence[tuple[str, int]], impossible: Any) -> None:
    """Refuses a question that lacks an answer without saying that its context holds none."""
    if impossible not in (True, False, None):
        raise InputError(f"is_impossible is true or false, but {where} has {impossible!r}")
    if impossible and answers:
        raise InputError(f"the question in {where} is marked is_impossible but has the answer {answers[0][0]!r}")
    if not impossible and not answers:
        raise InputError(
            f"the question in {where} has no answer; remove such rows, or mark those whose context holds none with "
            "is_impossible: true"
        )


def _squad(path: Path) -> Table:
    """The questions of a file in SQuAD's format."""
    from jaxft.data import Table

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    content = read_json_object(path)
    columns: dict[str, list[Any]] = {"id": [], "question": [], "context": [], "answers": [], "is_impossible": []}
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    columns["id"].append(str(asked.get("id", len(columns["id"]) + 1)))
                    columns["question"].append(asked["question"])
                    columns["context"].append(paragraph["context"])
                    columns["answers"].append(asked.get("answers", []))
                    columns["is_impossible"].append(asked.get("is_impossible", False))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not in the format of SQuAD ({error!r}): expected "
            '{"data": [{"paragraphs": [{"context": …, "qas": [{"question": …, "answers": […]}]}]}]}'
        ) from error
    return Table.of(columns, str(path))


def _two_columns(rows: Table) -> Table:
    """Answers that are objects with a text and a place, as columns of texts and of places."""
    if not any(_are_objects(answers) for answers in rows["answers"]):
        return rows
    texts, starts = [], []
    for row, answers in enumerate(rows["answers"]):
        if not (_are_objects(answers) or answers in ([], (), None)):
            raise InputError(f"answers are objects with text and answer_start, but {rows.where(row)} has {answers!r}")
        for answer in answers or ():
            if not {"text", "answer_start"} <= answer.keys():
                raise InputError(f"an answer needs a text and an answer_start, but {rows.where(row)} has {answer!r}")
        texts.append([answer["text"] for answer in answers or ()])
        starts.append([answer["answer_start"] for answer in answers or ()])
    columns = {**rows.columns, "answers": tuple(texts), "answer_start": tuple(starts)}
    return type(rows)(columns, rows.source, rows.lines)


def _are_objects(answers: Any) -> bool:
    listed = isinstance(answers, Sequence) and not isinstance(answers, str) and len(answers) > 0
    return listed and all(isinstance(answer, Mapping) for answer in answers)


def _labels(rows: Table) -> Labels:
    """Whether the model learns that a context holds no answer."""
    from jaxft.data import gold_answers

    return () if all(gold_answers(rows)) else (NO_ANSWER,)


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import spans

    length = configuration["max_length"]
    return spans(model.tokenizer, rows, max_length=length, stride=length // 4)


def _describe(dataset: Any) -> str:
    return f"{len(dataset.contexts):,} questions in {len(dataset):,} windows of at most {dataset.max_length} tokens"


def _objective() -> Objective:
    from jaxft.objectives import span_cross_entropy

    return span_cross_entropy()


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    return {**random_tokens(model, configuration, rows), "labels": np.zeros((rows, 2), np.int32)}


def _answers(learned: Learned, dataset: Any) -> list[str]:
    from jaxft.data import span_answers
    from jaxft.train import predict

    logits = predict(learned.model.apply, learned.params, ordered_batches(dataset, learned.configuration))
    return span_answers(dataset, logits, null_threshold=0.0 if NO_ANSWER in learned.labels else None)


def _evaluate(learned: Learned, rows: Table, dataset: Any) -> dict[str, float]:
    from jaxft.data import gold_answers
    from jaxft.metrics import answer_metrics

    truths = [[text for text, _ in answers] for answers in gold_answers(rows)]
    return answer_metrics(_answers(learned, dataset), truths)


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    found = _answers(learned, _dataset(learned.model, learned.configuration, rows, ()))
    for row, answer in enumerate(found):
        named = {"id": rows["id"][row]} if "id" in rows else {}
        yield {**named, "question": rows["question"][row], "answer": answer}


SPANS = Task(
    name="spans",
    model_task="spans",
    options={"max_length": 384},
    columns=("question", "context", "answers", "answer_start"),
    read=_read,
    labels=_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=_describe,
    objective=_objective,
    example=_example,
    evaluate=_evaluate,
    figures=(("exact_match", "exact match"), ("f1", "F1 of words")),
    best=("f1", "max"),
    loss="cross-entropy of the ends (nats)",
    predict=_predict,
)
