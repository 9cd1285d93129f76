"""The architecture and task of a model, as read from and written to ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.models.layers import ACTIVATION_FUNCTIONS

TASKS = ("classify", "regress", "features", "tag", "spans", "lm", "seq2seq")
LABELLED = ("classify", "regress", "tag")
"""Tasks whose outputs have names that the user chooses."""
WHOLE = ("classify", "regress", "features")
"""Tasks that read one vector a row."""
UNLIMITED = 2**31 - 1
"""The positions of a model that knows distances only."""
_SPANS = ("start", "end")
_REQUIRED = object()


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a model is built from; each family adds its own fields.

    Attributes:
        family: architecture, the ``model_type`` of Hugging Face.
        task: one of :data:`TASKS`.
        num_labels: outputs of the head; 0 without one.
        labels: a name for each output, in order.
        pooling: what the head reads: "mean" of the last hidden states under the attention mask, "cls" (the first
            token, through the pooler of families that have one), "first" (the first token's state itself), "last" (the
            last token) or "tokens" (every one).
        hidden_size: dimension of the hidden states.
        num_layers: of the encoder, or of the decoder where there is no encoder.
        initializer_range: standard deviation of what starts fresh.
        head_dropout: of what the head reads.
        dtype: of computation.
        raw: the fields of the ``config.json`` it came from, kept for writing it back.
    """

    family: str
    task: str
    num_labels: int
    labels: tuple[str, ...]
    pooling: str
    hidden_size: int
    num_layers: int
    initializer_range: float = 0.02
    head_dropout: float = 0.0
    dtype: str = field(default="float32", compare=False)
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def dropouts(self) -> tuple[float, ...]:
        """Every rate that training needs a key for."""
        return tuple(value for name, value in vars(self).items() if name.endswith("dropout"))


@dataclass(frozen=True, kw_only=True)
class TextConfig(ModelConfig):
    """Of a model that reads tokens.

    Attributes:
        vocab_size: tokens that have an embedding.
        max_positions: longest input in tokens; ``UNLIMITED`` where none is too long.
        num_heads: of attention.
        token_types: kinds of token, for pairs of texts; 0 when there is no table of them.
    """

    vocab_size: int
    max_positions: int
    num_heads: int
    token_types: int = 0

    @property
    def max_target_positions(self) -> int:
        """Longest output in tokens, of a model that has a decoder behind an encoder."""
        return self.max_positions

    @property
    def cache_sizes(self) -> tuple[int, int, int] | None:
        """Layers, key/value heads and head dimension of the decoder; None when there is none."""
        return None


@dataclass(frozen=True, kw_only=True)
class ImageConfig(ModelConfig):
    """Of a model that reads pixels ``[batch, height, width, channels]``.

    Attributes:
        image_size: height and width; None when any will do.
        channels: of a pixel, 3 for red, green and blue.
        mean: of each channel, for levels in 0..1: a pixel is (level / 255 − mean) / std.
        std: of each channel.
        preprocessing: the fields of the ``preprocessor_config.json`` it came from, kept for writing it back.
    """

    image_size: tuple[int, int] | None
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class Field(NamedTuple):
    """A field of ``config.json``: its name there, what it must be, and its value when the file does not say."""

    name: str
    kind: str
    default: Any = _REQUIRED


def size(name: str, default: Any = _REQUIRED) -> Field:
    """A whole number from 1 up."""
    return Field(name, "size", default)


def sizes(name: str, default: Any = _REQUIRED) -> Field:
    """A list of whole numbers from 1 up."""
    return Field(name, "sizes", default)


def number(name: str, default: Any = _REQUIRED) -> Field:
    """A number from 0 up."""
    return Field(name, "number", default)


def token(name: str, default: Any = _REQUIRED) -> Field:
    """The id of a token, a whole number from 0 up."""
    return Field(name, "token", default)


def stop_token(name: str) -> Field:
    """The id of the token that ends a text, or the first of several; None when none does."""
    return Field(name, "stop", None)


def flag(name: str, default: bool) -> Field:
    """True or false."""
    return Field(name, "flag", default)


