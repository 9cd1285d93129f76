"""Bad input: one clear sentence, exit code 2, nothing written or lost."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from tests.cli.conftest import write_model


def fingerprints(directory):
    """Every file under a directory with the hash of its content."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_refusal(ended, *parts):
    """One line on standard error, no traceback, and the words that matter."""
    assert ended.code == 2, ended
    assert ended.out == ""
    lines = [line for line in ended.err.splitlines() if line]
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("jaxft: ")
    for part in parts:
        assert part in lines[0]


TABLES = {
    "missing column": (b"text,lable\nfine film,good\n", ["no column 'label'", "nearest: lable"]),
    "empty file": (b"", ["is empty"]),
    "no rows": (b"text,label\n", ["no rows"]),
    "empty text": (b"text,label\nfine film,good\n  ,bad\n", ["'text' is empty in row 2 (line 3)"]),
    "NaN label": (b"text,label\nfine film,good\ndull film,NaN\n", ["'label' is missing in row 2 (line 3)"]),
    "non-UTF-8 file": (b"text,label\nfine film,good\ncaf\xe9,bad\n", ["is not UTF-8", "line 3"]),
    "one label": (b"text,label\nfine film,good\nlovely,good\n", ["a classifier needs two"]),
}


@pytest.mark.parametrize(("content", "parts"), TABLES.values(), ids=TABLES)
def test_a_bad_training_table(content, parts, jaxft, finetune_words, tmp_path):
    table, out = tmp_path / "bad.csv", tmp_path / "new" / "run"
    table.write_bytes(content)
    check_refusal(jaxft(*finetune_words(out, train=table)), str(table), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.parametrize(("content", "parts"), list(TABLES.values())[:-1], ids=list(TABLES)[:-1])
def test_a_bad_table_to_evaluate(content, parts, run, jaxft, tmp_path):
    table = tmp_path / "bad.csv"
    table.write_bytes(content)
    before = fingerprints(run)
    check_refusal(jaxft("evaluate", "--run", run, "--eval", table), str(table), *parts)
    assert fingerprints(run) == before


def test_an_unseen_label_at_evaluation(run, jaxft, finetune_words, tmp_path):
    table = tmp_path / "eval.csv"
    table.write_text("text,label\nfine film,good\ndull film,mixed\n")
    parts = ("'mixed' in row 2 (line 3)", "was not seen in training", "bad, good")
    check_refusal(jaxft("evaluate", "--run", run, "--eval", table), *parts)
    check_refusal(jaxft(*finetune_words(tmp_path / "run", eval=table)), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["eval.csv"]


OPTIONS = {
    "beyond the positions": ({"max_length": 25}, ["model's 24 positions, got 25"]),
    "unknown model": ({"model": "minilmm"}, ["unknown model 'minilmm'", "nearest: minilm"]),
    "selector matching nothing": (
        {"target": "**/attention/quary/kernel"},
        ["'**/attention/quary/kernel' matches none", "nearest: ", "attention/query/kernel"],
    ),
    "rank below one": ({"rank": 0}, ["--rank must be at least 1, got 0"]),
    "rank of another method": ({"method": "head", "rank": 4}, ["--rank belongs to --method lora"]),
    "more layers than there are": ({"method": "top", "layers": 3}, ["--layers must be from 1 to the model's 2 layers"]),
    "no layers": ({"method": "top", "layers": 0}, ["--layers must be from 1"]),
    "dropout of one": ({"dropout": 1}, ["--dropout is a rate"]),
    "alpha that is no number": ({"alpha": "nan"}, ["--alpha must be a positive number"]),
    "negative learning rate": ({"lr": -1}, ["--lr must be a positive number, got -1"]),
    "warm-up beyond the end": ({"warmup": 1.5}, ["--warmup is a share"]),
    "negative decay": ({"weight_decay": -0.1}, ["--weight-decay"]),
    "no epochs": ({"epochs": 0}, ["--epochs must be at least 1"]),
    "no rows a step": ({"batch_size": 0}, ["--batch-size must be at least 1"]),
    "negative seed": ({"seed": -1}, ["--seed must be from 0"]),
    "more accumulated than there are": ({"accumulate": 100}, ["--accumulate 100 needs at least that many steps"]),
    "missing file": ({"train": "no-such.csv"}, ["there is no file no-such.csv"]),
}


@pytest.mark.parametrize(("changes", "parts"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option(changes, parts, jaxft, finetune_words, tmp_path):
    check_refusal(jaxft(*finetune_words(tmp_path / "new" / "run", **changes)), *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_out_directory_that_cannot_be(jaxft, finetune_words, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    check_refusal(jaxft(*finetune_words(file)), f"{file} is a file")
    check_refusal(jaxft(*finetune_words(file / "run")), "is not a writable directory")
    # Nobody can create a directory there, root included.
    check_refusal(jaxft(*finetune_words("/proc/jaxft/run")), "/proc is not a writable directory")
    assert file.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [file]


def test_an_out_directory_that_holds_something(run, jaxft, finetune_words, tmp_path):
    before = fingerprints(run)
    check_refusal(jaxft(*finetune_words(run)), "already holds a run", "--resume")
    (tmp_path / "notes.txt").write_text("kept")
    for resume in (False, True):
        check_refusal(jaxft(*finetune_words(tmp_path, resume=resume)), "holds files that are no run")
    assert fingerprints(run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resuming_with_another_configuration(run, jaxft, finetune_words, inputs, tmp_path):
    before = fingerprints(run)
    ended = jaxft(*finetune_words(run, resume=True, lr=0.1, rank=4))
    check_refusal(ended, "lr: 0.05 in the run, 0.1 now", "settings.rank: 8 in the run, 4 now")
    ended = jaxft(*finetune_words(run, resume=True, train=inputs.eval))
    check_refusal(ended, "data.train")
    assert fingerprints(run) == before


def test_a_run_for_another_base(run, jaxft, inputs, tmp_path):
    other = write_model(tmp_path / "other", seed=1)
    before = fingerprints(run)
    for command in (
        ("evaluate", "--eval", inputs.eval),
        ("predict", "--data", inputs.eval, "--out", tmp_path / "p.csv"),
        ("export", "--format", "merged", "--out", tmp_path / "merged"),
        ("export", "--format", "peft", "--out", tmp_path / "adapter"),
    ):
        check_refusal(jaxft(*command, "--run", run, "--model", other), "base model with fingerprint", "--model")
    assert fingerprints(run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_resuming_on_another_base(run, jaxft, finetune_words, tmp_path):
    other = write_model(tmp_path / "other", seed=1)
    before = fingerprints(run)
    check_refusal(jaxft(*finetune_words(run, resume=True, model=other)), "base model with fingerprint")
    assert fingerprints(run) == before


def test_a_truncated_model(jaxft, finetune_words, inputs, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(inputs.model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    check_refusal(jaxft(*finetune_words(tmp_path / "run", model=broken)), str(weights), "damaged or truncated")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_model_without_a_tokenizer(jaxft, finetune_words, inputs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(inputs.model, bare, ignore=shutil.ignore_patterns("*token*"))
    check_refusal(jaxft(*finetune_words(tmp_path / "run", model=bare)), "without tokenizer files")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def without_kinds(source, directory, template):
    """The model with one kind of token, and a tokenizer that names two of them in pairs."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, directory)
    arrays = load_file(directory / "model.safetensors")
    arrays["embeddings.token_type_embeddings.weight"] = arrays["embeddings.token_type_embeddings.weight"][:1].copy()
    save_file(arrays, directory / "model.safetensors")
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"type_vocab_size": 1}))
    raw = json.loads((directory / "tokenizer_config.json").read_text())
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    (directory / "tokenizer_config.json").write_text(json.dumps(raw | names))
    raw = json.loads((directory / "tokenizer.json").read_text())
    raw["post_processor"]["pair"] = [piece for piece in raw["post_processor"]["pair"] if template(piece)]
    (directory / "tokenizer.json").write_text(json.dumps(raw))
    return directory


def test_pairs_for_a_model_that_knows_none(jaxft, finetune_words, inputs, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair,label\nthe film,was fine,good\nthe film,was dull,bad\n")
    ends = iter(range(9))
    glued = without_kinds(inputs.model, tmp_path / "glued", lambda piece: "Sequence" in piece or next(ends) in (0, 2))
    words = finetune_words(tmp_path / "run", model=glued, train=pairs, eval=None)
    check_refusal(jaxft(*words), str(pairs), "puts no token between them", "it has 1 token types")
    assert not (tmp_path / "run").exists()


def test_pairs_with_a_token_between_them_need_no_kinds(jaxft, finetune_words, inputs, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair,label\nthe film,was fine,good\nthe film,was dull,bad\n")
    apart = without_kinds(inputs.model, tmp_path / "apart", lambda piece: True)
    ended = jaxft(*finetune_words(tmp_path / "run", model=apart, train=pairs, eval=None, epochs=1, method="head"))
    assert ended.code == 0, ended.err


def test_a_damaged_run(run, jaxft, inputs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "run.json").write_text("{")
    check_refusal(jaxft("evaluate", "--run", copy, "--eval", inputs.eval), "run.json is damaged")
    shutil.copy(run / "run.json", copy)
    for manifest in copy.rglob("manifest.json"):
        manifest.unlink()
    check_refusal(jaxft("evaluate", "--run", copy, "--eval", inputs.eval), "no finished checkpoint")
    check_refusal(jaxft("evaluate", "--run", tmp_path, "--eval", inputs.eval), "holds no run")


def test_predictions_never_replace_their_input(run, jaxft, inputs, tmp_path):
    data = tmp_path / "data.csv"
    shutil.copy(inputs.eval, data)
    content = data.read_bytes()
    check_refusal(jaxft("predict", "--run", run, "--data", data, "--out", data), "would be overwritten")
    check_refusal(jaxft("predict", "--run", run, "--data", data, "--out", tmp_path / "p.txt"), "does not end in .csv")
    check_refusal(jaxft("predict", "--run", run, "--data", data, "--out", data / "p.csv"), f"{data} is a file")
    assert data.read_bytes() == content
    assert list(tmp_path.iterdir()) == [data]


def test_an_export_overwrites_nothing(run, jaxft, tmp_path):
    (tmp_path / "kept").write_text("kept")
    for kind in ("merged", "peft"):
        check_refusal(jaxft("export", "--run", run, "--format", kind, "--out", tmp_path), "already holds files")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_an_unknown_asset(command, jaxft):
    check_refusal(jaxft("assets", command, "minilmm"), "unknown asset 'minilmm'", "nearest: minilm")


def test_a_command_that_is_not_there(jaxft):
    ended = jaxft("fintune")
    assert (ended.code, "finetune" in ended.err) == (2, True)


def test_what_nobody_foresaw_is_one_sentence_too(jaxft, inputs):
    ended = jaxft("evaluate", "--run", "r" * 300, "--eval", inputs.eval)
    assert ended.code == 1
    assert ended.err.startswith("jaxft: failed with OSError: [Errno 36] File name too long")
    assert ended.err.endswith("; --debug shows where\n")
    assert ended.err.count("\n") == 1


def test_debugging_shows_the_traceback(jaxft, monkeypatch, finetune_words, tmp_path):
    from jaxft import InputError

    with pytest.raises(InputError, match="--rank"):
        jaxft(*finetune_words(tmp_path / "run", rank=0), "--debug")
    monkeypatch.setenv("JAXFT_DEBUG", "1")
    with pytest.raises(InputError, match="--rank"):
        jaxft(*finetune_words(tmp_path / "run", rank=0))


def test_the_record_is_of_this_version(run, jaxft, inputs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    content = json.loads((copy / "run.json").read_text()) | {"format": 99}
    (copy / "run.json").write_text(json.dumps(content))
    check_refusal(jaxft("evaluate", "--run", copy, "--eval", inputs.eval), "another version of jaxft")
