"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_LONGEST = 1000


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str | None = None) -> None:
    """Prints a table; numbers are aligned to the right.

    Args:
        header: a name for each column.
        rows: the cells, as text.
        caption: a line under the table.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [tuple(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for index, name in enumerate(header):
        numeric = all(_is_number(row[index]) for row in body)
        table.add_column(name, justify="right" if numeric else "left")
    for row in body:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width: nothing is cut to one
        wide = Console(width=_LONGEST)
        console = Console(width=max(console.width, wide.measure(table).maximum))
    console.print(table)


def _is_number(text: str) -> bool:
    return text.removeprefix("-")[:1].isdigit() or text in ("", "–")
