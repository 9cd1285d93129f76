"""The architecture and task of a model, as read from and written to ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxft.errors import InputError, nearest

TASKS = ("classify", "regress", "features")
POOLINGS = ("mean", "cls")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh")


@dataclass(frozen=True)
class ModelConfig:
    """What a model is built from.

    Attributes:
        family: architecture, the ``model_type`` of Hugging Face.
        task: "classify", "regress" or "features" (no head).
        num_labels: outputs of the head; 0 without one.
        labels: a name for each output, in order.
        pooling: "mean" of the last hidden states under the attention mask, or "cls" (tanh layer on the first token).
        max_positions: longest input in tokens.
        raw: the fields of the ``config.json`` it came from, kept for writing it back.
    """

    family: str
    task: str
    num_labels: int
    labels: tuple[str, ...]
    pooling: str
    max_positions: int
    hidden_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    intermediate_size: int
    token_types: int
    activation: str
    norm_eps: float
    hidden_dropout: float
    attention_dropout: float
    head_dropout: float
    initializer_range: float
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


_BERT_FIELDS = {
    "max_positions": "max_position_embeddings",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "intermediate_size": "intermediate_size",
}
_BERT_DEFAULTS = {
    "token_types": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "norm_eps": ("layer_norm_eps", 1e-12),
    "hidden_dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initializer_range": ("initializer_range", 0.02),
}


def config_from_hf(
    raw: Mapping[str, Any], *, task: str, num_labels: int | None, labels: Sequence[str] | None, pooling: str | None
) -> ModelConfig:
    """Reads the fields of a ``config.json``, with what the caller asks for taking the place of what it says.

    Raises:
        InputError: an unsupported ``model_type`` or feature, a missing field, or a request that contradicts itself.
    """
    check_choice("task", task, TASKS)
    family = raw.get("model_type")
    if family != "bert":
        raise InputError(f"expected a config.json of model_type 'bert', the one supported; got {family!r}")
    _refuse_unsupported(raw)
    missing = [name for name in _BERT_FIELDS.values() if name not in raw]
    if missing:
        raise InputError(
            f"config.json lacks {', '.join(missing)}: it is not a complete Hugging Face BERT configuration"
        )
    values = {ours: raw[theirs] for ours, theirs in _BERT_FIELDS.items()}
    values |= {ours: raw.get(theirs, default) for ours, (theirs, default) in _BERT_DEFAULTS.items()}
    _refuse_unusable(values)
    dropout = raw.get("classifier_dropout")
    names = _labels(raw, task, num_labels, labels)
    return ModelConfig(
        family="bert",
        task=task,
        num_labels=len(names),
        labels=names,
        pooling=check_choice("pooling", pooling or saved_pooling(raw) or "mean", POOLINGS),
        head_dropout=values["hidden_dropout"] if dropout is None else dropout,
        raw=dict(raw),
        **values,
    )


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The fields of ``config.json``: those Hugging Face transformers reads, and ``jaxft`` with task and pooling."""
    raw = dict(config.raw)
    for ours, theirs in _BERT_FIELDS.items():
        raw[theirs] = getattr(config, ours)
    for ours, (theirs, _) in _BERT_DEFAULTS.items():
        raw[theirs] = getattr(config, ours)
    for name in ("id2label", "label2id", "num_labels", "problem_type", "torch_dtype"):
        raw.pop(name, None)
    classifier = config.num_labels > 0 and config.pooling == "cls"
    raw |= {
        "model_type": config.family,
        "architectures": ["BertForSequenceClassification" if classifier else "BertModel"],
        "classifier_dropout": config.head_dropout,
        "dtype": "float32",
        "jaxft": {"task": config.task, "pooling": config.pooling},
    }
    if config.num_labels:
        raw["id2label"] = {str(index): label for index, label in enumerate(config.labels)}
        raw["label2id"] = {label: index for index, label in enumerate(config.labels)}
        raw["problem_type"] = "regression" if config.task == "regress" else "single_label_classification"
    return raw


