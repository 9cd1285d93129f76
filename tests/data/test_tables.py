"""Files give back the texts that were written, and every mistake in one is named by its place."""

from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import Table, read_table

NASTY = (
    'He said "no"',
    "two\nlines",
    "carriage\r\nreturn",
    "a, b; c\td",
    "NA",
    "null",
    "1",
    "1.50",
    "2020-01-01",
    "True",
    "  spaces kept  ",
    "emoji 🎬 and é",
    "a\u2028line separator\x85",
    "\\backslash\\",
    "'",
    '"',
    "x" * 200_000,
)


def write_csv(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".CSV", ",")])
def test_a_separated_file_keeps_every_text(tmp_path, suffix, delimiter):
    rows = [["text", "label"], *([text, str(index % 2)] for index, text in enumerate(NASTY))]
    table = read_table(write_csv(tmp_path / f"reviews{suffix}", rows, delimiter))
    assert table["text"] == NASTY
    assert table["label"] == tuple(str(index % 2) for index in range(len(NASTY)))


def test_jsonl_keeps_every_text_and_the_labels_type(tmp_path):
    lines = [json.dumps({"text": text, "label": index}, ensure_ascii=False) for index, text in enumerate(NASTY)]
    table = read_table(write(tmp_path / "reviews.jsonl", "\n".join(lines)))
    assert table["text"] == NASTY
    assert table["label"] == tuple(range(len(NASTY)))


@settings(deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1))
def test_any_text_survives_csv_and_jsonl(tmp_path_factory, texts):
    directory = tmp_path_factory.mktemp("texts")
    separated = read_table(
        write_csv(directory / "t.csv", [["text", "label"], *([text, "x"] for text in texts)]),
    )
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    assert separated["text"] == tuple(texts)
    assert read_table(write(directory / "t.jsonl", lines), require=("text",))["text"] == tuple(texts)


def test_a_byte_order_mark_and_blank_lines_are_skipped(tmp_path):
    table = read_table(write(tmp_path / "t.csv", b"\xef\xbb\xbftext,label\r\n\r\ngood,1\r\n\r\nbad,0\r\n"))
    assert list(table) == [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]
    assert table.where(1) == f"row 2 (line 5) of {tmp_path / 't.csv'}"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(tmp_path, end):
    table = read_table(write(tmp_path / "t.csv", end.join(["text,label", "good,1", "bad,0"])))
    assert table["text"] == ("good", "bad")
    assert "(line 3)" in table.where(1)


