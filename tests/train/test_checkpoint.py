"""Checkpoints in this process: exact, verified, and refused where they do not belong."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.train import Checkpointer, adamw, fit, restore
from jaxft.trees import fingerprint, leaf_paths
from tests.train.linear import LinearBatches, accuracy, linear_params, linear_step


@pytest.fixture
def pieces():
    step = linear_step(adamw(1e-2))
    frozen, state = step.init(jax.random.key(3), linear_params(), LinearBatches()[0])
    return step, frozen, state


def trained(pieces, directory: Path, *, steps: int = 30, **options):
    return fit(
        *pieces, LinearBatches(), steps=steps, directory=directory, save_every=10, progress=False, keep=3, **options
    )


def states_after(pieces, count: int):
    _, _, state = pieces
    return [state._replace(step=jnp.int32(number)) for number in range(1, count + 1)]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_restores_every_bit_of_every_kind_of_array(tmp_path, pieces):
    _, _, state = pieces
    state = state._replace(
        step=jnp.int32(4),
        memory={
            "half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3) / 7,
            "odd": jnp.array([jnp.nan, -0.0, 1e-45, jnp.inf]),
            "flags": jnp.array([True, False]),
            "bytes": jnp.arange(5, dtype=jnp.uint8),
            "keys": jax.random.split(jax.random.key(1, impl="rbg"), 3),
            "nothing": jnp.zeros((0, 4), jnp.int8),
            "a/b": {"c": jnp.ones(())},
        },
    )
    checkpoints = Checkpointer(tmp_path, base="b", config={"lr": 0.1})
    checkpoints.save(state, {"accuracy": 0.5})
    checkpoints.close()
    like = jax.tree.map(lambda leaf: leaf if leaf.dtype.name.startswith("key") else jnp.zeros_like(leaf), state)
    found = restore(tmp_path, like)
    assert fingerprint(found.state) == fingerprint(state)
    assert jax.tree.structure(found.state) == jax.tree.structure(state)
    for path, leaf in leaf_paths(found.state).items():
        assert leaf.dtype == leaf_paths(state)[path].dtype, path
    np.testing.assert_array_equal(
        jax.random.bits(found.state.memory["keys"][1]), jax.random.bits(state.memory["keys"][1])
    )
    assert found.manifest.metrics == {"accuracy": 0.5}
    assert (found.manifest.base, found.manifest.config) == ("b", {"lr": 0.1})


def test_holds_only_what_learned(tmp_path, pieces):
    step, _, _ = pieces
    wide = linear_params(width=4000)
    frozen, state = step.init(jax.random.key(0), {**wide, "head": linear_params()["head"]}, None)
    assert frozen.model["base"].nbytes > 100_000
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(state._replace(step=jnp.int32(1)))
    checkpoints.close()
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 50_000


def test_keeps_the_last_and_the_best(tmp_path, pieces):
    checkpoints = Checkpointer(tmp_path, keep=2, best="loss", best_mode="min")
    for state, loss in zip(states_after(pieces, 6), (5.0, 3.0, 4.0, 3.0, 6.0, 7.0), strict=True):
        checkpoints.save(state, {"loss": loss})
    checkpoints.close()
    assert names(tmp_path) == ["step_00000002", "step_00000005", "step_00000006"]
    like = pieces[2]
    assert int(restore(tmp_path, like, which="best").state.step) == 2
    assert int(restore(tmp_path, like).state.step) == 6
    assert int(restore(tmp_path, like, which=5).state.step) == 5
    with pytest.raises(ft.InputError, match="no checkpoint of step 4"):
        restore(tmp_path, like, which=4)


def test_the_state_may_be_donated_as_soon_as_a_save_returns(tmp_path, pieces):
    add_one = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = pieces[2]._replace(key=jnp.zeros(2), memory={"large": jnp.zeros((500, 500))}, step=jnp.int32(1))
    like = jax.tree.map(jnp.zeros_like, state)
    checkpoints = Checkpointer(tmp_path, keep=5)
    for number in range(1, 5):
        checkpoints.save(state)
        for _ in range(3):
            state = add_one(state)
        state = state._replace(step=jnp.int32(number + 1))
    checkpoints.close()
    for number in range(1, 5):
        large = restore(tmp_path, like, which=number).state.memory["large"]
        np.testing.assert_array_equal(large, 3.0 * (number - 1))


def largest_file(directory: Path) -> Path:
    files = [file for file in directory.rglob("*") if file.is_file() and file.name != "manifest.json"]
    return max(files, key=lambda file: file.stat().st_size)


def truncate(directory: Path) -> None:
    file = largest_file(directory)
    file.write_bytes(file.read_bytes()[:-5])


def flip(directory: Path) -> None:
    file = largest_file(directory)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def delete(directory: Path) -> None:
    largest_file(directory).unlink()


def lose_manifest(directory: Path) -> None:
    (directory / "manifest.json").unlink()


def edit_manifest(directory: Path) -> None:
    file = directory / "manifest.json"
    file.write_text(file.read_text().replace('"step": 30', '"step": 31'))


def cut_manifest(directory: Path) -> None:
    file = directory / "manifest.json"
    file.write_text(file.read_text()[:40])


@pytest.mark.parametrize("damage", [truncate, flip, delete, lose_manifest, edit_manifest, cut_manifest])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_used(tmp_path, pieces, caplog, damage):
    whole = trained(pieces, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    newest = tmp_path / "checkpoints" / "step_00000030"
    damage(newest)
    with caplog.at_level(logging.WARNING, logger="jaxft"):
        again = trained(pieces, tmp_path, resume=True)
    assert f"the checkpoint {newest} is not used" in caplog.text
    assert fingerprint(again.state) == fingerprint(whole.state)
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    assert fingerprint(restore(tmp_path / "checkpoints", pieces[2]).state) == fingerprint(whole.state)


def test_every_checkpoint_damaged_is_refused_and_nothing_removed(tmp_path, pieces):
    trained(pieces, tmp_path)
    for directory in (tmp_path / "checkpoints").iterdir():
        flip(directory)
    before = names(tmp_path / "checkpoints")
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ft.InputError, match=r"every checkpoint in .* is damaged"):
        trained(pieces, tmp_path, resume=True)
    assert names(tmp_path / "checkpoints") == before
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    with pytest.raises(ft.InputError, match=r"is damaged: its file .* differs"):
        restore(tmp_path / "checkpoints", pieces[2])


def test_another_base_is_refused_by_both_names(tmp_path, pieces):
    trained(pieces, tmp_path, base="fingerprint-one")
    with pytest.raises(ft.InputError, match=r"fingerprint-one.*fingerprint-two"):
        trained(pieces, tmp_path, steps=40, base="fingerprint-two", resume=True)
    with pytest.raises(ft.InputError, match=r"fingerprint-one.*fingerprint-two"):
        restore(tmp_path / "checkpoints", pieces[2], base="fingerprint-two")
    assert int(trained(pieces, tmp_path, steps=40, base="fingerprint-one", resume=True).state.step) == 40


def test_another_configuration_is_refused_key_by_key(tmp_path, pieces):
    trained(pieces, tmp_path, config={"lr": 1e-2, "lora": {"rank": 4, "targets": ("query", "value")}, "seed": 0})
    changed = {"lr": 1e-3, "lora": {"rank": 8, "targets": ("query", "value")}, "epochs": 2}
    with pytest.raises(ft.InputError) as raised:
        trained(pieces, tmp_path, config=changed, resume=True)
    said = str(raised.value)
    assert "lr: 0.01 in the checkpoint, 0.001 now" in said
    assert "lora.rank: 4 in the checkpoint, 8 now" in said
    assert "seed: 0 in the checkpoint, absent now" in said
    assert "epochs: absent in the checkpoint, 2 now" in said
    assert "targets" not in said


def test_other_arrays_are_refused_by_path_and_shape(tmp_path, pieces):
    trained(pieces, tmp_path)
    step, _, _ = pieces
    frozen, state = step.init(jax.random.key(0), linear_params(width=5), None)
    with pytest.raises(ft.InputError, match=r"delta/head/kernel: \[\[8, 3\], 'float32'\].*\[\[5, 3\], 'float32'\]"):
        trained((step, frozen, state), tmp_path, resume=True)


def test_an_occupied_directory_is_refused_without_resume(tmp_path, pieces):
    trained(pieces, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ft.InputError, match="already holds a run: resume it"):
        trained(pieces, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines
    file = tmp_path / "a_file"
    file.write_text("kept")
    with pytest.raises(ft.InputError, match="is a file"):
        trained(pieces, file)
    assert file.read_text() == "kept"


def test_a_half_written_line_is_dropped_on_resuming(tmp_path, pieces):
    trained(pieces, tmp_path / "whole", log_every=3)
    trained(pieces, tmp_path / "cut", steps=20, log_every=3)
    with open(tmp_path / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"step": 18, "lo')
    trained(pieces, tmp_path / "cut", log_every=3, resume=True)
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut"))
    assert [json.loads(line) for line in cut if json.loads(line)["step"] != 20] == list(map(json.loads, whole))


def test_best_checkpoint_of_a_run_holds_the_best_evaluation(tmp_path, pieces):
    result = trained(pieces, tmp_path, steps=60, evaluate=accuracy, evaluate_every=7, best="accuracy")
    scores = {line["step"]: line["eval/accuracy"] for line in result.history if "eval/accuracy" in line}
    assert sorted(scores) == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    best = restore(tmp_path / "checkpoints", pieces[2], which="best")
    assert best.manifest.metrics["accuracy"] == max(scores.values())
    assert best.manifest.step == min(step for step, score in scores.items() if score == max(scores.values()))
    assert accuracy(pieces[1], best.state)["accuracy"] == max(scores.values())


def test_a_configuration_that_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ft.InputError, match="of type function"):
        Checkpointer(tmp_path, config={"schedule": lambda step: step})
    with pytest.raises(ft.InputError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)