def saved_pooling(raw: Mapping[str, Any]) -> str | None:
    """The pooling a directory's head was trained with; None when the directory does not say."""
    ours = raw.get("jaxft")
    if isinstance(ours, Mapping) and "pooling" in ours:
        return str(ours["pooling"])
    return "cls" if _is_classifier(raw) else None


def saved_labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the outputs of a directory's head; empty when it has none."""
    saved = raw.get("id2label")
    if isinstance(saved, Mapping):
        try:
            return tuple(str(saved[key]) for key in sorted(saved, key=int))
        except ValueError as error:
            raise InputError(f"the keys of id2label in config.json must be whole numbers; got {list(saved)}") from error
    return ("LABEL_0", "LABEL_1") if _is_classifier(raw) else ()  # Hugging Face leaves its default out of the file


def saved_task(raw: Mapping[str, Any]) -> str:
    """What a directory's head was trained for; a head of one output that says nothing is a regression, as there."""
    ours = raw.get("jaxft")
    if isinstance(ours, Mapping) and "task" in ours:
        return str(ours["task"])
    problem = raw.get("problem_type")
    return "regress" if problem == "regression" or (problem is None and len(saved_labels(raw)) == 1) else "classify"


def _is_classifier(raw: Mapping[str, Any]) -> bool:
    return "BertForSequenceClassification" in str(raw.get("architectures"))


def check_choice(what: str, value: str, choices: Sequence[str]) -> str:
    """``value`` if it is among the choices, else an :class:`InputError` naming the nearest."""
    if value not in choices:
        raise InputError(f"{what} must be one of {', '.join(choices)}; got {value!r} ({nearest(str(value), choices)})")
    return value


def _refuse_unsupported(raw: Mapping[str, Any]) -> None:
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"expected absolute position embeddings; got {raw['position_embedding_type']!r}")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise InputError("expected a BERT encoder; this config.json describes a decoder (is_decoder)")
    check_choice("hidden_act", raw.get("hidden_act", "gelu"), ACTIVATIONS)


def _refuse_unusable(values: Mapping[str, Any]) -> None:
    """Refuses numbers no model can be built from, under the names they have in the file."""
    names = _BERT_FIELDS | {ours: theirs for ours, (theirs, _) in _BERT_DEFAULTS.items()}
    for ours, theirs in names.items():
        value = values[ours]
        if ours in (*_BERT_FIELDS, "token_types"):
            if type(value) is not int or value < 1:
                raise InputError(f"{theirs} in config.json must be a whole number from 1 up; got {value!r}")
        elif ours != "activation" and (type(value) not in (int, float) or not value >= 0):
            raise InputError(f"{theirs} in config.json must be a number from 0 up; got {value!r}")
    size, heads = values["hidden_size"], values["num_heads"]
    if size % heads:
        raise InputError(
            f"hidden_size {size} is not a multiple of num_attention_heads {heads}: the config.json is damaged"
        )


def _labels(raw: Mapping[str, Any], task: str, num_labels: int | None, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the outputs: those asked for, else those in the file, else numbered."""
    if task == "features":
        if num_labels or labels:
            raise InputError('task="features" has no head: leave num_labels and labels out, or choose task="classify"')
        return ()
    if labels is not None and len(set(labels)) != len(labels):
        raise InputError(f"labels must differ from one another; got {list(labels)}")
    if labels is not None and num_labels is not None and len(labels) != num_labels:
        raise InputError(f"num_labels is {num_labels} but {len(labels)} labels are named: {list(labels)}")
    if labels is not None:
        num_labels = len(labels)
    names = saved_labels(raw)
    if num_labels is None:
        num_labels = len(names) or (1 if task == "regress" else 0)
    if num_labels < 1:
        raise InputError(f'task="{task}" needs num_labels (or labels): this model does not come with a head')
    if labels is not None:
        return tuple(str(label) for label in labels)
    return names if len(names) == num_labels else tuple(f"LABEL_{index}" for index in range(num_labels))
