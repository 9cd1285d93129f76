"""Tables as batches of tokens, cut the same in training and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxft.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from jaxft.data import Batches, Dataset, EvalBatches, Table
    from jaxft.types import Batch, Model

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
    kinds = dataset.columns.get("token_type_ids")
    if isinstance(kinds, Ragged) and kinds.values.max() >= model.config.token_types:
        raise InputError(
            f"{table.source} has pairs of texts, but the model {configuration['model']} cannot tell a first text from "
            f"a second: it has {model.config.token_types} token type; join each pair in the column 'text'"
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
