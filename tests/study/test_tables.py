"""A comparison in Markdown, LaTeX and CSV, and what its caption says."""

from __future__ import annotations

import csv
import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.study.compare import compare
from jaxft.study.tables import caption, csv_groups, csv_runs, latex_escape, latex_table, markdown_table
from tests.study.made_up import row, table

THREE = {
    "lora": [0.91, 0.90, 0.92, 0.92],
    "full_all & co": [0.90, 0.92, 0.91, 0.93],
    "head": [0.70, 0.72, 0.75, 0.71],
}
_SPECIAL = re.compile(r"\\[a-zA-Z]+\{\}|\\[{}$&#%_]|\{[\[\]*]\}|\$\\[a-z]+\$|--")


def equalised():
    rows = [
        row(0.5 + rate, validation=0.5 + rate, method=method, lr=rate, seed=seed)
        for method in ("lora", "full")
        for rate in (0.01, 0.1)
        for seed in range(2)
    ]
    return compare(rows, equalise=("lr",))


def test_the_caption_says_test_correction_seeds_and_interval():
    assert caption(compare(table(THREE))) == (
        "Accuracy on the test data, larger is better: mean ± standard deviation (n − 1) over 4 seeds (seed 0–3). "
        "Intervals: Student's t, 95 %. Bold: best, or not significantly different from the best at 5 % "
        "(paired t test over seeds, Holm's correction for 2 comparisons)."
    )


def test_the_caption_of_a_bootstrap_over_few_seeds_says_what_it_is_worth():
    assert "Intervals: bootstrap, 95 %, bias-corrected and accelerated, too narrow for as few as 4 seeds: it holds" in (
        caption(compare(table(THREE), interval="bootstrap"))
    )


def test_the_caption_of_means_alone_claims_no_test():
    said = caption(compare(table({"one": [0.9], "other": [0.8]}), test=None))
    assert said.endswith("mean over 1 seed (seed 0). Bold: best mean; nothing was tested.")


def test_the_caption_carries_choices_and_notes():
    said = caption(equalised())
    assert "Chosen for each row by mean validation accuracy: lr." in said
    assert "lora: the chosen lr 0.1 lies at the edge" in said


def test_markdown_marks_what_is_best_or_equal():
    lines = markdown_table(compare(table(THREE)), digits=2).splitlines()
    assert lines[0] == "| method | accuracy | 95 % interval | seeds | p | p (Holm) |"
    assert lines[2].startswith("| lora | **0.91 ± 0.01** |")
    assert lines[3].startswith(r"| full\_all \& co | **0.92 ± 0.01** |")
    assert lines[4].startswith("| head | 0.72 ± 0.02 |")
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[:5]}) == 1


def test_diverged_runs_and_edges_are_in_the_table():
    diverged = table(
        {"wild": [0.9, None, 0.9], "dead": [None] * 3, "tame": [0.8, 0.81, 0.82], "other": [0.8, 0.8, 0.8]}
    )
    text = markdown_table(compare(diverged), digits=1, percent=True)
    assert "| wild | 90.0 ± 0.0 (diverged 1 of 3) | 90.0 to 90.0 | 2 | – | – |" in text
    assert "| dead | (diverged 3 of 3) | – | 0 | – | – |" in text
    assert "| 0.1 (edge) |" in markdown_table(equalised())


def test_nothing_but_diverged_runs_still_makes_a_table():
    comparison = compare(table({"dead": [None, None]}))
    assert "(diverged 2 of 2)" in markdown_table(comparison)
    assert "over the seeds that did not diverge" in caption(comparison)


def test_latex_is_a_booktabs_table():
    text = latex_table(compare(table(THREE)), digits=1, percent=True, label="tab:main_results")
    assert text.splitlines()[:2] == [r"\begin{table}", r"\centering"]
    assert r"\label{tab:main-results}" in text
    assert r"\begin{tabular}{lrrrrr}" in text
    assert r"method & accuracy, \% & 95 \% interval & seeds & p & p (Holm) \\" in text
    assert r"full\_all \& co & {\boldmath\textbf{91.5 $\pm$ 1.3}} & 89.4 to 93.6 & 4 & -- & -- \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert text.endswith("\\end{tabular}\n\\end{table}\n")


@given(st.text(max_size=30))
def test_escaped_text_has_no_special_character_left(text):
    left = _SPECIAL.sub("", latex_escape(text))
    assert not set(left) & set("\\{}$&#%_^~<>|[]*\n\r\t\x00")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=2, max_size=4, unique=True))
def test_tables_of_any_names_keep_their_shape(names):
    comparison = compare(table({name: [0.6 + place / 9] for place, name in enumerate(names)}), test=None)
    text = latex_table(comparison)
    assert _depth(text) == 0
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [2] * len(names)
    assert all(line.endswith(r" \\") for line in body)
    rows = list(csv.DictReader(io.StringIO(csv_groups(comparison), newline="")))
    assert [each["method"] for each in rows] == [name.replace("\r", " ") for name in names]
    lines = markdown_table(comparison).split("\n\n")[0].splitlines()
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines] == [4] * (2 + len(names))


def _depth(text):
    depth = 0
    for brace in re.findall(r"[{}]", re.sub(r"\\[{}\\]", "", text)):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    return depth


def test_csv_keeps_full_precision_a_line_a_group_and_a_line_a_run():
    values: dict[str, list[float | None]] = {"one": [1 / 3, 2 / 3], "other": [0.1, None]}
    comparison = compare(table(values))
    groups = list(csv.DictReader(io.StringIO(csv_groups(comparison))))
    assert [each["method"] for each in groups] == ["one", "other"]
    assert float(groups[0]["mean"]) == comparison.groups[0].mean
    assert (groups[1]["diverged"], groups[1]["p"], groups[1]["best_or_equal"]) == ("1", "", "False")
    runs = list(csv.DictReader(io.StringIO(csv_runs(comparison))))
    assert [float(each["accuracy"]) for each in runs if each["accuracy"]] == [1 / 3, 2 / 3, 0.1]
    assert (runs[3]["seed"], runs[3]["diverged"], runs[3]["counted"]) == ("1", "True", "False")


def test_csv_of_an_equalised_comparison_says_what_was_chosen():
    comparison = equalised()
    assert [each["chosen_lr"] for each in csv.DictReader(io.StringIO(csv_groups(comparison)))] == ["0.1", "0.1"]
    assert csv_runs(comparison).splitlines()[0] == "method,chosen_lr,seed,accuracy,diverged,counted,key"
