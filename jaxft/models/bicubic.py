"""Position embeddings of a grid of patches, resized for images of another size."""

from __future__ import annotations

import numpy as np

_SHARPNESS = -0.75


def resize_matrix(old: tuple[int, int], new: tuple[int, int], kept: int = 0) -> np.ndarray:
    """The matrix that takes rows of an old grid, row by row, to those of a new one, bicubically (a = −0.75).

    Args:
        old: rows and columns of the grid.
        new: the same, of the result.
        kept: rows before those of the grid, which stay as they are.

    Example:
        >>> resize_matrix((2, 2), (4, 3), kept=1).shape
        (13, 5)

    References:
        Keys. Cubic Convolution Interpolation for Digital Image Processing, 1981.
    """
    matrix = np.kron(_weights(old[0], new[0]), _weights(old[1], new[1]))
    whole = np.zeros((kept + len(matrix), kept + matrix.shape[1]), np.float32)
    whole[:kept, :kept] = np.eye(kept)
    whole[kept:, kept:] = matrix
    return whole


def _weights(old: int, new: int) -> np.ndarray:
    """[new, old]: each place of the new axis from the four nearest of the old one, those outside being its ends."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centres).astype(int)
    found = np.zeros((new, old))
    for tap in range(-1, 3):
        places = np.clip(first + tap, 0, old - 1)
        np.add.at(found, (np.arange(new), places), _cubic(np.abs(centres - first - tap)))
    return found


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel."""
    a, d = _SHARPNESS, distance
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
