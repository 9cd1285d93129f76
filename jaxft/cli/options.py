"""What ``jaxft finetune`` is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxft.cli.method import Quantised, entry, settings
from jaxft.cli.methods import Name
from jaxft.cli.tasks import TASKS, Task
from jaxft.errors import InputError
from jaxft.files import ASSETS

_COUNTS = (
    "epochs",
    "batch_size",
    "accumulate",
    "max_length",
    "max_target_length",
    "image_size",
    "evaluate_every",
    "save_every",
    "rank",
    "size",
    "length",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a training run."""

    model: str
    """Asset ("minilm"), directory with config.json and safetensors, GGUF file, or hub id ("owner/name")."""
    task: Literal["classify", "regress", "tag", "spans", "lm", "chat", "seq2seq", "images"] = "classify"
    """What is learned: classify and regress texts or pairs of texts, tag words, find spans that answer questions,
    lm: continue texts, chat: reply, seq2seq: write a text from another, images: classify images."""
    train: str
    """Training rows: a .csv, .tsv, .jsonl or .parquet file, or a hub data set such as "glue:sst2@train".
    Columns: text, optionally text_pair, and label (classify, regress); words, tags (tag); question, context, answers
    (spans, or a .json file like SQuAD's); text (lm, or a .txt file of documents between blank lines); messages
    (chat); text, target (seq2seq); image, label (images, or a directory with a folder for each class)."""
    eval: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None
    """Rows to evaluate on after every epoch; the checkpoint with the best accuracy on them (regress: mean squared
    error, tag and spans: F1, lm, chat and seq2seq: perplexity) is the one that predicts."""
    method: Name
    """What learns beside the head. full: everything. head: nothing. top: the last --layers layers. lora, rslora,
    lora-fa, dora, pissa, olora, vera, loha, lokr: low-rank updates of --target. ia3: factors of keys, values and inner
    states. bitfit: biases. norms: norms. houlsby, pfeiffer, parallel: bottlenecks of --size. prompt, prefix: --length
    vectors before the text, or before the keys of each layer. Models of tokens (lm, chat, seq2seq) have no head."""
    out: Path
    """Directory of the run, new or empty."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint, bit for bit, or start it if there is none."""
    layers: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 2)")] = None
    """top: how many of the last layers learn."""
    rank: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 8; 256 for vera)")] = None
    """Low-rank methods: rank of the updates."""
    alpha: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 16; 8 for loha, lokr)")
    ] = None
    """Most low-rank methods: the updates are scaled by alpha / rank."""
    dropout: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 0)")] = None
    """Most low-rank methods: dropout rate on the input of the updates."""
    target: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(
            metavar="GLOB [GLOB ...]",
            help_behavior_hint="(default: '**/attention/{query,value}/kernel', or convolutions of one by one)",
        ),
    ] = None
    """Low-rank methods: globs over the paths of the weights to adapt."""
    size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64; 48 for pfeiffer, parallel)")
    ] = None
    """houlsby, pfeiffer, parallel: dimension of the bottlenecks."""
    length: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 20)")] = None
    """prompt, prefix: how many vectors."""
    quantise: Annotated[
        Quantised | None, tyro.conf.arg(metavar="{int8,nf4}", help_behavior_hint="(default: as it is)")
    ] = None
    """Keep the kernels of the base in eight or four bits, under a method that leaves them as they are."""
    lr: Annotated[
        float | None,
        tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: the method's; 5e-5 full, 1e-3 lora, 1e-2 head)"),
    ] = None
    """Peak learning rate."""
    epochs: int = 3
    """Passes over the training rows."""
    batch_size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 32; 8 for lm, chat, seq2seq)")
    ] = None
    """Rows a step."""
    accumulate: int = 1
    """Steps whose gradients are averaged into one update."""
    max_length: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="INT",
            help_behavior_hint="(default: 128; 256 for lm and seq2seq, 384 for spans, 512 for chat; or what the model "
            "can read)",
        ),
    ] = None
    """Tokens a row may have; longer rows are cut, and counted. spans: longer contexts become several windows; lm:
    the length of the rows that documents are packed into."""
    max_target_length: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64; 48 for pfeiffer, parallel)")
    ] = None
    """seq2seq: tokens a target may have, and a generated text."""
    generate_rows: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 100)")] = None
    """seq2seq: evaluation rows whose texts are generated for ROUGE; 0 generates none."""
    image_size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the model's, else 224)")
    ] = None
    """images: pixels a side, of models that take any."""
    flip: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 0.5)")] = None
    """images: share of the training images that are mirrored; 0 for digits and letters."""
    warmup: float = 0.1
    """Share of the updates over which the learning rate rises; it falls linearly afterwards."""
    weight_decay: float = 0.01
    """AdamW's decay; biases and norms are spared."""
    pooling: Annotated[
        Literal["mean", "cls", "first", "last"] | None,
        tyro.conf.arg(
            metavar="{mean,cls,first,last}", help_behavior_hint="(default: what the model was saved with, or mean)"
        ),
    ] = None
    """classify, regress: what the head reads: the mean of the last hidden states, the pooled first token (cls), the
    first token itself, or the last token."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of computation; parameters are float32."""
    seed: int = 0
    """Of the head, the order of the rows, and dropout."""
    evaluate_every: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: an epoch)")] = None
    """Steps between evaluations."""
    save_every: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: as --evaluate-every)")
    ] = None
    """Steps between checkpoints."""
    quiet: bool = False
    """Print nothing but errors."""

    def check(self) -> None:
        """Refuses numbers that cannot be, before anything is read.

        Raises:
            InputError: names the option.
        """
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_flag(name)} must be at least 1, got {value}")
        for name in ("lr", "alpha"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{_flag(name)} must be a positive number, got {value}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"--weight-decay must be a number from 0 up, got {self.weight_decay}")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"--warmup is a share of the updates and must be from 0 to 1, got {self.warmup}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InputError(f"--dropout is a rate and must be from 0 to less than 1, got {self.dropout}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed must be from 0 to 2147483647, got {self.seed}")
        if self.flip is not None and not 0 <= self.flip <= 1:
            raise InputError(f"--flip is a share of the images and must be from 0 to 1, got {self.flip}")
        if self.generate_rows is not None and self.generate_rows < 0:
            raise InputError(f"--generate-rows must be from 0 up, got {self.generate_rows}")

    def configuration(self) -> dict[str, Any]:
        """All that the result depends on beside the data; None where a default depends on the model.

        Raises:
            InputError: a setting of another method or task was given.
        """
        task = TASKS[self.task]
        given = {
            name: getattr(self, name) for name in ("layers", "rank", "alpha", "dropout", "size", "length", "quantise")
        }
        given["target"] = None if self.target is None else list(self.target)
        return {
            "task": self.task,
            "model": located(self.model),
            "method": self.method,
            "settings": settings(self.method, given, head=task.head),
            "lr": entry(self.method).rate if self.lr is None else self.lr,
            "epochs": self.epochs,
            "batch_size": task.batch_size if self.batch_size is None else self.batch_size,
            "accumulate": self.accumulate,
            **self._own(task),
            "warmup": self.warmup,
            "weight_decay": self.weight_decay,
            "dtype": self.dtype,
            "seed": self.seed,
            "evaluate_every": self.evaluate_every,
        }

    def _own(self, task: Task) -> dict[str, Any]:
        """The settings of the task."""
        for name in sorted({name for other in TASKS.values() for name in other.options} - task.options.keys()):
            if getattr(self, name) is not None:
                owners = " or ".join(other.name for other in TASKS.values() if name in other.options)
                raise InputError(
                    f"{_flag(name)} belongs to --task {owners} and means nothing to --task {self.task}: leave it out"
                )
        found = {name: (getattr(self, name), default) for name, default in task.options.items()}
        kept = ("max_length", "image_size", "pooling")
        return {n: default if given is None and n not in kept else given for n, (given, default) in found.items()}


def located(model: str) -> str:
    """A model's source as it will be found from any working directory."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model not in ASSETS and path.exists() else model


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
