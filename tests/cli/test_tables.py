"""Tables in the terminal."""

from __future__ import annotations

from jaxft.cli.tables import print_table


def test_numbers_are_aligned_to_the_right_and_words_to_the_left(capsys):
    print_table(("figure", "value"), [("accuracy", "0.25"), ("correlation", "-10.5")], caption="two rows")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "  accuracy       0.25" in lines
    assert "  correlation   -10.5" in lines
    assert "two rows" in lines


def test_brackets_are_text_and_no_markup(capsys):
    print_table(("label",), [("[bold]x[/bold]",)])
    assert "[bold]x[/bold]" in capsys.readouterr().out
