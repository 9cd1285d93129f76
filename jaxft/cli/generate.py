"""``jaxft generate``: texts that a model writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from jaxft.cli.places import check_file
from jaxft.cli.rows import check_suffix, write_rows
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.types import Model, Params

_ROWS = 8
_SUFFIXES = (".csv", ".jsonl")


def generate(
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
    run: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(optional)")] = None,
    prompt: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT [TEXT ...]", help_behavior_hint="(optional)")] = (),
    data: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
    chat: bool = False,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: all)")] = None,
    top_p: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 1)")] = None,
    seed: int = 0,
    stop: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT [TEXT ...]", help_behavior_hint="(optional)")] = (),
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: the terminal)")] = None,
) -> None:
    """Continue prompts, reply to them, or answer them with a sequence-to-sequence model.

    Args:
        model: Asset ("smollm2"), directory, GGUF file or hub id; with --run, where its base model is now.
        run: Directory of a run whose task is lm, chat or seq2seq, or an adapter in the layout of PEFT (with --model).
        prompt: Texts to begin with.
        data: File of prompts in place of --prompt: a table with a column text, a .txt file of documents between blank
            lines, or with --chat a .jsonl file with messages.
        chat: Prompts are what a user says, and the assistant replies. A run whose task is chat always does.
        max_new_tokens: Tokens a text may get; it ends earlier where the model ends it.
        temperature: 0 takes the likeliest token; above, tokens are drawn, the wilder the higher.
        top_k: Draw among so many of the likeliest tokens.
        top_p: Draw among the fewest tokens that have this probability.
        seed: Of the draws.
        stop: Texts are cut before the first of these; one that is a single token ends the writing too.
        out: .csv or .jsonl file to write, with prompt and text.
    """
    if out is not None:
        check_suffix(out, _SUFFIXES)
        check_file(out, inputs=() if data is None else (data,))
    if (data is None) == (not prompt):
        raise InputError("name what to begin with: either --prompt with one text or several, or --data with a file")
    if not 0 <= seed < 2**31:
        raise InputError(f"--seed must be from 0 to 2147483647, got {seed}")
    if any(not text for text in stop):
        raise InputError("--stop needs a text that is not empty")
    chat = chat or _is_chat(run)
    starts = _starts(prompt, data, chat)
    writer = _writer(model, run)
    sampling: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop_tokens": _stop_tokens(writer.model, stop),
    }
    if data is not None:
        _check_lengths(writer, starts, chat, max_new_tokens, data)
    texts = [_cut(text, stop) for text in _texts(writer, starts, chat, sampling, seed)]
    if out is None:
        print("\n\n".join(texts))
        return
    write_rows(out, ({"prompt": start, "text": text} for start, text in zip(starts, texts, strict=True)))
    print(f"{len(texts)} texts in {out}")


class _Writer(NamedTuple):
    model: Model
    params: Params


def _is_chat(run: Path | None) -> bool:
    from jaxft.cli.record import NAME, read_record

    return run is not None and (run / NAME).is_file() and read_record(run).task.name == "chat"


def _starts(prompt: Sequence[str], data: str | None, chat: bool) -> list[Any]:
    """Prompts, or conversations."""
    from jaxft.cli.tasks.chat import opened
    from jaxft.cli.tasks.lm import read_texts
    from jaxft.data import read_table

    if data is not None:
        return opened(read_table(data, require=("messages",))) if chat else list(read_texts(data)["text"])
    if blank := [text for text in prompt if not text.strip()]:
        raise InputError(f"--prompt needs a text, but one is {blank[0]!r}")
    return [[{"role": "user", "content": text}] for text in prompt] if chat else list(prompt)


def _writer(source: str | None, run: Path | None) -> _Writer:
    """The model and the params that write, of a run, an adapter, or as they are."""
    from jaxft.cli.rebuild import load_run
    from jaxft.cli.record import NAME, read_record
    from jaxft.train import enable_compile_cache

    enable_compile_cache()
    if run is not None and not (run / "adapter_config.json").is_file():
        task = read_record(run).task
        if task.model_task not in ("lm", "seq2seq"):
            raise InputError(
                f"{run / NAME} says --task {task.name}, which writes no text: use `jaxft predict`, or a run of lm, "
                "chat or seq2seq"
            )
        trained = load_run(run, source)
        return _Writer(trained.model, trained.params)
    if source is None:
        raise InputError("name what writes: --model, --run, or for an adapter --model with its base model and --run")
    model = _load(source)
    if run is None:
        return _Writer(model, model.params)
    from jaxft.train import load_adapter

    adaptation, frozen, delta = load_adapter(run, model.params, config=model.config)
    return _Writer(model, adaptation.bind(frozen, delta))


def _load(source: str) -> Model:
    from jaxft.models import load_model
    from jaxft.models.families import family_of
    from jaxft.models.hub import read_config, resolve

    path = resolve(source)
    if not (path / "config.json").is_file():  # a GGUF file holds a decoder, and reading it takes a while
        return load_model(source, task="lm")
    family = family_of(read_config(path))
    task = next((task for task in ("lm", "seq2seq") if task in family.tasks), None)
    if task is None:
        raise InputError(f"{source} is a {family.model_type} model, which writes no text: choose a decoder or a T5")
    return load_model(source, task=task)


def _check_lengths(writer: _Writer, starts: Sequence[Any], chat: bool, new: int, source: str) -> None:
    """Refuses a prompt that is too long before any is continued."""
    from jaxft.generation import chat_prompts, encode_prompts
    from jaxft.generation.generate import check_room
    from jaxft.models.slots import taken

    prompts = chat_prompts(writer.model, starts) if chat else starts
    slots = taken(writer.params)
    for row, prompt in enumerate(prompts):
        found = encode_prompts(writer.model, [prompt], special=not chat)
        try:
            check_room(writer.model.config, slots, int(found["attention_mask"].sum()), new)
        except InputError as error:
            raise InputError(f"row {row + 1} of {source}: {error}") from error


def _texts(writer: _Writer, starts: Sequence[Any], chat: bool, sampling: dict[str, Any], seed: int) -> list[str]:
    import jax

    from jaxft.generation import complete, reply

    texts: list[str] = []
    for place in range(0, len(starts), _ROWS):
        key = jax.random.fold_in(jax.random.key(seed), place)
        texts += (reply if chat else complete)(
            writer.model, starts[place : place + _ROWS], params=writer.params, key=key, **sampling
        )
    return texts


def _stop_tokens(model: Model, stops: Sequence[str]) -> tuple[int, ...]:
    """The tokens that end a text: those of the model, and those that are a whole stop."""
    from jaxft.generation.generate import default_stop_tokens

    each = model.tokenizer(list(stops), add_special_tokens=False)["input_ids"] if stops else []
    alone = [
        ids[0] for stop, ids in zip(stops, each, strict=True) if len(ids) == 1 and model.tokenizer.decode(ids) == stop
    ]
    return (*default_stop_tokens(model), *alone)


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stops.

    Example:
        >>> _cut("Paris. And then.", (".", " And"))
        'Paris'
    """
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
