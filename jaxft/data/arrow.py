"""Parquet files and hub data sets, read through Hugging Face ``datasets`` without leaving anything behind."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxft.errors import InputError
from jaxft.files import cache_dir

_HUB_ID = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")


def is_hub_id(source: str | Path, formats: Sequence[str]) -> bool:
    """Whether a source names a hub data set: a string that is no path here and does not end like a file.

    Args:
        source: what the user gave.
        formats: endings of the files jaxft reads.

    Example:
        >>> [is_hub_id(s, (".csv",)) for s in ("glue:sst2@validation", "owner/reviews-v1.1", "train.csv", "notes.txt")]
        [True, True, False, False]
    """
    match = None if isinstance(source, Path) else _HUB_ID.fullmatch(source)
    if match is None or Path(source).exists():
        return False
    suffix = Path(source).suffix.lower()
    # An ending that starts with a letter is a file's; one that starts with a digit is a version in a data set's name.
    file_like = suffix in formats or suffix[1:2].isalpha()
    return not file_like or match["config"] is not None or match["split"] is not None


def parquet_rows(path: Path) -> dict[str, list[Any]]:
    """The columns of a Parquet file; class labels become their names.

    Args:
        path: the file.

    Raises:
        InputError: the file is damaged or no Parquet file.
    """
    import datasets
    import pyarrow.parquet

    # datasets writes an Arrow copy of what it reads; memory holds the table, so the copy is temporary.
    with tempfile.TemporaryDirectory(prefix="jaxft-") as directory, _quiet():
        try:
            if not pyarrow.parquet.read_metadata(path).num_rows:  # datasets calls such a file damaged
                return {name: [] for name in pyarrow.parquet.read_schema(path).names}
            table = datasets.Dataset.from_parquet(str(path), cache_dir=directory, keep_in_memory=True)
        except Exception as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise InputError(f"{path} is damaged or not a Parquet file: {reason}") from error
        return _columns(table)


def hub_rows(source: str) -> dict[str, list[Any]]:
    """The columns of one split of a hub data set; class labels become their names.

    Args:
        source: ``name``, ``name:config``, ``name@split`` or ``name:config@split``.

    Raises:
        InputError: the data set, configuration or split is not there, or the hub is out of reach.
    """
    import datasets

    match = _HUB_ID.fullmatch(source)
    if match is None:
        raise InputError(f"expected a data set such as 'glue:sst2@validation', got {source!r}")
    split = match["split"] or "train"
    with _quiet():
        try:
            table = datasets.load_dataset(
                match["name"], match["config"], split=split, cache_dir=str(cache_dir() / "datasets")
            )
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"there is no file {source}, and split {split!r} of a hub data set so named cannot be read: {reason}"
            ) from error
    return _columns(table)


def _columns(table: Any) -> dict[str, list[Any]]:
    columns = {}
    for name, feature in table.features.items():
        values = list(table[name])
        names = getattr(feature, "names", None)
        if names is not None:  # a class label; -1 stands for none in hub test splits
            values = [None if value is None or value < 0 else names[value] for value in values]
        columns[name] = values
    return columns


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the bars and log of datasets and the hub's log of retries, and gives all back as they were."""
    from datasets.utils import logging
    from huggingface_hub.utils import logging as hub_logging

    hub_verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()
