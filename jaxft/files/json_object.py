"""A file that holds one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxft.errors import InputError


def read_json_object(path: Path) -> dict[str, Any]:
    """The fields of a JSON file.

    Args:
        path: a file that exists.

    Raises:
        InputError: the file is no JSON, or holds something other than an object.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "config.json"
        >>> _ = path.write_text('{"layers": 6}')
        >>> read_json_object(path)
        {'layers': 6}
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): write or fetch it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} must hold a JSON object; it holds a {type(fields).__name__}")
    return fields