def activation(name: str, default: Any = _REQUIRED) -> Field:
    """A key of ``ACTIVATION_FUNCTIONS``."""
    return Field(name, "activation", default)


def read_fields(raw: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Values by our names.

    Raises:
        InputError: a field is missing, or holds what no model can be built from; it is named as in the file.
    """
    missing = [entry.name for entry in fields.values() if entry.default is _REQUIRED and entry.name not in raw]
    if missing:
        raise InputError(
            f"config.json lacks {', '.join(missing)}: it is not a complete Hugging Face configuration of a "
            f"{raw.get('model_type')} model"
        )
    return {ours: _checked(entry, raw.get(entry.name, entry.default)) for ours, entry in fields.items()}


def _checked(entry: Field, value: Any) -> Any:
    if value is None and entry.default is None:
        return None
    if entry.kind == "size" and (type(value) is not int or value < 1):
        raise InputError(f"{entry.name} in config.json must be a whole number from 1 up; got {value!r}")
    if entry.kind == "stop" and isinstance(value, list) and value:
        value = value[0]
    if entry.kind in ("token", "stop") and (type(value) is not int or value < 0):
        raise InputError(f"{entry.name} in config.json must be a whole number from 0 up; got {value!r}")
    if entry.kind == "sizes":
        if not isinstance(value, Sequence) or not value or any(type(one) is not int or one < 1 for one in value):
            raise InputError(f"{entry.name} in config.json must be whole numbers from 1 up; got {value!r}")
        return tuple(value)
    if entry.kind == "number" and (type(value) not in (int, float) or not value >= 0):
        raise InputError(f"{entry.name} in config.json must be a number from 0 up; got {value!r}")
    if entry.kind == "flag" and type(value) is not bool:
        raise InputError(f"{entry.name} in config.json must be true or false; got {value!r}")
    if entry.kind == "activation":
        check_choice(entry.name, value, tuple(ACTIVATION_FUNCTIONS))
    return value


def check_heads(
    hidden_size: int, heads: int, *, names: tuple[str, str] = ("hidden_size", "num_attention_heads")
) -> None:
    """Refuses a size that cannot be cut into heads."""
    if hidden_size % heads:
        raise InputError(
            f"{names[0]} {hidden_size} is not a multiple of {names[1]} {heads}: the config.json is damaged"
        )


def check_choice(what: str, value: str, choices: Sequence[str]) -> str:
    """``value`` if it is among the choices, else an :class:`InputError` naming the nearest."""
    if value not in choices:
        raise InputError(f"{what} must be one of {', '.join(choices)}; got {value!r} ({nearest(str(value), choices)})")
    return value


class Request(NamedTuple):
    """What a caller asks of a model, beside its architecture."""

    task: str
    num_labels: int | None = None
    labels: Sequence[str] | None = None
    pooling: str | None = None


def output_names(request: Request, saved: Sequence[str]) -> tuple[str, ...]:
    """Names of the outputs: those asked for, else those in the file, else numbered.

    Args:
        request: of the caller.
        saved: the names in the file.

    Raises:
        InputError: the request contradicts itself, or does not say how many outputs there are.
    """
    task, count, labels = request.task, request.num_labels, request.labels
    if task not in LABELLED:
        if count or labels:
            raise InputError(
                f'task="{task}" has no head of labels: leave num_labels and labels out, or choose task="classify"'
            )
        return _SPANS if task == "spans" else ()
    if labels is not None and len(set(labels)) != len(labels):
        raise InputError(f"labels must differ from one another; got {list(labels)}")
    if labels is not None and count is not None and len(labels) != count:
        raise InputError(f"num_labels is {count} but {len(labels)} labels are named: {list(labels)}")
    if labels is not None:
        count = len(labels)
    if count is None:
        count = len(saved) or (1 if task == "regress" else 0)
    if count < 1:
        raise InputError(f'task="{task}" needs num_labels (or labels): this model does not come with a head')
    if labels is not None:
        return tuple(str(label) for label in labels)
    return tuple(saved) if len(saved) == count else tuple(f"LABEL_{index}" for index in range(count))
