"""Tables as batches of tokens, cut the same in training and afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxft.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from jaxft.data import Batches, Dataset, EvalBatches, Table
    from jaxft.types import Batch, Model

logger = logging.getLogger("jaxft")

_SHORTEST = 64


def tokens(model: Model, configuration: Mapping[str, Any], table: Table, labels: np.ndarray | None) -> Dataset:
    """The rows of a table as tokens.

    Args:
        model: whose tokenizer reads the texts.
        configuration: of the run.
        table: with a column ``text``.
        labels: ``[rows]`` ids or numbers, or None.

    Raises:
        InputError: a text has no token, or the model knows no pairs.
    """
    from jaxft.data import Ragged, tokenise

    dataset = tokenise(model.tokenizer, table, max_length=configuration["max_length"], labels=labels)
    if "text_pair" not in table:
        return dataset
    kinds, known = dataset.columns.get("token_type_ids"), model.config.token_types
    named = int(kinds.values.max()) if isinstance(kinds, Ragged) else 0
    alone, paired = (model.tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    # A model of one kind of token or of none passes over the kinds, and reads where a text ends from a token there.
    if named >= known > 1:
        why = f"its tokenizer names {named + 1} token types, and it has {known}"
    elif paired == alone and not 0 < named < known:
        why = f"its tokenizer puts no token between them, and it has {known} token types"
    else:
        return dataset
    raise InputError(
        f"{table.source} has pairs of texts, but the model {configuration['model']} cannot tell a first text from "
        f"a second: {why}; join each pair in the column 'text'"
    )


def say_cut(dataset: Dataset, configuration: Mapping[str, Any], data: str) -> Dataset:
    """Warns of texts that were cut, and returns the dataset.

    Args:
        dataset: which counts them.
        configuration: of the run, whose ``max_length`` cut them.
        data: where they are from.
    """
    if dataset.truncated:
        verb = "text is" if dataset.truncated == 1 else "texts are"
        logger.warning(
            "%d %s longer than the %s tokens of the run and cut in %s",
            dataset.truncated,
            verb,
            configuration["max_length"],
            data,
        )
    return dataset


def buckets(max_length: int) -> tuple[int, ...]:
    """Lengths that rows are padded to: one for short rows, three when short rows would be mostly padding.

    Example:
        >>> buckets(48), buckets(256)
        ((48,), (64, 128, 256))
    """
    if max_length <= _SHORTEST:
        return (max_length,)
    return (max_length // 4, max_length // 2, max_length)


def training_batches(model: Model, configuration: Mapping[str, Any], dataset: Dataset) -> Batches:
    """The batches of a run over texts, shuffled by its seed."""
    from jaxft.data import batches

    del model
    return batches(
        dataset,
        batch_size=configuration["batch_size"],
        seed=configuration["seed"],
        lengths=buckets(configuration["max_length"]),
    )


def ordered_batches(dataset: Dataset, configuration: Mapping[str, Any]) -> EvalBatches:
    """The rows in order, in batches twice as large as in training, as nothing is kept for a gradient."""
    from jaxft.data import eval_batches

    return eval_batches(
        dataset, batch_size=2 * configuration["batch_size"], lengths=buckets(configuration["max_length"])
    )


def random_tokens(model: Model, configuration: Mapping[str, Any], rows: int) -> Batch:
    """Rows of random tokens, without labels."""
    import numpy as np

    ids = np.random.default_rng(0).integers(
        0, model.config.vocab_size, (rows, configuration["max_length"]), dtype=np.int32
    )
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "mask": np.ones(rows, bool)}
