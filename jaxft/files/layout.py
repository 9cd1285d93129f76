"""What an array in a file looks like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Layout(NamedTuple):
    """Shape and type of an array.

    Example:
        >>> import numpy as np
        >>> Layout((2, 3), np.dtype("float32")).bytes
        24
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize
