"""The table that says what every leaf of the params is for and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One leaf: its path, shape, role, and what it costs.

    Attributes:
        path: keys joined by "/".
        shape: of the leaf in the params.
        role: such as ``"frozen"``, ``"trained"``, ``"added"`` or ``"low-rank 8"``.
        parameters: number of elements in the params.
        trained: number of elements that learn.
        bytes: of the leaf and what was added to it.
        optimizer_bytes: of the optimizer's slots for it.
    """

    path: str
    shape: tuple[int, ...]
    role: str
    parameters: int
    trained: int
    bytes: int
    optimizer_bytes: int


class Summary(NamedTuple):
    """All rows; ``print`` shows them as a table with totals."""

    rows: Sequence[Row]

    @property
    def parameters(self) -> int:
        """Number of elements of the params."""
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        """Number of elements that learn."""
        return sum(row.trained for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes of the params and what was added to them."""
        return sum(row.bytes for row in self.rows)

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer's slots."""
        return sum(row.optimizer_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("path", "shape", "role", "parameters", "trained", "bytes", "optimizer bytes")
        body = [
            (row.path, "×".join(map(str, row.shape)) or "scalar", row.role, *(f"{n:,}" for n in row[3:]))
            for row in self.rows
        ]
        share = f"{self.trained / max(self.parameters, 1):.2%} learn"
        counts = (self.parameters, self.trained, self.bytes, self.optimizer_bytes)
        body.append(("total", "", share, *(f"{n:,}" for n in counts)))
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in (head, *body)
        ]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