def test_other_columns_are_kept_and_a_table_to_predict_needs_no_label(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "id,text,label\n7,good,\n"), require=("text",))
    assert table.names == ("id", "text", "label")
    assert table["id"] == ("7",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", r"t\.csv is empty"),
        ("t.jsonl", "\n \n", r"t\.jsonl is empty"),
        ("t.csv", b"\xef\xbb\xbf", r"t\.csv is empty"),
        ("t.parquet", "", r"t\.parquet is empty"),
        ("t.csv", "text,label\n", r"has columns 'text', 'label' but no rows"),
        ("t.csv", "txt,label\ngood,1\n", r"no column 'text'; its columns are 'txt', 'label' \(nearest: txt"),
        ("t.csv", "text,lable\ngood,1\n", r"no column 'label'; its columns are 'text', 'lable' \(nearest: lable"),
        ("t.csv", "text,text\na,b\n", r"two columns named 'text'"),
        ("t.csv", "text,label\ngood,1\n  ,0\nbad,1\n,1\n", r"'text' is empty in row 2 \(line 3\) of .* 1 more rows"),
        ("t.csv", "text,text_pair,label\ngood,,1\n", r"'text_pair' is empty in row 1 \(line 2\)"),
        ("t.csv", 'text,label\n"two\nlines",1\nbad,\n', r"'label' is missing in row 2 \(line 4\)"),
        ("t.csv", "text,label\ngood,NaN\n", r"'label' is missing in row 1 \(line 2\)"),
        ("t.csv", "text,label\ngood,very,1\n", r"row 1 \(line 2\) .* has 3 fields, the header has 2"),
        ("t.csv", "text,label\ngood\n", r"row 1 \(line 2\) .* has 1 fields, the header has 2"),
        ("t.csv", 'text,label\ngood,1\n"bad,0\n', r"damaged in the record that starts on line 3"),
        ("t.csv", b"text,label\ngood,1\ncaf\xe9,0\n", r"not UTF-8: byte 21 \(line 3\) is 0xe9"),
        ("t.csv", b"\xef\xbb\xbftext\nb\xe9", r"not UTF-8: byte 9 \(line 2\) is 0xe9"),
        ("t.csv", "text,label\ngood,1\n".encode("utf-16"), r"not UTF-8: byte 0 \(line 1\) is 0xff"),
        ("t.jsonl", '{"text": "good", "label": 1}\n{"text": "ba', r"line 2 of .* is not JSON"),
        ("t.jsonl", '{"text": "good", "label": 1}\n[1]\n', r"line 2 of .* is not a JSON object"),
        ("t.jsonl", '{"text": "good", "label": NaN}\n', r"'label' is missing in row 1 \(line 1\)"),
        ("t.jsonl", '{"text": "good", "label": null}\n', r"'label' is missing in row 1 \(line 1\)"),
        ("t.jsonl", '{"text": "good", "label": [1]}\n', r"a label must be text or a number, .* has \[1\]"),
        ("t.jsonl", '{"text": 5, "label": 1}\n', r"'text' must be text, but row 1 .* holds 5 \(int\)"),
        ("t.jsonl", '{"label": 1, "text": "a"}\n\n{"label": 1}\n', r"'text' is empty in row 2 \(line 3\)"),
        ("t.jsonl", '{"text": "\\ud800", "label": 1}\n', r"'text' in row 1 .* half of a surrogate pair"),
        ("t.jsonl", '{"text": "a", "label": "\\ud800"}\n', r"'label' in row 1 .* half of a surrogate pair"),
        ("t.parquet", b"PAR1 and then nothing", r"damaged or not a Parquet file"),
        ("t.xlsx", "text,label\ngood,1\n", r"unknown kind; expected a file ending in \.csv, \.tsv, \.jsonl, \.parquet"),
        ("t", "text,label\ngood,1\n", r"unknown kind"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as error:
        read_table(write(tmp_path / name, content))
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("name", ["missing.csv", "missing.txt", "deeper/missing.jsonl", "t.csv/file.csv"])
@pytest.mark.parametrize("kind", [str, lambda name: name], ids=["string", "path"])
def test_a_file_that_is_not_there_is_named(tmp_path, name, kind):
    write(tmp_path / "t.csv", "text\na\n")
    with pytest.raises(InputError, match=r"there is no file .*missing|cannot be read: Not a directory"):
        read_table(kind(tmp_path / name))


def test_a_directory_is_no_table(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)


def test_the_process_wide_field_limit_is_given_back(tmp_path):
    before = csv.field_size_limit(1000)
    try:
        read_table(write_csv(tmp_path / "t.csv", [["text", "label"], ["x" * 300_000, "1"]]))
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_a_table_does_not_change():
    table = Table.of({"text": ["a"]})
    with pytest.raises(TypeError):
        table.columns["text"] = ("b",)
    with pytest.raises(AttributeError):
        table.source = "elsewhere"


def test_columns_of_different_length_are_refused():
    with pytest.raises(InputError, match="must have one length"):
        Table.of({"text": ["a", "b"], "label": [1]})


def test_take_and_drop_keep_the_place_of_a_row(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "text,label\na,1\nb,2\nc,3\n")).take([2, 0])
    assert table["label"] == ("3", "1")
    assert "(line 4)" in table.where(0)
    assert table.drop("label").names == ("text",)
    with pytest.raises(InputError, match="no column 'rating'"):
        table.drop("rating")
