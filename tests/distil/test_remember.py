"""What a teacher says, kept: equal to asking it, resumed after a kill, refused where it is of something else."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.data import Dataset, arrays, ragged
from jaxft.data.augment import augmented, training_transform
from tests.distil.interrupted_run import BATCH, DATA, ROWS, teacher
from tests.models.golden import golden

BERT = golden("bert_gelu", pooling="mean", dropout=0.0).model
LENGTHS = (3, 9, 1, 20, 4)
TEXTS = Dataset(
    {
        "input_ids": ragged([np.arange(length) % 30 + 1 for length in LENGTHS]),
        "labels": np.arange(5, dtype=np.int32) % 2,
    },
    max_length=20,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))


def test_logits_and_hidden_states_of_texts() -> None:
    told = ft.distil.remember(BERT, TEXTS, features=True, hidden_states=(1, -1), batch_size=2)
    rows = told.rows(np.array([3, 0]), 20)
    inputs = {name: rows[name] for name in ("input_ids", "attention_mask")}
    outputs = BERT.apply(BERT.params, inputs)
    np.testing.assert_allclose(rows["teacher/logits"], outputs.logits, atol=1e-5)
    np.testing.assert_allclose(rows["teacher/features"], outputs.features, atol=1e-5)
    seen = rows["attention_mask"][..., None].astype(bool)
    for layer in (1, -1):
        expected = np.where(seen, outputs.hidden_states[layer], 0)
        np.testing.assert_allclose(rows[f"teacher/hidden_states/{layer}"], expected, atol=1e-5)
    np.testing.assert_array_equal(rows["labels"], [1, 0])


def test_texts_of_one_length_as_plain_arrays() -> None:
    ids = np.arange(24).reshape(4, 6) % 30 + 1
    rows = arrays({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    told = ft.distil.remember(BERT, rows, hidden_states=(1,), batch_size=3)
    states = BERT.apply(BERT.params, {"input_ids": ids}).hidden_states[1]
    np.testing.assert_allclose(told.rows(np.arange(4))["teacher/hidden_states/1"], states, atol=1e-5)


def test_largest_logits_of_every_token() -> None:
    model = golden("gpt2_lm").model
    told = ft.distil.remember(model, TEXTS, top_k=5, batch_size=3)
    rows = told.rows(np.arange(5), 20)
    z = model.apply(model.params, {name: rows[name] for name in ("input_ids", "attention_mask")}).logits
    top, classes = jax.lax.top_k(jax.nn.log_softmax(z), 5)
    seen = rows["attention_mask"][..., None].astype(bool)
    np.testing.assert_allclose(rows["teacher/top"], np.where(seen, top, 0), atol=1e-5)
    np.testing.assert_array_equal(rows["teacher/classes"], np.where(seen, classes, 0))


def test_training_with_columns_is_training_with_the_teacher() -> None:
    student = ft.distil.shrink(BERT, layers=(0,))
    told = ft.distil.remember(BERT, TEXTS, hidden_states=(2,), batch_size=2)

    def run(told_by: Any, data: Dataset) -> Any:
        objective = ft.combine(
            task=ft.cross_entropy(), soft=ft.knowledge_distillation(told_by), hint=ft.hints(told_by, layers={1: 2})
        )
        step = ft.make_step(student.apply, ft.full(), objective, optax.sgd(0.1))
        stream = ft.data.batches(data, batch_size=2, seed=0)
        frozen, state = step.init(jax.random.key(0), student.params, stream[0])
        update = jax.jit(step.update)
        for number in range(3):
            state, metrics = update(frozen, state, stream[number])
        return state.delta, metrics

    (one, first), (other, second) = run(None, told), run(BERT, TEXTS)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


def test_a_teacher_with_another_tokenizer() -> None:
    """It reads its own tokens of the rows; what it says of them stands beside the student's."""
    other = golden("electra_classify").model
    assert other.config.vocab_size != BERT.config.vocab_size
    student = ft.distil.from_scratch(BERT, num_hidden_layers=1)
    theirs = Dataset({"input_ids": ragged([np.arange(length) % 40 + 3 for length in (4, 2, 6, 5, 3)])}, max_length=8)
    told = ft.distil.remember(other, theirs)
    rows = dataclasses.replace(TEXTS, columns={**TEXTS.columns, "teacher/logits": told.columns["teacher/logits"]})
    batch = rows.rows(np.arange(5), 20)
    step = ft.make_step(student.apply, ft.full(), ft.knowledge_distillation(None), optax.adam(1e-2))
    frozen, state = step.init(jax.random.key(0), student.params, batch)
    update = jax.jit(step.update)
    losses = []
    for _ in range(30):
        state, metrics = update(frozen, state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]


