"""Where each array of a Hugging Face file belongs in the params, one table read both ways."""

from __future__ import annotations

from typing import NamedTuple

from jaxft.models.config import ModelConfig


class Entry(NamedTuple):
    """One array: its path here, its name there, its shape here, and whether it is stored transposed there."""

    path: str
    name: str
    shape: tuple[int, ...]
    transpose: bool


# Path here, module there, and the fields of the configuration that give its sizes.
_EMBEDDINGS = (
    ("embeddings/word", "embeddings.word_embeddings", "vocab_size"),
    ("embeddings/position", "embeddings.position_embeddings", "max_positions"),
    ("embeddings/token_type", "embeddings.token_type_embeddings", "token_types"),
)
_NORMS = (("embeddings/norm", "embeddings.LayerNorm"),)
_LAYER_DENSE = (
    ("attention/query", "attention.self.query", "hidden_size", "hidden_size"),
    ("attention/key", "attention.self.key", "hidden_size", "hidden_size"),
    ("attention/value", "attention.self.value", "hidden_size", "hidden_size"),
    ("attention/output", "attention.output.dense", "hidden_size", "hidden_size"),
    ("feed_forward/up", "intermediate.dense", "hidden_size", "intermediate_size"),
    ("feed_forward/down", "output.dense", "intermediate_size", "hidden_size"),
)
_LAYER_NORMS = (("attention/norm", "attention.output.LayerNorm"), ("feed_forward/norm", "output.LayerNorm"))
_POOLER = ("pooler", "pooler.dense", "hidden_size", "hidden_size")
_HEAD = ("head", "classifier", "hidden_size", "num_labels")

PREFIX = "bert."
"""What backbone names start with in a file written from a class with a head."""

IGNORED = ("embeddings.position_ids",)
"""Arrays of a file that are no parameters."""


def entries(config: ModelConfig) -> list[Entry]:
    """Every array of the model, named as in a file without :data:`PREFIX`."""

    def size(field: str) -> int:
        return int(getattr(config, field))

    def dense(path: str, name: str, inputs: str, outputs: str) -> list[Entry]:
        return [
            Entry(f"{path}/kernel", f"{name}.weight", (size(inputs), size(outputs)), True),
            Entry(f"{path}/bias", f"{name}.bias", (size(outputs),), False),
        ]

    def norm(path: str, name: str) -> list[Entry]:
        shape = (config.hidden_size,)
        return [
            Entry(f"{path}/scale", f"{name}.weight", shape, False),
            Entry(f"{path}/bias", f"{name}.bias", shape, False),
        ]

    found = [
        Entry(f"{path}/embedding", f"{name}.weight", (size(rows), config.hidden_size), False)
        for path, name, rows in _EMBEDDINGS
    ]
    found += [entry for row in _NORMS for entry in norm(*row)]
    for index in range(config.num_layers):
        here, there = f"encoder/layer_{index}/", f"encoder.layer.{index}."
        found += [entry for path, name, *sizes in _LAYER_DENSE for entry in dense(here + path, there + name, *sizes)]
        found += [entry for path, name in _LAYER_NORMS for entry in norm(here + path, there + name)]
    if config.pooling == "cls":
        found += dense(*_POOLER)
    if config.num_labels:
        found += dense(*_HEAD)
    return found


def is_classifier(config: ModelConfig) -> bool:
    """Whether Hugging Face has a class with the head: only on the pooled first token."""
    return config.num_labels > 0 and config.pooling == "cls"


def file_entries(config: ModelConfig) -> list[Entry]:
    """Every array of the model, named as in a file of the Hugging Face class that holds it."""
    prefix = PREFIX if is_classifier(config) else ""
    return [
        entry if entry.name.startswith(f"{_HEAD[1]}.") else entry._replace(name=prefix + entry.name)
        for entry in entries(config)
    ]


def is_head(entry: Entry) -> bool:
    """Whether the array may be absent from a pretrained file and start fresh: the head's and the pooler's."""
    return entry.path.startswith((f"{_HEAD[0]}/", f"{_POOLER[0]}/"))
