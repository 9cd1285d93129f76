"""A comparison as a table: Markdown to read, LaTeX to print, CSV to compute with."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxft.study.compare import Compared, Comparison
from jaxft.study.groups import show
from jaxft.study.statistics import ENOUGH, INTERVALS, TESTS

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "*": "{*}",
    "[": "{[}",
    "]": "{]}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
}
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~&$"})


def caption(comparison: Comparison) -> str:
    """What a reader must know of a comparison: metric, seeds, intervals, test, correction, choices and notes."""
    count = len(comparison.seeds)
    over = f"{count or 'the'} {comparison.over}{'' if count == 1 else 's'}"
    which = f"({comparison.over} {_ranges(comparison.seeds)})" if comparison.seeds else "that did not diverge"
    sentences = [
        f"{comparison.metric[:1].upper()}{comparison.metric[1:]} on the test data, "
        f"{'larger' if comparison.maximise else 'smaller'} is better: "
        f"{'mean' if count == 1 else 'mean ± standard deviation (n − 1)'} over {over} {which}."
    ]
    if any(group.interval for group in comparison.groups):
        sentences.append(f"Intervals: {INTERVALS[comparison.interval]}{_coverage(comparison)}.")
    if comparison.test is None:
        sentences.append("Bold: best mean; nothing was tested.")
    else:
        tests = sum(group.p is not None for group in comparison.groups)
        sentences.append(
            f"Bold: best, or not significantly different from the best at {100 * comparison.level:g} % "
            f"({TESTS[comparison.test]} over {comparison.over}s, Holm's correction for {tests} "
            f"comparison{'' if tests == 1 else 's'})."
        )
    if comparison.equalise:
        sentences.append(f"Chosen for each row by mean validation {comparison.metric}: {_and(comparison.equalise)}.")
    return " ".join([*sentences, *comparison.notes])


def markdown_table(comparison: Comparison, *, digits: int = 3, percent: bool = False) -> str:
    r"""The comparison as a Markdown table with its caption below.

    Args:
        comparison: of groups.
        digits: decimals of the metric.
        percent: multiply the metric by 100.

    Example:
        >>> from jaxft.study.compare import compare
        >>> accuracy = {"full": (0.90, 0.92, 0.91), "head": (0.70, 0.72, 0.75)}
        >>> rows = [
        ...     {"config": {"method": method, "seed": seed}, "metrics": {"accuracy": value}}
        ...     for method, values in accuracy.items()
        ...     for seed, value in enumerate(values)
        ... ]
        >>> print(markdown_table(compare(rows), digits=1, percent=True).split("\n\n")[0])
        | method | accuracy, % | 95 % interval | seeds | p | p (Holm) |
        |:---|---:|---:|---:|---:|---:|
        | full | **91.0 ± 1.0** | 88.5 to 93.5 | 3 | – | – |
        | head | 72.3 ± 2.5 | 66.1 to 78.6 | 3 | 0.005 | 0.005 |
    """
    header, body = _cells(comparison, digits, percent)
    left = len(comparison.by)
    lines = [_pipes(cell.translate(_MARKDOWN) for cell in header)]
    lines.append("|" + "|".join(":---" if place < left else "---:" for place in range(len(header))) + "|")
    for group, cells in zip(comparison.groups, body, strict=True):
        plain = [_one_line(cell).translate(_MARKDOWN) for cell in cells]
        if group.best_or_equal:
            plain[left] = f"**{plain[left]}**"
        lines.append(_pipes(plain))
    return "\n".join(lines) + f"\n\n{_one_line(caption(comparison)).translate(_MARKDOWN)}\n"


def latex_table(
    comparison: Comparison, *, digits: int = 3, percent: bool = False, label: str = "tab:comparison"
) -> str:
    r"""The comparison as a LaTeX table; the preamble needs ``\usepackage{booktabs}``.

    Args:
        comparison: of groups; letters beyond Latin ones are left as they are, for XeLaTeX or LuaLaTeX.
        digits: decimals of the metric.
        percent: multiply the metric by 100.
        label: for ``\ref``.
    """
    header, body = _cells(comparison, digits, percent)
    left = len(comparison.by)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escape(caption(comparison))}}}",
        rf"\label{{{re.sub(r'[^A-Za-z0-9:.-]', '-', label)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}",
        r"\toprule",
        " & ".join(map(latex_escape, header)) + r" \\",
        r"\midrule",
    ]
    for group, cells in zip(comparison.groups, body, strict=True):
        escaped = [latex_escape(cell) for cell in cells]
        if group.best_or_equal:
            # A minus or ± inside \textbf stays light, so the whole cell becomes bold mathematics too.
            escaped[left] = rf"{{\boldmath\textbf{{{escaped[left]}}}}}"
        lines.append(" & ".join(escaped) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def latex_escape(text: str) -> str:
    r"""Text as LaTeX shows it: special characters escaped, line breaks and control characters made spaces.

    Example:
        >>> print(latex_escape("q_proj & 95 %"))
        q\_proj \& 95 \%
    """
    return "".join(_LATEX.get(character, character) for character in _one_line(text).replace("−", "–"))


def csv_groups(comparison: Comparison) -> str:
    """One line a group, figures at full precision and empty where there are none."""
    header = [*comparison.by, *(f"chosen_{field}" for field in comparison.equalise), "metric", "n", "diverged", "mean"]
    header += ["std", "interval", "interval_low", "interval_high", "p", "p_holm", "best_or_equal", "at_edge"]
    lines = []
    for group in comparison.groups:
        low, high = group.interval or (None, None)
        settings = [*group.by.values(), *(group.chosen[field] for field in comparison.equalise)]
        figures = [comparison.metric, group.n, group.diverged, group.mean, group.std, comparison.interval]
        figures += [low, high, group.p]
        lines.append([*settings, *figures, group.adjusted_p, group.best_or_equal, " ".join(group.edges)])
    return _csv(header, lines)


def csv_runs(comparison: Comparison) -> str:
    """One line a run of the groups compared, the diverged and those left out among them."""
    header = [*comparison.by, *(f"chosen_{field}" for field in comparison.equalise)]
    lines = []
    for group in comparison.groups:
        settings = [*group.by.values(), *(group.chosen[field] for field in comparison.equalise)]
        lines += [[*settings, run.seed, run.value, run.value is None, run.counted, run.key] for run in group.runs]
    return _csv([*header, comparison.over, comparison.metric, "diverged", "counted", "key"], lines)


def _cells(comparison: Comparison, digits: int, percent: bool) -> tuple[list[str], list[list[str]]]:
    """Header and body as plain text, the columns of ``by`` first and the figure next."""
    factor = 100 if percent else 1
    intervals = any(group.interval for group in comparison.groups)
    header = [*comparison.by, comparison.metric + (", %" if percent else "")]
    header += ["95 % interval"] * intervals + [f"{comparison.over}s"]
    header += ["p", "p (Holm)"] * (comparison.test is not None) + list(comparison.equalise)
    body = []
    for group in comparison.groups:
        cells = [show(value) for value in group.by.values()] + [_figure(group, digits, factor)]
        if intervals:
            low_high = [f"{factor * bound:.{digits}f}" for bound in group.interval or ()]
            cells.append(" to ".join(low_high) or "–")
        cells.append(str(group.n))
        if comparison.test is not None:
            cells += [_p_value(group.p), _p_value(group.adjusted_p)]
        cells += [show(group.chosen[field]) + " (edge)" * (field in group.edges) for field in comparison.equalise]
        body.append(cells)
    return header, body


def _figure(group: Compared, digits: int, factor: float) -> str:
    spread = "" if group.std is None else f" ± {factor * group.std:.{digits}f}"
    figure = "" if group.mean is None else f"{factor * group.mean:.{digits}f}{spread}"
    if not group.diverged:
        return figure
    return f"{figure} (diverged {group.diverged} of {len(group.runs)})".strip()


def _p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _coverage(comparison: Comparison) -> str:
    """What a bootstrap of few seeds is worth."""
    counts = [group.n for group in comparison.groups if group.interval is not None]
    if comparison.interval == "t" or min(counts) >= ENOUGH:
        return ""
    return f", too narrow for as few as {min(counts)} {comparison.over}s: it holds the mean less often than it says"


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _ranges(seeds: Sequence[Any]) -> str:
    """0, 1, 2, 5 as "0–2, 5"."""
    spans: list[list[Any]] = []
    for seed in seeds:
        if spans and isinstance(seed, int) and isinstance(spans[-1][-1], int) and seed == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], seed]
        else:
            spans.append([seed])
    return ", ".join("–".join(show(end) for end in span) for span in spans)


def _one_line(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _csv(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    # The writer quotes a line feed in a name, but would let a carriage return break the line.
    writer.writerows([cell.replace("\r", " ") if isinstance(cell, str) else cell for cell in line] for line in lines)
    return text.getvalue()