def test_the_teacher_is_asked_once(capfd: pytest.CaptureFixture[str]) -> None:
    first = ft.distil.remember(teacher(0.0), DATA, batch_size=100)
    assert capfd.readouterr().out.count("asked") == ROWS // 100
    again = ft.distil.remember(teacher(0.0), DATA, batch_size=50)
    assert capfd.readouterr().out.count("asked") == 0
    np.testing.assert_array_equal(again.columns["teacher/logits"], first.columns["teacher/logits"])
    np.testing.assert_allclose(first.columns["teacher/logits"], DATA.columns["x"] * 3 + 1)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "told"
    command = [sys.executable, "-m", "tests.distil.interrupted_run", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for _ in range(60):
            assert process.stdout.readline().strip() == b"asked"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    found = ft.distil.remember(teacher(0.0), DATA, folder, batch_size=BATCH)
    assert capfd.readouterr().out.count("asked") <= ROWS // BATCH - 16
    np.testing.assert_allclose(found.columns["teacher/logits"], DATA.columns["x"] * 3 + 1)


def test_two_processes_ask_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.distil.interrupted_run", str(tmp_path / "told")]
    root = Path(__file__).parents[2]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) for _ in range(2)]
    asked = sum(process.communicate(timeout=300)[0].count(b"asked") for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert asked == ROWS // BATCH


def test_damaged_files_are_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "told"
    expected = np.array(ft.distil.remember(teacher(0.0), DATA, folder).columns["teacher/logits"])
    file = folder / "logits.bin"
    content = bytearray(file.read_bytes())
    content[7] ^= 255
    file.write_bytes(content)
    np.testing.assert_array_equal(ft.distil.remember(teacher(0.0), DATA, folder).columns["teacher/logits"], expected)
    file.write_bytes(content[:-4])
    np.testing.assert_array_equal(ft.distil.remember(teacher(0.0), DATA, folder).columns["teacher/logits"], expected)


def in_folder(folder: Path) -> None:
    ft.distil.remember(teacher(0.0), DATA, folder)


def test_what_is_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "told"
    in_folder(folder)
    other = teacher(0.0)._replace(params=np.zeros(2, np.float32))
    with pytest.raises(ft.InputError, match=r"said of another teacher: .* there, .* here"):
        ft.distil.remember(other, DATA, folder)
    moved = arrays({"x": DATA.columns["x"][::-1], "labels": DATA.columns["labels"]})
    with pytest.raises(ft.InputError, match="said of another rows"):
        ft.distil.remember(teacher(0.0), moved, folder)
    with pytest.raises(ft.InputError, match="another outputs"):
        ft.distil.remember(teacher(0.0), DATA, folder, top_k=1)
    (folder / "note.json").write_text("{")
    with pytest.raises(ft.InputError, match="is damaged: delete the folder"):
        in_folder(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ft.InputError, match="holds other files"):
        in_folder(tmp_path / "full")


def test_augmented_pictures_are_refused() -> None:
    pictures = ft.data.arrays({"pixels": np.zeros((4, 8, 8, 1), np.uint8), "teacher/logits": np.zeros((4, 2))})
    stream = ft.data.batches(pictures, batch_size=2, seed=0)
    with pytest.raises(ft.InputError, match="not of those that a transform makes"):
        augmented(stream, training_transform(size=8))


BAD: dict[str, tuple[Any, str]] = {
    "nothing": (lambda: ft.distil.remember(BERT, TEXTS, logits=False), "nothing to keep"),
    "top_k": (lambda: ft.distil.remember(BERT, TEXTS, top_k=0), "from 1 up, of logits"),
    "classes": (lambda: ft.distil.remember(BERT, TEXTS, top_k=99), "fewer than top_k=99"),
    "layer": (lambda: ft.distil.remember(BERT, TEXTS, hidden_states=(8,)), "no layer 8"),
    "ensemble": (lambda: ft.distil.remember(ft.ensemble([BERT]), TEXTS), "name it in the objective"),
    "no features": (lambda: ft.distil.remember(teacher(0.0), DATA, features=True), "gives no features"),
    "batch": (lambda: ft.distil.remember(BERT, TEXTS, batch_size=0), "from 1 up, but is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
