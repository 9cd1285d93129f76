"""Templates and verbalisers as plain data: how a row is asked about, and which words stand for a label."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest

LABEL = "label"
"""The field of a template where a label's word stands."""
Row = Mapping[str, Any]


class Template(NamedTuple):
    r"""How a row is asked about.

    Attributes:
        text: with fields in braces, columns of a row, and ``{label}`` at its end: ``"{text} It was {label}"``. Braces
            of the text itself are doubled.
        separator: between the examples of a prompt, and between an instruction and them.
        instruction: what stands before all examples; nothing if empty.

    Example:
        >>> Template("Review: {text}\\nSentiment: {label}").fields
        ('text',)
    """

    text: str
    separator: str = "\n\n"
    instruction: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns it reads, in order."""
        names = (name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None)
        return tuple(dict.fromkeys(name for name in names if name != LABEL))


Verbaliser = Mapping[str, Sequence[str]]
"""Label -> the words that stand for it, one or several."""


def as_template(template: Template | str) -> Template:
    r"""A template, checked.

    Args:
        template: one, or its text.

    Raises:
        InputError: its braces do not match, or it has no ``{label}`` once at its end.

    Example:
        >>> as_template("{text} It was {label}").separator
        '\n\n'
    """
    found = Template(template) if isinstance(template, str) else template
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(found.text) if name is not None]
    except ValueError as error:
        raise InputError(
            f"the braces of the template {found.text!r} do not match ({error}); write {{{{ for {{"
        ) from error
    if names.count(LABEL) != 1 or not found.text.endswith("{label}"):
        raise InputError(
            f"a template ends with {{label}}, where the model goes on writing, but this is {found.text!r}; such as "
            "'Review: {text}\\nSentiment: {label}'"
        )
    if any(not name.isidentifier() for name in names):
        raise InputError(f"fields of a template are names of columns, but {found.text!r} has {names}")
    return found


def as_verbaliser(labels: Verbaliser | Sequence[str] | Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Labels and their words.

    Args:
        labels: label -> word or words; or a list of labels that are their own words.

    Raises:
        InputError: fewer than two labels, a label without a word, or one word for two labels.

    Example:
        >>> as_verbaliser({"neg": "bad", "pos": ("good", "great")})
        {'neg': ('bad',), 'pos': ('good', 'great')}
    """
    pairs = labels.items() if isinstance(labels, Mapping) else ((label, label) for label in labels)
    if isinstance(labels, str):
        raise InputError(f"expected labels as a list or a map to words, but got {labels!r}")
    found = {str(label): (words,) if isinstance(words, str) else tuple(words) for label, words in pairs}
    if len(found) < 2:
        raise InputError(
            f"labels are compared with each other, at least two, but there is {', '.join(found) or 'none'}"
        )
    if empty := [label for label, words in found.items() if not words or not all(word.strip() for word in words)]:
        raise InputError(f"the label {empty[0]!r} has no word that stands for it, or an empty one")
    words = [word for each in found.values() for word in each]
    if twice := [word for word in dict.fromkeys(words) if words.count(word) > 1]:
        raise InputError(f"the word {twice[0]!r} stands for two labels: give each its own")
    return found


def question(template: Template, row: Row) -> str:
    """The text up to the label, without the space before it, which belongs to the label's word.

    Raises:
        InputError: the row lacks a field.

    Example:
        >>> question(Template("{text} It was {label}"), {"text": "Fine."})
        'Fine. It was'
    """
    return _rendered(template, row)[: -len("{label}")].rstrip(" ")


def demonstration(template: Template, row: Row, word: str) -> str:
    """The text with the word of its label.

    Raises:
        InputError: the row lacks a field.

    Example:
        >>> demonstration(Template("{text} It was {label}"), {"text": "Fine."}, "good")
        'Fine. It was good'
    """
    return _rendered(template, row)[: -len("{label}")] + word


def continuation(template: Template, word: str) -> str:
    r"""What a model writes behind a question: the word, with the space before the label if there is one.

    Example:
        >>> continuation(Template("It was {label}"), "good"), continuation(Template("It was:\\n{label}"), "good")
        (' good', 'good')
    """
    before = template.text[: -len("{label}")]
    return before[len(before.rstrip(" ")) :] + word


def _rendered(template: Template, row: Row) -> str:
    """With all fields but the label, which stays ``{label}``."""
    if missing := [name for name in template.fields if name not in row]:
        raise InputError(
            f"the template needs the field {missing[0]!r}, but the row has {', '.join(map(repr, row)) or 'nothing'} "
            f"({nearest(missing[0], [str(name) for name in row])})"
        )
    return template.text.format(**{name: row[name] for name in template.fields}, label="{label}")
