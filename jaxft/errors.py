"""The one exception for what a person can put right, and a helper that names near misses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given to jaxft is wrong: the message says what was expected, what came and what to do.

    The command line prints the message alone and exits with code 2; a library caller sees an
    ordinary ``ValueError``.
    """


def nearest(word: str, candidates: Iterable[str], count: int = 3) -> str:
    """Names the candidates closest to a misspelt word, for the end of an error message.

    Example:
        >>> nearest("minilm-l6", ["minilm", "smollm2"])
        'nearest: minilm, smollm2'
    """
    names = sorted(set(candidates))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.3) or names[:count]
    return "nearest: " + ", ".join(close) if close else "there are none to choose from"
