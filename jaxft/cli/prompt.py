"""``jaxft prompt``: labels from a language model as it is, and how much they depend on the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxft.cli.places import check_file
from jaxft.cli.rows import check_suffix, write_rows
from jaxft.cli.tables import print_table
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Table

_SUFFIXES = (".csv", ".jsonl")
_LABEL = "label"


def prompt(
    model: Annotated[str, tyro.conf.arg(metavar="STR")],
    data: Annotated[str, tyro.conf.arg(metavar="STR")],
    template: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT [TEXT ...]")],
    labels: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="LABEL=WORD[,WORD] [...]", help_behavior_hint="(default: the labels)")
    ] = (),
    examples: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: from --data)")] = None,
    shots: Annotated[str, tyro.conf.arg(metavar="INT[,INT]")] = "0,1,4,8",
    seeds: int = 3,
    orders: int = 1,
    method: Annotated[tuple[str, ...], tyro.conf.arg(metavar="{plain,calibrated,pmi} [...]")] = ("plain",),
    rows: int = 200,
    seed: int = 0,
    batch_size: int = 8,
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(optional)")] = None,
) -> None:
    r"""Label rows by prompting a decoder, with mean, low, high and spread over templates, examples and their orders.

    Args:
        model: Asset ("smollm2"), directory, GGUF file or hub id of a decoder.
        data: Table with a column label and the columns that the templates name.
        template: One or several, with columns in braces and {label} at the end: "Review: {text} It was {label}". \n
            is a new line.
        labels: The words that stand for each label, such as neg=bad pos=good,great.
        examples: Table of labelled rows to show; without one they are rows of --data that are not asked about.
        shots: Numbers of examples in a prompt.
        seeds: How many choices of examples are tried.
        orders: How many orders of each choice are tried.
        method: Probabilities as they are, calibrated by prompts without content, or over those without a text.
        rows: How many rows are asked about, at most.
        seed: Of which rows are asked about.
        batch_size: Prompts that the model reads at once.
        out: .csv or .jsonl file for the accuracy of every prompt.
    """
    from jaxft.data import read_table
    from jaxft.prompting.templates import as_template

    if out is not None:
        check_suffix(out, _SUFFIXES)
        check_file(out, inputs=(data,) if examples is None else (data, examples))
    counts = _counts(shots)
    for name, value in {"--seeds": seeds, "--orders": orders, "--rows": rows}.items():
        if value < 1:
            raise InputError(f"{name} is a whole number from 1 up, but is {value}")
    templates = [as_template(text.replace("\\n", "\n")) for text in template]
    columns = tuple(dict.fromkeys(name for one in templates for name in one.fields))
    table = read_table(data, require=(*columns, _LABEL))
    shown, asked = _parts(
        table, None if examples is None else read_table(examples, require=(*columns, _LABEL)), rows, seed
    )
    words = _words(labels, [*_names(shown), *_names(asked)])
    if max(counts) > len(shown):
        raise InputError(f"--shots names {max(counts)} examples, but there are {len(shown)} rows to show")
    found = _compared(model, shown, asked, words, templates, counts, seeds, orders, method, batch_size)
    _report(found, len(asked), len(templates))
    if out is not None:
        write_rows(out, found)
        print(f"{len(found)} prompts in {out}")


def _counts(shots: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in shots.split(","))
    except ValueError as error:
        raise InputError(f"--shots is numbers between commas, such as 0,1,4,8, but is {shots!r}") from error
    if any(count < 0 for count in counts):
        raise InputError(f"--shots are from 0 up, but are {shots!r}")
    return tuple(dict.fromkeys(counts))


def _parts(table: Table, examples: Table | None, rows: int, seed: int) -> tuple[Table, Table]:
    """Rows to show and rows to ask about: no row is both."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(table)).tolist()
    if examples is not None:
        return examples, table.take(order[:rows])
    if len(table) < 2:
        raise InputError(f"{table.source} has one row: name a table of --examples, or one with more rows")
    cut = max(len(table) - rows, -(-len(table) // 5))
    return table.take(order[:cut]), table.take(order[cut:])


def _names(table: Table) -> list[str]:
    return [str(label) for label in table[_LABEL]]


def _words(given: Sequence[str], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not given:
        return {name: (name,) for name in sorted(set(names))}
    found: dict[str, tuple[str, ...]] = {}
    for part in given:
        label, mark, words = part.partition("=")
        if label in found:
            raise InputError(f"--labels names {label!r} twice")
        found[label] = tuple(words.split(",")) if mark else (label,)
    if unknown := [name for name in names if name not in found]:
        raise InputError(f"a row has the label {unknown[0]!r}, for which --labels has no words: {', '.join(found)}")
    return found


def _compared(
    source: str,
    shown: Table,
    asked: Table,
    words: dict[str, tuple[str, ...]],
    templates: Sequence[Any],
    counts: Sequence[int],
    seeds: int,
    orders: int,
    method: Sequence[str],
    batch_size: int,
) -> list[dict[str, Any]]:
    from jaxft.models import load_model
    from jaxft.prompting import Rows, compare_prompts
    from jaxft.train import enable_compile_cache

    enable_compile_cache()
    return compare_prompts(
        load_model(source, task="lm"),
        Rows(list(shown), _names(shown)),
        Rows(list(asked), _names(asked)),
        words,
        templates=templates,
        shots=counts,
        seeds=range(seeds),
        orders=orders,
        methods=method,
        batch_size=batch_size,
    )


def _report(found: Sequence[dict[str, Any]], rows: int, templates: int) -> None:
    from jaxft.prompting import summarise

    lines = [
        (
            row["method"],
            str(row["shots"]),
            str(row["prompts"]),
            *(f"{row[name]:.3f}" for name in ("mean", "low", "high", "std")),
        )
        for row in summarise(found)
    ]
    caption = (
        f"accuracy on {rows} rows, over {templates} template{'s' * (templates > 1)}, choices and orders of examples"
    )
    print_table(("method", "shots", "prompts", "mean", "low", "high", "std"), lines, caption=caption)
