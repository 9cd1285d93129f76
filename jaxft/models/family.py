"""What the file of one architecture provides, and what a ``config.json`` says of the task it was saved for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxft.errors import InputError
from jaxft.models.config import (
    LABELLED,
    TASKS,
    ModelConfig,
    Request,
    check_choice,
    output_names,
)
from jaxft.models.keys import Entry


class Family(NamedTuple):
    """An architecture.

    Attributes:
        model_type: its name in ``config.json``.
        config: the class of its configuration.
        fields: its own fields, from those of ``config.json``; what it cannot read it refuses.
        entries: every array of a model.
        module: makes the Flax module: ``module(config, dtype, remat)``.
        tasks: which it can be loaded for.
        poolings: what a head over whole rows may read, the default first.
        prefix: what names start with in a file of a class with a head.
        base: the Hugging Face class without a head.
        classes: the Hugging Face class with the head of a task; for "classify" and "regress" the one that reads
            ``class_pooling``.
        class_pooling: what that class reads.
        pooled_classes: further classes for "classify", by the pooling each reads.
        ignored: regular expressions of names in files that are no parameters of ours: masks, other heads, tied copies.
        decoder_names: the same for the decoder, which a task that reads the encoder alone leaves out.
    """

    model_type: str
    config: type[ModelConfig]
    fields: Callable[[Mapping[str, Any]], dict[str, Any]]
    entries: Callable[[Any], list[Entry]]
    module: Callable[..., Any]
    tasks: tuple[str, ...]
    poolings: tuple[str, ...]
    prefix: str
    base: str
    classes: Mapping[str, str]
    class_pooling: str = "cls"
    pooled_classes: Mapping[str, str] = {}
    ignored: tuple[str, ...] = ()
    decoder_names: tuple[str, ...] = ()


def config_from_hf(family: Family, raw: Mapping[str, Any], request: Request) -> ModelConfig:
    """Reads the fields of a ``config.json``, with what the caller asks for taking the place of what it says.

    Raises:
        InputError: an unsupported feature, a missing field, or a request that contradicts itself or the family.
    """
    task = check_choice("task", request.task, TASKS)
    if task not in family.tasks:
        raise InputError(
            f'{family.model_type} models are loaded for {", ".join(family.tasks)}; task="{task}" is for other families'
        )
    fields = family.fields(raw)
    names = output_names(request, saved_labels(raw))
    return family.config(
        family=family.model_type,
        task=task,
        num_labels=len(names),
        labels=names,
        pooling=_pooling(family, raw, request),
        raw=dict(raw),
        **fields,
    )


def _pooling(family: Family, raw: Mapping[str, Any], request: Request) -> str:
    if request.task in ("tag", "spans", "lm", "seq2seq"):
        if request.pooling is not None:
            raise InputError(f'task="{request.task}" reads every token: leave pooling out; got {request.pooling!r}')
        return "tokens"
    saved = saved_pooling(family, raw)
    fallback = saved if saved in family.poolings else family.poolings[0]
    return check_choice("pooling", request.pooling or fallback, family.poolings)


def config_to_hf(family: Family, config: ModelConfig) -> dict[str, Any]:
    """The fields of ``config.json``: those Hugging Face transformers reads, and ``jaxft`` with task and pooling."""
    raw = dict(config.raw)
    for name in ("id2label", "label2id", "num_labels", "problem_type", "torch_dtype"):
        raw.pop(name, None)
    raw |= {
        "model_type": family.model_type,
        "architectures": [class_of(family, config) or family.base],
        "dtype": "float32",
        "jaxft": {"task": config.task, "pooling": config.pooling},
    }
    if config.task in LABELLED:
        raw["id2label"] = {str(index): label for index, label in enumerate(config.labels)}
        raw["label2id"] = {label: index for index, label in enumerate(config.labels)}
    if config.task in ("classify", "regress"):
        raw["problem_type"] = "regression" if config.task == "regress" else "single_label_classification"
    return raw


def class_of(family: Family, config: ModelConfig) -> str | None:
    """The Hugging Face class that holds the model with its head; None when it has no such class."""
    if config.task in ("classify", "regress") and config.pooling != family.class_pooling:
        return family.pooled_classes.get(config.pooling)
    return family.classes.get(config.task)


def saved_pooling(family: Family, raw: Mapping[str, Any]) -> str | None:
    """The pooling a directory's head was trained with; None when the directory does not say."""
    ours = raw.get("jaxft")
    if isinstance(ours, Mapping) and "pooling" in ours:
        return str(ours["pooling"])
    task, names = _class_task(raw), raw.get("architectures") or ()
    other = next((pooling for pooling, name in family.pooled_classes.items() if name in names), None)
    return None if task is None else other or family.class_pooling if task == "classify" else "tokens"


def saved_labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the outputs of a directory's head; empty when it has none."""
    if raw.get("architectures") and _trained_task(raw) not in LABELLED:
        return ()  # files of language models and bare encoders may hold the default names all the same
    saved = raw.get("id2label")
    if isinstance(saved, Mapping):
        try:
            return tuple(str(saved[key]) for key in sorted(saved, key=int))
        except ValueError as error:
            raise InputError(f"the keys of id2label in config.json must be whole numbers; got {list(saved)}") from error
    # Hugging Face leaves its default out of the file.
    return ("LABEL_0", "LABEL_1") if _class_task(raw) in ("classify", "tag") else ()


def saved_task(raw: Mapping[str, Any]) -> str | None:
    """What a directory's head was trained for; a head of one output that says nothing is a regression, as there."""
    task = _trained_task(raw)
    if task != "classify" or _own_task(raw) is not None:
        return task
    problem = raw.get("problem_type")
    return "regress" if problem == "regression" or (problem is None and len(saved_labels(raw)) == 1) else "classify"


def _trained_task(raw: Mapping[str, Any]) -> str | None:
    return _own_task(raw) or _class_task(raw)


def _own_task(raw: Mapping[str, Any]) -> str | None:
    """The task that a directory of ours was saved for."""
    ours = raw.get("jaxft")
    return str(ours["task"]) if isinstance(ours, Mapping) and "task" in ours else None


_CLASS_TASKS = (
    ("ForSequenceClassification", "classify"),
    ("ForImageClassification", "classify"),
    ("ForImageClassificationWithTeacher", "classify"),
    ("ForTokenClassification", "tag"),
    ("ForQuestionAnswering", "spans"),
    ("ForCausalLM", "lm"),
    ("LMHeadModel", "lm"),
    ("ForConditionalGeneration", "seq2seq"),
    ("EncoderDecoderModel", "seq2seq"),
)


def _class_task(raw: Mapping[str, Any]) -> str | None:
    """The task that the Hugging Face class in ``architectures`` is for."""
    classes = raw.get("architectures") or ()
    return next((task for suffix, task in _CLASS_TASKS if any(str(name).endswith(suffix) for name in classes)), None)


def fits_head(family: Family, raw: Mapping[str, Any], config: ModelConfig) -> bool:
    """Whether the head in the files answers the same task, reads the same features and gives as many outputs.

    Raises:
        InputError: it does, but was trained to give a row several labels.
    """
    if saved_task(raw) != config.task:
        return False
    if config.task not in LABELLED:
        return True
    same = config.task == "tag" or saved_pooling(family, raw) == config.pooling
    fits = same and len(saved_labels(raw)) == config.num_labels
    if fits and raw.get("problem_type") == "multi_label_classification":
        raise InputError(
            "the head in the files may give a row several labels (multi_label_classification), which no task does: "
            "drop problem_type from config.json to read it as one of a single label"
        )
    return fits
