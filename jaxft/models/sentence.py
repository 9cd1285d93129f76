"""What the features of a sentence-transformers directory are: ``modules.json`` and ``1_Pooling/config.json``.

References:
    Reimers, Gurevych. Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.errors import InputError
from jaxft.files import read_json_object

POOLING = "1_Pooling/config.json"
MODULES = "modules.json"
_READ = ("Transformer", "Pooling", "Normalize", "Dropout")
"""Modules whose part in the features, before their length is made one, is the encoder's and the pooling's."""
_FLAG = "pooling_mode_"
_MODES = {"mean": "mean", "mean_tokens": "mean", "cls": "first", "cls_token": "first", "lasttoken": "last"}


def sentence_pooling(directory: Path) -> str | None:
    """The pooling that a directory's sentence embeddings are made with; None when it does not say.

    Raises:
        InputError: it is another than the mean, the first token or the last, or several at once, or a layer that is not
            read, such as a dense one, stands beside it.
    """
    path = directory / POOLING
    if not path.is_file():
        return None
    if others := [kind for kind in _modules(directory / MODULES) if kind not in _READ]:
        raise InputError(
            f"the sentence embeddings of {directory} go through {' and '.join(others)} ({MODULES}), which is not read: "
            "name the pooling to have the features without it, such as pooling='mean'"
        )
    modes = _named(read_json_object(path))
    if len(modes) != 1 or modes[0] not in _MODES:
        raise InputError(
            f"the sentence embeddings of {directory} are pooled by {' and '.join(modes) or 'nothing'} ({POOLING}); "
            "supported are mean, cls and lasttoken: name the pooling to use in its place, such as pooling='mean'"
        )
    return _MODES[modes[0]]


def _modules(path: Path) -> list[str]:
    """The classes of the modules, without those of directories that do not say."""
    if not path.is_file():
        return []
    try:
        return [str(module["type"]).rpartition(".")[2] for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of sentence-transformers' modules ({error!r}): fetch it again") from error


def _named(raw: Mapping[str, Any]) -> list[str]:
    """The modes that are on: older files have a flag for each, newer ones a name or a list of them."""
    named = raw.get("pooling_mode")
    if named is not None:
        return [str(mode) for mode in (named if isinstance(named, list) else [named])]
    return [name.removeprefix(_FLAG) for name, value in raw.items() if name.startswith(_FLAG) and value is True]
